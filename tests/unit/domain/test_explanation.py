"""Explanations against the engine: the verdict is the compiled one, the values decide as it did, changes come true."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.compact import audience_id
from app.domain.computed_traits import refresh
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.evaluation import Instant
from app.domain.event_conditions import count_bound
from app.domain.explanation import HIDDEN, Explainer, Explanation, Seen, explain
from app.domain.fold import settle
from app.domain.instants import format_instant
from app.domain.partition import AudiencePartition
from app.domain.profile_report import MAX_STEPS, ProfileReport, as_document, report
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from app.domain.state import ProfileState
from schemas.audience import AllOf, AnyOf, EventCondition, Not
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.plans import START, call
from tests.unit.domain.random_cases import CASES, EARLY, Case, line_of
from tests.unit.domain.random_definitions import START as BEGIN
from tests.unit.domain.random_definitions import Defined, instant

LATER = 30 * DAY

slow_enough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
of_each_kind = pytest.mark.parametrize("kind", CASES)


def partition_of(case: Case, early: int) -> tuple[AudiencePartition, Explainer]:
    """Everything of the case applied."""
    definitions = parse_definitions(case.defined.documents)
    plan = compile_audiences(definitions.audiences, definitions.traits)
    partition = AudiencePartition(plan, early, Counters())
    partition.finish_recovery()
    partition.set_wall(2**50)
    partition.set_expected(["lane"])
    resolver = Resolver(plan, ResolveOptions())
    for offset, each in enumerate(case.calls):
        for profile, event in resolver.resolve(line_of(each), None, 2**50, "lane", offset).records:
            partition.apply(profile, event)
    received = max((each.received for each in case.calls), default=BEGIN)
    partition.apply_marker(
        ProfileEvent(VERSION, MARKER, "lane", 0, 0, received, received, progress={"lane": received})
    )
    partition.drain()
    return partition, Explainer(definitions.audiences, definitions.traits)


def leaves(condition: Any, explained: Explanation) -> list[tuple[Any, Explanation]]:
    if isinstance(condition, AllOf | AnyOf):
        pairs = zip(condition.conditions, explained.parts, strict=True)
        return [leaf for part, inner in pairs for leaf in leaves(part, inner)]
    if isinstance(condition, Not):
        return leaves(condition.condition, explained.parts[0])
    return [(condition, explained)]


@of_each_kind
@slow_enough
@given(st.data(), st.sampled_from([0, EARLY]), st.sampled_from([0, 1, HOUR, 3 * DAY]))
def test_the_verdict_is_that_of_the_compiled_audience(
    kind: str, data: st.DataObject, early: int, further: int
) -> None:
    partition, explainer = partition_of(data.draw(CASES[kind]), early)
    plan = partition.plan
    now = (partition.clock.now or 0) + further
    for profile in [key.decode() for key in partition.states.resting]:
        state = partition.copy_of(profile)
        assert state is not None
        settle(state, plan.needs, now)
        refresh(state, plan.computed.values(), Instant(now, now + early, now))
        for key, audience in plan.audiences.items():
            explained = explain(explainer.node(key, audience.created), state, now, now + early)
            assert explained.holds is audience.holds(state, now, now + early)
            assert explained.deciding
            definition = explainer.definitions[key]
            if definition.when is None or definition.lookback_ms or definition.require or audience.created:
                continue
            for condition, leaf in leaves(definition.when, explained):
                if isinstance(condition, EventCondition):
                    assert_values_decide(condition, leaf)


def assert_values_decide(condition: EventCondition, leaf: Explanation) -> None:
    """The number that is shown is on the right side of the bound."""
    count = leaf.seen[0].value
    assert isinstance(count, int)
    in_number = count_bound(condition.count)(count)
    if condition.aggregate is None:
        assert in_number is leaf.holds
        return
    value = leaf.seen[1].value
    assert leaf.seen[1].name == f"{condition.aggregate.function} of p"
    if leaf.holds:
        assert in_number
        assert value is not None
    ((operator, operand), *_) = condition.aggregate.comparisons
    if in_number and value is not None and isinstance(operand, int | float) and operator == "at_least":
        assert isinstance(value, int | float)
        assert leaf.holds is (value >= operand)


@of_each_kind
@slow_enough
@given(st.data())
def test_the_next_change_is_the_one_that_simulate_comes_to(kind: str, data: st.DataObject) -> None:
    case = data.draw(CASES[kind])
    partition, explainer = partition_of(case, 0)
    now = partition.clock.now
    assert now is not None
    expected: dict[tuple[str, str], int] = {}
    lines = [line_of(each) for each in case.calls]
    for item in simulate(partition.plan, lines, now + LATER):
        assert isinstance(item, Transition)
        if item.at > now:
            expected.setdefault((item.profile, item.audience), item.at)
    found = {}
    for profile in [key.decode() for key in partition.states.resting]:
        state = partition.copy_of(profile)
        assert state is not None
        shown = report(profile, state, partition.plan, explainer, now, 0)
        assert shown.known_until is None
        for audience in shown.audiences:
            assert audience.member is (
                (known := partition.copy_of(profile)) is not None
                and audience_id(audience.key) in known.memberships
                and known.memberships[audience_id(audience.key)].member
            )
            if audience.changes_at is not None and audience.changes_at <= now + LATER:
                found[partition.states.display_name(profile), audience.key] = audience.changes_at
    assert found == expected


def explained(when: dict[str, Any], *lines: bytes, now: int, **more: Any) -> ProfileReport:
    """The report on the profile of the first line, once the clock is at `now`; one audience, audience_0."""
    document = {"audiences": [{"name": "audience_0", "when": when, **more.pop("audience", {})}], **more}
    definitions = parse_definitions([Document("audiences.yaml", json.dumps(document))])
    plan = compile_audiences(definitions.audiences, definitions.traits)
    partition = AudiencePartition(plan, 0, Counters())
    partition.finish_recovery()
    partition.set_wall(2**50)
    partition.set_expected(["lane"])
    resolver = Resolver(plan, ResolveOptions())
    profile = ""
    for offset, line in enumerate(lines):
        for key, event in resolver.resolve(line, None, 2**50, "lane", offset).records:
            partition.apply(key, event)
            profile = profile or key
    partition.apply_marker(ProfileEvent(VERSION, MARKER, "lane", 0, 0, now, now, progress={"lane": now}))
    partition.drain()
    state = partition.copy_of(profile)
    assert state is not None
    return report(profile, state, plan, Explainer(definitions.audiences, definitions.traits), now, 0)


def parts_by_text(whole: Explanation) -> dict[str, Explanation]:
    found = {whole.text: whole}
    for part in whole.parts:
        found |= parts_by_text(part)
    return found


def test_the_branch_that_decides_is_marked() -> None:
    when = {
        "any": [
            {
                "all": [
                    {"event": "Order Completed", "count": {"at_least": 3}, "within": "30d"},
                    {"trait": "vip", "equals": True},
                ]
            },
            {"not": {"event": "Order Completed", "within": "30d"}},
        ]
    }
    identify = call(type="identify", event=..., messageId="m2", traits={"vip": True})
    (found,) = explained(when, call(), identify, now=START + HOUR).audiences
    assert (found.member, found.holds, found.reason) == (False, False, "the condition does not hold")
    marked = {text: part.deciding for text, part in parts_by_text(found.condition).items()}
    assert marked.pop(found.condition.text)
    assert marked == {
        "Order Completed at least 3 times within 30d and vip is true": True,
        "Order Completed at least 3 times within 30d": True,
        "vip is true": False,
        "not (Order Completed at least 1 time within 30d)": True,
        "Order Completed at least 1 time within 30d": True,
    }
    # Without the order the profile enters, as then there is none within 30 days.
    assert found.changes_at == START + 30 * DAY
    parts = parts_by_text(found.condition)
    assert parts["vip is true"].seen == (Seen("trait vip", True),)
    assert parts["vip is true"].changes_at is None
    assert parts["Order Completed at least 1 time within 30d"].changes_at == START + 30 * DAY


def test_counts_sums_and_traits_are_shown() -> None:
    when = {
        "event": "Order Completed",
        "count": {"at_least": 2},
        "where": {"currency": {"equals": {"trait": "currency"}}},
        "sum": {"property": "revenue", "at_least": {"trait": "goal"}},
    }
    identify = call(type="identify", event=..., messageId="m2", traits={"currency": "EUR", "goal": 10})
    orders = [
        call(messageId=f"o{number}", properties={"currency": currency, "revenue": revenue})
        for number, (currency, revenue) in enumerate([("EUR", 3), ("USD", 100), ("EUR", "4.5")])
    ]
    (found,) = explained(when, identify, *orders, now=START + HOUR).audiences
    assert found.condition.seen == (
        Seen("events", 2),
        Seen("sum of revenue", 7.5),
        Seen("newest event", "2025-03-01T00:00:00Z"),
        Seen("trait currency", "EUR"),
        Seen("trait goal", 10),
    )


def test_a_number_of_events_that_are_not_all_kept_says_so() -> None:
    when = {"event": "Order Completed", "within": "30d"}
    orders = [call(messageId=f"o{number}") for number in range(3)]
    (found,) = explained(when, *orders, now=START + HOUR).audiences
    assert found.condition.seen[0].or_more


def test_values_that_identify_people_are_not_shown() -> None:
    identify = call(type="identify", event=..., traits={"email": "ann@example.com"})
    found = explained({"trait": "email", "ends_with": "@example.com"}, identify, now=START + HOUR)
    assert found.audiences[0].holds
    assert found.audiences[0].condition.seen == (Seen("trait email", HIDDEN),)
    shown = json.dumps(as_document(found))
    assert "ann@" not in shown
    assert hashlib.sha256(b"ann@example.com").hexdigest() in shown


@pytest.mark.parametrize(
    ("audience", "reason"),
    [
        ({"enabled": False}, "the audience is not enabled"),
        ({}, "the profile has no user id, e-mail or mobile advertising id, and include_anonymous is false"),
        ({"include_anonymous": True}, "the condition holds"),
    ],
)
def test_why_an_anonymous_profile_is_a_member_or_not(audience: dict[str, Any], reason: str) -> None:
    line = call(userId=..., anonymousId="a1")
    (found,) = explained({"event": "Order Completed"}, line, now=START + HOUR, audience=audience).audiences
    assert found.holds
    assert found.reason == reason
    assert found.member is (reason == "the condition holds")


def test_a_beginning_is_part_of_the_explanation() -> None:
    audience = {"created_at": "2025-03-02T00:00:00Z"}
    (found,) = explained({"event": "Order Completed"}, call(), now=START + HOUR, audience=audience).audiences
    assert [part.kind for part in found.condition.parts] == ["created", "event"]
    assert [part.deciding for part in found.condition.parts] == [True, False]
    assert found.changes_at == START + DAY


def test_a_long_future_is_looked_at_in_part() -> None:
    # Each event that leaves the window is an instant at which the sum may change.
    when = {"event": "Order Completed", "within": "30d", "sum": {"property": "revenue", "less_than": 0}}
    orders = [
        call(
            messageId=f"o{number}",
            timestamp=format_instant(START + number * 1_000),
            properties={"revenue": 1},
        )
        for number in range(MAX_STEPS + 1)
    ]
    found = explained(when, *orders, now=START + HOUR)
    assert found.audiences[0].changes_at is None
    assert found.known_until == START + 30 * DAY + (MAX_STEPS - 1) * 1_000


def test_reading_a_profile_changes_nothing() -> None:
    partition, _ = partition_of(Case(Defined({"buyers": {"when": {"event": "A"}}}), []), 0)
    line = call(event="A", timestamp=instant(BEGIN), receivedAt=instant(BEGIN))
    for profile, event in (
        Resolver(partition.plan, ResolveOptions()).resolve(line, None, 2**50, "lane", 1).records
    ):
        partition.apply(profile, event)
        copy = partition.copy_of(profile)
        assert copy is not None
        copy.memberships.clear()
        again = partition.copy_of(profile)
        assert again is not None
        assert again.memberships[audience_id("buyers")].member
    assert partition.copy_of("nobody") is None


def test_a_window_that_ends_in_the_past_sees_older_events_only() -> None:
    when = {"event": "Order Completed", "between": ["7d", "1d"]}
    (found,) = explained(when, call(), now=START + HOUR).audiences
    assert found.condition.seen == (Seen("events", 0),)
    assert found.changes_at == START + DAY


def test_an_event_of_the_future_counts_when_it_comes() -> None:
    line = call(timestamp=format_instant(START + 3 * HOUR))
    (found,) = explained({"event": "Order Completed"}, line, now=START + HOUR).audiences
    assert (found.member, found.changes_at) == (False, START + 3 * HOUR)


def test_a_computed_trait_changes_with_time() -> None:
    traits = {"orders": {"event": "Order Completed", "count": True, "within": "30d"}}
    (found,) = explained(
        {"trait": "orders", "at_least": 1}, call(), now=START + HOUR, traits=traits
    ).audiences
    assert found.condition.seen == (Seen("trait orders", 1),)
    assert (found.member, found.changes_at) == (True, START + 30 * DAY)


def test_while_definitions_change_only_what_both_know_is_told() -> None:
    case = Case(Defined({"buyers": {"when": {"event": "A"}}, "others": {"when": {"event": "B"}}}), [])
    partition, _ = partition_of(case, 0)
    newer = Defined({"buyers": {"when": {"event": "A"}}, "newest": {"when": {"event": "B"}}})
    explainer = Explainer(parse_definitions(newer.documents).audiences)
    found = report("u1", ProfileState(), partition.plan, explainer, BEGIN, 0)
    assert [audience.key for audience in found.audiences] == ["buyers"]


@pytest.mark.parametrize(
    ("audience", "text", "reason"),
    [
        (
            "source: engage",
            "nothing is required beyond what Segment Engage says",
            "Segment Engage has said nothing of this profile",
        ),
        (
            "source: reverse_etl, rows: {topic: t}",
            "nothing is required beyond what the warehouse says",
            "the warehouse has said nothing of this profile",
        ),
        (
            "source: engage, require: {not: {all: [{event: E}, {event: F}]}}",
            "not (E at least 1 time and F at least 1 time)",
            "Segment Engage has said nothing of this profile",
        ),
        ("when: {not: {event: E}}, enabled: false", "not (E at least 1 time)", "the audience is not enabled"),
    ],
)
def test_nothing_is_marked_where_the_verdict_rests_on_something_else(
    audience: str, text: str, reason: str
) -> None:
    definitions = parse_definitions([Document("a.yaml", f"audiences: [{{name: a, {audience}}}]")])
    plan = compile_audiences(definitions.audiences, definitions.traits)
    (found,) = report("u1", ProfileState(), plan, Explainer(definitions.audiences), BEGIN, 0).audiences
    assert (found.member, found.holds, found.reason) == (False, True, reason)
    assert found.condition.text == text
    assert not any(part.deciding for part in parts_by_text(found.condition).values())
