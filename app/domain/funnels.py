"""Funnels compiled to closures: events that are followed, or not followed, by another event of the profile.

Every parent event in the window is looked at by itself. A child at c follows a parent at p when p < c, and within D
when also c < p + D; like any event it has happened when c <= horizon.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.aggregates import OF_NUMBERS
from app.domain.comparing import options_of, test_of
from app.domain.date_edges import event_watches
from app.domain.event_conditions import (
    CompiledEvent,
    FeedUse,
    Need,
    aggregate_test,
    count_bound,
    deferred_tests,
    edge_of,
    entry_test,
    need_of_all,
    numbers_of,
    placed,
)
from app.domain.feeds import Kept, KeptKind, make_feed, values_compared
from app.domain.operators import LIST_OPERATORS
from app.domain.same_values import SameValues, is_indexed
from app.domain.state import NEVER
from app.domain.values import goes_into_items, listed, restored
from schemas.audience import ParentReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.domain.comparing import Readers
    from app.domain.event_conditions import BindPasses
    from app.domain.feeds import Feed, Since
    from app.domain.state import ProfileState
    from schemas.audience import Comparison, CountBound, EventCondition, ThenCondition

    # (parent's instant, its kept values) -> how many children follow it; not all are counted once it is too many.
    CountChildren = Callable[[int, list[Any]], int]
    # A comparison, and the path of the parent's property that it is with.
    _Relation = tuple[Comparison, str]
    BindChildren = Callable[[ProfileState, int, int], CountChildren]

# Events kept on either side where each has to find the others that have the same property; where it finds them by
# one of many items; where every child has to be compared with every parent, as their number is multiplied; and where
# each of the items of a child or of a parent has to be.
MAX_MATCHED: Final = 5_000
MAX_MATCHED_ITEMS: Final = 1_000
MAX_PAIRED: Final = 500
MAX_PAIRED_ITEMS: Final = 100
# Of each of them on average, where values are looked into for every pair, or have items.
MAX_CHARACTERS: Final = 1_024


def compile_funnel(
    condition: EventCondition,
    then: ThenCondition,
    readers: Readers,
    since: Since | None,
    most: int | None = None,
) -> CompiledEvent:
    """`then` is that of the condition. `most` events are kept on either side; None: as many as are compared quickly."""
    feed, child_feed = parent_feed(condition, then, since), _child_feed(then, since)
    followed = followed_parents(condition, then, readers, since)
    in_number = count_bound(condition.count)
    aggregated = _aggregated(condition, feed, readers)
    window = condition.window

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        parents = followed(state, now, horizon)
        if not in_number(len(parents)):
            return False
        return aggregated is None or aggregated([entry for _, entry in parents], state, now)

    quick = _quick(then)
    most = most or quick.events
    characters = most * quick.characters if quick.characters else NEVER
    need = need_of_all(window)
    uses = (
        FeedUse(
            feed,
            Need(None, need.span_ms, need.hold_ms, totals=False, most=most, characters=characters),
            *edge_of(window, None),
        ),
        # A child is younger than its parent.
        FeedUse(
            child_feed,
            Need(None, need.span_ms, 0, totals=False, most=most, characters=characters),
            *edge_of(None, None),
        ),
    )
    watches = event_watches(feed, placed(condition, feed), readers)
    watches |= event_watches(child_feed, placed(then, child_feed), readers)
    return CompiledEvent(holds, uses, watches)


def followed_parents(
    condition: EventCondition, then: ThenCondition, readers: Readers, since: Since | None
) -> Callable[[ProfileState, int, int], list[tuple[int, list[Any]]]]:
    """(state, now, horizon) -> the events in the window which `then` holds of, as instant and kept values."""
    feed, child_feed = parent_feed(condition, then, since), _child_feed(then, since)
    tests = deferred_tests(condition, feed, readers)
    children = _children(then, feed, child_feed, deferred_tests(then, child_feed, readers))
    follows = count_bound(then.count)
    feed_id, window = feed.id, condition.window
    far, near = (window.far_ms, window.near_ms) if window else (NEVER, 0)

    def followed(state: ProfileState, now: int, horizon: int) -> list[tuple[int, list[Any]]]:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return []
        first = bisect_right(kept.instants, now - far)
        end = bisect_right(kept.instants, now - near if near else horizon)
        instants, entries = kept.instants[first:end], kept.values[first:end] or [[]] * (end - first)
        parents: Iterable[tuple[int, list[Any]]] = zip(instants, entries, strict=True)
        if tests is not None:
            passes = tests(state, now)
            parents = [(p, entry) for p, entry in parents if passes(entry)]
        count = children(state, now, horizon)
        return [(p, entry) for p, entry in parents if follows(count(p, entry))]

    return followed


def parent_feed(condition: EventCondition, then: ThenCondition, since: Since | None) -> Feed:
    values = values_compared(condition)
    values |= {Kept(KeptKind.PROPERTY, path) for _, path in _related(then)}
    if condition.aggregate is not None:
        values.add(Kept(KeptKind.NUMBER, condition.aggregate.property_path))
    return make_feed(
        condition.event, condition.where, condition.context, values, condition.exclude_sources, since
    )


def _child_feed(then: ThenCondition, since: Since | None) -> Feed:
    return make_feed(then.event, then.where, then.context, values_compared(then), since=since)


def _related(then: ThenCondition) -> list[_Relation]:
    items = (*then.where, *then.context)
    return [(item, item.operand.same_as) for item in items if isinstance(item.operand, ParentReference)]


def _aggregated(
    condition: EventCondition, feed: Feed, readers: Readers
) -> Callable[[Sequence[list[Any]], ProfileState, int], bool] | None:
    aggregate = condition.aggregate
    if aggregate is None:
        return None
    index = feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path))
    function, passes = OF_NUMBERS[aggregate.function], aggregate_test(aggregate, readers)
    return lambda entries, state, now: passes(function(numbers_of(entries, index)), state, now)


# --- children -----------------------------------------------------------------------------------------------------


def _children(then: ThenCondition, parents: Feed, feed: Feed, tests: BindPasses | None) -> BindChildren:
    feed_id = feed.id
    within = NEVER if then.within_ms is None else then.within_ms
    related = _relation(then, parents, feed)

    def bind(state: ProfileState, now: int, horizon: int) -> CountChildren:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return lambda _p, _entry: 0
        end = bisect_right(kept.instants, horizon)
        instants, entries = kept.instants[:end], kept.values[:end]
        if tests is not None:
            passes = tests(state, now)
            chosen = [place for place, entry in enumerate(entries) if passes(entry)]
            instants, entries = [instants[place] for place in chosen], [entries[place] for place in chosen]
        if related is None:
            return lambda p, _: bisect_left(instants, p + within) - bisect_right(instants, p)
        count = related(entries, now)
        return lambda p, entry: count(entry, bisect_right(instants, p), bisect_left(instants, p + within))

    return bind


def _split(then: ThenCondition) -> tuple[list[_Relation], list[_Relation]]:
    """The comparisons with the parent: those that an index answers, and those made pair by pair."""
    related = _related(then)
    indexed = [(item, path) for item, path in related if is_indexed(item)][: SameValues.MOST]
    if any(goes_into_items(item.path) for item, _ in indexed):
        # A child with many items stands in many places of the index: one such comparison alone.
        indexed = indexed[:1]
    return indexed, [relation for relation in related if relation not in indexed]


@dataclass(frozen=True, slots=True)
class _Quick:
    """How many events are compared quickly, and with how many characters each on average; 0: however many."""

    events: int
    characters: int = 0


def _quick(then: ThenCondition) -> _Quick:
    """On either side."""
    indexed, others = _split(then)
    has_items = any(
        goes_into_items(item.path) or goes_into_items(parent_path)
        for item, parent_path in (*indexed, *others)
    )
    if others:
        return _Quick(MAX_PAIRED_ITEMS if has_items else MAX_PAIRED, MAX_CHARACTERS)
    if indexed:
        return _Quick(MAX_MATCHED_ITEMS, MAX_CHARACTERS) if has_items else _Quick(MAX_MATCHED)
    return _Quick(NEVER)


def _relation(
    then: ThenCondition, parents: Feed, feed: Feed
) -> Callable[[list[list[Any]], int], Callable[[list[Any], int, int], int]] | None:
    """(children's values, now) -> (parent's values, first, end) -> how many of those children go with the parent."""
    indexed, others = _split(then)
    if not indexed and not others:
        return None
    places = {id(item): place for place, item in placed(then, feed)}
    index_of = [
        (places[id(item)], parents.kept.index(Kept(KeptKind.PROPERTY, path))) for item, path in indexed
    ]
    pair_tests = [_pair_test(places[id(item)], item, path, parents) for item, path in others]
    enough = _enough(then.count)

    def bind(entries: list[list[Any]], now: int) -> Callable[[list[Any], int, int], int]:
        index = SameValues(entries, [place for place, _ in index_of]) if index_of else None

        def count(parent: list[Any], first: int, end: int) -> int:
            found: Sequence[int] = range(first, end)
            if index is not None:
                values = [restored(parent[place]) for _, place in index_of]
                if not pair_tests:
                    return index.count(values, first, end)
                found = index.find(values, first, end)
            tests = [test(parent, now) for test in pair_tests]
            number = 0
            for place in found:
                if all(passes(entries[place]) for passes in tests):
                    number += 1
                    if number >= enough:
                        break
            return number

        return count

    return bind


def _enough(count: CountBound) -> int:
    """From so many children on, more of them change nothing."""
    return max(1, count.number + (count.kind != "at_least"))


def _pair_test(
    place: int, item: Comparison, parent_path: str, parents: Feed
) -> Callable[[list[Any], int], Callable[[list[Any]], bool]]:
    parent_place = parents.kept.index(Kept(KeptKind.PROPERTY, parent_path))
    several, of_several = goes_into_items(item.path), goes_into_items(parent_path)
    # As of a trait: a list is one where a list is expected.
    takes_list = item.operator in LIST_OPERATORS and not of_several

    def bind(parent: list[Any], now: int) -> Callable[[list[Any]], bool]:
        value = restored(parent[parent_place])
        items = listed(value) if takes_list else None
        options = options_of(value, several=of_several) if items is None else options_of(items, several=True)
        return entry_test(place, several, test_of(item.operator, options, now))

    return bind
