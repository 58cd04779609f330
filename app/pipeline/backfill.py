"""The history of the source topic and of topics of rows → profile.events, for audiences and mapped fields that are newer
than it.

When all partitions of profile.events run by a version that fills anything from history, each worker reads the
partitions of these topics that it owns once more, from their beginning to their present end, and writes what those
need of each call in a lane of its own, which holds no clock. The end of the lane is written into every partition
behind it; when a partition has the ends of all lanes, its audiences stop waiting (app.domain.plan_switch). Reading
begins anew after a crash: what was written before is recognised by its position.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from app.domain.filling import as_past, of_the_past, past_lane
from app.pipeline.watching import keep_doing
from schemas.profile import PAST_END, VERSION, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

    from app.domain.clock import SourcePartition
    from app.domain.plan import Plan
    from app.domain.resolution import Resolver
    from app.pipeline.expire import LaneProgress
    from app.pipeline.follow import Follower
    from app.ports import Clock, RecordWriter

WATCH_SECONDS = 1.0
# Between two batches, so that live calls have most of the time.
PAUSE_SECONDS = 0.05

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Progress:
    """Offsets of one source partition: `read` of all below `end`."""

    read: int
    end: int


@dataclass(slots=True)
class Backfill:
    """One worker's part. `batches` (partition, end) reads the source partition from its beginning up to that offset;
    `end_offset` asks for its present end. Both block, as does `writer.flush`; `in_thread` awaits such a call.
    """

    follower: Follower
    lanes: LaneProgress
    writer: RecordWriter
    clock: Clock
    partitions: int
    output: str
    resolver: Callable[[Plan, str], Resolver]
    end_offset: Callable[[SourcePartition], int]
    batches: Callable[[SourcePartition, int], Iterator[list[Any]]]
    in_thread: Callable[..., Awaitable[Any]]
    # Of the newest version, for the source partitions that this worker reads or has read.
    progress: dict[SourcePartition, Progress] = field(default_factory=dict)
    _done: set[tuple[int, str]] = field(default_factory=set)

    async def run(self) -> None:
        """Read whenever there is something to fill, for ever."""
        await keep_doing(self.step, WATCH_SECONDS)

    def by_name(self, source_topic: str) -> dict[str, Progress]:
        """The progress by partition: those of the source topic by number, those of others as TOPIC/NUMBER."""
        return {
            str(one.number) if one.topic == source_topic else f"{one.topic}/{one.number}": progress
            for one, progress in sorted(self.progress.items())
        }

    async def step(self) -> None:
        """Read what is to be read now."""
        published = self.follower.published
        newest = published.newest
        if newest is None or not published.is_filling(self.partitions):
            self.progress.clear()
            return
        number = newest.number
        if any(published.running.get(partition) != number for partition in range(self.partitions)):
            return  # where a partition goes over is not known before it has
        for partition in self.lanes.partitions:
            lane = self.lanes.lane(partition)
            if (number, lane) not in self._done and await self._fill(number, partition, lane):
                self._done.add((number, lane))

    async def _fill(self, number: int, partition: SourcePartition, lane: str) -> bool:
        """Whether all was written while the partition was this worker's."""
        versions = self.follower.versions
        past = of_the_past(versions.plans[number], versions.held[number], number, versions.fields[number])
        resolver = self.resolver(past, partition.topic)
        end = await self.in_thread(self.end_offset, partition)
        progress = self.progress[partition] = Progress(0, end)
        batches = self.batches(partition, end)
        # As resolve does: no call is received before what came before it.
        stands_at = 0
        while (batch := await self.in_thread(next, batches, None)) is not None:
            if not self._owns(partition, lane):
                return False
            for record in batch:
                stands_at = self._write(resolver, record, number, lane, stands_at)
            await self.in_thread(self.writer.flush)
            progress.read = batch[-1].offset() + 1
            await asyncio.sleep(PAUSE_SECONDS)
        if not self._owns(partition, lane):
            return False
        progress.read = end
        last = ProfileEvent(VERSION, PAST_END, past_lane(number, lane), end, 0, 0, 0)
        for target in range(self.partitions):
            self.writer.produce(self.output, _encode(last), b"", target)
        await self.in_thread(self.writer.flush)
        return True

    def _owns(self, partition: SourcePartition, lane: str) -> bool:
        return partition in self.lanes.partitions and self.lanes.lane(partition) == lane

    def _write(self, resolver: Resolver, record: Any, number: int, lane: str, stands_at: int) -> int:
        """The instant at which the lane stands behind the record."""
        outcome = resolver.resolve(
            record.value(),
            record.timestamp()[1],
            self.clock.now_ms(),
            past_lane(number, lane),
            record.offset(),
        )
        stands_at = max(stands_at, outcome.received or 0)
        for profile, event in outcome.records:
            past = as_past(event, number)
            if past is not None:
                past = replace(past, received=stands_at)
                self.writer.produce(self.output, _encode(past), profile.encode())
        return stands_at
