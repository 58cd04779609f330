from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.conditions import compile_audiences
from app.domain.event_conditions import Need
from app.domain.funnels import MAX_CHARACTERS, MAX_MATCHED, MAX_MATCHED_ITEMS, MAX_PAIRED, MAX_PAIRED_ITEMS
from app.domain.plan import Plan
from app.domain.room import PROFILE_EVENTS
from app.domain.state import NEVER, ProfileState
from app.errors import InvalidInputError
from schemas.audience import (
    AudienceDefinition,
    Comparison,
    ComputedFunction,
    ComputedTraitDefinition,
    CountBound,
    EventCondition,
    Operator,
    ParentReference,
    TraitReference,
    Window,
)
from tests.unit.domain.plans import DAY, plan_of


def event(**more: Any) -> dict[str, Any]:
    return {"when": {"event": "Order Completed", **more}}


def only_need(plan: Plan) -> Need:
    """Where there is room for as many events as by default."""
    (need,) = plan.needs.values()
    assert need.most == PROFILE_EVENTS
    return replace(need, most=NEVER)


def test_conditions_that_ask_for_the_same_events_share_a_feed() -> None:
    plan = plan_of(
        event(within="30d", where={"a": 1, "b": {"any_of": [1, 2]}}),
        event(count={"exactly": 3}, where={"b": {"any_of": [1, 2]}, "a": 1}),
    )
    (feed,) = plan.feeds.values()
    assert [audience.key for audience in plan.of_feed[feed.id]] == ["audience_0", "audience_1"]
    assert plan.events["Order Completed"].feeds == (feed,)


DIFFERENT = [
    event(),
    event(where={"a": 1}),
    event(where={"a": "1"}),
    event(where={"a": True}),
    event(where={"a": {"at_least": 1}}),
    event(where={"a": {"equals": {"trait": "t"}}}),
    event(context={"a": 1}),
    event(exclude_sources=["s"]),
    event(sum={"property": "revenue", "at_least": 1}),
    {"when": {"event": "Order Refunded"}},
    event() | {"key": "a", "include_history": False},
    event() | {"key": "b", "include_history": False},
    event() | {"key": "c", "include_history": False, "created_at": "2025-03-01"},
]


def test_what_differs_in_its_events_or_kept_values_has_its_own_feed() -> None:
    assert len(plan_of(*DIFFERENT).feeds) == len(DIFFERENT)


def test_feed_ids_never_change() -> None:
    """States hold them: an id that changed would take every profile's history away."""
    (feed,) = plan_of(
        event(
            where={"currency": {"any_of": ["EUR", "GBP"]}, "store": {"equals": {"trait": "home"}}},
            context={"page.path": "/a"},
            exclude_sources=["src_2", "src_1"],
            sum={"property": "revenue", "at_least": 5},
        )
    ).feeds
    assert feed == "a2gL15"
    (plain,) = plan_of(event()).feeds
    assert plain == "kC_3vU"


# The parent is one of its own children's feed, so both needs are one.
ITSELF = {"event": "Order Completed", "count": {"exactly": 0}}


@pytest.mark.parametrize(
    ("when", "need"),
    [
        (event(), Need(0, 0, 0, totals=True)),
        (event(count={"exactly": 0}), Need(0, 0, 0, totals=True)),
        (event(sum={"property": "p", "at_least": 5}), Need(0, 0, 0, totals=True)),
        (event(within="30d"), Need(1, 30 * DAY, 0, totals=False)),
        (event(within="30d", count={"at_least": 4}), Need(4, 30 * DAY, 0, totals=False)),
        (event(within="30d", count={"at_most": 4}), Need(5, 30 * DAY, 0, totals=False)),
        (event(within="30d", count={"exactly": 4}), Need(5, 30 * DAY, 0, totals=False)),
        (event(between=["30d", "10d"]), Need(1, 30 * DAY, 10 * DAY, totals=False)),
        (event(within="30d", sum={"property": "p", "at_least": 5}), Need(None, 30 * DAY, 0, totals=False)),
        (event(where={"a": {"trait": "t"}}), Need(None, NEVER, 0, totals=False)),
        (event(where={"a": {"within_last": "1d"}}, within="2d"), Need(None, 2 * DAY, 0, totals=False)),
        (event() | {"lookback": "9d"}, Need(1, 9 * DAY, 0, totals=False)),
        (event(within="30d") | {"lookback": "9d"}, Need(1, 9 * DAY, 0, totals=False)),
        (event(within="3d") | {"lookback": "9d"}, Need(1, 3 * DAY, 0, totals=False)),
        (event(between=["30d", "2d"]) | {"lookback": "9d"}, Need(1, 9 * DAY, 2 * DAY, totals=False)),
        (event(then=ITSELF) | {"lookback": "9d"}, Need(None, 9 * DAY, 0, totals=False)),
        (event(then=ITSELF), Need(None, NEVER, 0, totals=False)),
        (event(then=ITSELF, between=["9d", "7d"]), Need(None, 9 * DAY, 7 * DAY, totals=False)),
    ],
)
def test_a_feed_keeps_what_its_condition_needs(when: dict[str, Any], need: Need) -> None:
    assert only_need(plan_of(when)) == need


def test_a_funnel_keeps_what_is_younger_than_its_parents_and_few_where_all_are_compared_with_all() -> None:
    def needs(path: str = "a", **comparison: Any) -> dict[str, Need]:
        then = {"event": "B", "where": {path: comparison}}
        plan = plan_of({"when": {"event": "A", "between": ["9d", "7d"], "then": then}})
        return {plan.feeds[feed].event: need for feed, need in plan.needs.items()}

    parent, child = Need(None, 9 * DAY, 7 * DAY, totals=False), Need(None, 9 * DAY, 0, totals=False)

    def few(most: int, characters: int = MAX_CHARACTERS) -> dict[str, Need]:
        room = most * characters if characters else NEVER
        return {
            name: replace(need, most=most, characters=room) for name, need in (("A", parent), ("B", child))
        }

    assert needs(at_least=1) == few(PROFILE_EVENTS, 0)
    assert needs(same_as="a") == few(MAX_MATCHED, 0)
    assert needs(at_least={"same_as": "a"}) == few(MAX_PAIRED)
    assert needs(path="a.$", same_as="a") == few(MAX_MATCHED_ITEMS)
    assert needs(path="a.$", not_equals={"same_as": "a"}) == few(MAX_PAIRED_ITEMS)
    assert needs(same_as="a.$") == needs(any_of={"same_as": "a.$"}) == few(MAX_PAIRED_ITEMS)


def test_a_shared_feed_keeps_what_all_its_conditions_need() -> None:
    plan = plan_of(
        event(within="90d"), event(count={"at_least": 2}), event(between=["30d", "7d"], count={"exactly": 3})
    )
    assert only_need(plan) == Need(4, 90 * DAY, 7 * DAY, totals=True)


def test_the_plan_says_which_audiences_an_event_or_a_trait_can_change() -> None:
    plan = plan_of(
        {"when": {"all": [{"event": "A"}, {"trait": "plan", "equals": {"trait": "old.plan"}}]}},
        {
            "when": {"event": "B", "where": {"x": {"trait": "limit"}}},
            "require": {"trait": "consent", "exists": True},
        },
        {"when": {"event": "A", "sum": {"property": "p", "at_least": {"trait": "limit"}}}},
    )
    by_event = {
        name: {audience.key for feed in feeds.feeds for audience in plan.of_feed[feed.id]}
        for name, feeds in plan.events.items()
    }
    assert by_event == {"A": {"audience_0", "audience_2"}, "B": {"audience_1"}}
    by_trait = {trait: {audience.key for audience in found} for trait, found in plan.of_trait.items()}
    assert by_trait == {
        "plan": {"audience_0"},
        "old.plan": {"audience_0"},
        "limit": {"audience_1", "audience_2"},
        "consent": {"audience_1"},
    }
    assert {use.path: use.name for use in plan.traits} == {
        "plan": "plan",
        "old.plan": "old",
        "limit": "limit",
        "consent": "consent",
    }


@pytest.mark.parametrize(
    ("audience", "initial"),
    [
        (event(), False),
        (event(count={"at_least": 0}), True),
        (event(count={"exactly": 0}), True),
        (event(count={"exactly": 0}, within="1d"), True),
        (event(count={"at_most": 3}, between=["2d", "1d"]), True),
        (event(count={"at_most": 3}, sum={"property": "p", "at_most": 0}), False),
        ({"when": {"trait": "t", "exists": False}}, True),
        ({"when": {"trait": "t", "not_contains": "x"}}, True),
        ({"when": {"trait": "t", "none_of": ["x"]}}, False),
        ({"when": {"trait": "t", "not_contains": {"trait": "u"}}}, False),
        ({"when": {"trait": "t.$", "exists": False}}, True),
        ({"when": {"not": {"trait": "t", "equals": 1}}}, True),
        (event(count={"exactly": 0}) | {"require": {"trait": "consent", "equals": True}}, False),
        (event(count={"exactly": 0}) | {"enabled": False}, False),
        ({"source": "engage"}, False),
    ],
)
def test_the_plan_knows_what_holds_of_a_new_profile(audience: dict[str, Any], initial: bool) -> None:
    plan = plan_of(audience)
    assert bool(plan.initial) is initial
    assert plan.holds_for_new(anonymous=False) is initial
    assert plan.holds_for_new(anonymous=True) is False
    assert plan_of({**audience, "include_anonymous": True}).holds_for_new(anonymous=True) is initial


@pytest.mark.parametrize(
    ("asked", "asking", "users", "anonymous"),
    [
        ({"when": {"event": "A"}}, {}, True, False),
        ({"when": {"event": "A"}}, {"include_anonymous": True}, True, True),
        (
            event(count={"exactly": 0}),
            {"include_anonymous": True},
            True,
            True,
        ),  # anonymous ones are not in it
        (event(count={"exactly": 0}) | {"include_anonymous": True}, {"include_anonymous": True}, True, True),
        ({"source": "engage"}, {"include_anonymous": True}, True, True),
        (event(count={"exactly": 0}) | {"enabled": False}, {}, True, False),
    ],
)
def test_what_a_new_profile_is_in_may_be_asked_for(
    asked: dict[str, Any], asking: dict[str, Any], users: bool, anonymous: bool
) -> None:
    plan = plan_of(
        {**asking, "key": "asking", "when": {"not": {"audience": "asked"}}}, {"key": "asked", **asked}
    )
    assert [audience.key for audience in plan.audiences.values()] == ["asked", "asking"]
    assert plan.holds_for_new(anonymous=False) is users
    assert plan.holds_for_new(anonymous=True) is anonymous


def test_with_an_audience_come_those_that_ask_for_it() -> None:
    plan = plan_of(
        {"key": "c", "when": {"all": [{"audience": "b"}, {"event": "C"}]}},
        {"key": "a", "when": {"any": [{"event": "A"}, {"trait": "t", "within_last": "1d"}]}},
        {"key": "b", "when": {"not": {"audience": "a"}}},
    )
    assert {name: [one.key for one in found] for name, found in plan.of_audience.items()} == {
        "a": ["a", "b", "c"],
        "b": ["b", "c"],
        "c": ["c"],
    }
    by_event = {
        name: [one.key for one in plan.of_feed[found.feeds[0].id]] for name, found in plan.events.items()
    }
    assert by_event == {"A": ["a", "b", "c"], "C": ["c"]}
    assert [one.key for one in plan.of_trait["t"]] == [one.key for one in plan.watched] == ["a", "b", "c"]
    assert set(plan.audiences["c"].feeds) == set(plan.feeds)


def test_when_an_audience_is_first_applied_changes_neither_feeds_nor_digest() -> None:
    """They are the same in every partition, as resolve knows only one plan."""
    plan = plan_of(event() | {"include_history": False, "key": "a"}, event() | {"created_at": "2025-03-01"})
    assert plan.unapplied == ("a",)
    applied = plan.applied({"a": 5})
    assert (applied.feeds.keys(), applied.digest) == (plan.feeds.keys(), plan.digest)
    [feed] = [feed for feed in plan.of_feed if plan.of_feed[feed][0].key == "a"]
    assert (plan.since, applied.since) == ({}, {feed: 5})
    assert [audience.key for audience in applied.watched] == ["a", "audience_1"]
    assert plan_of(event()).applied({"a": 5}).since == {}


@pytest.mark.parametrize(
    ("trait", "need"),
    [
        ({"count": True}, Need(0, 0, 0, totals=True)),
        ({"sum": "p"}, Need(0, 0, 0, totals=True)),
        ({"sum": "p", "within": "9d"}, Need(None, 9 * DAY, 0, totals=False)),
        ({"max": "p", "where": {"q": {"trait": "t"}}}, Need(None, NEVER, 0, totals=False)),
        ({"count": True, "session": "1h"}, Need(None, NEVER, 0, totals=False)),
        ({"most_frequent": "p"}, Need(None, NEVER, 0, totals=False)),
        ({"last": "p"}, Need(1, NEVER, 0, totals=False, ordered=True)),
        ({"last": "p", "within": "9d"}, Need(1, 9 * DAY, 0, totals=False, ordered=True)),
        ({"last": "p", "session": "1h"}, Need(None, NEVER, 0, totals=False, ordered=True)),
        ({"first": "p"}, Need(0, 0, 0, totals=False, oldest=1, ordered=True)),
        ({"first": "p", "within": "9d"}, Need(None, 9 * DAY, 0, totals=False, ordered=True)),
    ],
)
def test_a_computed_trait_keeps_what_it_needs(trait: dict[str, Any], need: Need) -> None:
    assert only_need(plan_of(traits={"k": {"event": "A", **trait}})) == need


def test_the_plan_says_which_computed_traits_an_event_or_a_trait_can_change() -> None:
    traits = {
        "a": {"event": "A", "count": True, "where": {"p": {"at_least": {"trait": "b"}}}},
        "b": {"event": "B", "last": "p", "where": {"q": {"trait": "t"}}},
    }
    plan = plan_of(
        {"when": {"trait": "a", "at_least": 1}}, {"when": {"trait": "u", "equals": 1}}, traits=traits
    )
    assert list(plan.computed) == ["b", "a"]
    feeds = {
        plan.feeds[feed].event: [one.key for one in found] for feed, found in plan.computed_of_feed.items()
    }
    assert feeds == {"A": ["a"], "B": ["b", "a"]}
    assert [one.key for one in plan.computed_of_trait["t"]] == ["b", "a"]
    assert {plan.feeds[feed].event: [one.key for one in found] for feed, found in plan.of_feed.items()} == {
        "A": ["audience_0"],
        "B": ["audience_0"],
    }
    assert [one.key for one in plan.of_trait["t"]] == ["audience_0"]
    assert {use.path for use in plan.traits} == {"t", "u"}


def test_a_computed_trait_without_events_has_its_empty_value() -> None:
    traits = {"n": {"event": "A", "count": True}, "s": {"event": "A", "sum": "p"}}
    plan = plan_of(
        {"when": {"trait": "n", "equals": 0}}, {"when": {"trait": "s", "exists": True}}, traits=traits
    )
    assert [audience.key for audience in plan.initial] == ["audience_0"]


def test_a_cycle_of_computed_traits_is_refused() -> None:
    trait = ComputedTraitDefinition(
        key="a",
        event="E",
        function=ComputedFunction.COUNT,
        where=[Comparison(path="p", operator=Operator.EQUALS, operand=TraitReference(trait="a"))],
    )
    with pytest.raises(InvalidInputError, match="a -> a"):
        compile_audiences([], [trait])


def test_the_digest_is_of_what_decides_memberships() -> None:
    base = {"key": "k", "name": "One", **event(within="30d")}
    same = [{**base, "name": "Two"}, {**base, "description": "..."}]
    other = [
        {**base, "key": "other"},
        {**base, **event(within="31d")},
        {**base, "enabled": False},
        {**base, "include_anonymous": True},
        {**base, "include_history": False},
        {**base, "created_at": "2025-03-01"},
        {**base, "lookback": "20d"},
        {**base, "require": {"trait": "t", "exists": True}},
        {**base, "facebook": []},
    ]
    digest = plan_of(base).digest
    assert {plan_of(audience).digest for audience in same} == {digest}
    assert len({digest, *(plan_of(audience).digest for audience in other)}) == len(other) + 1
    computed = {"k": {"event": "A", "count": True}}
    assert plan_of(base, traits=computed).digest == plan_of(base, traits=dict(computed)).digest != digest


def computed(when: EventCondition) -> AudienceDefinition:
    return AudienceDefinition(key="k", name="k", when=when)


ONE = CountBound(kind="at_least", number=1)
REFUSED = [
    (
        computed(
            EventCondition(
                event="A",
                count=ONE,
                where=[Comparison(path="p", operator=Operator.EQUALS, operand=ParentReference(same_as="p"))],
            )
        ),
        "same_as",
    ),
    (
        computed(
            EventCondition(
                event="A",
                count=CountBound(kind="exactly", number=PROFILE_EVENTS),
                window=Window(far_ms=DAY),
            )
        ),
        "at most 19,999",
    ),
]


@pytest.mark.parametrize(("definition", "named"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_is_not_built_is_refused_by_name(definition: AudienceDefinition, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        compile_audiences([definition])


def test_no_audiences_need_nothing() -> None:
    plan = plan_of()
    assert plan.events == {}
    assert not plan.holds_for_new(anonymous=False)


def test_conditions_never_change_the_state_they_are_asked_of() -> None:
    plan = plan_of(*DIFFERENT)
    state = ProfileState()
    for audience in plan.audiences.values():
        audience.holds(state, 0, 0)
    assert state == ProfileState()
