"""Upload sessions: what batches of one session id add up to, and when nothing more is taken.

A session ends with the batch that says it is the last, or 90 minutes after its first one; what comes later is discarded
by adds. Pure: instants come in as arguments, in unix seconds of the sandbox's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.sandbox.validation import Session, Upload

SESSION_SECONDS = 90 * 60

_MOST = 10_000
_NOT_YET = -1


@dataclass(slots=True)
class UploadSession:
    """`ended_at` None: more may come. `matched` of the audience when it ended."""

    id: str
    started_at: float
    received: int = 0
    invalid: int = 0
    ended_at: float | None = None
    matched: int = _NOT_YET

    def end_of(self, now: float) -> float | None:
        """When it has ended, None: it has not."""
        if self.ended_at is None and now - self.started_at >= SESSION_SECONDS:
            return self.started_at + SESSION_SECONDS
        return self.ended_at


class Sessions:
    """Of all audiences, the oldest forgotten first. Removals have sessions of their own."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str, str], UploadSession] = {}

    def find(self, audience_id: str, action: str, session_id: str) -> UploadSession | None:
        return self._sessions.get((audience_id, action, session_id))

    def take(
        self, audience_id: str, action: str, session: Session, upload: Upload, matched: int, now: float
    ) -> UploadSession:
        """One batch that is applied; `matched` people are in the audience after it."""
        key = (audience_id, action, session.id)
        known = self._sessions.get(key)
        if known is None:
            self._make_room()
            known = self._sessions[key] = UploadSession(session.id, now)
        known.received += upload.received
        known.invalid += upload.invalid
        if session.last_batch and known.ended_at is None:
            known.ended_at, known.matched = now, matched
        return known

    def end(self, audience_id: str, action: str, session_id: str, matched: int, now: float) -> None:
        """It has ended by itself."""
        known = self._sessions.get((audience_id, action, session_id))
        if known is not None and known.ended_at is None:
            known.ended_at, known.matched = now, matched

    def forget(self, audience_id: str) -> None:
        """The audience is deleted."""
        for key in [key for key in self._sessions if key[0] == audience_id]:
            del self._sessions[key]

    def shown(self, audience_id: str, session_id: str | None, now: float) -> list[dict[str, str]]:
        """Newest first, every value a text."""
        found = [
            one
            for (audience, _, number), one in reversed(self._sessions.items())
            if audience == audience_id and session_id in {None, number}
        ]
        return [_shown(one, now) for one in found]

    def _make_room(self) -> None:
        if len(self._sessions) >= _MOST:
            # Half at once, so that a client with a session per request does not pay for this each time.
            self._sessions = dict(list(self._sessions.items())[_MOST // 2 :])


FIELDS = (
    "session_id",
    "start_time",
    "end_time",
    "num_received",
    "num_matched",
    "num_invalid_entries",
    "progress",
    "stage",
)


def _shown(one: UploadSession, now: float) -> dict[str, str]:
    end = one.end_of(now)
    values: tuple[Any, ...] = (
        one.id,
        int(one.started_at),
        0 if end is None else int(end),
        one.received,
        _NOT_YET if end is None else one.matched,
        one.invalid,
        0 if end is None else 100,
        # The API's word for one that has ended is not documented.
        "uploading" if end is None else "completed",
    )
    return {name: str(value) for name, value in zip(FIELDS, values, strict=True)}
