"""What an event condition sees of a profile: how many events, and what their aggregate is.

Counted by the same steps as app.domain.event_conditions and app.domain.funnels take for the truth; that both agree is
tested with random definitions.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.domain.aggregates import OF_NUMBERS, OF_TOTALS
from app.domain.comparing import is_deferred
from app.domain.event_conditions import deferred_tests, feed_of, numbers_of, thresholds_of, totals_of
from app.domain.feeds import Kept, KeptKind
from app.domain.funnels import followed_parents, parent_feed
from app.domain.state import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.comparing import Readers
    from app.domain.feeds import Feed, Since
    from app.domain.state import ProfileState
    from schemas.audience import EventCondition

    # (state, now, horizon) -> what the condition sees then.
    Observe = Callable[["ProfileState", int, int], "Observed"]
    Chosen = Callable[[ProfileState, int, int], tuple[Sequence[int], Sequence[list[Any]]]]


@dataclass(frozen=True, slots=True)
class Observed:
    """`count` events, with `then` those which it holds of. `or_more`: no more of them need be kept.

    `aggregate` is that of the condition; None: it has none, or there is no value. `newest` is the instant of the
    newest of these events where that is kept.
    """

    count: int
    aggregate: float | None = None
    newest: int | None = None
    or_more: bool = False


def observer(condition: EventCondition, readers: Readers, since: Since | None) -> Observe:
    """The window of the condition is cut off at the lookback already."""
    if condition.then is not None:
        feed = parent_feed(condition, condition.then, since)
        followed = followed_parents(condition, condition.then, readers, since)

        def parents(state: ProfileState, now: int, horizon: int) -> tuple[list[int], list[list[Any]]]:
            found = followed(state, now, horizon)
            return [instant for instant, _ in found], [entry for _, entry in found]

        return _of_entries(condition, feed, parents)
    feed = feed_of(condition, since)
    deferred = any(map(is_deferred, (*condition.where, *condition.context)))
    if condition.window is None and not deferred:
        return _of_totals(condition, feed)
    return _of_entries(condition, feed, _chosen(condition, feed, readers), few=not deferred)


def _of_totals(condition: EventCondition, feed: Feed) -> Observe:
    aggregate = condition.aggregate
    index = 0 if aggregate is None else feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path))

    def observe(state: ProfileState, now: int, horizon: int) -> Observed:
        kept = state.feeds.get(feed.id)
        if kept is None:
            return Observed(0)
        count, totals, early = totals_of(kept, index, max(now, state.settled), horizon)
        value = None if aggregate is None else OF_TOTALS[aggregate.function](totals, early)
        return Observed(count, value)

    return observe


def _chosen(condition: EventCondition, feed: Feed, readers: Readers) -> Chosen:
    window = condition.window
    far, near = (window.far_ms, window.near_ms) if window else (NEVER, 0)
    tests = deferred_tests(condition, feed, readers)

    def chosen(state: ProfileState, now: int, horizon: int) -> tuple[Sequence[int], Sequence[list[Any]]]:
        kept = state.feeds.get(feed.id)
        if kept is None:
            return (), ()
        first = bisect_right(kept.instants, now - far)
        end = bisect_right(kept.instants, now - near if near else horizon)
        instants, entries = kept.instants[first:end], kept.values[first:end]
        if tests is not None:
            passes = tests(state, now)
            places = [place for place, entry in enumerate(entries) if passes(entry)]
            return [instants[place] for place in places], [entries[place] for place in places]
        return instants, entries

    return chosen


def _of_entries(condition: EventCondition, feed: Feed, chosen: Chosen, *, few: bool = False) -> Observe:
    """`few`: without an aggregate, only as many events are kept as the bound can tell apart."""
    aggregate = condition.aggregate
    index = -1 if aggregate is None else feed.kept.index(Kept(KeptKind.NUMBER, aggregate.property_path))
    enough = thresholds_of(condition.count)[0] if few and aggregate is None else None

    def observe(state: ProfileState, now: int, horizon: int) -> Observed:
        instants, entries = chosen(state, now, horizon)
        count = len(instants)
        return Observed(
            count=count,
            aggregate=None
            if aggregate is None
            else OF_NUMBERS[aggregate.function](numbers_of(entries, index)),
            newest=instants[-1] if count else None,
            or_more=enough is not None and count >= enough,
        )

    return observe
