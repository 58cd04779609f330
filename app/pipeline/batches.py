"""One destination's batches: taken, noted in the ledger, sent, confirmed; or given back, where it has to wait.

A batch of which something is known stays out while a limit is near, and while a request of it is told apart. It would
never come to its end otherwise: what it has found out would have to be found out anew after each wait. What has changed
again meanwhile is left out of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.domain.batching import Batch, Batcher
from app.pipeline.delivery_options import Shared
from app.pipeline.sending import Sending
from app.pipeline.sync_record import Shown, SyncRecord


class Batches:
    """`ready` returns when a call may be made now, and raises when it may not; `shown` gives the state and reason to
    write; `confirmed` is called behind each batch that has come to its end.
    """

    def __init__(
        self,
        shared: Shared,
        destination: str,
        record: SyncRecord,
        batcher: Batcher,
        sending: Sending,
        ready: Callable[[], Awaitable[None]],
        shown: Callable[[], Shown],
        confirmed: Callable[[], None],
    ) -> None:
        self._clock = shared.clock
        self._counter = shared.counters.stages["batch"]
        self._destination = destination
        self._record = record
        self._batcher = batcher
        self._sending = sending
        self._ready = ready
        self._shown = shown
        self._confirmed = confirmed
        self._has_waited = False
        # Offsets of the batch that is out whose profiles have changed again while it waited.
        self._superseded: frozenset[int] = frozenset()

    @property
    def is_due(self) -> bool:
        """Whether there is something to send by now."""
        due = self._batcher.wake_at()
        return self._sending.batch is not None or (due is not None and due <= self._clock.monotonic())

    async def send(self) -> None:
        """Take the batch that is due, or go on with the one that is out, through to its confirmation.

        Raises what calls raise, and what `ready` raises.
        """
        batch = self._sending.batch
        if batch is None:
            await self._ready()
            batch = self._batcher.take(self._clock.monotonic(), self._sending.arrived)
            if batch is None:
                return
            self._sending.begin(batch)
            await self._note(batch)
        if self._has_waited:
            # Not on each try: a request without an answer is answered before anything newer of its people is sent.
            self._superseded, self._has_waited = self._batcher.superseded(batch), False
        audience = self._record.state.facebook_id or ""
        await self._sending.send(batch, audience, self._superseded)
        held_up = self._sending.held_up
        if held_up is not None:
            if self._sending.holds_removals:
                await self._send_additions(audience)
            raise held_up
        await self._confirm(batch)

    async def _send_additions(self, audience: str) -> None:
        """What the removals that are held up wait for may be behind them: it goes out ahead, and stays where it is."""
        ahead = self._batcher.additions(self._sending.early)
        if ahead is not None:
            await self._note(ahead)
            await self._sending.send_all(ahead.changes, audience)

    async def _note(self, batch: Batch) -> None:
        if any(delta.rows.get(self._destination) for _, delta in batch.changes):
            await self._record.note(batch, self._shown())

    async def _confirm(self, batch: Batch) -> None:
        sending = self._sending
        await self._record.confirm(batch, self._shown(), sending.has_sent, sending.rejected_in_a_row)
        self._batcher.confirm(batch)
        self._sending.confirmed(batch)
        self._is_not_out()
        self._counter.records_out += len(batch.changes)
        self._confirmed()

    async def pretend(self) -> None:
        """A dry run: everything but the sending."""
        batch = self._batcher.take(self._clock.monotonic())
        if batch is not None:
            await self._confirm(batch)

    def rest(self) -> None:
        """Nothing is sent for a while."""
        self._wait(keep=self._sending.has_progressed)

    def hold(self) -> None:
        """Something is wrong. Unless parts of a request are tried, all that came meanwhile is tried with it."""
        self._wait(keep=self._sending.is_among_parts)

    def _wait(self, *, keep: bool) -> None:
        if keep:
            self._has_waited = True
        else:
            self._give_back()

    def forget(self) -> None:
        """No batch is out, and what has arrived of those that are not confirmed may be sent again."""
        self._give_back()
        self._sending.forget()

    def _give_back(self) -> None:
        if self._sending.batch is not None:
            self._batcher.give_back(self._sending.batch)
            self._sending.give_back()
            self._is_not_out()

    def _is_not_out(self) -> None:
        self._has_waited, self._superseded = False, frozenset()
