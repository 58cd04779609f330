"""What is kept of values that are compared later: all of it, and what is not is counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.event_conditions import Need
from app.domain.fold import prune
from app.domain.keeping import LEAST_CHARACTERS, Keeping
from app.domain.operators import predicate
from app.domain.plan import Plan
from app.domain.profile_states import ProfileStates
from app.domain.room import PROFILE_EVENTS, VALUE_CHARACTERS, VALUE_ITEMS, Cuts, Room
from app.domain.state import MAX_STATE_BYTES, FeedState, ProfileState, TraitState
from app.domain.values import restored, text_of
from schemas.audience import Operator
from tests.unit.domain.plans import START, plan_of
from tests.unit.domain.test_simulation import order, transitions

ENTERS = [(1, "audience_0", "user_1", True)]


def seen(when: dict[str, Any], *calls: dict[str, Any], room: Room | None = None) -> list[Any]:
    """The transitions that these calls make, all at one instant and in their order."""
    plan = plan_of({"when": when}) if room is None else plan_with(room, when)
    return transitions(
        plan, [order(START + 1, messageId=str(place), **fields) for place, fields in enumerate(calls)]
    )


def plan_with(room: Room, when: dict[str, Any]) -> Plan:
    text = msgspec.json.encode({"audiences": [{"name": "audience_0", "when": when}]}).decode()
    definitions = parse_definitions([Document("audiences.yaml", text)])
    return compile_audiences(definitions.audiences, definitions.traits, room=room)


def identify(**traits: Any) -> dict[str, Any]:
    return {"type": "identify", "event": None, "traits": traits}


def did(**properties: Any) -> dict[str, Any]:
    return {"event": "E", "properties": properties}


LONG = "a" * 30_000
MANY = list(range(300))
WANT = {"any_of": {"trait": "want.$"}}


@pytest.mark.parametrize(
    ("when", "calls", "enters"),
    [
        ({"event": "E", "where": {"p": {"trait": "q"}}}, [identify(q=LONG + "x"), did(p=LONG + "y")], False),
        ({"event": "E", "where": {"p": {"trait": "q"}}}, [identify(q=LONG + "x"), did(p=LONG + "x")], True),
        ({"trait": "bio", "not_contains": "spam"}, [identify(bio=LONG + " spam")], False),
        ({"trait": "bio", "ends_with": "spam"}, [identify(bio=LONG + " spam")], True),
        ({"trait": "tags.$", "equals": "vip"}, [identify(tags=[*map(str, range(900)), "vip"])], True),
        ({"trait": "tags.$", "equals": "vip"}, [identify(tags=[*["t" * 60] * 400, "vip"])], True),
        ({"event": "E", "where": {"x.$.y": {"trait": "want"}}}, [identify(want=250), did(x=[{"y": n} for n in MANY])], True),
        ({"event": "E", "where": {"p": WANT}}, [identify(want=MANY), did(p=299)], True),
        ({"event": "E", "where": {"p": WANT}}, [identify(want=MANY), did(p=300)], False),
        ({"event": "E", "where": {"p": {"none_of": {"trait": "want"}}}}, [identify(want=MANY), did(p=299)], False),
    ],
)  # fmt: skip
def test_a_value_is_compared_whole(when: dict[str, Any], calls: list[dict[str, Any]], enters: bool) -> None:
    assert seen(when, *calls) == (ENTERS if enters else [])


@pytest.mark.parametrize(("number", "enters"), [(299, True), (300, False)])
def test_the_items_of_what_is_followed_are_compared_whole(number: int, enters: bool) -> None:
    for where in ({"x.$.y": {"same_as": "p"}}, {"x": {"any_of": {"same_as": "p.$"}}}):
        nested, many = (
            ({"p": number}, {"x": [{"y": n} for n in MANY]})
            if "x.$.y" in where
            else ({"p": MANY}, {"x": number})
        )
        plan = plan_of({"when": {"event": "P", "then": {"event": "E", "where": where}}})
        lines = [order(START + 1, event="P", properties=nested), order(START + 2, event="E", properties=many)]
        assert bool(transitions(plan, lines)) is enters, where


@pytest.mark.parametrize(
    ("when", "calls", "enters"),
    [
        # What holds for one item may be another than what holds for the next.
        ({"trait": "t.$", "at_least": 5, "less_than": 3}, [identify(t=[9, 1])], True),
        ({"trait": "t.$", "at_least": 5, "less_than": 3}, [identify(t=[9, 4])], False),
        # A sum is compared after rounding to six decimals, the least and the greatest are values as they came.
        ({"event": "E", "min": {"property": "p", "equals": 0.1234567}}, [did(p=0.1234567), did(p=2)], True),
        ({"event": "E", "min": {"property": "p", "equals": 0.123457}}, [did(p=0.1234567), did(p=2)], False),
        ({"event": "E", "max": {"property": "p", "equals": 0.1234567}}, [did(p=0.1234567), did(p=0)], True),
        ({"event": "E", "sum": {"property": "p", "equals": 0.123457}}, [did(p=0.1234567)], True),
    ],
)  # fmt: skip
def test_of_values_each_counts_as_it_is(
    when: dict[str, Any], calls: list[dict[str, Any]], enters: bool
) -> None:
    assert (ENTERS[0] in seen(when, *calls)) is enters


def test_computed_traits_have_all_of_a_value() -> None:
    traits = {"ids": {"event": "E", "unique_list": "x.$.y"}, "latest": {"event": "E", "last": "p"}}
    when = {"all": [{"trait": "ids.$", "equals": "149"}, {"trait": "latest", "ends_with": "end"}]}
    call = order(
        START + 1,
        event="E",
        messageId="m",
        properties={"x": [{"y": n} for n in range(150)], "p": LONG + "end"},
    )
    assert transitions(plan_of({"when": when}, traits=traits), [call]) == ENTERS


# --- where there is no room ---


@given(st.text(min_size=1_025, max_size=1_100), st.text(min_size=1_025, max_size=1_100))
def test_texts_that_are_cut_stay_as_equal_as_they_were(one: str, other: str) -> None:
    cuts = Cuts()
    keeping = Keeping(cuts, LEAST_CHARACTERS)
    assert (keeping.one(one) == keeping.one(other)) is (one == other)
    assert len(keeping.one(one)) == LEAST_CHARACTERS
    assert one.startswith(keeping.one(one)[:1_000])
    assert cuts.number == 4
    # The ends of such texts are not known, and no letter or digit is seen there.
    assert not keeping.one("x" * 2_000).endswith(tuple("0123456789abcdef"))


def test_the_same_beginning_is_not_the_same_text() -> None:
    keeping = Keeping(Cuts(), LEAST_CHARACTERS)
    assert keeping.one("x" * 2_000 + "a") != keeping.one("x" * 2_000 + "b")
    assert keeping.one([*"x" * 2_000, "a"]) != keeping.one([*"x" * 2_000, "b"])


@given(
    st.lists(st.integers() | st.text(max_size=3) | st.none() | st.booleans(), max_size=60), st.integers(1, 50)
)
def test_of_too_many_items_the_first_are_kept_and_it_is_counted(values: list[Any], items: int) -> None:
    cuts = Cuts()
    found = restored(Keeping(cuts, items=items).several(values))
    assert [text_of(item) for item in found] == [text_of(item) for item in values[:items]]
    assert cuts.number == (len(values) > items)


def test_items_have_the_room_of_one_value() -> None:
    cuts = Cuts()
    keeping = Keeping(cuts, LEAST_CHARACTERS)
    assert keeping.several(["x" * 500] * 3) == ["x" * 500] * 2
    assert cuts.number == 1
    assert keeping.several(None) is None
    # An item for which there is no room at all is one that was cut.
    (item,) = keeping.several(["x" * 5_000]) or []
    assert (len(item), cuts.number) == (LEAST_CHARACTERS, 2)


def test_numbers_that_messagepack_cannot_say_are_texts() -> None:
    assert Keeping(Cuts()).one(2**63) == "9223372036854775808"
    assert Keeping(Cuts()).one(-(2**63)) == -(2**63)


def test_a_plan_keeps_as_much_as_its_room_says_and_counts_what_is_more() -> None:
    room = Room(value_items=2, value_characters=1_024)
    when: dict[str, Any] = {"trait": "tags.$", "equals": "vip"}
    assert seen(when, identify(tags=["a", "vip"]), room=room) == ENTERS
    assert room.cuts.number == 0
    assert seen(when, identify(tags=["a", "b", "vip"]), room=room) == []
    assert room.cuts.number == 1
    when = {"event": "E", "where": {"p": {"contains": {"trait": "t"}}}}
    assert seen(when, identify(t="end"), did(p="x" * 1_030 + "end"), room=room) == []
    assert room.cuts.number == 2


def test_a_plan_has_room_for_as_many_events_and_message_ids_as_its_settings_say() -> None:
    plan = plan_with(Room(profile_events=1_000, message_ids=7), {"event": "E", "within": "9d"})
    assert [need.most for need in plan.needs.values()] == [1_000]
    assert plan.message_ids == 7
    when = {"event": "E", "then": {"event": "F", "where": {"p": {"same_as": "p"}}}}
    plan = plan_with(Room(profile_events=1_000), when)
    assert {need.most for need in plan.needs.values()} == {1_000}, "where 5,000 would be compared quickly"


def test_all_values_of_one_call_fit_into_a_record() -> None:
    """However many definitions keep the same long text."""
    plan = plan_of(*({"when": {"event": "E", "where": {"p": {"trait": "t"}, "n": n}}} for n in range(900)))
    assert len(plan.events["E"].feeds) == 900
    sizes = [len(str(feed.keep({"p": LONG}, None))) for feed in plan.events["E"].feeds if feed.keep]
    assert len(sizes) == 900
    assert sum(sizes) < 3 * 1024 * 1024
    (feed,) = plan_of({"when": {"event": "E", "where": {"p": {"trait": "t"}}}}).events["E"].feeds
    assert feed.keep is not None
    assert feed.keep({"p": LONG}, None) == [LONG]


def test_whatever_is_known_of_a_profile_its_state_can_be_written() -> None:
    counters = Counters()
    states = ProfileStates(counters)
    texts = {f"t{number}": "x" * 30_000 + str(number) for number in range(400)}
    state = ProfileState(
        feeds={"feed": FeedState([1, 2], [["y"], ["z"]])},
        traits={path: TraitState(text, 1, b"") for path, text in texts.items()},
        computed={"latest": "y" * 40_000, "ids": ["n" * 30] * 3_000, "whole": {"json": "[" * 50_000}},
    )
    assert len(states.encoded(state)) <= MAX_STATE_BYTES
    assert counters.forgotten_events == 2
    lengths = [len(trait.value) for trait in state.traits.values()]
    assert 0 < counters.cuts.number < 250
    assert lengths.count(30_001) + lengths.count(30_002) + lengths.count(30_003) > 200
    assert len({trait.value for trait in state.traits.values()}) == 400


def test_a_funnel_that_looks_into_values_has_room_for_so_many_characters() -> None:
    need = Need(None, 10**9, 0, totals=False, characters=100)
    feed = FeedState([1, 2, 3, 4], [["x" * 50], ["x" * 90], ["x" * 40], [["a", "b", 5]]])
    assert prune(feed, need, 5) == 2
    assert (feed.instants, feed.values) == ([3, 4], [["x" * 40], [["a", "b", 5]]])
    feed = FeedState([1, 2], [["x"], ["x" * 500]])
    assert prune(feed, need, 5) == 1, "the newest event always has room"
    assert feed.instants == [2]
    assert prune(feed, need, 5) == 0


def test_room_by_default_is_that_of_a_whole_event() -> None:
    assert VALUE_CHARACTERS == 32_768
    cuts = Cuts()
    assert Keeping(cuts).several(["x" * 29] * VALUE_ITEMS) == ["x" * 29] * VALUE_ITEMS
    assert cuts.number == 0


# --- many options ---

SCALARS: list[Any] = [
    1, 1.0, 0, True, False, "1", "1.0", "true", "false", "True", "a", "", 2**70, 1.5, "1.5", float("inf"), None, "nan",
]  # fmt: skip


@pytest.mark.parametrize("value", [*SCALARS, restored({"json": "[1]"})], ids=repr)
def test_any_of_holds_where_equals_holds_for_one(value: Any) -> None:
    for options in [[], *([one, other] for one in SCALARS for other in SCALARS if None not in (one, other))]:
        expected = any(predicate(Operator.EQUALS, option)(value) for option in options)
        assert predicate(Operator.ANY_OF, options)(value) is expected, options


# --- a list of what is followed ---


@pytest.mark.parametrize(
    ("operator", "value", "enters"),
    [
        ("any_of", "b", True),
        ("any_of", 3, True),
        ("any_of", "c", False),
        ("none_of", "b", False),
        ("none_of", "c", True),
        ("contains_any_of", "xbx", True),
        ("contains_any_of", "xyz", False),
        ("equals", "b", False),
        ("contains", "xbx", False),
    ],
)
def test_a_list_of_what_is_followed_is_one_where_operators_take_one(
    operator: str, value: Any, enters: bool
) -> None:
    """As a list that is a trait; other operators have none."""
    for parent in ("skus", "cart.skus"):
        then = {"event": "E", "where": {"sku": {operator: {"same_as": parent}}}}
        skus = ["a", "b", 3, None, ["c"], {"c": "c"}]
        lines = [
            order(START + 1, event="P", properties={"skus": skus, "cart": {"skus": skus}}),
            order(START + 2, event="E", properties={"sku": value}),
        ]
        found = transitions(plan_of({"when": {"event": "P", "then": then}}), lines)
        assert bool(found) is enters, parent
    as_trait = {"event": "E", "where": {"sku": {operator: {"trait": "skus"}}}}
    assert bool(seen(as_trait, identify(skus=skus), did(sku=value))) is enters


def test_a_text_that_looks_like_a_list_is_a_text() -> None:
    then = {"event": "E", "where": {"sku": {"any_of": {"same_as": "skus"}}}}
    plan = plan_of({"when": {"event": "P", "then": then}})
    for value, enters in (('["a"]', True), ("a", False)):
        lines = [
            order(START + 1, event="P", properties={"skus": '["a"]'}),
            order(START + 2, event="E", properties={"sku": value}),
        ]
        assert bool(transitions(plan, lines)) is enters


# --- numbers ---


@pytest.mark.parametrize(
    ("number", "enters"),
    [(9e99, True), (-9e99, True), (1e100, False), (-1e100, False), ("1e99", True), ("1e101", False)],
)
@pytest.mark.parametrize("function", ["sum", "average", "min", "max"])
def test_numbers_of_a_hundred_digits_and_more_are_none_for_aggregates(
    function: str, number: Any, enters: bool
) -> None:
    """So that no sum leaves what a float can hold; filters compare every finite number."""
    windows: list[dict[str, Any]] = [{}, {"within": "9d"}]
    for window in windows:
        when: dict[str, Any] = {"event": "E", function: {"property": "r", "not_equals": 0}, **window}
        assert bool(seen(when, did(r=number))) is enters
    assert seen({"event": "E", "where": {"r": {"not_equals": 0}}}, did(r=number)) == ENTERS


def test_a_setting_says_how_many_events_funnels_keep() -> None:
    then = {"event": "B", "where": {"a": {"at_least": {"same_as": "a"}}}}
    plan = plan_with(
        Room(funnel_events=7), {"any": [{"event": "A", "then": then}, {"event": "C", "within": "9d"}]}
    )
    most = {plan.feeds[feed].event: need.most for feed, need in plan.needs.items()}
    assert most == {"A": 7, "B": 7, "C": PROFILE_EVENTS}
