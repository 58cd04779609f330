"""Event conditions compiled to closures over a profile's state.

Two times go in. `now` is the clock, and decides everything that time alone does: an event at v is inside a window
of the ages [near, far) while v + near <= now < v + far. `horizon` is the clock plus what events may be early, and
decides only whether an event has happened: v <= horizon.

A funnel would be one more kind of `Holds`, over the entries of two feeds; its edges those of both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.feeds import Kept, KeptKind, is_deferred
from app.domain.operators import LIST_OPERATORS, predicate
from app.domain.state import NEVER, NumberTotals
from app.domain.values import goes_into_items, restored
from schemas.audience import AggregateFunction, TraitReference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.feeds import Feed
    from app.domain.state import FeedState, ProfileState
    from schemas.audience import Aggregate, Comparison, CountBound, EventCondition, Operator, Window

    Holds = Callable[[ProfileState, int, int], bool]
    # (state, now, horizon) -> the next instant after `now` at which truth could change by time alone.
    Edge = Callable[[FeedState, int, int], int]
    Bound = Callable[[int], bool]

# Sums and averages are rounded to so many decimals before they are compared.
_DECIMALS: Final = 6

_NO_NUMBERS: Final = NumberTotals()


@dataclass(frozen=True, slots=True)
class Need:
    """What a condition needs of its feed's past, in events at or before the clock.

    Of events older than `hold_ms` only the `newest` so many (None: all), and none older than `span_ms`; of
    everything ever, `totals`. The need of several conditions is the larger of each.
    """

    newest: int | None
    span_ms: int
    hold_ms: int
    totals: bool

    def and_of(self, other: Need) -> Need:
        """What serves both."""
        return Need(
            newest=None if self.newest is None or other.newest is None else max(self.newest, other.newest),
            span_ms=max(self.span_ms, other.span_ms),
            hold_ms=max(self.hold_ms, other.hold_ms),
            totals=self.totals or other.totals,
        )


@dataclass(frozen=True, slots=True)
class CompiledEvent:
    """`edge_key` is equal for conditions of one feed that have the same edges."""

    holds: Holds
    need: Need
    edge_key: tuple[object, ...]
    edge: Edge
    traits: frozenset[str]


def compile_event(condition: EventCondition, feed: Feed) -> CompiledEvent:
    """The condition over `feed`, which is `feed_of(condition)`."""
    deferred = [item for item in (*condition.where, *condition.context) if is_deferred(item)]
    aggregate, window = condition.aggregate, condition.window
    bound = _bound(condition.count)
    thresholds = _thresholds(condition.count)
    plain = not deferred and aggregate is None
    if window is None and not deferred:
        holds = _ever(feed, bound) if aggregate is None else _ever_aggregated(feed, bound, aggregate)
        need = Need(newest=0, span_ms=0, hold_ms=0, totals=True)
    elif window is not None and plain:
        holds = _windowed(feed, window, bound)
        need = Need(newest=thresholds[0], span_ms=window.far_ms, hold_ms=window.near_ms, totals=False)
    else:
        holds = _over_entries(feed, window, bound, _deferred_tests(condition, feed), aggregate)
        span = NEVER if window is None else window.far_ms
        need = Need(newest=None, span_ms=span, hold_ms=window.near_ms if window else 0, totals=False)
    edge_key: tuple[object, ...] = ("ever",)
    edge: Edge = _edge_of_ever
    if window is not None:
        edges_at = thresholds if plain else None
        edge_key, edge = ("window", window.far_ms, window.near_ms, edges_at), _edge_of(window, edges_at)
    return CompiledEvent(holds, need, edge_key, edge, _traits_of(deferred, aggregate))


def _traits_of(deferred: Sequence[Comparison], aggregate: Aggregate | None) -> frozenset[str]:
    operands: list[object] = [item.operand for item in deferred]
    operands += [operand for _, operand in aggregate.comparisons] if aggregate else []
    return frozenset(operand.trait for operand in operands if isinstance(operand, TraitReference))


def _bound(count: CountBound) -> Bound:
    number = count.number
    if count.kind == "at_least":
        return lambda n: n >= number
    if count.kind == "at_most":
        return lambda n: n <= number
    return lambda n: n == number


def _thresholds(count: CountBound) -> tuple[int, ...]:
    """The numbers of events in the window whose loss or gain changes the truth, the greatest first."""
    if count.kind == "at_least":
        return (count.number,)
    if count.kind == "at_most":
        return (count.number + 1,)
    return (count.number + 1, count.number)


# --- counting alone ---------------------------------------------------------------------------------------------


def _windowed(feed: Feed, window: Window, bound: Bound) -> Holds:
    feed_id, far, near = feed.id, window.far_ms, window.near_ms

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return bound(0)
        instants = kept.instants
        newest = now - near if near else horizon
        return bound(bisect_right(instants, newest) - bisect_right(instants, now - far))

    return holds


def _ever(feed: Feed, bound: Bound) -> Holds:
    feed_id = feed.id

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return bound(0)
        count = kept.totals.count if kept.totals is not None else 0
        if horizon > now and kept.instants:
            count += bisect_right(kept.instants, horizon) - bisect_right(kept.instants, now)
        return bound(count)

    return holds


# --- with an aggregate or with comparisons to traits ---------------------------------------------------------------


def _ever_aggregated(feed: Feed, bound: Bound, aggregate: Aggregate) -> Holds:
    feed_id = feed.id
    index = feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path))
    of_totals, passes = _OF_TOTALS[aggregate.function], _aggregate_test(aggregate)

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return False
        count, totals = 0, _NO_NUMBERS
        early: tuple[float, ...] = ()
        if kept.totals is not None:
            count = kept.totals.count
            totals = kept.totals.numbers[index] if kept.totals.numbers else _NO_NUMBERS
        if horizon > now and kept.instants:
            first, end = bisect_right(kept.instants, now), bisect_right(kept.instants, horizon)
            count += end - first
            early = _numbers(kept.values[first:end], index)
        return bound(count) and passes(of_totals(totals, early), state)

    return holds


def _over_entries(
    feed: Feed,
    window: Window | None,
    bound: Bound,
    tests: Sequence[Callable[[list[Any], ProfileState], bool]],
    aggregate: Aggregate | None,
) -> Holds:
    """The general form, over the kept values of every event in the window."""
    feed_id = feed.id
    far, near = (window.far_ms, window.near_ms) if window else (NEVER, 0)
    index = feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path)) if aggregate else -1
    passes = _aggregate_test(aggregate) if aggregate else None
    function = _OF_NUMBERS[aggregate.function] if aggregate else _sum

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return passes is None and bound(0)
        instants = kept.instants
        first = bisect_right(instants, now - far)
        end = bisect_right(instants, now - near if near else horizon)
        entries = kept.values[first:end]
        if tests:
            entries = [entry for entry in entries if all(test(entry, state) for test in tests)]
        if not bound(len(entries)):
            return False
        return passes is None or passes(function(_numbers(entries, index)), state)

    return holds


def _numbers(entries: Sequence[list[Any]], index: int) -> tuple[float, ...]:
    return tuple(entry[index] for entry in entries if entry[index] is not None)


def _deferred_tests(condition: EventCondition, feed: Feed) -> list[Callable[[list[Any], ProfileState], bool]]:
    tests = []
    for kind, comparisons in ((KeptKind.PROPERTY, condition.where), (KeptKind.CONTEXT, condition.context)):
        for item in comparisons:
            if isinstance(item.operand, TraitReference):
                place = feed.kept.index(Kept(kind, item.path))
                tests.append(_deferred_test(item, item.operand.trait, place))
    return tests


def _deferred_test(
    comparison: Comparison, trait: str, index: int
) -> Callable[[list[Any], ProfileState], bool]:
    holds = compared_with_trait(comparison.operator, trait)
    if not goes_into_items(comparison.path):
        return lambda entry, state: holds(restored(entry[index]), state)

    def some_item_holds(entry: list[Any], state: ProfileState) -> bool:
        items = restored(entry[index])
        return holds(None, state) if items is None else any(holds(item, state) for item in items)

    return some_item_holds


def compared_with_trait(operator: Operator, trait: str) -> Callable[[Any, ProfileState], bool]:
    """A value compared with a trait of the profile; a missing trait makes every operator false.

    Where the trait's path goes into the items of an array, operators that take a list take them all, and others
    hold when they hold for some item.
    """
    takes_list = operator in LIST_OPERATORS
    several = goes_into_items(trait)

    def holds(value: Any, state: ProfileState) -> bool:
        operand = trait_value(state, trait)
        options = operand if several else [operand]
        options = [option for option in options or () if type(option) in _OPERANDS]
        if not options:
            return False
        if takes_list:
            return predicate(operator, options)(value)
        return any(predicate(operator, option)(value) for option in options)

    return holds


_OPERANDS: Final = frozenset({str, int, float, bool})


def trait_value(state: ProfileState, trait: str) -> Any:
    """The trait at this path as the operators take it; None: missing."""
    kept = state.traits.get(trait)
    return None if kept is None else restored(kept.value)


# --- aggregates ---------------------------------------------------------------------------------------------------


def _aggregate_test(aggregate: Aggregate) -> Callable[[float | None, ProfileState], bool]:
    constants = [
        predicate(operator, operand)
        for operator, operand in aggregate.comparisons
        if not isinstance(operand, TraitReference)
    ]
    references = [
        compared_with_trait(operator, operand.trait)
        for operator, operand in aggregate.comparisons
        if isinstance(operand, TraitReference)
    ]

    if len(constants) == 1 and not references:
        only = constants[0]
        return lambda value, _: value is not None and only(value)

    def passes(value: float | None, state: ProfileState) -> bool:
        if value is None:
            return False
        return all(test(value) for test in constants) and all(test(value, state) for test in references)

    return passes


def _sum(numbers: Sequence[float]) -> float | None:
    return round(math.fsum(numbers), _DECIMALS) if numbers else None


def _average(numbers: Sequence[float]) -> float | None:
    return round(math.fsum(numbers) / len(numbers), _DECIMALS) if numbers else None


def _min(numbers: Sequence[float]) -> float | None:
    return min(numbers, default=None)


def _max(numbers: Sequence[float]) -> float | None:
    return max(numbers, default=None)


def _sum_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    if not early:
        return round(totals.total + totals.compensation, _DECIMALS) if totals.count else None
    return round(math.fsum((totals.total, totals.compensation, *early)), _DECIMALS)


def _average_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    count = totals.count + len(early)
    if not count:
        return None
    return round(math.fsum((totals.total, totals.compensation, *early)) / count, _DECIMALS)


def _min_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    return _min((totals.least, *early) if totals.count else early)


def _max_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    return _max((totals.greatest, *early) if totals.count else early)


_OF_NUMBERS: Final[dict[AggregateFunction, Callable[[Sequence[float]], float | None]]] = {
    AggregateFunction.SUM: _sum,
    AggregateFunction.AVERAGE: _average,
    AggregateFunction.MIN: _min,
    AggregateFunction.MAX: _max,
}
_OF_TOTALS: Final[dict[AggregateFunction, Callable[[NumberTotals, Sequence[float]], float | None]]] = {
    AggregateFunction.SUM: _sum_of_totals,
    AggregateFunction.AVERAGE: _average_of_totals,
    AggregateFunction.MIN: _min_of_totals,
    AggregateFunction.MAX: _max_of_totals,
}


# --- edges --------------------------------------------------------------------------------------------------------


def _edge_of_ever(feed: FeedState, now: int, horizon: int) -> int:
    instants = feed.instants
    if not instants or instants[-1] <= horizon:
        return NEVER
    return instants[bisect_right(instants, horizon)] - (horizon - now)


def _edge_of(window: Window, thresholds: tuple[int, ...] | None) -> Edge:
    """`thresholds` None: every event that comes or goes may change the truth."""
    far, near = window.far_ms, window.near_ms

    def edge(feed: FeedState, now: int, horizon: int) -> int:
        instants = feed.instants
        end = bisect_right(instants, now - near if near else horizon)
        due = NEVER
        if end < len(instants):
            due = instants[end] + near if near else instants[end] - (horizon - now)
        first = bisect_right(instants, now - far)
        count = end - first
        if thresholds is None:
            return min(due, instants[first] + far) if count else due
        for threshold in thresholds:
            if count >= threshold > 0:
                return min(due, instants[end - threshold] + far)
        return due

    return edge
