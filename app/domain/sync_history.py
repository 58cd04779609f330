"""What a destination's record in audience.syncs remembers of its past, for people to look at. Bounded; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schemas.sync import StateChange, SyncHour

if TYPE_CHECKING:
    from schemas.sync import DestinationState, SyncState

MOST_CHANGES: Final = 20
_TURNS: Final = 6
MOST_HOURS: Final = 48
HOUR_MS: Final = 3_600_000
# Facebook gives each answer a trace of its own: the same refusal once more is no change.
_TRACE: Final = re.compile(r", trace [^)]*(?=\))")


def with_change(
    known: SyncState, state: DestinationState, reason: str | None, facebook_id: str | None, now_ms: int
) -> tuple[StateChange, ...]:
    """The history, with what the destination is now, should that be something else than it was.

    Of two states in turn, as near a limit, the first time and the last few are kept, as they would leave no room for
    others.
    """
    change = StateChange(at=now_ms, state=state, reason=reason, facebook_id=facebook_id)
    history = known.history
    if history and _what(history[-1]) == _what(change):
        return history
    history = (*history, change)
    if len(history) > _TURNS:
        newest = [_what(one) for one in history[-_TURNS:]]
        if newest == newest[-2:] * (_TURNS // 2):
            history = (*history[:-4], *history[-2:])
    return history[-MOST_CHANGES:]


def _what(change: StateChange) -> tuple[DestinationState, str | None, str | None]:
    reason = None if change.reason is None else _TRACE.sub("", change.reason)
    return change.state, reason, change.facebook_id


def with_rows(
    hours: tuple[SyncHour, ...], now_ms: int, added: int, removed: int, rejected: int
) -> tuple[SyncHour, ...]:
    """The hours, with rows of this one."""
    if not (added or removed or rejected):
        return hours
    hour = now_ms // HOUR_MS
    last = SyncHour(hour=hour)
    if hours and hours[-1].hour >= hour:
        # A wall that was set back counts on in the hour it had reached.
        hours, last = hours[:-1], hours[-1]
    last = SyncHour(
        hour=last.hour,
        added=last.added + added,
        removed=last.removed + removed,
        rejected=last.rejected + rejected,
    )
    return (*hours, last)[-MOST_HOURS:]
