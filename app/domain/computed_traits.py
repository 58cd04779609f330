"""Computed traits compiled to closures that give their value from the events of a profile.

A value is kept in the profile's state and made anew when an event, a trait or the time can have changed it; whoever
asks for a trait reads it there. So each is computed once per instant, whatever asks for it, in the order of their
references.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.aggregates import OF_NUMBERS, OF_TOTALS
from app.domain.date_edges import event_watches
from app.domain.event_conditions import (
    FeedUse,
    Need,
    deferred_tests,
    edge_of,
    need_of_all,
    numbers_of,
    placed,
    totals_of,
)
from app.domain.feeds import Kept, KeptKind, make_feed, values_compared
from app.domain.paths import ARRAY_ITEMS, parse_path
from app.domain.state import NEVER
from app.domain.values import Composite, goes_into_items, restored, text_of
from schemas.audience import AggregateFunction, Comparison, ComputedFunction, Operator, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.domain.comparing import Read, Readers
    from app.domain.date_edges import Watches
    from app.domain.evaluation import Instant
    from app.domain.event_conditions import BindPasses
    from app.domain.feeds import Feed, Since
    from app.domain.plan import ComputedTrait, Plan
    from app.domain.state import ProfileState
    from schemas.audience import ComputedTraitDefinition
    from schemas.profile import ProfileEvent

    # (state, now, horizon) -> the value, as states keep values; None: there is none.
    TraitValue = Callable[[ProfileState, int, int], Any]
    # (instants, kept values) of the chosen events, in order -> that.
    Reduce = Callable[[Sequence[int], Sequence[list[Any]]], Any]
    Select = Callable[[ProfileState, int, int], tuple[Sequence[int], Sequence[list[Any]]]]

# Distinct values of a list; Segment keeps as many properties of events for a trait.
MAX_LISTED: Final = 10_000
MAX_LISTED_CHARACTERS: Final = 100_000

_NUMERIC: Final = {
    ComputedFunction.SUM: AggregateFunction.SUM,
    ComputedFunction.AVERAGE: AggregateFunction.AVERAGE,
    ComputedFunction.MIN: AggregateFunction.MIN,
    ComputedFunction.MAX: AggregateFunction.MAX,
}
# Where several events have one timestamp, their message ids say which is the first and which the last.
_ORDERED: Final = frozenset({ComputedFunction.FIRST, ComputedFunction.LAST})


@dataclass(frozen=True, slots=True)
class CompiledTrait:
    """`empty` is the value without any event."""

    value: TraitValue
    empty: int | None
    uses: tuple[FeedUse, ...]
    watches: Watches


def compile_trait(
    definition: ComputedTraitDefinition, readers: Readers, since: Since | None = None
) -> CompiledTrait:
    """`since` tells the events of a trait that was filled from history from all others."""
    feed = _feed_of(definition, since)
    tests = deferred_tests(definition, feed, readers)
    simple = tests is None and definition.session_ms is None
    function = definition.function
    window = None if definition.within_ms is None else Window(far_ms=definition.within_ms)
    if simple and window is None and (function in _NUMERIC or function is ComputedFunction.COUNT):
        value = _of_totals(feed, definition)
        need = Need(newest=0, span_ms=0, hold_ms=0, totals=True)
    else:
        value = _of_entries(_select(feed, definition, tests), _reduce(feed, definition))
        need = _need(function, window, simple=simple)
    uses = tuple(FeedUse(feed, need, *edge) for edge in _edges(definition, window, plain=tests is None))
    watches = event_watches(feed, placed(definition, feed), readers)
    return CompiledTrait(value, 0 if function is ComputedFunction.COUNT else None, uses, watches)


def _feed_of(definition: ComputedTraitDefinition, since: Since | None) -> Feed:
    values = values_compared(definition)
    where = list(definition.where)
    path = definition.property_path
    if path is not None:
        kind = KeptKind.NUMBER if definition.function in _NUMERIC else KeptKind.PROPERTY
        values.add(Kept(kind, path))
        if definition.session_ms is None:
            # Nothing is lost with an event that has no value; of a session it is part.
            where.append(Comparison(path=path, operator=Operator.EXISTS, operand=True))
    ordered = definition.function in _ORDERED
    return make_feed(definition.event, where, definition.context, values, since=since, ordered=ordered)


def _need(function: ComputedFunction, window: Window | None, *, simple: bool) -> Need:
    need = need_of_all(window)
    if simple and function is ComputedFunction.LAST:
        return Need(1, need.span_ms, 0, totals=False, ordered=True)
    if simple and function is ComputedFunction.FIRST and window is None:
        return Need(0, 0, 0, totals=False, ordered=True, oldest=1)
    return Need(None, need.span_ms, 0, totals=False, ordered=function in _ORDERED)


def _edges(
    definition: ComputedTraitDefinition, window: Window | None, *, plain: bool
) -> list[tuple[tuple[object, ...], Any]]:
    """`plain`: every event of the feed is one of the trait's."""
    edges = []
    if window is not None:
        edges.append(
            edge_of(window, (1,) if plain and definition.function is ComputedFunction.LAST else None)
        )
    if definition.session_ms is not None:
        edges.append(edge_of(Window(far_ms=definition.session_ms), (1,) if plain else None))
    return edges or [edge_of(None, None)]


# --- values -------------------------------------------------------------------------------------------------------


def _of_totals(feed: Feed, definition: ComputedTraitDefinition) -> TraitValue:
    feed_id = feed.id
    if definition.property_path is None:
        index, of_totals = 0, None
    else:
        index = feed.kept.index(Kept(KeptKind.NUMBER, definition.property_path))
        of_totals = OF_TOTALS[_NUMERIC[definition.function]]

    def value(state: ProfileState, now: int, horizon: int) -> Any:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return 0 if of_totals is None else None
        count, totals, early = totals_of(kept, index, max(now, state.settled), horizon)
        return count if of_totals is None else of_totals(totals, early)

    return value


def _of_entries(select: Select, reduce: Reduce) -> TraitValue:
    return lambda state, now, horizon: reduce(*select(state, now, horizon))


def _select(feed: Feed, definition: ComputedTraitDefinition, tests: BindPasses | None) -> Select:
    feed_id, session = feed.id, definition.session_ms
    far = NEVER if definition.within_ms is None else definition.within_ms

    def select(state: ProfileState, now: int, horizon: int) -> tuple[Sequence[int], Sequence[list[Any]]]:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return (), ()
        first, end = bisect_right(kept.instants, now - far), bisect_right(kept.instants, horizon)
        instants, entries = kept.instants[first:end], kept.values[first:end]
        if tests is not None:
            passes = tests(state, now)
            chosen = [place for place, entry in enumerate(entries) if passes(entry)]
            instants, entries = [instants[place] for place in chosen], [entries[place] for place in chosen]
        if session is not None:
            start = _start_of_latest_run(instants, session, now)
            instants, entries = instants[start:], entries[start:]
        return instants, entries

    return select


def _start_of_latest_run(instants: Sequence[int], gap: int, now: int) -> int:
    """The place of the first event of the run that is still open at `now`, or the end when none is."""
    place, later = len(instants), now
    while place and later - instants[place - 1] < gap:
        place -= 1
        later = instants[place]
    return place


def _reduce(feed: Feed, definition: ComputedTraitDefinition) -> Reduce:
    function, path = definition.function, definition.property_path
    if path is None:
        return lambda instants, _: len(instants)
    if function in _NUMERIC:
        index, of_numbers = feed.kept.index(Kept(KeptKind.NUMBER, path)), OF_NUMBERS[_NUMERIC[function]]
        return lambda _, entries: of_numbers(numbers_of(entries, index))
    index, several = feed.kept.index(Kept(KeptKind.PROPERTY, path)), goes_into_items(path)

    def found(entries: Iterable[list[Any]]) -> Iterable[Any]:
        values = (entry[index] for entry in entries)
        if several:
            values = (item for items in values for item in items or ())
        return (value for value in values if value is not None)

    if function is ComputedFunction.FIRST:
        return lambda _, entries: next(iter(found(entries)), None)
    if function is ComputedFunction.LAST:
        return lambda _, entries: next(iter(found(reversed(entries))), None)
    if function is ComputedFunction.MOST_FREQUENT:
        return lambda _, entries: _most_frequent(_texts(found(entries)), definition.at_least)
    if function is ComputedFunction.UNIQUE_LIST:
        return lambda _, entries: _listed(_texts(found(entries)))
    return lambda _, entries: len(set(_texts(found(entries)))) or None


def _listed(texts: Iterable[str]) -> list[str] | None:
    """The different ones in their order, as many as there is room for; None: there are none."""
    listed = sorted(set(texts))[:MAX_LISTED]
    room = MAX_LISTED_CHARACTERS
    for place, text in enumerate(listed):
        room -= len(text)
        if room < 0:
            return listed[:place]
    return listed or None


def _texts(values: Iterable[Any]) -> Iterable[str]:
    return (text_of(restored(value)) or "" for value in values)


def _most_frequent(texts: Iterable[str], at_least: int) -> str | None:
    """Of several that are, the first alphabetically; None when it is not there often enough."""
    counts = Counter(texts)
    most = max(counts.values(), default=0)
    return None if most < at_least else min(text for text, count in counts.items() if count == most)


# --- in a state ---------------------------------------------------------------------------------------------------


def refresh(state: ProfileState, traits: Iterable[ComputedTrait], instant: Instant) -> None:
    """Makes the values of these traits anew, in the order of their references."""
    for trait in traits:
        value = trait.value(state, instant.now, instant.horizon)
        if value == trait.empty:
            state.computed.pop(trait.key, None)
        else:
            state.computed[trait.key] = value


def refresh_known(state: ProfileState, plan: Plan, instant: Instant) -> None:
    """Makes all values anew; of traits that have nothing to go by in this profile there is none."""
    if plan.computed:
        refresh(state, plan.computed_by(state.feeds, state.traits), instant)


def refresh_after(event: ProfileEvent, state: ProfileState, plan: Plan, instant: Instant) -> None:
    """Makes the values anew that the event, which has been folded into the state, can have changed."""
    refresh(state, plan.computed_by((hit.feed for hit in event.hits), event.traits or ()), instant)


def computed_value(state: ProfileState, trait: ComputedTrait) -> Any:
    """The value of a trait as JSON, at the instant at which the profile was looked at last; None: there is none."""
    value = state.computed.get(trait.key, trait.empty)
    restored_value = restored(value)
    return restored_value.text if isinstance(restored_value, Composite) else value


def reader(key: str, path: str, empty: int | None) -> Read:
    """What conditions read of the computed trait `key` under a path that begins with it."""
    rest = parse_path(path)[1:]
    if not rest:
        return lambda state: _single(state.computed.get(key, empty))
    if rest == (ARRAY_ITEMS,):
        return lambda state: value if type(value := state.computed.get(key)) is list else None
    return lambda _: None


def _single(value: Any) -> Any:
    """A list is its JSON, as a list of an identify call is."""
    return Composite(text_of(value) or "") if type(value) is list else restored(value)
