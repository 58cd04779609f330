"""Topics in memory with their dead letters, which are replayed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson

from app.adapters.memory import ManualClock
from app.adapters.memory_replay import MemoryReplayLog, MemoryTopics
from app.domain.clock import SourcePartition
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan_versions import PlanVersions
from app.domain.published import Published, next_version
from app.domain.replaying import Projection, projected
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.room import Room
from app.pipeline.expire import LaneProgress
from app.pipeline.replay import Replay, Result
from app.pipeline.resolve import ResolveStage
from app.ports import StoredRecord
from schemas.control import DefinitionsRecord
from schemas.dead_letter import DeadLetter
from schemas.membership import MembershipDelta
from schemas.profile import FORGET, MARKER, REPEAT, VERSION, ProfileEvent
from tests.unit.pipeline.source_lanes import SOURCE, of_source, own
from topics.catalog import Catalog
from topics.partitioning import membership_key, partition_for

SMALL = ResolveOptions(max_event_bytes=1_024)
LARGE = ResolveOptions()
ONE = "{name: One, when: {event: A, count: {exactly: 1}}, facebook: {ad_account_id: act_1}}"
NEW = "{name: New, when: {event: A, count: {exactly: 1}}, facebook: {ad_account_id: act_1}}"
WAREHOUSE = "{name: Leads, source: reverse_etl, rows: {topic: warehouse}}"
NUMBERS = (0, 1)
_decode = msgspec.msgpack.Decoder(ProfileEvent).decode


def version(
    before: DefinitionsRecord | None, at: int, *audiences: str, generations: dict[str, int] | None = None
) -> DefinitionsRecord:
    text = f"audiences: [{', '.join(audiences)}]"
    return next_version(before, parse_definitions([Document("audiences.yaml", text)]), at, generations or {})


def call(user: str, message: str, size: int = 0) -> bytes:
    said = {"type": "track", "event": "A", "userId": user, "messageId": message}
    instant = {"timestamp": "2026-01-01T00:00:00Z", "receivedAt": "2026-01-01T00:00:00Z"}
    return json.dumps({**said, **instant, "properties": {"note": "x" * size}}).encode()


def row(user: str, message: str, size: int) -> bytes:
    return call(user, message, size).replace(b'"event": "A"', b'"event": "new"')


class World:
    """Two partitions of everything, and the parts of a worker that matter here."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.clock = ManualClock()
        self.topics = MemoryTopics(self.catalog, len(NUMBERS))
        first = version(None, self.clock.now_ms(), ONE)
        self.published = Published({1: first}, dict.fromkeys(NUMBERS, 1))
        self.counters = Counters()
        self.versions = PlanVersions()
        self.versions.take(1, self.projection().plan)
        self.lanes = LaneProgress(SOURCE)
        own(self.lanes, *NUMBERS)
        self.partitions = {number: self._partition(number) for number in NUMBERS}
        self.deltas: list[MembershipDelta] = []
        self._read = dict.fromkeys(NUMBERS, 0)

    def _partition(self, number: int) -> AudiencePartition:
        place = Place(number, lambda profile: partition_for(profile.encode(), len(NUMBERS)))
        plan = self.versions.plans[1]
        partition = AudiencePartition(plan, 0, self.counters, 0, place, self.versions)
        partition.finish_recovery()
        partition.set_wall(2**50)
        partition.set_expected([self.lanes.lane(of_source(number)) for number in NUMBERS])
        return partition

    def projection(self) -> Projection:
        found = projected(self.published, len(NUMBERS), Room())
        assert found is not None
        return found

    # -- a worker --

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """As a RecordWriter."""
        self.topics.write(topic, partition, key, value)

    def flush(self) -> None: ...

    def arrive(self, partition: int, value: bytes, key: bytes = b"k") -> int:
        return self.topics.write(self.catalog.source.name, partition, key, value, self.clock.now_ms())

    def resolve(self, options: ResolveOptions, topic: str = SOURCE, **how: Any) -> None:
        """All that has arrived and is not done yet."""
        resolver, source = Resolver(self.projection().plan, options, topic), topic
        stage = ResolveStage(
            lambda _: resolver, self, self.lanes, self.clock, self.counters, self.catalog, **how
        )
        for number in [one.number for one in self.lanes.partitions if one.topic == topic]:
            done = self.topics.done.get((source, number), 0)
            records = [one for one in self.topics.read(source, number) if one.offset >= done]
            if records:
                stage.process(SourcePartition(topic, number), records)
                self.topics.done[source, number] = records[-1].offset + 1
        self.mark()

    def mark(self, number: int = 1) -> None:
        now = self.clock.now_ms()
        progress = {self.lanes.lane(one): now for one in self.lanes.partitions}
        marker = ProfileEvent(VERSION, MARKER, "", 0, 0, now, now, progress=progress, definitions=number)
        for partition in NUMBERS:
            self.produce(self.catalog.profile_events.name, msgspec.msgpack.encode(marker), b"", partition)

    def evaluate(self) -> None:
        """Everything in profile.events that has not been read yet."""
        for number, partition in self.partitions.items():
            records = self.topics.read(self.catalog.profile_events.name, number)[self._read[number] :]
            self._read[number] += len(records)
            for record in records:
                self._apply(partition, record)
            for delta in partition.drain().deltas:
                key = membership_key(delta.audience, delta.profile)
                self.produce(
                    self.catalog.memberships.name,
                    msgspec.json.encode(delta),
                    key,
                    partition_for(delta.audience.encode(), len(NUMBERS)),
                )
                self.deltas.append(delta)

    @staticmethod
    def _apply(partition: AudiencePartition, record: StoredRecord) -> None:
        event, profile = _decode(record.value or b""), (record.key or b"").decode()
        if event.kind == MARKER:
            partition.apply_marker(event)
        elif event.kind == REPEAT:
            partition.apply_repeat(profile, event)
        elif event.kind <= 5 or event.kind == FORGET:
            partition.apply(profile, event)
        else:
            partition.apply_past(profile, event)

    def members(self, audience: str) -> set[str]:
        state: dict[str, str] = {}
        for delta in self.deltas:
            if delta.audience == audience:
                state[delta.profile] = delta.change.value
        return {profile for profile, change in state.items() if change != "exited"}

    # -- letters --

    def all_letters(self) -> dict[str, DeadLetter]:
        topic = self.catalog.dead_letters.name
        written = [record for number in NUMBERS for record in self.topics.read(topic, number)]
        newest = {record.key: record.value for record in written}
        found = [DeadLetter.model_validate_json(value) for value in newest.values() if value is not None]
        return {letter.id: letter for letter in found}

    def letters(self) -> list[DeadLetter]:
        return [letter for letter in self.all_letters().values() if letter.resolved is None]

    def bury(self, letter: DeadLetter) -> None:
        value = orjson.dumps(letter.model_dump(mode="json"))
        self.produce(self.catalog.dead_letters.name, value, letter.id.encode())

    def begin(self) -> MemoryReplayLog:
        log = MemoryReplayLog(self.topics)
        log.start()
        return log

    def replay(
        self,
        options: ResolveOptions = LARGE,
        log: MemoryReplayLog | None = None,
        letters: list[DeadLetter] | None = None,
        most: int = 2,
        **how: Any,
    ) -> list[Result]:
        log = log or self.begin()
        job = Replay(log, self.projection, options, self.clock, self.catalog, "id-of-dead-letters")
        return [
            result
            for results in job.run(self.letters() if letters is None else letters, most, **how)
            for result in results
        ]

    def events(self) -> list[ProfileEvent]:
        topic = self.catalog.profile_events.name
        decoded = [_decode(one.value or b"") for number in NUMBERS for one in self.topics.read(topic, number)]
        return [event for event in decoded if event.kind != MARKER]


def outcomes(results: list[Result]) -> list[str]:
    return sorted(result.outcome.value for result in results)
