from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.event_conditions import Need
from app.domain.fold import (
    REMEMBERED_MS,
    add_event,
    adopt,
    fold_claim,
    fold_identifiers,
    fold_trait,
    is_remembered,
    message_digest,
    prune,
    remember,
    remember_all,
    settle,
    shed,
)
from app.domain.state import FeedState, ProfileState, Totals

EVER = Need(newest=0, span_ms=0, hold_ms=0, totals=True)

stamps = st.tuples(st.integers(0, 3), st.sampled_from(["", "m1", "m2"]))
values: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.0, "1", True, "x"])


@given(st.lists(st.tuples(stamps, values), max_size=6, unique_by=lambda item: item[0]), st.randoms())
def test_a_trait_is_that_of_the_newest_call_in_whatever_order_they_come(
    calls: list[tuple[tuple[int, str], Any]], chance: Any
) -> None:
    chance.shuffle(calls)
    state = ProfileState()
    for (timestamp, message_id), value in calls:
        before = state.traits["t"].value if "t" in state.traits else None
        changed = fold_trait(state, "t", value, timestamp, message_id)
        after = state.traits["t"].value
        assert changed is ((type(before), before) != (type(after), after))
    if calls:
        newest = max(calls, key=lambda call: call[0])[1]
        assert (type(state.traits["t"].value), state.traits["t"].value) == (type(newest), newest)


@given(st.lists(st.tuples(stamps, st.booleans()), max_size=6, unique_by=lambda item: item[0]), st.randoms())
def test_a_claim_is_that_of_the_newest_call(calls: list[tuple[tuple[int, str], bool]], chance: Any) -> None:
    chance.shuffle(calls)
    state = ProfileState()
    member: bool | None = None
    for (timestamp, message_id), claimed in calls:
        changed = fold_claim(state, "a", claimed, timestamp, message_id)
        assert changed is (state.claims["a"].member != member)
        member = state.claims["a"].member
    if calls:
        newest = max(timestamp for (timestamp, _), _ in calls)
        at_once = {claimed for (timestamp, _), claimed in calls if timestamp == newest}
        assert member is (at_once == {True}), "of several at one instant, the one that takes out"


identifier_calls = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.dictionaries(st.sampled_from(["EMAIL", "CT"]), st.none() | st.sampled_from("abc"), min_size=1),
    ),
    max_size=5,
)


@given(identifier_calls, st.permutations(range(5)))
def test_identifiers_are_the_same_in_whatever_order_calls_come(
    calls: list[tuple[int, dict[str, Any]]], order: list[int]
) -> None:
    def folded(sequence: list[tuple[int, dict[str, Any]]]) -> tuple[dict[str, Any], set[Any]]:
        state = ProfileState()
        for timestamp, identifiers in sequence:
            fold_identifiers(state, identifiers, timestamp)
        current = {name: item.value for name, item in state.identifiers.items() if item.value is not None}
        return current, {*state.further.get("EMAIL", ()), current.get("EMAIL")}

    shuffled = [calls[index] for index in order if index < len(calls)]
    assert folded(calls) == folded(shuffled)
    current, emails = folded(calls)
    assert emails - {None} == {call["EMAIL"] for _, call in calls if call.get("EMAIL") is not None}
    cities = [(timestamp, call["CT"]) for timestamp, call in calls if "CT" in call]
    if cities:
        newest = max(cities, key=lambda item: (item[0], item[1] is not None, str(item[1])))[1]
        assert current.get("CT") == newest


def test_an_identifier_says_whether_what_is_sent_has_changed() -> None:
    state = ProfileState()
    assert fold_identifiers(state, {"EMAIL": "a", "CT": None}, 5)
    assert not fold_identifiers(state, {"EMAIL": "a"}, 9)
    assert not fold_identifiers(state, {"EMAIL": None, "CT": None}, 9)
    assert fold_identifiers(state, {"CT": "x"}, 9)
    assert not fold_identifiers(state, {"CT": "older"}, 8)
    assert fold_identifiers(state, {"CT": None}, 10)
    assert fold_identifiers(state, {"EMAIL": "older"}, 1)
    assert state.identifiers["EMAIL"].value == "a"
    assert state.further == {"EMAIL": ["older"]}


numbers = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))


@given(
    st.lists(st.tuples(st.integers(0, 30), numbers), max_size=30), st.lists(st.integers(0, 40), max_size=8)
)
def test_totals_are_those_of_all_events_up_to_the_clock(
    events: list[tuple[int, float | None]], clocks: list[int]
) -> None:
    """Events late, early and in time, between settlings at a clock that only grows."""
    state = ProfileState()
    feed = state.feeds["f"] = FeedState([], [])
    now = 0
    for event, clock in itertools.zip_longest(events, clocks):
        if clock is not None:
            now = max(now, clock)
            settle(state, {"f": EVER}, now)
        if event is not None:
            add_event(feed, EVER, event[0], [event[1]], state.settled)
            prune(feed, EVER, now)
    settle(state, {"f": EVER}, now)
    counted = [value for instant, value in events if instant <= now]
    some = [Fraction(value) for value in counted if value is not None]
    totals = feed.totals or Totals(0, [])
    assert totals.count == len(counted)
    assert sorted(feed.instants) == feed.instants == sorted(instant for instant, _ in events if instant > now)
    if some:
        (found,) = totals.numbers
        assert found.count == len(some)
        assert math.isclose(found.total + found.compensation, float(sum(some)), rel_tol=1e-12, abs_tol=1e-9)
        assert (found.least, found.greatest) == (float(min(some)), float(max(some)))


def test_many_tenths_are_summed_without_drift() -> None:
    feed = FeedState([], [])
    for _ in range(100_000):
        add_event(feed, EVER, 0, [0.1], 0)
    assert feed.totals is not None
    (found,) = feed.totals.numbers
    assert round(found.total + found.compensation, 6) == 10_000.0


needs = st.builds(
    Need,
    newest=st.none() | st.integers(0, 4),
    span_ms=st.sampled_from([10, 30]),
    hold_ms=st.sampled_from([0, 5]),
    totals=st.just(False),
)


@given(st.lists(st.integers(0, 60), max_size=25), needs, st.integers(0, 60))
def test_pruning_keeps_what_any_later_window_can_ask_for(instants: list[int], need: Need, now: int) -> None:
    everything, pruned = FeedState(sorted(instants), []), FeedState(sorted(instants), [])
    assert prune(pruned, need, now) == 0
    assert [instant for instant in pruned.instants if instant > now] == [
        instant for instant in everything.instants if instant > now
    ]
    for later in range(now, now + 40):
        for near in {0, need.hold_ms}:
            inside = [
                sum(later - need.span_ms < v <= later - near for v in feed.instants)
                for feed in (everything, pruned)
            ]
            if need.newest is None:
                assert inside[0] == inside[1]
            else:
                assert min(inside[0], need.newest) == min(inside[1], need.newest)


def test_room_for_events_is_bounded() -> None:
    need = Need(newest=None, span_ms=10**9, hold_ms=0, totals=False, most=500)
    feed = FeedState(list(range(503)), [[n] for n in range(503)])
    assert prune(feed, need, 500) == 3
    assert feed.instants[0] == 3
    assert feed.values[0] == [3]
    assert len(feed.instants) == len(feed.values) == 500


def test_a_state_of_another_plan_is_fitted_to_this_one() -> None:
    state = ProfileState(
        settled=10, feeds={"old": FeedState([1], []), "kept": FeedState([3, 20], [[1.5], [2.5]])}
    )
    adopt(state, {"kept": EVER})
    assert list(state.feeds) == ["kept"]
    totals = state.feeds["kept"].totals
    assert totals is not None
    assert (totals.count, totals.numbers[0].total) == (1, 1.5)
    adopt(state, {"kept": Need(newest=1, span_ms=5, hold_ms=0, totals=False)})
    assert state.feeds["kept"].totals is None


def test_message_ids_are_remembered_for_a_day() -> None:
    state = ProfileState()
    digest = message_digest("m")
    assert not is_remembered(state, digest, 0)
    assert remember(state, digest, 0, 5) == 0
    assert is_remembered(state, digest, REMEMBERED_MS - 1)
    assert not is_remembered(state, digest, REMEMBERED_MS)
    assert (state.recent_ids, state.recent_at) == (b"", [])


def test_two_profiles_remember_together_what_there_is_room_for() -> None:
    one, other = ProfileState(), ProfileState()
    now = REMEMBERED_MS + 5_000
    for state, name, at in (
        (one, "old", 0),
        (one, "b", 2_000),
        (one, "d", 8_000),
        (other, "a", 1_000),
        (other, "c", 7_000),
    ):
        remember(state, message_digest(name), at, 5)
    # Of those that find no room, one was remembered for a day and would have been forgotten anyway.
    assert remember_all(one, other, REMEMBERED_MS + 500, 3) == 1
    assert one.recent_at == [2, 7, 8]
    assert [is_remembered(one, message_digest(name), now) for name in ("old", "a", "b", "c", "d")] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_message_digests_survive_restarts() -> None:
    """States hold them, so they must never depend on the process."""
    assert message_digest("m1").hex() == "63dffc71d1"


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd")), max_size=6), st.randoms())
def test_events_of_one_instant_are_in_order_of_their_message_id_where_that_matters(
    events: list[tuple[int, str]], chance: Any
) -> None:
    chance.shuffle(events)
    need = Need(None, 2**62, 0, totals=False, ordered=True)
    feed = FeedState([], [])
    for instant, message_id in events:
        add_event(feed, need, instant, ["x", message_id], 0)
    assert list(zip(feed.instants, [entry[-1] for entry in feed.values], strict=True)) == sorted(events)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12))
def test_the_oldest_is_kept_whatever_comes(events: list[tuple[int, int]]) -> None:
    """The clock moves on and events come in any order; some are ahead of the clock."""
    need = Need(0, 0, 0, totals=False, oldest=1)
    feed = FeedState([], [])
    now = 0
    known: list[int] = []
    for instant, step in events:
        now += step
        known.append(instant)
        add_event(feed, need, instant, [instant], 0)
        prune(feed, need, now)
        due = [one for one in known if one <= now]
        assert feed.instants == sorted([*([min(due)] if due else []), *(one for one in known if one > now)])
        assert [[one] for one in feed.instants] == feed.values


@pytest.mark.parametrize("hold", [0, 1_000])
def test_there_is_no_room_for_more_than_a_need_says_whether_they_count_yet_or_not(hold: int) -> None:
    need = Need(None, 2**62, hold, totals=False, most=3)
    feed = FeedState([1, 2, 3, 4, 5], [[1], [2], [3], [4], [5]])
    assert prune(feed, need, 6) == 2
    assert (feed.instants, feed.values) == ([3, 4, 5], [[3], [4], [5]])
    assert need.and_of(Need(None, 5, 0, totals=False)).most == 3


def test_shedding_ends() -> None:
    state = ProfileState(feeds={"a": FeedState([1, 2, 3], []), "b": FeedState([4], [["long enough"]])})
    assert [shed(state) for _ in range(4)] == [1, 2, 1, 0]
