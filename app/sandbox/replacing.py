"""Replacing everybody in an audience: sessions of `usersreplace`, and the swap at their end.

Who was there before stays until the session ends, by its last batch or after 90 minutes; then the audience is exactly
who arrived. Pure: instants come in as arguments, in unix seconds of the sandbox's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.validation import Session, Upload

REPLACE_SECONDS = 90 * 60
NORMAL, REPLACING, REPLACE_FAILED = 200, 414, 415

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class _Replacement:
    """`batches` by their number; `swaps_at` is None while more may come."""

    session_id: str
    started_at: float
    schema: list[str] | str
    batches: dict[int, Rows] = field(default_factory=dict)
    received: int = 0
    swaps_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReplaceOptions:
    """`seconds` from the last batch to the swap; `fails`: nothing is swapped then; `late_status` is the operation status
    behind a session that ran out of time, which the API documents as normal in one place and as failed in another;
    `max_people`: an audience of so many cannot be replaced.
    """

    seconds: float = 0.0
    fails: bool = False
    late_status: int = NORMAL
    max_people: int = 100_000_000


class Replacements:
    """Of all audiences. `swap` puts these rows in the place of everybody in the audience."""

    def __init__(self, swap: Callable[[str, Rows, float], None]) -> None:
        self._swap = swap
        self._options = ReplaceOptions()
        self._under_way: dict[str, _Replacement] = {}
        # By audience, the sessions that have ended, each with the error for whatever comes to it later.
        self._ended: dict[str, dict[str, errors.GraphError]] = {}
        self._status: dict[str, int] = {}

    def use(self, options: ReplaceOptions) -> None:
        self._options = options

    def forget(self, audience_id: str) -> None:
        """The audience is deleted."""
        for known in (self._under_way, self._ended, self._status):
            known.pop(audience_id, None)

    def settle(self, now: float) -> None:
        """End what has ended by now."""
        for audience_id, one in list(self._under_way.items()):
            if one.swaps_at is None and now >= one.started_at + REPLACE_SECONDS:
                self._end(audience_id, one, one.started_at + REPLACE_SECONDS, errors.replace_window_over())
                self._status[audience_id] = self._options.late_status
            elif one.swaps_at is not None and now >= one.swaps_at:
                late = errors.replace_failed() if self._options.fails else errors.replace_closed()
                self._end(audience_id, one, one.swaps_at, late)

    def _end(self, audience_id: str, one: _Replacement, at: float, late: errors.GraphError) -> None:
        del self._under_way[audience_id]
        self._ended.setdefault(audience_id, {})[one.session_id] = late
        self._status[audience_id] = REPLACE_FAILED if self._options.fails else NORMAL
        if not self._options.fails:
            self._swap(
                audience_id, [row for number in sorted(one.batches) for row in one.batches[number]], at
            )

    def status_of(self, audience_id: str) -> int:
        """The operation status, as far as replacing decides it."""
        if audience_id in self._under_way:
            return REPLACING
        return self._status.get(audience_id, NORMAL)

    def check_people_may_change(self, audience_id: str) -> None:
        if audience_id in self._under_way:
            raise errors.being_replaced()

    def receive(self, audience_id: str, session: Session, upload: Upload, now: float) -> int:
        """Take in one batch; the rows of the session so far. Refused as a whole by raising GraphError."""
        one = self._under_way.get(audience_id)
        if session.batch_seq == 1:
            one = self._begin(audience_id, session, upload, now)
        elif one is None or one.session_id != session.id:
            raise self._ended.get(audience_id, {}).get(session.id) or errors.first_batch_missing()
        elif one.swaps_at is not None:
            raise errors.replace_closed()
        if upload.schema != one.schema:
            raise errors.replace_schema_changed()
        if session.batch_seq not in one.batches:
            # A number that comes again is the same batch again, whatever it holds.
            one.batches[session.batch_seq] = upload.rows
        one.received += upload.received
        if session.last_batch:
            one.swaps_at = now + self._options.seconds
            self.settle(now)
            if self._options.fails and audience_id not in self._under_way:
                raise errors.replace_failed()
        return one.received

    def check_size(self, people: int) -> None:
        """Raises GraphError for an audience too large to be replaced."""
        if people >= self._options.max_people:
            raise errors.too_large_to_replace()

    def _begin(self, audience_id: str, session: Session, upload: Upload, now: float) -> _Replacement:
        if audience_id in self._under_way:
            raise errors.being_replaced()
        late = self._ended.get(audience_id, {}).get(session.id)
        if late is not None:
            raise late
        if self._status.get(audience_id) == REPLACE_FAILED:
            # The next one may mend it: the API says to run a fresh one.
            del self._status[audience_id]
        one = _Replacement(session.id, now, upload.schema)
        self._under_way[audience_id] = one
        return one
