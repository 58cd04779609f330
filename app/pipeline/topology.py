"""The pipeline of one worker. Read this file first.

  sources ──► resolve ──► profile.events ──► evaluate ──► audience.memberships ──► deliver ──► Facebook
                  │  lane progress: markers ──┤  │ fires what is due                   │
                  └──► dead.letters           │  ├─ changelog                audience.syncs, dead.letters
                                              └──┘ what profiles say to those of other partitions

Each topic comes in a batch at a time. At every change of the group's assignment `revoked` and then `restore` run,
and no batch between them. Nothing here knows Faust.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from app.domain.clock import SourcePartition, lane_name
from app.domain.formats import (
    UNDECODABLE,
    may_be_set_aside,
    nothing_set_aside,
    refuse_newer_json,
    standing_at,
)
from app.domain.sync_states import read_sync_states
from app.errors import NewerFormatError, UnreachableError
from app.pipeline.expire import MARKER_SECONDS, LaneProgress
from schemas.dead_letter import DeadLetter, Origin, Reason, dead_letter_id
from schemas.membership import MembershipDelta
from schemas.sync import SyncState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from app.domain.counters import Counters
    from app.domain.partition import AudiencePartition
    from app.pipeline.deliver import Delivery
    from app.pipeline.evaluate import EvaluateStage
    from app.pipeline.resolve import ResolveStage
    from app.ports import Clock, DeadLetterSink, RawRecord, RecordWriter, TopicLog
    from schemas.audience import AudienceDefinition
    from topics.catalog import Catalog

UNREACHABLE_PAUSE_SECONDS = 0.5

_decode_delta = msgspec.json.Decoder(MembershipDelta).decode


@dataclass(frozen=True, slots=True)
class Owned:
    """The partitions a worker owns: of the topics that resolve reads, and by number those of our own."""

    source: frozenset[SourcePartition] = frozenset()
    profile_events: frozenset[int] = frozenset()
    memberships: frozenset[int] = frozenset()


@dataclass(slots=True)
class Stages:
    """What the pipeline joins."""

    resolve: ResolveStage
    evaluate: EvaluateStage
    delivery: Delivery
    lanes: LaneProgress


@dataclass(slots=True)
class Pipeline:
    """One worker's stages and what they need; `in_thread` awaits a blocking call in a thread.

    `source_layouts` asks Kafka for the id and the number of partitions of each of these topics, by its name.
    `caught_up` says whether everything of such a partition below an offset has been handed to resolve and is done
    there. `refresh_definitions` returns when all that was published before is in use.
    """

    stages: Stages
    writer: RecordWriter
    log: TopicLog
    clock: Clock
    catalog: Catalog
    partitions: int
    # The topics that resolve reads: the source topic first, then those of rows.
    sources: tuple[str, ...]
    source_layouts: Callable[[Sequence[str]], Mapping[str, tuple[str, int]]]
    caught_up: Callable[[SourcePartition, int, int], bool]
    in_thread: Callable[..., Awaitable[Any]]
    letters: DeadLetterSink
    counters: Counters
    on_failure: Callable[[BaseException], None]
    refresh_definitions: Callable[[], Awaitable[None]]
    # Topic, partition, offset: whether a person wants that record to be a dead letter.
    is_set_aside: Callable[[str, int, int], bool] = nothing_set_aside
    # Offset behind the last offered record of each owned partition of audience.memberships; for the lag.
    offered: dict[int, int] = field(default_factory=dict)
    _owned: Owned = field(default_factory=Owned)
    _flushing: asyncio.Task[None] | None = None
    _stopping: bool = False
    # Of the newest restore: whether its partitions may be another worker's by now.
    _overtaken: threading.Event = field(default_factory=threading.Event)

    # -- batches -----------------------------------------------------------------------------------------------

    async def on_source(
        self, partition: SourcePartition, records: Sequence[RawRecord], done: Callable[[str], None]
    ) -> None:
        """Resolve one batch; `done` is called once its output is durable, with the note to commit its offset with.

        One batch is resolved while the one before it is on its way; more are not started.
        """
        note = self.stages.resolve.process(partition, records)
        if self._flushing is not None:
            await self._flushing
        self._flushing = asyncio.create_task(self._flush(done, note))

    async def _flush(self, done: Callable[[str], None], note: str) -> None:
        try:
            await self.in_thread(self.writer.flush)
            done(note)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the batch is not durable, or nobody knows it
            self.on_failure(exc)

    async def on_profile_events(
        self, partition: int, records: Sequence[RawRecord], done: Callable[[], None]
    ) -> None:
        """Fold one batch; `done` is called once it is committed."""
        await self.stages.evaluate.process(partition, records, done)

    async def on_memberships(
        self, partition: int, records: Sequence[RawRecord], done: Callable[[], None]
    ) -> None:
        """Offer one batch of deltas to their destinations."""
        deltas, written = [], []
        for record in records:
            try:
                deltas.append((record.offset, _decode_delta(record.value or b"")))
                written.append(record.timestamp)
            except UNDECODABLE:
                # A tombstone is a forgotten person's; anything else was not written by evaluate.
                if record.value is not None:
                    await self.bury_delta(partition, record.offset, record.value)
        self.stages.delivery.offer(partition, deltas, records[-1].offset + 1, written)
        self.offered[partition] = records[-1].offset + 1
        done()

    async def bury_delta(self, partition: int, offset: int, value: bytes) -> None:
        """The record of audience.memberships there is no delta; it gets its one letter however often it is read.

        Raises NewerFormatError for what a newer release has written, unless a person says otherwise.
        """
        topic = self.catalog.memberships.name
        reason, detail = Reason.INVALID_FIELD, "the record is no MembershipDelta"
        try:
            refuse_newer_json(MembershipDelta.__name__, value)
        except NewerFormatError as error:
            if not self.is_set_aside(topic, partition, offset):
                raise may_be_set_aside(error, topic, partition, offset) from error
            reason, detail = Reason.NEWER_FORMAT, "the record is of a newer format, and was set aside"
        wall = self.clock.now_ms()
        origin = Origin(topic=topic, partition=partition, offset=offset)
        letter = DeadLetter(
            id=dead_letter_id("deliver", origin),
            stage="deliver",
            reason=reason,
            detail=detail,
            origin=origin,
            first_failed_at=wall,
            last_failed_at=wall,
        )
        await self.letters.put([letter])
        self.counters.stages["batch"].dead += 1
        self.counters.dead_letters[letter.reason] += 1

    # -- assignment --------------------------------------------------------------------------------------------

    async def revoked(self) -> None:
        """Everything owned may be another worker's in a moment: commit what is done, stop what is not."""
        self._overtaken.set()
        await self.stages.evaluate.flush()
        await asyncio.gather(*(self.stages.delivery.revoke(p) for p in self._owned.memberships))
        self.stages.lanes.assign({}, ())
        self.offered.clear()
        self._owned = Owned()

    async def restore(self, owned: Owned, kept: Owned) -> dict[int, int]:
        """Become the owner: load the state that the last owner committed, however it ended.

        Returns where to start reading in each owned partition of audience.memberships: the present end, as what
        lies before is read through the destinations' own cursors. When `revoked` runs meanwhile, nothing more is
        begun, as that would be another worker's; the restore behind it has to load everything.
        """
        overtaken = self._overtaken = threading.Event()
        if self._stopping:
            overtaken.set()
        try:
            return await self._restore(owned, kept, overtaken)
        except InterruptedError:
            if self._stopping:
                raise
            return {}
        finally:
            # Should nobody wait for it any longer: what reads in a thread ends, too.
            overtaken.set()

    async def _restore(self, owned: Owned, kept: Owned, overtaken: threading.Event) -> dict[int, int]:
        # Nobody may resolve a lane by an older version than whoever had it before.
        await self.refresh_definitions()
        layouts = await self._source_layouts_at_last()
        if overtaken.is_set():
            return {}
        self._owned = owned
        lanes = [lane_name(topic_id, p) for topic_id, count in layouts.values() for p in range(count)]
        evaluate = self.stages.evaluate
        evaluate.keep_only(set(kept.profile_events))
        fresh = {p: evaluate.new_partition(p) for p in sorted(owned.profile_events - kept.profile_events)}
        await self._load(fresh, overtaken)
        if overtaken.is_set():
            return {}
        # Nobody sees a partition before all of its state is there.
        for number, partition in fresh.items():
            evaluate.add(number, partition)
        for partition in evaluate.partitions.values():
            partition.set_expected(lanes)
        self.stages.lanes.assign({topic: topic_id for topic, (topic_id, _) in layouts.items()}, owned.source)
        return await self._assign_destinations(owned.memberships, overtaken)

    def resume(self, notes: Mapping[tuple[str, int], str]) -> None:
        """What was committed with the offsets from which these partitions are read now, by topic and number."""
        for (topic, number), note in notes.items():
            if topic == self.catalog.profile_events.name:
                self.stages.evaluate.resume(number, note)
            elif topic in self.sources:
                self.stages.resolve.resume(SourcePartition(topic, number), note)

    async def _source_layouts_at_last(self) -> Mapping[str, tuple[str, int]]:
        while True:
            try:
                layouts: Mapping[str, tuple[str, int]] = await self.in_thread(
                    self.source_layouts, self.sources
                )
            except UnreachableError:
                await asyncio.sleep(UNREACHABLE_PAUSE_SECONDS)
            else:
                return layouts

    async def _load(self, fresh: Mapping[int, AudiencePartition], overtaken: threading.Event) -> None:
        try:
            await self.in_thread(self._load_profiles, fresh, overtaken)
        except BaseException:
            overtaken.set()
            raise
        finally:
            if overtaken.is_set():
                for partition in fresh.values():
                    partition.release()

    def _load_profiles(self, fresh: Mapping[int, AudiencePartition], overtaken: threading.Event) -> None:
        if not fresh:
            return
        topic = self.catalog.profiles_changelog.name
        ends = self.log.settled_ends(topic, list(fresh), overtaken)

        def load(batch: list[Any]) -> None:
            for message in batch:
                try:
                    fresh[message.partition()].load(message.key(), message.value())
                except NewerFormatError as error:
                    raise standing_at(error, topic, message.partition(), message.offset()) from error

        self.log.read(topic, {p: (0, end) for p, end in ends.items()}, load, overtaken)
        for partition in fresh.values():
            if overtaken.is_set():
                return
            partition.finish_recovery()

    async def _assign_destinations(self, owned: frozenset[int], overtaken: threading.Event) -> dict[int, int]:
        if not owned:
            return {}
        states = await self._sync_states()
        ends = await self.in_thread(
            self.log.settled_ends, self.catalog.memberships.name, sorted(owned), overtaken
        )
        for partition, end in ends.items():
            if overtaken.is_set():
                break
            await self.stages.delivery.assign(partition, states, end)
        return dict(ends)

    async def update_destinations(self, definitions: Sequence[AudienceDefinition]) -> None:
        """Deliver by these definitions from now on."""
        if self._owned.memberships:
            await self.stages.delivery.update(definitions, await self._sync_states())
        else:
            await self.stages.delivery.update(definitions, {})

    async def _sync_states(self) -> dict[str, SyncState]:
        syncs = await self.in_thread(self.log.latest_values, self.catalog.syncs.name, self.partitions)
        return read_sync_states(syncs, self.catalog.syncs.name)

    # -- stats -------------------------------------------------------------------------------------------------

    def clock_now(self) -> int | None:
        """The clock of the owned partition that is furthest behind; None while one of them has none."""
        clocks = [partition.clock.now for partition in self.stages.evaluate.partitions.values()]
        known = [clock for clock in clocks if clock is not None]
        return min(known) if known and len(known) == len(clocks) else None

    async def lags(self, position_of: Callable[[str, int, int], int | None]) -> dict[str, int | None]:
        """Records that each stage has before it in the partitions owned now.

        `position_of` (topic, partition, offset behind the last finished record) gives the next offset to finish.
        """
        evaluate, owned = self.stages.evaluate, self._owned
        sources = {
            topic: {p.number: self.stages.lanes.done_offset(p) for p in group}
            for topic, group in _by_topic(owned.source).items()
        }
        done = {
            "resolve": sources,
            "evaluate": {
                self.catalog.profile_events.name: {
                    p: evaluate.folded.get(p, -1) for p in owned.profile_events
                }
            },
            "batch": {self.catalog.memberships.name: {p: self.offered.get(p, -1) for p in owned.memberships}},
        }
        lags: dict[str, int | None] = {}
        for stage, topics in done.items():
            behind: list[int | None] = []
            for topic, offsets in topics.items():
                ends = await self.in_thread(self.log.end_offsets, topic, list(offsets)) if offsets else {}
                behind += [
                    None
                    if (position := position_of(topic, p, offset)) is None
                    else max(0, ends[p] - position)
                    for p, offset in offsets.items()
                ]
            known = [lag for lag in behind if lag is not None]
            lags[stage] = sum(known) if len(known) == len(behind) else None
        if lags["evaluate"] is not None:
            lags["evaluate"] += evaluate.uncommitted
        lags["deliver"] = sum(view.pending for view in self.stages.delivery.destinations().values())
        return lags

    def stop(self) -> None:
        """End waits for Kafka that a stopping worker no longer needs."""
        self._stopping = True
        self._overtaken.set()

    # -- time --------------------------------------------------------------------------------------------------

    async def run_markers(self) -> None:
        """Tell every partition of profile.events how far this worker's lanes have come, for ever."""
        while True:
            await asyncio.sleep(MARKER_SECONDS)
            # While Kafka is away they would pile up behind each other.
            is_there = await self._probe_lanes()
            marker = self.stages.lanes.marker(self.clock.now_ms())
            if is_there and marker is not None:
                for partition in range(self.partitions):
                    self.writer.produce(self.catalog.profile_events.name, marker, b"", partition)

    async def _probe_lanes(self) -> bool:
        """Whether Kafka has answered; else the lanes stand where their records have brought them."""
        lanes = self.stages.lanes
        for topic, group in _by_topic(lanes.partitions).items():
            asked_at = self.clock.now_ms()
            try:
                ends = await self.in_thread(self.log.end_offsets, topic, [one.number for one in group])
            except UnreachableError:
                return False
            for partition in set(group) & set(lanes.partitions):
                end = ends[partition.number]
                if self.caught_up(partition, end, lanes.done_offset(partition)):
                    lanes.caught_up(partition, end, asked_at)
        return True


def _by_topic(partitions: Iterable[SourcePartition]) -> dict[str, list[SourcePartition]]:
    topics: dict[str, list[SourcePartition]] = {}
    for partition in partitions:
        topics.setdefault(partition.topic, []).append(partition)
    return topics
