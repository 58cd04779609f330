"""A destination's newest record in audience.syncs, and what is written to it when."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.batching import Batch
from app.domain.sync_history import with_change, with_rows
from app.pipeline.delivery_options import Shared
from app.ports import AudienceStatus
from schemas.sync import DestinationState, OffsetRange, SyncState

Shown = tuple[DestinationState, str | None]


class SyncRecord:
    """`shown`, wherever it is asked for, is the state and reason to write. Every write is durable when it returns.

    `always` gives what every write carries besides, `rows` how many were added, removed and refused since it was last
    asked.
    """

    def __init__(
        self,
        shared: Shared,
        state: SyncState,
        always: Callable[[], dict[str, object]],
        rows: Callable[[], tuple[int, int, int]],
    ) -> None:
        self._shared = shared
        self._always = always
        self._rows = rows
        self._state = state
        self._written_at = shared.clock.monotonic()

    @property
    def state(self) -> SyncState:
        return self._state

    @property
    def unconfirmed_end(self) -> int:
        """Below it something may have been sent whose outcome is not known."""
        return max((span.end for span in self._state.unconfirmed), default=0)

    async def write(self, shown: Shown, **changes: object) -> None:
        """What `changes` leave alone stays as it is."""
        now = self._shared.clock.now_ms()
        update = {"state": shown[0], "reason": shown[1], "updated_at": now, **self._always(), **changes}
        state = self._state.model_copy(update=update)
        past = {
            "history": with_change(state, state.state, state.reason, state.facebook_id, now),
            "hours": with_rows(state.hours, now, *self._rows()),
        }
        state = state.model_copy(update=past)
        await self._shared.ledger.record(state)
        self._state = state
        self._written_at = self._shared.clock.monotonic()

    async def note(self, batch: Batch, shown: Shown) -> None:
        """Before anything of a batch is sent: from now on its offsets may have been."""
        span = OffsetRange(first=batch.first, end=max(batch.end, self.unconfirmed_end))
        await self.write(shown, unconfirmed=(span,))

    async def confirm(self, batch: Batch, shown: Shown, sent: bool, rejected_in_a_row: int) -> None:
        """Everything in the batch has reached its end; `sent`: some of it went to Facebook. `rejected_in_a_row`: requests
        refused for good so far, in a row.
        """
        unconfirmed = tuple(
            OffsetRange(first=max(span.first, batch.end), end=span.end)
            for span in self._state.unconfirmed
            if span.end > batch.end
        )
        last_sync_at = self._shared.clock.now_ms() if sent else self._state.last_sync_at
        await self.write(
            shown,
            cursor=batch.end,
            unconfirmed=unconfirmed,
            last_sync_at=last_sync_at,
            rejected_in_a_row=rejected_in_a_row,
        )

    async def said(self, status: AudienceStatus, shown: Shown) -> None:
        """What Facebook says of the audience just now."""
        await self.write(
            shown,
            lower_bound=status.lower_bound,
            upper_bound=status.upper_bound,
            operation=status.operation,
            delivery=status.delivery,
            status_at=self._shared.clock.now_ms(),
        )

    async def progress(self, cursor: int, shown: Shown) -> None:
        """Now and then also without a batch: offsets that held nothing for this destination, and its state."""
        age = self._shared.clock.monotonic() - self._written_at
        if age < self._shared.options.progress_seconds:
            return
        update = {"cursor": cursor, "state": shown[0], "reason": shown[1], **self._always()}
        if any(getattr(self._state, name) != value for name, value in update.items()):
            await self.write(shown, cursor=cursor)
