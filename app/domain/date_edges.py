"""When time alone changes what a comparison of a date with the clock says.

The dates are values of a profile's traits or of its events; each has its own edges, before or after it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.domain.comparing import options_of
from app.domain.operators import RELATIVE_OPERATORS, edges_after
from app.domain.state import NEVER
from app.domain.values import goes_into_items, instant_of
from schemas.audience import TraitReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.domain.comparing import Readers
    from app.domain.feeds import Feed
    from app.domain.state import ProfileState
    from schemas.audience import Comparison

    Edges = Callable[[ProfileState], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Watch:
    """`due(state, now)` is the next instant after `now` at which one of the dates changes what is said of it.

    It depends on nothing but the traits (paths as definitions write them) and the feed named here.
    """

    due: Callable[[ProfileState, int], int]
    traits: tuple[str, ...]
    feed: str | None = None


# By what they watch, so that those which watch the same are one.
Watches = dict[tuple[object, ...], Watch]


def trait_watches(comparisons: Iterable[Comparison], readers: Readers) -> Watches:
    """Of the comparisons of a trait condition."""
    watches: Watches = {}
    for item in comparisons:
        if item.operator in RELATIVE_OPERATORS:
            watches["trait", item.path, item.operator, repr(item.operand)] = _of_trait(item, readers)
    return watches


def event_watches(feed: Feed, placed: Iterable[tuple[int, Comparison]], readers: Readers) -> Watches:
    """Of the comparisons of a feed's events, each with the place of its value among the kept ones."""
    watches: Watches = {}
    for place, item in placed:
        if item.operator in RELATIVE_OPERATORS:
            watches[feed.id, place, item.operator, repr(item.operand)] = _of_events(
                feed.id, place, item, readers
            )
    return watches


def _of_trait(item: Comparison, readers: Readers) -> Watch:
    read, several = readers(item.path), goes_into_items(item.path)
    edges, referred = _edges_of(item, readers)

    def due(state: ProfileState, now: int) -> int:
        value = read(state)
        if value is None:
            return NEVER
        return _next_edge(value if several else (value,), edges(state), now)

    return Watch(due, (item.path, *referred))


def _of_events(feed_id: str, place: int, item: Comparison, readers: Readers) -> Watch:
    several = goes_into_items(item.path)
    edges, referred = _edges_of(item, readers)

    def due(state: ProfileState, now: int) -> int:
        kept = state.feeds.get(feed_id)
        if kept is None:
            return NEVER
        values = (entry[place] for entry in kept.values)
        dates = (date for items in values for date in items or ()) if several else values
        return _next_edge(dates, edges(state), now)

    return Watch(due, referred, feed_id)


def _edges_of(item: Comparison, readers: Readers) -> tuple[Edges, tuple[str, ...]]:
    """The milliseconds after a date at which the comparison changes its mind, and the traits that say so."""
    operator, operand = item.operator, item.operand
    if not isinstance(operand, TraitReference):
        constant = edges_after(operator, operand)
        return (lambda _: constant), ()
    read, several = readers(operand.trait), goes_into_items(operand.trait)

    def edges(state: ProfileState) -> Sequence[int]:
        options = options_of(read(state), several=several)
        return [edge for option in options if type(option) is str for edge in edges_after(operator, option)]

    return edges, (operand.trait,)


def _next_edge(dates: Iterable[Any], edges: Sequence[int], now: int) -> int:
    known = sorted(date for value in dates if (date := instant_of(value)) is not None)
    due = NEVER
    for edge in edges:
        place = bisect_right(known, now - edge)
        if place < len(known):
            due = min(due, known[place] + edge)
    return due
