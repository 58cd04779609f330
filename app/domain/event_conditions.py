"""Event conditions compiled to closures over a profile's state.

Two times go in. `now` is the clock, and decides everything that time alone does: an event at v is inside a window
of the ages [near, far) while v + near <= now < v + far. `horizon` is the clock plus what events may be early, and
decides only whether an event has happened: v <= horizon.

"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.aggregates import OF_NUMBERS, OF_TOTALS
from app.domain.comparing import bound, is_deferred
from app.domain.date_edges import event_watches
from app.domain.feeds import Kept, KeptKind, make_feed, values_compared
from app.domain.operators import predicate
from app.domain.state import NEVER, NumberTotals
from app.domain.values import goes_into_items, restored
from schemas.audience import ParentReference, TraitReference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.comparing import Readers, Test
    from app.domain.date_edges import Watches
    from app.domain.feeds import Feed, Since
    from app.domain.state import FeedState, ProfileState
    from schemas.audience import (
        Aggregate,
        Comparison,
        ComputedTraitDefinition,
        CountBound,
        EventCondition,
        ThenCondition,
        Window,
    )

    Holds = Callable[[ProfileState, int, int], bool]
    # (feed's state, now, horizon) -> the next instant after `now` at which truth could change by time alone.
    Edge = Callable[[FeedState, int, int], int]
    Bound = Callable[[int], bool]
    # (an event's kept values) -> whether it passes the comparisons that were not made where it came in.
    Passes = Callable[[list[Any]], bool]
    # (state, now) -> that, for this state and clock.
    BindPasses = Callable[[ProfileState, int], Passes]
    AggregateTest = Callable[[float | None, ProfileState, int], bool]
    Filtered = EventCondition | ThenCondition | ComputedTraitDefinition
    Placed = tuple[int, Comparison]

_NO_NUMBERS: Final = NumberTotals()


@dataclass(frozen=True, slots=True)
class Need:
    """What a condition needs of its feed's past, in events at or before the clock.

    Of events older than `hold_ms` only the `newest` so many (None: all), and none older than `span_ms`; of
    everything ever, `totals`. The need of several conditions is the larger of each, but for `most`, the number of
    events that there is room for, and `characters`, that of their values: whoever sets a smaller one could not bear
    more. A plan has room for no more than its settings say. The `oldest` so many are kept whatever their age. `ordered`: events of one instant are kept in the order of their last value, a message id; it is
    the same for all conditions of a feed.
    """

    newest: int | None
    span_ms: int
    hold_ms: int
    totals: bool
    most: int = NEVER
    characters: int = NEVER
    oldest: int = 0
    ordered: bool = False

    def and_of(self, other: Need) -> Need:
        """What serves both."""
        return Need(
            newest=None if self.newest is None or other.newest is None else max(self.newest, other.newest),
            span_ms=max(self.span_ms, other.span_ms),
            hold_ms=max(self.hold_ms, other.hold_ms),
            totals=self.totals or other.totals,
            most=min(self.most, other.most),
            characters=min(self.characters, other.characters),
            oldest=max(self.oldest, other.oldest),
            ordered=self.ordered,
        )


@dataclass(frozen=True, slots=True)
class FeedUse:
    """What some definition asks of one feed. `edge_key` is equal for uses of one feed that have the same edges."""

    feed: Feed
    need: Need
    edge_key: tuple[object, ...]
    edge: Edge


@dataclass(frozen=True, slots=True)
class CompiledEvent:
    """An event condition; `watches` are further edges, those of dates that events have."""

    holds: Holds
    uses: tuple[FeedUse, ...]
    watches: Watches


def compile_event(condition: EventCondition, readers: Readers, since: Since | None) -> CompiledEvent:
    """A condition without `then`."""
    feed = feed_of(condition, since)
    deferred = [item for item in (*condition.where, *condition.context) if is_deferred(item)]
    aggregate, window = condition.aggregate, condition.window
    in_number = count_bound(condition.count)
    thresholds = thresholds_of(condition.count)
    passes = aggregate_test(aggregate, readers) if aggregate else None
    plain = not deferred and aggregate is None
    if window is None and not deferred:
        holds = _ever(feed, in_number)
        if aggregate is not None and passes is not None:
            holds = _ever_aggregated(feed, in_number, aggregate, passes)
        need = Need(newest=0, span_ms=0, hold_ms=0, totals=True)
    elif window is not None and plain:
        holds = _windowed(feed, window, in_number)
        need = Need(newest=thresholds[0], span_ms=window.far_ms, hold_ms=window.near_ms, totals=False)
    else:
        tests = deferred_tests(condition, feed, readers)
        holds = _over_entries(feed, window, in_number, tests, aggregate, passes)
        need = need_of_all(window)
    edge_key, edge = edge_of(window, thresholds if plain else None)
    watches = event_watches(feed, placed(condition, feed), readers)
    return CompiledEvent(holds, (FeedUse(feed, need, edge_key, edge),), watches)


def feed_of(condition: EventCondition, since: Since | None) -> Feed:
    values = values_compared(condition)
    if condition.aggregate is not None:
        values.add(Kept(KeptKind.NUMBER, condition.aggregate.property_path))
    return make_feed(
        condition.event, condition.where, condition.context, values, condition.exclude_sources, since
    )


def count_bound(count: CountBound) -> Bound:
    number = count.number
    if count.kind == "at_least":
        return lambda n: n >= number
    if count.kind == "at_most":
        return lambda n: n <= number
    return lambda n: n == number


def thresholds_of(count: CountBound) -> tuple[int, ...]:
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
        counted = max(now, state.settled)
        if horizon > counted and kept.instants:
            count += bisect_right(kept.instants, horizon) - bisect_right(kept.instants, counted)
        return bound(count)

    return holds


# --- with an aggregate or with comparisons to traits ---------------------------------------------------------------


def need_of_all(window: Window | None) -> Need:
    """Of who looks at every event in the window, one by one."""
    if window is None:
        return Need(newest=None, span_ms=NEVER, hold_ms=0, totals=False)
    return Need(newest=None, span_ms=window.far_ms, hold_ms=window.near_ms, totals=False)


def _ever_aggregated(feed: Feed, bound: Bound, aggregate: Aggregate, passes: AggregateTest) -> Holds:
    feed_id = feed.id
    index = feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path))
    of_totals = OF_TOTALS[aggregate.function]

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return False
        count, totals, early = totals_of(kept, index, max(now, state.settled), horizon)
        return bound(count) and passes(of_totals(totals, early), state, now)

    return holds


def totals_of(
    kept: FeedState, index: int, counted: int, horizon: int
) -> tuple[int, NumberTotals, tuple[float, ...]]:
    """Of everything ever: how many events, the totals of one kept number, and such numbers of early events.

    `counted` is the instant up to which events are in the totals: the clock, or that of a profile from another
    partition that has become part of this one, as far as it was ahead.
    """
    count, totals = 0, _NO_NUMBERS
    early: tuple[float, ...] = ()
    if kept.totals is not None:
        count = kept.totals.count
        totals = kept.totals.numbers[index] if kept.totals.numbers else _NO_NUMBERS
    if horizon > counted and kept.instants:
        first, end = bisect_right(kept.instants, counted), bisect_right(kept.instants, horizon)
        count += end - first
        early = numbers_of(kept.values[first:end], index)
    return count, totals, early


def _over_entries(
    feed: Feed,
    window: Window | None,
    bound: Bound,
    tests: BindPasses | None,
    aggregate: Aggregate | None,
    passes: AggregateTest | None,
) -> Holds:
    """The general form, over the kept values of every event in the window."""
    feed_id = feed.id
    far, near = (window.far_ms, window.near_ms) if window else (NEVER, 0)
    index = feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path)) if aggregate else -1
    function = OF_NUMBERS[aggregate.function] if aggregate else None

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return passes is None and bound(0)
        instants = kept.instants
        first = bisect_right(instants, now - far)
        end = bisect_right(instants, now - near if near else horizon)
        entries = kept.values[first:end]
        if tests is not None:
            entry_passes = tests(state, now)
            entries = [entry for entry in entries if entry_passes(entry)]
        if not bound(len(entries)):
            return False
        return passes is None or function is None or passes(function(numbers_of(entries, index)), state, now)

    return holds


def numbers_of(entries: Sequence[list[Any]], index: int) -> tuple[float, ...]:
    return tuple(entry[index] for entry in entries if entry[index] is not None)


def deferred_tests(condition: Filtered, feed: Feed, readers: Readers) -> BindPasses | None:
    """The comparisons with traits and with the clock; None: there are none."""
    tests = [
        (place, goes_into_items(item.path), bound(item.operator, item.operand, readers))
        for place, item in placed(condition, feed)
        if not isinstance(item.operand, ParentReference)
    ]
    if not tests:
        return None

    def bind(state: ProfileState, now: int) -> Passes:
        made = [entry_test(place, several, binding(state, now)) for place, several, binding in tests]
        if len(made) == 1:
            return made[0]
        return lambda entry: all(test(entry) for test in made)

    return bind


def placed(condition: Filtered, feed: Feed) -> list[Placed]:
    """The deferred comparisons, each with where its value is among those kept of an event."""
    kinds = ((KeptKind.PROPERTY, condition.where), (KeptKind.CONTEXT, condition.context))
    return [
        (feed.kept.index(Kept(kind, item.path)), item)
        for kind, comparisons in kinds
        for item in comparisons
        if is_deferred(item)
    ]


def entry_test(place: int, several: bool, test: Test) -> Passes:
    """Whether an event's kept value passes; of several, some of it."""
    if not several:
        return lambda entry: test(restored(entry[place]))

    def some_item_passes(entry: list[Any]) -> bool:
        items = restored(entry[place])
        return test(None) if items is None else any(test(item) for item in items)

    return some_item_passes


# --- aggregates ---------------------------------------------------------------------------------------------------


def aggregate_test(aggregate: Aggregate, readers: Readers) -> AggregateTest:
    """No value is false under every operator."""
    tests = [bound(operator, operand, readers) for operator, operand in aggregate.comparisons]
    if len(tests) == 1 and not isinstance(aggregate.comparisons[0][1], TraitReference):
        only = predicate(*aggregate.comparisons[0])
        return lambda value, _state, _now: value is not None and only(value)

    def passes(value: float | None, state: ProfileState, now: int) -> bool:
        return value is not None and all(test(state, now)(value) for test in tests)

    return passes


# --- edges --------------------------------------------------------------------------------------------------------


def edge_of_ever(feed: FeedState, now: int, horizon: int) -> int:
    instants = feed.instants
    if not instants or instants[-1] <= horizon:
        return NEVER
    return instants[bisect_right(instants, horizon)] - (horizon - now)


def edge_of(window: Window | None, thresholds: tuple[int, ...] | None) -> tuple[tuple[object, ...], Edge]:
    """The edges of a window, with a key that is equal for equal ones.

    `thresholds` None: every event that comes or goes may change the truth.
    """
    if window is None:
        return ("ever",), edge_of_ever
    return ("window", window.far_ms, window.near_ms, thresholds), _edge_of_window(window, thresholds)


def _edge_of_window(window: Window, thresholds: tuple[int, ...] | None) -> Edge:
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
