"""What replaying dead letters needs of Kafka: one suite for the twin in memory and for Kafka."""

from __future__ import annotations

import uuid
from typing import Protocol

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_client import client_config
from app.adapters.kafka_letters import KafkaReplayLog
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.memory_replay import MemoryReplayLog, MemoryTopics
from app.errors import FatalError
from app.ports import Record, ReplayLog
from tests.integration.topic_records import RawRecord, read_records, write_records
from topics.catalog import Catalog
from topics.spec import TopicSpec

PARTITIONS = 2
WAIT_SECONDS = 30


class Startable(ReplayLog, Protocol):
    def start(self) -> None: ...


class World(Protocol):
    """Topics, and several replays of one installation."""

    catalog: Catalog

    def replay(self) -> Startable: ...

    def write(self, topic: str, partition: int, *records: tuple[bytes, bytes | None]) -> None: ...

    def values(self, topic: str) -> list[bytes | None]: ...

    def delete_before(self, topic: str, partition: int, offset: int) -> None: ...

    def done(self, topic: str, partition: int, offset: int) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.catalog = Catalog("here.")
        self._topics = MemoryTopics(self.catalog, PARTITIONS)

    def replay(self) -> Startable:
        return MemoryReplayLog(self._topics)

    def write(self, topic: str, partition: int, *records: tuple[bytes, bytes | None]) -> None:
        for key, value in records:
            self._topics.write(topic, partition, key, value)

    def values(self, topic: str) -> list[bytes | None]:
        return [record.value for number in range(PARTITIONS) for record in self._topics.read(topic, number)]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self._topics.delete_before(topic, partition, offset)

    def done(self, topic: str, partition: int, offset: int) -> None:
        self._topics.done[topic, partition] = offset


class InKafka:
    def __init__(self, servers: str) -> None:
        prefix = f"test-{uuid.uuid4().hex[:12]}."
        self.catalog = Catalog(prefix, f"{prefix}source")
        self._servers = servers
        # The source topic gets as many partitions as ours here.
        specs = tuple(type(spec)(spec.name, "k", "v", spec.cleanup) for spec in self._specs())
        self._admin = TopicAdmin(servers, PARTITIONS, -1)
        self._admin.ensure(specs)

    def _specs(self) -> list[TopicSpec]:
        catalog = self.catalog
        return [catalog.source, catalog.profile_events, catalog.memberships, catalog.dead_letters]

    def replay(self) -> Startable:
        return KafkaReplayLog(LogReader(self._servers), self._admin, self._servers, self.catalog, PARTITIONS)

    def write(self, topic: str, partition: int, *records: tuple[bytes, bytes | None]) -> None:
        write_records(self._servers, topic, [RawRecord(value, key, partition) for key, value in records])

    def values(self, topic: str) -> list[bytes | None]:
        return [one.value() for one in read_records(self._servers, topic, PARTITIONS, "read_committed")]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        admin = AdminClient(client_config(self._servers))
        for deleted in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
            deleted.result(WAIT_SECONDS)

    def done(self, topic: str, partition: int, offset: int) -> None:
        consumer = Consumer(client_config(self._servers, group_id=self.catalog.app_id))
        consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
        consumer.close()


@pytest.fixture(params=["memory", "kafka"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return InMemory()
    return InKafka(request.getfixturevalue("bootstrap_servers"))


def test_what_is_kept_of_a_topic(world: World) -> None:
    topic = world.catalog.source.name
    world.write(topic, 1, *[(b"k", b"v")] * 5)
    world.delete_before(topic, 1, 3)
    assert world.replay().kept(topic) == {0: (0, 0), 1: (3, 5)}
    assert world.replay().kept("nobody.has.it") == {}


def test_records_are_found_by_their_places(world: World) -> None:
    topic = world.catalog.source.name
    world.write(topic, 0, *[(f"key {n}".encode(), f"value {n}".encode()) for n in range(3_000)])
    found = world.replay().records_at(topic, 0, [2_999, 7, 1_500, 8])
    assert {offset: (one.offset, one.key, one.value) for offset, one in found.items()} == {
        offset: (offset, f"key {offset}".encode(), f"value {offset}".encode())
        for offset in (7, 8, 1_500, 2_999)
    }


def test_what_has_come_to_a_topic_of_transactions_has_tombstones(world: World) -> None:
    """A replay looks so for letters that are deleted meanwhile; its own transactions leave places without a record."""
    replay, letters = world.replay(), world.catalog.dead_letters.name
    replay.start()
    world.write(letters, 0, (b"x", b"letter"))
    _, first = replay.kept(letters)[0]
    world.write(letters, 0, (b"x", None))
    replay.commit([Record(letters, 0, b"y", b"letter")])
    _, end = replay.kept(letters)[0]
    found = replay.records_at(letters, 0, range(first, end))
    assert [(one.key, one.value) for one in found.values()] == [(b"x", None), (b"y", b"letter")]


def test_how_far_workers_have_come(world: World) -> None:
    topic = world.catalog.source.name
    assert world.replay().committed(topic) == {}
    world.write(topic, 1, *[(b"k", b"v")] * 5)
    world.done(topic, 1, 4)
    assert world.replay().committed(topic) == {1: 4}


def test_the_newest_delta_of_each_key(world: World) -> None:
    topic = world.catalog.memberships.name
    world.write(topic, 0, (b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"b", None))
    newest = world.replay().newest_deltas
    assert newest(0, 0, {b"a", b"b", b"d"}) == {b"a": b"2", b"b": None}
    assert newest(0, 3, {b"a", b"c"}) == {b"c": b"1"}


def test_all_of_a_commit_is_there_and_positions_grow(world: World) -> None:
    events, letters = world.catalog.profile_events.name, world.catalog.dead_letters.name
    replay = world.replay()
    replay.start()
    positions = [replay.position()]
    for number in range(3):
        value = str(number).encode()
        replay.commit([Record(events, -1, b"ann", value), Record(letters, -1, value, value)])
        positions.append(replay.position())
    assert positions == sorted(set(positions))
    assert world.values(events) == [b"0", b"1", b"2"]
    assert sorted(value or b"" for value in world.values(letters)) == [b"0", b"1", b"2"]


def test_whoever_begins_ends_the_others(world: World) -> None:
    events, letters = world.catalog.profile_events.name, world.catalog.dead_letters.name
    first, second = world.replay(), world.replay()
    first.start()
    first.commit([Record(letters, -1, b"a", b"first")])
    second.start()
    with pytest.raises(FatalError, match="another replay may have begun"):
        first.commit([Record(events, -1, b"ann", b"lost"), Record(letters, -1, b"b", b"lost")])
    second.commit([Record(events, -1, b"ann", b"second"), Record(letters, -1, b"b", b"second")])
    assert world.values(events) == [b"second"]
    assert sorted(value or b"" for value in world.values(letters)) == [b"first", b"second"]
