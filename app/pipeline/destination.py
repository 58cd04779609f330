"""Delivers to one destination, in its own task: one batch, and one request, at a time.

    read the log while behind ─► provision ─► take a batch ─► note its offsets in the ledger ─► requests
          ▲                                                                                        │
          └── hold, back off: the batch waits, or is given back and fills ◄── refused ── confirmed ──┘
                                                                     (letters, then the cursor)

Nothing is lost while a destination waits: its cursor stays, and what finds no room is read from the log later.

Here is the order of steps: which part of the log is sent is `catching_up`, what becomes of a batch `batches`, its
requests are `sending`, refusals and failures `trouble`, what Facebook says of the audience is `status`, and when a call may
be made is `call_gate`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from app.domain.batching import Batcher
from app.domain.data_use import data_use_of
from app.domain.delivery import GraphRefusal
from app.domain.pausing import Desired
from app.domain.scope_gates import Closed
from app.domain.sync_start import ad_account_of, starting_state
from app.errors import NeedsPersonError, UnreachableError
from app.pipeline.batches import Batches
from app.pipeline.call_gate import CallGate, ClosedError, StoppedError
from app.pipeline.catching_up import CatchingUp
from app.pipeline.delivery_options import DestinationView, Shared
from app.pipeline.limits import Limits
from app.pipeline.pausing import Pausing
from app.pipeline.provision import Postponed, Provisioner
from app.pipeline.reach import refused
from app.pipeline.renamed import all_renamed, with_former
from app.pipeline.replace import GoOn, Replaced, Wait
from app.pipeline.resync import Resync
from app.pipeline.row_outcomes import RowOutcomes
from app.pipeline.sending import Sending
from app.pipeline.status import Status
from app.pipeline.sync_record import Shown, SyncRecord
from app.pipeline.trouble import Hold, Retry, Trouble
from schemas.audience import AudienceDefinition, DeliveryMode, FacebookDestination
from schemas.membership import MembershipDelta
from schemas.sync import DestinationState, SyncState

# Rests shorter than this are ordinary pacing and not shown as a hold, in seconds.
_SHORT_REST = 5.0


class Destination:
    """Runs from `run` until `stop`. `state` is the newest of the ledger, None for a new destination."""

    def __init__(
        self,
        shared: Shared,
        definition: AudienceDefinition,
        mapping: FacebookDestination,
        partition: int,
        state: SyncState | None,
        live_offset: int,
        desired: Desired,
    ) -> None:
        self._shared = shared
        self._options = shared.options
        self._clock = shared.clock
        self._mapping = mapping
        self._audience = definition.key
        self._texts = (definition.name, definition.description)
        self._dry = shared.options.dry_run or mapping.mode is DeliveryMode.DRY_RUN
        self._account = ad_account_of(mapping, shared.options.ad_account_id, state)
        start = starting_state(
            state,
            mapping,
            definition.key,
            shared.options.installation,
            self._account,
            live_offset,
            self._dry,
            self._clock.now_ms(),
            desired.resync_at,
        )
        self._former = start.former
        shared = with_former(shared, mapping.id, start.former)
        self._pausing = Pausing(shared, mapping.id, definition.key, partition, start, live_offset, desired)
        self._outcomes = RowOutcomes(shared, mapping.id, partition)
        self._record = SyncRecord(shared, start, self._always, self._outcomes.take)
        resync = Resync(shared, mapping.id, definition.key, partition, start, desired)
        self._limits = Limits(shared, mapping.id, self._account)
        self._gate = CallGate(shared, self._limits, self._pausing)
        self._trouble = Trouble(shared, mapping.id, self._account, self._limits)
        self._retry_at: int | None = None
        # Of what is sent again nothing goes out that is superseded below the resync's end.
        settle_end = resync.settle_end(self._record.unconfirmed_end)
        self._batcher = Batcher(mapping.id, shared.options.policy, start.cursor, live_offset, settle_end)
        self._catching_up = CatchingUp(
            shared,
            mapping,
            definition.key,
            partition,
            self._record,
            self._batcher,
            resync,
            self._outcomes,
            self._gate,
            lambda: self._shown,
        )
        now, timeout = self._clock.monotonic(), shared.options.request_timeout_seconds
        # What a predecessor had under way may reach Facebook until then.
        quiet_until = now + timeout
        self._not_before = quiet_until if (start.unconfirmed or start.replace) and not self._dry else now
        self._provisioner = Provisioner(
            definition,
            mapping,
            shared.graph,
            shared.clock,
            timeout,
            self._record_creating,
            self._gate.ready,
            self._limits.heed,
            quiet_until if state is not None and (state.creating or state.connected) else now,
        )
        self._provisioned = self._dry
        self._status = Status(
            shared, self._record, self._trouble, self._batcher, self._gate.ready, lambda: self._shown, now
        )
        self._sending = Sending(
            shared,
            mapping.id,
            self._outcomes,
            self._limits,
            self._trouble,
            self._gate.ready,
            data_use_of(mapping, shared.options.data_use),
            start.rejected_in_a_row,
        )
        self._batches = Batches(
            shared,
            mapping.id,
            self._record,
            self._batcher,
            self._sending,
            self._gate.ready,
            lambda: self._shown,
            lambda: self._status.read_by(self._status.after_sync),
        )

    @property
    def id(self) -> str:
        return self._mapping.id

    @property
    def audience(self) -> str:
        return self._audience

    @property
    def sync_state(self) -> SyncState:
        """The newest that the ledger has."""
        return self._record.state

    def is_told_by(self, definition: AudienceDefinition, mapping: FacebookDestination) -> bool:
        """Whether delivering by these would be no other than now."""
        return self._mapping == mapping and self._texts == (definition.name, definition.description)

    @property
    def idle(self) -> bool:
        """Everything known so far has reached its end, and nothing stands in the way of what comes."""
        at_work = self._trouble.shown is not None or self._catching_up.replacing
        return self._provisioned and not at_work and self._batcher.idle

    def view(self) -> DestinationView:
        counters = self._outcomes.counters
        counters.pending = self._batcher.pending
        oldest = self._batcher.oldest
        age = None if oldest is None else self._clock.monotonic() - oldest
        counters.oldest_pending_at = None if age is None else self._clock.now_ms() - round(age * 1000)
        failed_why, retry_at = self._trouble.failed_why, self._next_retry_at
        known = self._record.state
        return DestinationView.of(known, counters, self._shown, failed_why, self._account, retry_at)

    @property
    def _next_retry_at(self) -> int | None:
        """When what went wrong is tried again; of what is paused nothing is tried."""
        waits = self._trouble.shown is not None or self._trouble.failed_why is not None
        return self._retry_at if waits and self._pausing.reason is None else None

    def _always(self) -> dict[str, object]:
        always = {**self._pausing.record(), "next_retry_at": self._next_retry_at}
        if self._sending.is_hopeless:
            # Below that the batches write it, once their letters are theirs for good.
            always["rejected_in_a_row"] = self._sending.rejected_in_a_row
        return always

    def desire(self, desired: Desired) -> None:
        """What people want of the destination from now on."""
        self._catching_up.desire(desired)
        if self._pausing.desire(desired) or self._catching_up.is_to_start:
            self._gate.wake()

    def offer(self, records: Sequence[tuple[int, MembershipDelta]], written: Sequence[int], end: int) -> None:
        """Live deltas of this audience and when they were written; the stream stands at `end` behind them.

        Never blocks.
        """
        records = all_renamed(records, self.id, self._former)
        if self._pausing.offer(records, written, end):
            self._gate.wake()
        due = self._batcher.wake_at()
        kept = self._batcher.offer(records, end, self._clock.monotonic())
        self._shared.counters.stages["batch"].records_in += kept
        if self._batcher.wake_at() != due:
            self._gate.wake()

    async def run(self) -> None:
        """Returns once stopped; an exception means that this process can no longer be trusted."""
        try:
            while True:
                await self._step()
        except StoppedError:
            return

    def stop(self) -> bool:
        """End at the next wait. False: nothing is under way, the task may be cancelled at once."""
        return self._gate.stop()

    # -- one step ----------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        await self._pausing.catch_up()
        if self._pausing.reason is not None:
            await self._stay_paused()
            return
        if self._record.state.state is DestinationState.PAUSED:
            self._sending.excuse()
            await self._record.write(self._shown, rejected_in_a_row=0)
        if self._catching_up.is_to_begin_anew:
            await self._begin_anew()
        if self._catching_up.is_to_start_over:
            self._batches.forget()
            await self._catching_up.start_over(dry=self._dry)
        await self._catching_up.read_log()
        await self._record.progress(self._batcher.cursor, self._shown)
        if self._pausing.reason is not None or self._catching_up.is_to_start:
            return  # somebody wants something else since
        now = self._clock.monotonic()
        if self._not_before > now:
            await self._gate.pause(self._not_before - now)
        elif not self._provisioned:
            await self._guarded(self._provision)
        elif self._catching_up.replacing:
            await self._guarded(self._replace_everybody)
        elif self._status_due(now) and self._trouble.shown is None:
            await self._guarded(self._status.read)
        elif self._batches.is_due:
            await (self._batches.pretend() if self._dry else self._guarded(self._batches.send))
        elif self._status_due(now):
            await self._guarded(self._status.read)
        else:
            await self._gate.pause(self._until_next(now))

    async def _stay_paused(self) -> None:
        """Nothing is sent, and nothing kept but the cursor."""
        self._batches.forget()
        self._catching_up.suspend()
        if self._record.state.state is not DestinationState.PAUSED:
            await self._record.write(self._shown)
        await self._record.progress(self._batcher.cursor, self._shown)
        if self._pausing.reason is not None:
            await self._gate.pause(self._options.progress_seconds)

    def _status_due(self, now: float) -> bool:
        return not self._dry and self._status.next_at <= now

    def _until_next(self, now: float) -> float:
        ends = [now + self._options.progress_seconds]
        due = self._batcher.wake_at()
        if due is not None:
            ends.append(due)
        if not self._dry:
            ends.append(self._status.next_at)
        return max(0.0, min(ends) - now)

    async def _guarded(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run what calls Facebook, as soon as this destination may; react to what comes back."""
        closed = self._limits.closed()
        if closed is not None:
            await self._rest(closed)
            return
        async with self._gate.turn():
            try:
                await self._act(action)
            except UnreachableError as error:
                await self._stay_away(self._trouble.failed(str(error)))
            except NeedsPersonError as error:
                await self._stay_away(self._trouble.needs_person(str(error)))
            except ClosedError:
                pass

    async def _act(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except GraphRefusal as error:
            graph, ready = self._shared.graph, self._gate.ready
            await self._stay_away(await refused(error.refusal, self._trouble, graph, self._account, ready))

    async def _stay_away(self, how: Retry | Hold) -> None:
        """Who retries keeps the batch that is out; who is held may give it back."""
        if isinstance(how, Hold):
            self._batches.hold()
        self._not_before = self._clock.monotonic() + how.seconds
        self._retry_at = self._clock.now_ms() + round(how.seconds * 1_000)
        if isinstance(how, Hold):
            self._status.read_by(self._not_before)
            self._trouble.show(how)
            await self._record.write(self._shown)

    async def _rest(self, closed: Closed) -> None:
        if closed.seconds > _SHORT_REST or closed.refused:
            self._retry_at = self._clock.now_ms() + round(closed.seconds * 1_000)
            held = (DestinationState.HELD, closed.reason)
            is_news = self._trouble.shown != held
            self._trouble.shown = held
            self._batches.rest()
            # Who only asks each second whether another one's try is over has nothing new to write.
            if is_news or closed.seconds > _SHORT_REST:
                await self._record.write(self._shown)
        await self._gate.pause(closed.seconds)

    async def _begin_anew(self) -> None:
        shown = self._trouble.shown[0] if self._trouble.shown is not None else self._record.state.state
        gone = shown is DestinationState.GONE and self._mapping.audience_id is None and not self._dry
        if gone:
            self._batches.forget()
            self._trouble.clear()
            self._provisioned = False
            self._not_before = self._clock.monotonic()
        await self._catching_up.begin_anew(gone=gone)

    # -- provisioning and replacing ----------------------------------------------------------------------------

    async def _provision(self) -> None:
        outcome = await self._provisioner.run(self._record.state, self._account)
        if isinstance(outcome, Postponed):
            self._not_before = self._clock.monotonic() + outcome.seconds
            return
        self._provisioned = True
        self._trouble.clear()
        if outcome != self._record.state.facebook_id or self._record.state.creating:
            await self._record.write(
                self._shown, facebook_id=outcome, creating=False, ad_account_id=self._account
            )
        self._status.next_at = self._status.after_sync

    async def _record_creating(self) -> None:
        await self._record.write(self._shown, creating=True, ad_account_id=self._account)

    async def _replace_everybody(self) -> None:
        session = self._record.state.replace
        if session is None:
            return
        match await self._catching_up.replace_everybody(session):
            case GoOn(usage=usage):
                self._trouble.answered(usage)
            case Wait(seconds=seconds):
                self._not_before = self._clock.monotonic() + seconds
            case Replaced():
                self._status.read_by(self._clock.monotonic())

    @property
    def _shown(self) -> Shown:
        if self._pausing.reason is not None:
            return DestinationState.PAUSED, self._pausing.reason
        if self._dry:
            return DestinationState.DRY_RUN, None
        if self._trouble.shown is not None:
            return self._trouble.shown
        if not self._provisioned:
            return DestinationState.NEW, None
        if self._catching_up.replacing:
            return DestinationState.CATCHING_UP, "everybody in the Facebook audience is being replaced"
        return (DestinationState.LIVE if self._batcher.live else DestinationState.CATCHING_UP), None
