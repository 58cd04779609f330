"""Recovery of the profile table by batches, in place of Faust's own record-by-record recovery.

Faust decides which partitions a worker owns and when it may resume; between the two this module lets the stages
restore what they need through librdkafka (about 40 times as fast as Faust's own recovery, which besides waits for
ever at a log that ends with a transaction marker). Like `faust_transport` it leans on Faust's insides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from faust.tables import Table
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP
from mode import Service


class Restore(Protocol):
    """Brings the stages to where they may go on, for exactly the partitions now owned.

    Called once per assignment, before any record of it is processed; `kept` are those of `owned` that this worker
    owned in the generation before, so that nobody else can have written to them meanwhile. Raises to end the
    process. Returns the offset to start reading from for partitions that are not read from the committed one.
    """

    async def __call__(self, owned: set[TP], kept: set[TP]) -> dict[TP, int]: ...


class BatchRecovery(Recovery):
    """See the module's text."""

    restore: Restore
    on_failure: Callable[[BaseException], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owned: set[TP] = set()
        self._owned_generation = -1
        # Number of the rebalance that gave the present assignment.
        self._rebalance = 0

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        # No other rebalance begins before this returns.
        self._rebalance = self.app.rebalancing_count
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    @property
    def _superseded(self) -> bool:
        """Whether another rebalance has begun: at its end comes another recovery."""
        return bool(self.app.rebalancing_count != self._rebalance)

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                await self._wait(self._recover(generation))
            except RebalanceAgain:
                self._owned_generation = -1
            except ServiceStopped:
                return

    async def _recover(self, generation: int) -> None:
        try:
            owned = set(self.app.assignor.assigned_actives())
            changelogs = {tp for tp in owned if tp.topic in self.tables.changelog_topics}
            await self.app.consumer._thread.pause_fetching(changelogs)
            # Only an unbroken membership proves that nobody else owned a partition in between.
            kept = owned & self._owned if generation == self._owned_generation + 1 else set()
            self._owned_generation = -1
            if self._superseded:
                # Its revocation may be over already, and nobody would tell `restore` of it.
                return
            start_offsets = await self.restore(owned, kept)
            if self._superseded:
                return
            self._owned, self._owned_generation = owned, generation
            await self._resume(start_offsets)
        except Exception as exc:  # noqa: BLE001 - whatever it is, going on without the state would be worse
            self.on_failure(exc)

    async def _resume(self, start_offsets: dict[TP, int]) -> None:
        """Let the streams go on, from there, unless another rebalance begins before they do.

        In place of Faust's `_resume_streams`, which takes a rebalance that begins while it looks up offsets for an
        error, or lets the streams go on in the middle of it, and goes on without offsets when the broker is slow.
        """
        app, consumer = self.app, self.app.consumer
        await app.on_rebalance_complete.send()
        assignment = consumer.assignment()
        if assignment:
            await consumer.seek_to_start(start_offsets)
        if self._superseded:
            return
        consumer.resume_partitions({tp for tp in assignment if not self._is_changelog_tp(tp)})
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()

    @Service.task
    async def _slurp_changelog(self) -> None:
        """Faust's own reader of changelogs has nothing to read."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Nor anything to report."""


def install_recovery(
    tables: TableManager, restore: Restore, on_failure: Callable[[BaseException], None]
) -> None:
    """Make `tables` recover through `restore`; call before the app starts."""
    recovery = BatchRecovery(tables.app, tables, beacon=tables.beacon, loop=tables.loop)
    recovery.restore = restore
    recovery.on_failure = on_failure
    tables._recovery = recovery


class PartitionedTable(Table):
    """A Faust table whose content is held per partition by the stage that owns it.

    Faust co-partitions it with the topics of its app and names its changelog; reads and writes never go through
    Faust, which would cost an awaited record per key.
    """

    async def on_start(self) -> None:
        """There is no store to open, and the topics were created before the worker started."""

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """The stages learn of it through `Restore` and the revocation signal."""

    def persisted_offset(self, tp: TP) -> int | None:
        del tp
        return None

    def apply_changelog_batch(self, batch: Any) -> None:
        """Nothing arrives here; see `BatchRecovery`."""
