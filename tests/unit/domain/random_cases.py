"""Random definitions with calls to them that come late, early, twice and out of order."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.unit.domain.brute_force import Call
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.random_definitions import (
    EVENTS,
    START,
    Defined,
    anything,
    instant,
    moments,
    only_computed_traits,
    only_funnels,
    only_places,
)

EARLY = 5_000


@dataclass
class Case:
    """Definitions with calls to them."""

    defined: Defined
    calls: list[Call]


# --- calls ---

scalars: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 1, 2, 3, 0.5, "1", "2.5", "x", "xy", True, False, "2h", "24h"]
)
# A date without a zone is none.
dates: st.SearchStrategy[Any] = st.one_of(
    moments, moments, moments, st.sampled_from([None, "2024-10-05", "2024-10-05T00:00:00.000", 1_728_000_000])
)
simple: st.SearchStrategy[Any] = st.sampled_from([None, 1, 0.5, "x", "xy", "yx", "y.x", "", True])
lists: st.SearchStrategy[Any] = st.lists(simple | st.fixed_dictionaries({"p": simple}), max_size=3)
nested: st.SearchStrategy[Any] = (
    st.fixed_dictionaries({}, optional={"p": simple, "l": lists | simple}) | simple
)


@st.composite
def calls_with_places(draw: st.DrawFn) -> list[Call]:
    """Of one person, a few hours from each other."""
    calls: list[Call] = []
    for number in range(draw(st.integers(1, 8))):
        instant_of_call = START + number * HOUR
        calls.append(
            Call(
                kind=draw(st.sampled_from(["track", "track", "identify"])),
                profile="u1",
                received=instant_of_call,
                timestamp=instant_of_call,
                message_id=str(number),
                event="A",
                properties=draw(
                    st.fixed_dictionaries({"p": simple | lists}, optional={"n": nested, "l": lists | simple})
                ),
                traits=draw(
                    st.fixed_dictionaries(
                        {}, optional={"t": simple | st.lists(simple, max_size=3), "u": simple}
                    )
                ),
                context=draw(st.fixed_dictionaries({}, optional={"k": simple, "n": nested})),
            )
        )
    return calls


few_scalars: st.SearchStrategy[Any] = st.sampled_from([None, 1, "1", "x", "x", True, "true", 2])


@st.composite
def data(draw: st.DrawFn, values: st.SearchStrategy[Any], *names: str) -> dict[str, Any]:
    """Properties or traits; d is a date."""
    return {name: draw(dates if name == "d" else values) for name in names if draw(st.booleans())}


@st.composite
def histories(draw: st.DrawFn, *, narrow: bool = False) -> list[Call]:
    """`narrow`: of one person, with few values, and timestamps that are whole hours and often equal."""
    received = START
    calls: list[Call] = []
    values = few_scalars if narrow else scalars
    for number in range(draw(st.integers(1, 12))):
        received += draw(st.sampled_from([0, 0, 1, HOUR, HOUR, 5 * HOUR, DAY, -2 * HOUR]))
        ahead = draw(st.sampled_from([0, 0, 0, -1, 1, EARLY, EARLY + 1, -HOUR, HOUR, -DAY, DAY, -40 * HOUR]))
        if narrow:
            received = received // HOUR * HOUR
            ahead = draw(st.sampled_from([0, 0, -HOUR, -2 * HOUR, EARLY, HOUR]))
        if calls and draw(st.integers(0, 5)) == 0:
            # The same message once more; its content is the same, and mostly its timestamp.
            again = draw(st.sampled_from(calls))
            timestamp = again.timestamp if again.timestamp <= received + DAY else received
            calls.append(replace(again, received=received, timestamp=timestamp))
            continue
        kinds = (
            ["track", "track", "track", "identify"]
            if narrow
            else ["track", "track", "track", "identify", "engage", "page"]
        )
        kind = draw(st.sampled_from(kinds))
        calls.append(
            Call(
                kind=kind,
                profile="u1" if narrow else draw(st.sampled_from(["u1", "u2", "anonymous"])),
                received=received,
                timestamp=received + ahead,
                message_id=f"{draw(st.integers(0, 9))}{number}",
                event=draw(st.sampled_from(EVENTS)),
                properties=draw(data(values, "p", "q", "d")),
                traits={"engage": draw(st.booleans())}
                if kind == "engage"
                else draw(data(values, "t", "u", "d", "c0")),
                source=None if narrow else draw(st.sampled_from([None, "s1", "s2"])),
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
        "context": {"protocols": {"sourceId": call.source}, **call.context},
    }
    if call.kind == "engage":
        line["context"]["personas"] = {"computation_class": "audience", "computation_key": "engage"}
    if call.kind in ("identify", "engage"):
        line["traits"] = call.traits
    else:
        line |= {"event": call.event, "properties": call.properties}
    return json.dumps(line).encode()


def _case(defined: Defined, calls: list[Call]) -> Case:
    """Without the calls that speak of an audience that nobody defined, which are dropped."""
    return Case(defined, [call for call in calls if call.kind != "engage" or "engage" in defined.audiences])


CASES: dict[str, st.SearchStrategy[Case]] = {
    "anything": st.builds(_case, anything(), histories()),
    "funnels": st.builds(_case, only_funnels, histories(narrow=True)),
    "places": st.builds(_case, only_places, calls_with_places()),
    "computed traits": st.builds(_case, only_computed_traits(), histories(narrow=True)),
}
