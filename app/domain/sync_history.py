"""What a destination's record in audience.syncs remembers of its past, for people to look at. Bounded; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schemas.sync import StateChange, SyncHour

if TYPE_CHECKING:
    from schemas.sync import DestinationState, SyncState

MOST_CHANGES: Final = 20
MOST_HOURS: Final = 48
HOUR_MS: Final = 3_600_000
# Facebook gives each answer a trace of its own: the same refusal once more is no change.
_TRACE: Final = re.compile(r", trace [^)]*(?=\))")


def with_change(
    known: SyncState, state: DestinationState, reason: str | None, facebook_id: str | None, now_ms: int
) -> tuple[StateChange, ...]:
    """The history, with what the destination is now, should that be something else than it was."""
    history = known.history
    if history:
        last = history[-1]
        same = (last.state, _without_trace(last.reason), last.facebook_id)
        if same == (state, _without_trace(reason), facebook_id):
            return history
    change = StateChange(at=now_ms, state=state, reason=reason, facebook_id=facebook_id)
    return (*history, change)[-MOST_CHANGES:]


def _without_trace(reason: str | None) -> str | None:
    return None if reason is None else _TRACE.sub("", reason)


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
