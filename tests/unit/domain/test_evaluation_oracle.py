"""The engine against brute force: random definitions, and calls that come late, early, twice and out of order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from schemas.membership import Change
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.brute_force import DAY, HOUR, Call, Oracle

START = 20_000 * DAY
EVENTS = ("A", "B")
EARLY = 5_000

# --- definitions ---

numbers = st.integers(0, 3)
constants: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, 3, "1", "x", "xy", True])
operand = st.one_of(constants, st.sampled_from([{"trait": "t"}, {"trait": "u"}]))
number_operand = st.one_of(numbers, st.just({"trait": "t"}))
# Hours after START, of dates that traits and properties have and that definitions name.
moments = st.sampled_from([-40, -2, 0, 1, 2, 24, 30, 60]).map(lambda hour: instant(START + hour * HOUR))
date_operand = st.one_of(moments, st.just({"trait": "d"}))
relative_operand = st.one_of(st.sampled_from(["0h", "1h", "2h", "24h"]), st.just({"trait": "t"}))
date_comparisons = st.one_of(
    st.fixed_dictionaries({"before": date_operand}),
    st.fixed_dictionaries({"after": date_operand}),
    st.fixed_dictionaries({"within_last": relative_operand}),
    st.fixed_dictionaries({"before_last": relative_operand}),
    st.fixed_dictionaries({"within_next": relative_operand}),
    st.fixed_dictionaries({"after_next": relative_operand}),
    st.fixed_dictionaries({"within_next": relative_operand, "after": date_operand}),
)
comparisons = st.one_of(
    st.fixed_dictionaries({"equals": operand}),
    st.fixed_dictionaries({"not_equals": operand}),
    st.fixed_dictionaries({"greater_than": number_operand}),
    st.fixed_dictionaries({"at_most": number_operand}),
    st.fixed_dictionaries({"at_least": numbers, "less_than": number_operand}),
    st.fixed_dictionaries({"any_of": st.lists(constants, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"none_of": st.lists(constants, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"not_contains": st.just("x")}),
    st.fixed_dictionaries({"exists": st.booleans()}),
)
aggregates = st.one_of(
    st.fixed_dictionaries({"property": st.just("p"), "at_least": number_operand}),
    st.fixed_dictionaries({"property": st.just("p"), "less_than": number_operand}),
    st.fixed_dictionaries({"property": st.just("p"), "equals": number_operand}),
)
spans = st.sampled_from(["1h", "2h", "24h", "36h"])


@st.composite
def event_conditions(draw: st.DrawFn) -> dict[str, Any]:
    condition: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    if draw(st.booleans()):
        bound = draw(st.sampled_from(["at_least", "at_most", "exactly"]))
        condition["count"] = {bound: draw(st.integers(0, 3))}
    window = draw(st.sampled_from(["ever", "within", "between"]))
    if window == "within":
        condition["within"] = draw(spans)
    elif window == "between":
        near = draw(st.sampled_from([1, 3, 24]))
        condition["between"] = [f"{near + draw(st.sampled_from([1, 2, 30]))}h", f"{near}h"]
    kind = draw(st.integers(0, 3))
    if kind == 0:
        condition["where"] = {draw(st.sampled_from(["p", "q"])): draw(comparisons)}
    elif kind == 1:
        condition["where"] = {"d": draw(date_comparisons)}
    if draw(st.integers(0, 2)) == 0:
        condition[draw(st.sampled_from(["sum", "average", "min", "max"]))] = draw(aggregates)
    if draw(st.integers(0, 4)) == 0:
        condition["exclude_sources"] = ["s1"]
    if draw(st.integers(0, 2)) == 0:
        condition["then"] = draw(followers())
    return condition


@st.composite
def followers(draw: st.DrawFn) -> dict[str, Any]:
    then: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    if draw(st.booleans()):
        bound = draw(st.sampled_from(["at_least", "at_most", "exactly"]))
        then["count"] = {bound: draw(st.sampled_from([0, 0, 1, 2]))}
    if draw(st.booleans()):
        then["within"] = draw(st.sampled_from(["1h", "2h", "24h"]))
    same = st.sampled_from([{"same_as": "p"}, {"same_as": "q"}])
    compared = st.sampled_from(
        ["equals", "equals", "equals", "not_equals", "at_most", "any_of", "not_contains"]
    )
    related = st.builds(lambda operator, parent: {operator: parent}, compared, same)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        then["where"] = {draw(st.sampled_from(["p", "q"])): draw(comparisons)}
    elif kind == 1:
        then["where"] = {"d": draw(date_comparisons | st.just({"after": {"same_as": "d"}}))}
    elif kind in (2, 3):
        then["where"] = {name: draw(related) for name in draw(st.sampled_from([["p"], ["q"], ["p", "q"]]))}
    return then


trait_conditions = st.builds(
    lambda trait, compared: {"trait": trait, **compared}, st.sampled_from(["t", "u"]), comparisons
) | st.builds(lambda trait, compared: {"trait": trait, **compared}, st.just("d"), date_comparisons)


def conditions(references: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Conditions that may ask for membership of these audiences."""
    leaves = event_conditions() | trait_conditions
    if references:
        leaves |= st.sampled_from(references).map(lambda key: {"audience": key})
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=4,
    )


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Audiences by key; each may ask for those after it."""
    keys = [f"audience_{number}" for number in range(draw(st.integers(1, 4)))]
    found: dict[str, dict[str, Any]] = {}
    if draw(st.integers(0, 3)) == 0:
        keys.append("engage")
    for place, key in enumerate(keys):
        known = conditions(keys[place + 1 :])
        audience: dict[str, Any] = {"source": "engage"} if key == "engage" else {"when": draw(known)}
        if draw(st.integers(0, 4)) == 0:
            audience["require"] = draw(known)
        if draw(st.booleans()):
            audience["include_anonymous"] = True
        if draw(st.integers(0, 6)) == 0:
            audience["enabled"] = False
        if draw(st.integers(0, 3)) == 0:
            audience["created_at"] = draw(moments)
        if draw(st.integers(0, 3)) == 0:
            audience["include_history"] = False
        if draw(st.integers(0, 3)) == 0:
            audience["lookback"] = draw(spans)
        found[key] = audience
    return found


# --- calls ---

scalars: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 1, 2, 3, 0.5, "1", "2.5", "x", "xy", True, False, "2h", "24h"]
)
# A date without a zone is none.
dates: st.SearchStrategy[Any] = st.one_of(
    moments, moments, moments, st.sampled_from([None, "2024-10-05", "2024-10-05T00:00:00.000", 1_728_000_000])
)


@st.composite
def data(draw: st.DrawFn, *names: str) -> dict[str, Any]:
    """Properties or traits; d is a date."""
    return {name: draw(dates if name == "d" else scalars) for name in names if draw(st.booleans())}


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    received = START
    calls: list[Call] = []
    for number in range(draw(st.integers(1, 12))):
        received += draw(st.sampled_from([0, 0, 1, HOUR, HOUR, 5 * HOUR, DAY, -2 * HOUR]))
        ahead = draw(st.sampled_from([0, 0, 0, -1, 1, EARLY, EARLY + 1, -HOUR, HOUR, -DAY, DAY, -40 * HOUR]))
        if calls and draw(st.integers(0, 5)) == 0:
            # The same message once more; its content is the same, and mostly its timestamp.
            again = draw(st.sampled_from(calls))
            timestamp = again.timestamp if again.timestamp <= received + DAY else received
            calls.append(replace(again, received=received, timestamp=timestamp))
            continue
        kind = draw(st.sampled_from(["track", "track", "track", "identify", "engage", "page"]))
        calls.append(
            Call(
                kind=kind,
                profile=draw(st.sampled_from(["u1", "u2", "anonymous"])),
                received=received,
                timestamp=received + ahead,
                message_id=f"{draw(st.integers(0, 9))}{number}",
                event=draw(st.sampled_from(EVENTS)),
                properties=draw(data("p", "q", "d")),
                traits={"engage": draw(st.booleans())} if kind == "engage" else draw(data("t", "u", "d")),
                source=draw(st.sampled_from([None, "s1", "s2"])),
            )
        )
    return calls


def line_of(call: Call) -> bytes:
    line: dict[str, Any] = {
        "type": "identify" if call.kind == "engage" else call.kind,
        "anonymousId" if call.profile == "anonymous" else "userId": call.profile,
        "receivedAt": instant(call.received),
        "timestamp": instant(call.timestamp),
        "messageId": call.message_id,
        "context": {"protocols": {"sourceId": call.source}},
    }
    if call.kind == "engage":
        line["context"]["personas"] = {"computation_class": "audience", "computation_key": "engage"}
    if call.kind in ("identify", "engage"):
        line["traits"] = call.traits
    else:
        line |= {"event": call.event, "properties": call.properties}
    return json.dumps(line).encode()


def instant(milliseconds: int) -> str:
    days, rest = divmod(milliseconds, DAY)
    seconds, thousandths = divmod(rest, 1_000)
    minutes, second = divmod(seconds, 60)
    # 20,000 days after 1970-01-01 is 2024-10-04; tests stay within that month and those beside it.
    day = days - START // DAY + 4
    month = 9 if day < 1 else 10 if day <= 31 else 11
    day += {9: 30, 10: 0, 11: -31}[month]
    return f"2024-{month:02}-{day:02}T{minutes // 60:02}:{minutes % 60:02}:{second:02}.{thousandths:03}Z"


def document(found: dict[str, dict[str, Any]]) -> list[Document]:
    listed = [{"name": key, "key": key, **definition} for key, definition in found.items()]
    return [Document("audiences.yaml", json.dumps({"audiences": listed}))]


def understood(calls: list[Call], found: dict[str, dict[str, Any]]) -> list[Call]:
    """Without the calls that speak of an audience that nobody defined, which are dropped."""
    return [call for call in calls if call.kind != "engage" or "engage" in found]


slow_enough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@slow_enough
@given(definitions(), histories(), st.sampled_from([0, 1, HOUR, 3 * DAY]))
def test_simulate_makes_the_transitions_of_brute_force(
    found: dict[str, dict[str, Any]], calls: list[Call], further: int
) -> None:
    plan = compile_audiences(parse_definitions(document(found)).audiences)
    oracle = Oracle(found)
    until = max(call.received for call in calls) + further
    calls = understood(calls, found)
    for call in calls:
        oracle.apply(call)
    oracle.move_clock(until)
    result = list(simulate(plan, [line_of(call) for call in calls], until))
    assert result == [Transition(*item) for item in oracle.netted()]


@slow_enough
@given(
    definitions(),
    histories(),
    st.sampled_from([0, EARLY]),
    st.lists(st.sampled_from(["go on", "drain", "restart", "redeliver"]), min_size=12, max_size=12),
)
def test_memberships_survive_restarts_and_redelivery(
    found: dict[str, dict[str, Any]], calls: list[Call], early: int, what: list[str]
) -> None:
    """After every record the memberships are those of brute force, whatever happened between them.

    Audiences without history stay applied when they were first, though each restart is at a later time.
    """
    plan = compile_audiences(parse_definitions(document(found)).audiences)
    resolver = Resolver(plan, ResolveOptions())
    applied = START + HOUR
    oracle = Oracle(found, early=early, applied=applied)
    partition = AudiencePartition(plan, early, Counters(), applied)
    partition.finish_recovery()
    partition.set_wall(2**50)
    partition.set_expected(["lane"])
    log: dict[bytes, bytes] = {}
    members: dict[tuple[str, str], int] = {}
    calls = understood(calls, found)
    for offset, (call, then) in enumerate(zip(calls, what, strict=False)):
        oracle.apply(call)
        resolution = resolver.resolve(line_of(call), None, 2**50, "lane", offset)
        for _ in range(2 if then == "redeliver" else 1):
            for profile, event in resolution.records:
                # What the broker brings is what was encoded.
                partition.apply(profile, msgspec.convert(msgspec.to_builtins(event), type(event)))
        assert resolution.received is not None
        received = resolution.received
        partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "lane", 0, 0, received, received, progress={"lane": received})
        )
        if then in ("drain", "restart"):
            outcome = partition.drain()
            log.update(outcome.states)
            for delta in outcome.deltas:
                key = (delta.audience, delta.profile.removeprefix("anonymous_id:"))
                assert delta.change is not Change.UPDATED
                assert (key in members) is (delta.change is Change.EXITED)
                members.pop(key, None)
                if delta.change is Change.ENTERED:
                    members[key] = delta.sequence
            assert members.keys() == oracle.members
            for name in found:
                assert partition.members(name) == sum(audience == name for audience, _ in oracle.members)
        if then == "restart":
            applied += HOUR
            partition = AudiencePartition(plan, early, Counters(), applied)
            for key_bytes, value in log.items():
                partition.load(key_bytes, value)
            partition.finish_recovery()
            partition.set_wall(2**50)
            partition.set_expected(["lane"])
