"""How one destination gets level with the log: it reads it while it is behind, is sent everything once again on demand,
or has everybody replaced.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from app.domain.batching import Batcher
from app.domain.data_use import data_use_of
from app.domain.pausing import Desired
from app.domain.replacing import why_ordinary
from app.pipeline.call_gate import CallGate
from app.pipeline.delivery_options import Shared
from app.pipeline.replace import NotReplaced, Outcome, Replace, Replaced
from app.pipeline.resync import Resync
from app.pipeline.row_outcomes import RowOutcomes
from app.pipeline.sync_record import Shown, SyncRecord
from schemas.audience import FacebookDestination
from schemas.sync import ReplaceSession

log = logging.getLogger(__name__)


class CatchingUp:
    """One destination. `shown` gives the state and reason to write.

    `start_over`, `read_log` and `replace_everybody` are for the destination's own task.
    """

    def __init__(
        self,
        shared: Shared,
        mapping: FacebookDestination,
        audience: str,
        partition: int,
        record: SyncRecord,
        batcher: Batcher,
        resync: Resync,
        outcomes: RowOutcomes,
        gate: CallGate,
        shown: Callable[[], Shown],
    ) -> None:
        self._shared = shared
        self._clock = shared.clock
        self._mapping = mapping
        self._audience = audience
        self._partition = partition
        self._record = record
        self._batcher = batcher
        self._resync = resync
        use = data_use_of(mapping, shared.options.data_use)
        self._replace = Replace(
            shared, mapping.id, audience, partition, outcomes, self._note_session, gate, use
        )
        self._shown = shown

    @property
    def replacing(self) -> bool:
        """Whether everybody is being replaced; nothing else is sent meanwhile."""
        return self._record.state.replace is not None

    @property
    def is_to_start_over(self) -> bool:
        """Whether somebody asked for everything once again, and it has not begun."""
        return self._resync.is_wanted(self._record.state)

    def desire(self, desired: Desired) -> None:
        """What people want of the destination from now on."""
        self._resync.desired = desired

    def suspend(self) -> None:
        """Nothing is kept but the cursor. No batch may be out."""
        self._resync.forget()
        self._replace.forget()
        self._batcher.suspend(self._resync.settle_end(self._record.unconfirmed_end))

    async def start_over(self, *, dry: bool) -> None:
        """As somebody asked for; in a dry run nobody is replaced. No batch may be out."""
        self.suspend()
        wish = self._resync.desired
        if wish.replace and not dry and (why := why_ordinary(self._mapping)) is not None:
            log.warning("destination %s is sent again, not replaced: %s", self._mapping.id, why)
        elif wish.replace and not dry:
            end = max(self._batcher.live_end, self._record.unconfirmed_end, self._resync.end)
            session = ReplaceSession(end=end)
            await self._record.write(self._shown(), resynced_at=wish.resync_at, replace=session)
            return
        await self._send_again(self._may_have_been_sent, resynced_at=wish.resync_at)

    @property
    def is_to_start(self) -> bool:
        """Whether any of these has been asked for and not begun."""
        return self.is_to_start_over or self.is_to_begin_anew

    @property
    def is_to_begin_anew(self) -> bool:
        """Whether somebody asked for another Facebook audience, and nothing has come of it yet."""
        return self._resync.desired.recreate_at > self._record.state.recreated_at

    async def begin_anew(self, *, gone: bool) -> None:
        """With another Facebook audience, where this one is `gone`; whoever finds it there still keeps it. No batch may
        be out.
        """
        wished_at = self._resync.desired.recreate_at
        if not gone:
            await self._record.write(self._shown(), recreated_at=wished_at)
            return
        self.suspend()
        await self._send_again(
            self._may_have_been_sent,
            recreated_at=wished_at,
            facebook_id=None,
            # As after a lost answer: one with the marker may be there, should only the right to it have been lost.
            creating=True,
            unconfirmed=(),
            lower_bound=None,
            upper_bound=None,
            operation=None,
            delivery=None,
            status_at=None,
        )

    @property
    def _may_have_been_sent(self) -> int:
        return max(self._batcher.cursor, self._record.unconfirmed_end, self._resync.end)

    async def _send_again(self, end: int, *, left_out: bool = False, **changes: object) -> None:
        """Everything is suspended; below `end` the newest changes only."""
        await self._record.write(self._shown(), **self._resync.begin(end, left_out=left_out), **changes)
        self._batcher.restart_at(0)

    async def read_log(self) -> None:
        """Returns when there is nothing to read, or no room for more."""
        if self._record.state.replace is not None:
            await self._replace.prepare(self._record.state.replace)
            return
        counter = self._shared.counters.stages["batch"]
        while (span := self._batcher.begin_read()) is not None:
            first, end = span
            if first < end:
                await self._resync.prepare(first)
                deltas = self._shared.log.read(self._partition, first, end, self._audience)
                try:
                    async for offset, delta in deltas:
                        if self._resync.is_superseded(offset, delta):
                            continue
                        if not self._batcher.read(offset, delta, self._clock.monotonic()):
                            return
                        counter.records_in += 1
                finally:
                    if isinstance(deltas, AsyncGenerator):
                        await deltas.aclose()
            self._batcher.end_read(end)

    async def _note_session(self, session: ReplaceSession) -> None:
        await self._record.write(self._shown(), replace=session)

    async def replace_everybody(self, session: ReplaceSession) -> Outcome:
        """One step, and what follows from it for the log. Raises what the gate and the calls raise."""
        outcome = await self._replace.step(session, self._record.state.facebook_id or "")
        if isinstance(outcome, Replaced):
            self.suspend()
            await self._go_on_behind(outcome)
            log.info("destination %s: everybody is replaced", self._mapping.id)
        elif isinstance(outcome, NotReplaced):
            log.warning("destination %s is sent again, not replaced: %s", self._mapping.id, outcome.why)
            self.suspend()
            await self._send_again(max(session.end, self._may_have_been_sent))
        return outcome

    async def _go_on_behind(self, done: Replaced) -> None:
        """What has happened since is delivered as on all other days."""
        now = self._clock.now_ms()
        if done.left_out:
            await self._send_again(done.end, left_out=True, unconfirmed=(), last_sync_at=now)
            return
        await self._record.write(
            self._shown(), cursor=done.end, unconfirmed=(), replace=None, last_sync_at=now
        )
        self._batcher.restart_at(done.end)
