"""What the group commit relies on, on a real Kafka: librdkafka taking part in an aiokafka member's group."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from confluent_kafka import IsolationLevel, Message

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_group_metadata import group_metadata
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import TransactionalWriter
from app.errors import FatalError
from app.ports import GroupOffset, Record
from topics.spec import Cleanup, TopicSpec


@dataclass(frozen=True)
class Topics:
    """One topic that the group reads and one that transactions write."""

    bootstrap_servers: str
    group: str
    read: str
    written: str


@pytest.fixture
def topics(bootstrap_servers: str, topic_prefix: str) -> Topics:
    names = Topics(bootstrap_servers, f"{topic_prefix}group", f"{topic_prefix}read", f"{topic_prefix}written")
    specs = tuple(TopicSpec(name, "k", "v", Cleanup.DELETE) for name in (names.read, names.written))
    TopicAdmin(bootstrap_servers, 1, -1).ensure(specs)
    return names


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def on_partitions_revoked(self, revoked: object) -> None:
        self.event.clear()

    async def on_partitions_assigned(self, assigned: object) -> None:
        self.event.set()


@dataclass(frozen=True)
class Member:
    """A member of the group; `metadata` is its identity as of now."""

    consumer: AIOKafkaConsumer
    group: str
    instance: str | None
    assigned: asyncio.Event

    def metadata(self) -> bytes:
        coordinator = self.consumer._coordinator
        return group_metadata(self.group, coordinator.generation, coordinator.member_id, self.instance)

    async def committed(self, topic: str) -> int | None:
        offset: int | None = await self.consumer.committed(TopicPartition(topic, 0))
        return offset

    async def commits(self, topic: str, next_offset: int) -> bool:
        """The broker shows an offset a moment after it has answered the commit: wait for that moment."""
        async with asyncio.timeout(10):
            while await self.committed(topic) != next_offset:
                await asyncio.sleep(0.02)
        return True


@asynccontextmanager
async def member(topics: Topics, instance: str | None = None) -> AsyncIterator[Member]:
    listener = _Assigned()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topics.bootstrap_servers,
        group_id=topics.group,
        group_instance_id=instance,
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
        metadata_max_age_ms=1000,
    )
    consumer.subscribe([topics.read], listener=listener)
    await consumer.start()
    try:
        await asyncio.wait_for(listener.event.wait(), 30)
        yield Member(consumer, topics.group, instance, listener.event)
    finally:
        await consumer.stop()


def writer(topics: Topics, name: str = "tx") -> TransactionalWriter:
    made = TransactionalWriter(topics.bootstrap_servers, f"{topics.group}-{name}")
    made.start()
    return made


def record(topics: Topics, value: bytes) -> Record:
    return Record(topics.written, 0, b"key", value)


def offset(topics: Topics, next_offset: int) -> GroupOffset:
    return GroupOffset(topics.read, 0, next_offset)


def visible(topics: Topics) -> list[bytes | None]:
    """Every record that a read_committed reader sees, once all transactions have ended."""
    reader = LogReader(topics.bootstrap_servers)
    values: list[bytes | None] = []

    def keep(batch: list[Message]) -> None:
        values.extend(message.value() for message in batch)

    ends = reader.settled_ends(topics.written, [0])
    reader.read(topics.written, {0: (0, ends[0])}, keep)
    return values


@pytest.mark.parametrize("instance", [None, "slot-1"], ids=["dynamic", "static"])
async def test_records_and_the_members_offset_become_visible_together(
    topics: Topics, instance: str | None
) -> None:
    async with member(topics, instance) as owner:
        await asyncio.to_thread(
            writer(topics).commit, [record(topics, b"a")], [offset(topics, 7)], owner.metadata()
        )
        assert await owner.commits(topics.read, 7)
        assert await asyncio.to_thread(visible, topics) == [b"a"]


async def test_an_offset_is_committed_with_its_note(topics: Topics) -> None:
    async with member(topics) as owner:
        noted = GroupOffset(topics.read, 0, 7, '{"run":3}')
        await asyncio.to_thread(writer(topics).commit, [record(topics, b"a")], [noted], owner.metadata())
        assert await owner.commits(topics.read, 7)
        partition = TopicPartition(topics.read, 0)
        found = await owner.consumer._coordinator.fetch_committed_offsets([partition])
        # With a zero byte behind it, as confluent-kafka sends it.
        assert (found[partition].offset, found[partition].metadata.rstrip("\0")) == (7, '{"run":3}')


@pytest.mark.parametrize(
    ("generation_shift", "member_id"),
    [(1, None), (-1, None), (0, "ghost")],
    ids=["a later generation", "an earlier generation", "an unknown member"],
)
async def test_who_is_not_the_present_member_writes_nothing(
    topics: Topics, generation_shift: int, member_id: str | None
) -> None:
    async with member(topics) as owner:
        coordinator = owner.consumer._coordinator
        metadata = group_metadata(
            topics.group, coordinator.generation + generation_shift, member_id or coordinator.member_id, None
        )
        with pytest.raises(FatalError, match="another worker has taken over"):
            await asyncio.to_thread(
                writer(topics).commit, [record(topics, b"z")], [offset(topics, 9)], metadata
            )
        assert await owner.committed(topics.read) is None
        assert await asyncio.to_thread(visible, topics) == []


@pytest.mark.parametrize(("generation", "member_id"), [(-1, ""), (-1, "m"), (3, "")])
def test_nobody_is_no_member(generation: int, member_id: str) -> None:
    with pytest.raises(FatalError, match="no member"):
        group_metadata("group", generation, member_id, None)


async def test_a_transaction_without_a_member_is_let_through_by_the_broker(topics: Topics) -> None:
    """Why the identity must never be that of an expelled member; an upgrade that changes it may drop the guard."""
    nobody = b"CGMDv2:" + struct.pack("<i", -1) + topics.group.encode() + b"\0" + b"\0" + b"\x01"
    async with member(topics) as owner:
        await asyncio.to_thread(writer(topics).commit, [record(topics, b"z")], [offset(topics, 9)], nobody)
        assert await owner.commits(topics.read, 9)


async def test_a_member_that_lost_its_generation_writes_nothing(topics: Topics) -> None:
    async with member(topics) as first:
        old = first.metadata()
        first.assigned.clear()
        async with member(topics):
            await asyncio.wait_for(first.assigned.wait(), 30)
            with pytest.raises(FatalError, match="another worker has taken over"):
                await asyncio.to_thread(
                    writer(topics).commit, [record(topics, b"z")], [offset(topics, 9)], old
                )
    assert await asyncio.to_thread(visible, topics) == []


async def test_a_successor_with_the_same_id_ends_the_predecessors_open_transaction(topics: Topics) -> None:
    reached = threading.Event()
    go_on = threading.Event()

    def stop_before_the_end(step: str) -> None:
        if step == "offsets":
            reached.set()
            go_on.wait(30)

    async with member(topics) as owner:
        zombie = TransactionalWriter(topics.bootstrap_servers, f"{topics.group}-tx", stop_before_the_end)
        await asyncio.to_thread(zombie.start)
        commit = asyncio.create_task(
            asyncio.to_thread(zombie.commit, [record(topics, b"z")], [offset(topics, 9)], owner.metadata())
        )
        await asyncio.to_thread(reached.wait, 30)
        successor = await asyncio.to_thread(writer, topics)
        go_on.set()
        with pytest.raises(FatalError):
            await commit
        await asyncio.to_thread(
            successor.commit, [record(topics, b"a")], [offset(topics, 1)], owner.metadata()
        )
        assert await owner.commits(topics.read, 1)
    assert await asyncio.to_thread(visible, topics) == [b"a"]


async def test_all_records_are_in_the_log_before_the_offsets_are_sent(topics: Topics) -> None:
    """What makes a frozen worker harmless: see the text of app.adapters.kafka_transactions."""
    reader = LogReader(topics.bootstrap_servers)
    ends: list[int] = []

    def look(step: str) -> None:
        if step == "flush":
            ends.append(reader.end_offsets(topics.written, [0], IsolationLevel.READ_UNCOMMITTED)[0])

    async with member(topics) as owner:
        looking = TransactionalWriter(topics.bootstrap_servers, f"{topics.group}-tx", look)
        await asyncio.to_thread(looking.start)
        records = [record(topics, b"%d" % i) for i in range(500)]
        await asyncio.to_thread(looking.commit, records, [offset(topics, 1)], owner.metadata())
    assert ends == [500]


async def test_settled_ends_waits_until_an_open_transaction_has_ended(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()
    asked = threading.Event()
    go_on = threading.Event()

    def pause(step: str) -> None:
        if step == "flush":
            reached.set()
            go_on.wait(30)

    async with member(topics) as owner:
        slow = TransactionalWriter(topics.bootstrap_servers, f"{topics.group}-tx", pause)
        await asyncio.to_thread(slow.start)
        commit = asyncio.create_task(
            asyncio.to_thread(slow.commit, [record(topics, b"a")], [offset(topics, 1)], owner.metadata())
        )
        await asyncio.to_thread(reached.wait, 30)
        reader = LogReader(topics.bootstrap_servers)
        ask = reader.end_offsets

        def noted(*arguments: Any) -> dict[int, int]:
            ends = ask(*arguments)
            asked.set()
            return ends

        monkeypatch.setattr(reader, "end_offsets", noted)
        waiting = asyncio.create_task(asyncio.to_thread(reader.settled_ends, topics.written, [0]))
        assert await asyncio.to_thread(asked.wait, 30)
        _, pending = await asyncio.wait({waiting}, timeout=1.0)
        assert pending, "the end was called settled although a transaction was open"
        go_on.set()
        await commit
        assert (await waiting)[0] == 1


def test_waiting_for_an_open_transaction_can_be_stopped(topics: Topics) -> None:
    reader = LogReader(topics.bootstrap_servers)
    stop = threading.Event()
    stop.set()

    def stop_after_flush(step: str) -> None:
        if step == "flush":
            with pytest.raises(InterruptedError):
                reader.settled_ends(topics.written, [0], stop)

    open_one = TransactionalWriter(topics.bootstrap_servers, f"{topics.group}-tx", stop_after_flush)
    open_one.start()
    open_one.commit([record(topics, b"a")], [], b"")


def test_reading_ends_where_only_transaction_markers_are_left(topics: Topics) -> None:
    transactional = writer(topics)
    transactional.commit([record(topics, b"a")], [], b"")
    transactional.commit([record(topics, b"b")], [], b"")
    assert visible(topics) == [b"a", b"b"]


def test_a_range_is_read_from_its_first_offset_up_to_its_end(topics: Topics) -> None:
    producer = DurableProducer(topics.bootstrap_servers)
    for i in range(10):
        producer.produce(topics.written, b"%d" % i, b"k", 0)
    producer.flush()
    values: list[bytes | None] = []
    for batch in LogReader(topics.bootstrap_servers).batches(topics.written, {0: (3, 6)}):
        values.extend(message.value() for message in batch)
    assert values == [b"3", b"4", b"5"]


def test_the_newest_value_of_each_key_counts_and_a_tombstone_removes(topics: Topics) -> None:
    producer = DurableProducer(topics.bootstrap_servers)
    for key, value in [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)]:
        producer.produce(topics.written, value, key)
    producer.flush()
    assert LogReader(topics.bootstrap_servers).latest_values(topics.written, 1) == {b"a": b"2"}
