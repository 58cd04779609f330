"""Delivers the deltas of audience.memberships to Facebook: every destination of the partitions this worker owns.

Destinations run beside each other, each in a task of its own (`app.pipeline.destination`); they share only what
Meta limits as a whole and the number of requests under way.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from app.domain.counters import Counters
from app.domain.pausing import desired_of
from app.domain.sync_start import ad_account_of, inherited
from app.pipeline.delivery_options import DeliveryOptions, DestinationView, Shared
from app.pipeline.destination import Destination
from app.pipeline.permits import Permits
from app.ports import DeadLetterSink, GraphApi, Liveness, MembershipLog, SyncLedger, Timer
from schemas.audience import AudienceDefinition, FacebookDestination
from schemas.control import DesiredRecord
from schemas.membership import MembershipDelta
from schemas.sync import SyncState

__all__ = ["Delivery", "DeliveryOptions", "DestinationView"]


class _Owned:
    """The destinations of one partition, by audience, and their tasks; `live_offset` is where the next offer begins."""

    def __init__(self, live_offset: int) -> None:
        self.live_offset = live_offset
        self.destinations: dict[str, list[Destination]] = {}
        self.tasks: dict[asyncio.Task[None], Destination] = {}

    def all(self) -> list[Destination]:
        return [destination for group in self.destinations.values() for destination in group]


class Delivery:
    """Needs a running event loop from `assign` on; all methods are called on it.

    `partition_of` gives the partition of audience.memberships that an audience key is written to. `on_failure` is
    called when a destination's task ends with an exception: the process must end, a restart from the log is safe.
    """

    def __init__(
        self,
        definitions: Sequence[AudienceDefinition],
        graph: GraphApi,
        ledger: SyncLedger,
        letters: DeadLetterSink,
        log: MembershipLog,
        clock: Timer,
        liveness: Liveness,
        counters: Counters,
        options: DeliveryOptions,
        partition_of: Callable[[str], int],
        memberships_topic: str,
        on_failure: Callable[[BaseException], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._definitions = tuple(definitions)
        self._partition_of = partition_of
        self._on_failure = on_failure
        self._shared = Shared(
            graph=graph,
            ledger=ledger,
            letters=letters,
            log=log,
            clock=clock,
            liveness=liveness,
            counters=counters,
            options=options,
            topic=memberships_topic,
            permits=Permits(options.in_flight, options.in_flight_per_account),
            draw=draw,
        )
        self._desired: Mapping[str, DesiredRecord] = {}
        self._owned: dict[int, _Owned] = {}
        # Of each partition: its destinations begin and end one change after another.
        self._changing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def assign(self, partition: int, states: Mapping[str, SyncState], live_offset: int) -> None:
        """This worker owns the partition now, and its destinations begin to deliver.

        `states`: the newest SyncState per destination id, of others than this partition's too; a destination
        without one is new. `live_offset`: the end of the partition, where the first `offer` will begin. A
        partition that is owned already starts anew.
        """
        async with self._changing[partition]:
            await self._revoke(partition)
            owned = self._owned[partition] = _Owned(live_offset)
            for definition in self._definitions:
                if self._partition_of(definition.key) == partition:
                    for mapping in definition.destinations:
                        self._begin(partition, owned, definition, mapping, states)

    def _begin(
        self,
        partition: int,
        owned: _Owned,
        definition: AudienceDefinition,
        mapping: FacebookDestination,
        states: Mapping[str, SyncState],
    ) -> None:
        own = states.get(mapping.id)
        account = ad_account_of(mapping, self._shared.options.ad_account_id, own)
        state = inherited(own, states, definition.key, mapping.id, account)
        desired = desired_of(self._desired, definition.key, mapping.id)
        destination = Destination(
            self._shared, definition, mapping, partition, state, owned.live_offset, desired
        )
        owned.destinations.setdefault(definition.key, []).append(destination)
        task = asyncio.create_task(destination.run(), name=f"deliver {destination.id}")
        owned.tasks[task] = destination
        task.add_done_callback(self._ended)

    def desire(self, desired: Mapping[str, DesiredRecord]) -> None:
        """What people want of audiences and destinations from now on, by target."""
        if desired == self._desired:
            return
        self._desired = desired
        for owned in self._owned.values():
            for destination in owned.all():
                destination.desire(desired_of(desired, destination.audience, destination.id))

    async def update(
        self, definitions: Sequence[AudienceDefinition], states: Mapping[str, SyncState]
    ) -> None:
        """Deliver by these definitions from now on: what is new begins where the newest of `states` says, what is no
        longer there ends and leaves Facebook as it is, what is told otherwise goes on by that. Nothing is renamed.
        """
        self._definitions = tuple(definitions)
        await asyncio.gather(*(self._update(partition, states) for partition in list(self._owned)))

    async def _update(self, partition: int, states: Mapping[str, SyncState]) -> None:
        async with self._changing[partition]:
            owned = self._owned.get(partition)
            if owned is None:
                return
            wanted = {
                mapping.id: (definition, mapping)
                for definition in self._definitions
                if self._partition_of(definition.key) == partition
                for mapping in definition.destinations
            }
            running = {destination.id: destination for destination in owned.all()}
            ended = {
                task: destination
                for task, destination in owned.tasks.items()
                if destination.id not in wanted or not destination.is_told_by(*wanted[destination.id])
            }
            await self._end(ended)
            known = {destination.id: destination.sync_state for destination in ended.values()}
            newest = {**states, **known}
            for task, destination in ended.items():
                del owned.tasks[task]
                owned.destinations[destination.audience].remove(destination)
                if not owned.destinations[destination.audience]:
                    del owned.destinations[destination.audience]
            for id_, (definition, mapping) in wanted.items():
                if id_ not in running or id_ in known:
                    self._begin(partition, owned, definition, mapping, newest)

    def offer(
        self,
        partition: int,
        records: Sequence[tuple[int, MembershipDelta]],
        end_offset: int,
        written: Sequence[int] | None = None,
    ) -> None:
        """One live batch of the partition, by offset; `end_offset` is the offset behind it.

        `written` are the times of the records, when each was written; None: all just now.

        Never blocks. Deltas of unknown audiences, and of partitions that are not owned, are passed over.
        """
        owned = self._owned.get(partition)
        if owned is None:
            return
        owned.live_offset = end_offset
        if written is None:
            written = [self._shared.clock.now_ms()] * len(records)
        by_audience: dict[str, tuple[list[tuple[int, MembershipDelta]], list[int]]] = {
            key: ([], []) for key in owned.destinations
        }
        for record, written_at in zip(records, written, strict=True):
            group = by_audience.get(record[1].audience)
            if group is not None:
                group[0].append(record)
                group[1].append(written_at)
        for key, destinations in owned.destinations.items():
            for destination in destinations:
                destination.offer(*by_audience[key], end_offset)

    async def revoke(self, partition: int) -> None:
        """The partition may be another worker's in a moment: stop, and forget what is only in memory.

        Requests under way have `revoke_grace_seconds` to be answered and confirmed; then they are abandoned, and
        the next owner sends their changes again.
        """
        async with self._changing[partition]:
            await self._revoke(partition)

    async def _revoke(self, partition: int) -> None:
        owned = self._owned.pop(partition, None)
        if owned is not None:
            await self._end(owned.tasks)

    async def _end(self, tasks: Mapping[asyncio.Task[None], Destination]) -> None:
        if not tasks:
            return
        for task, destination in tasks.items():
            if not destination.stop():
                task.cancel()
        _, late = await asyncio.wait(tasks, timeout=self._shared.options.revoke_grace_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for destination in tasks.values():
            counters = self._shared.counters.destinations.get(destination.id)
            if counters is not None:
                counters.pending = 0
                counters.oldest_pending_at = None

    async def stop(self) -> None:
        """Revoke everything."""
        await asyncio.gather(*(self.revoke(partition) for partition in list(self._owned)))

    def idle(self) -> bool:
        """Every destination is live, and everything offered or found in the log so far has reached its end."""
        return all(destination.idle for owned in self._owned.values() for destination in owned.all())

    def destinations(self) -> Mapping[str, DestinationView]:
        """By destination id, those of the partitions owned now."""
        return {
            destination.id: destination.view()
            for owned in self._owned.values()
            for destination in owned.all()
        }

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._on_failure(error)
