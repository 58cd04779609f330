"""What delivery keeps in Kafka: its ledger, its dead letters, and the way back into audience.memberships."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import msgspec
import orjson

from app.adapters.kafka_client import DurableProducer, bounded_commit, in_thread
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_transactions import TransactionalWriter
from app.domain.formats import UNDECODABLE
from app.ports import GroupOffset, Record
from schemas.dead_letter import DeadLetter
from schemas.membership import MembershipDelta
from schemas.sync import SyncState
from topics.catalog import Catalog
from topics.partitioning import partition_for

_decode_delta = msgspec.json.Decoder(MembershipDelta).decode


class KafkaSyncLedger:
    """Writes audience.syncs, fenced: each record travels in a transaction with the group's position in the
    partition of audience.memberships that the destination reads, which only the partition's owner may move.
    """

    def __init__(
        self,
        writer: TransactionalWriter,
        group_metadata: Callable[[], bytes],
        catalog: Catalog,
        partitions: int,
    ) -> None:
        self._writer = writer
        self._group_metadata = group_metadata
        self._catalog = catalog
        self._partitions = partitions
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "ledger")

    async def record(self, state: SyncState) -> None:
        key = state.destination.encode()
        value = orjson.dumps(state.model_dump(mode="json"))
        record = Record(self._catalog.syncs.name, partition_for(key, self._partitions), key, value)
        read_from = partition_for(state.audience.encode(), self._partitions)
        offset = GroupOffset(self._catalog.memberships.name, read_from, state.cursor)
        async with self._lock:
            metadata = self._group_metadata()
            await bounded_commit(self._thread, self._writer.commit, [record], [offset], metadata)


class KafkaDeadLetters:
    """Writes dead.letters; a letter written twice has the same key both times."""

    def __init__(self, producer: DurableProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._producer.produce(self._topic, letter.model_dump_json().encode(), letter.id.encode())
        await in_thread(None, self._producer.flush)


class KafkaMembershipLog:
    """Reads audience.memberships again for one audience.

    `bury` is called with partition, offset and value of a record that is no delta, which evaluate did not write.
    """

    def __init__(
        self, reader: LogReader, topic: str, bury: Callable[[int, int, bytes], Awaitable[None]]
    ) -> None:
        self._reader = reader
        self._topic = topic
        self._bury = bury

    async def read(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncIterator[tuple[int, MembershipDelta]]:
        async with aclosing(self.read_written(partition, first, end, audience)) as deltas:
            async for offset, delta, _ in deltas:
                yield offset, delta

    async def read_written(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncGenerator[tuple[int, MembershipDelta, int], None]:
        prefix = f"{audience}|".encode()
        batches = self._reader.batches(self._topic, {partition: (first, end)})
        while (batch := await in_thread(None, next, batches, None)) is not None:
            for message in batch:
                value = message.value()
                if value is None or not (message.key() or b"").startswith(prefix):
                    continue
                offset = message.offset()
                try:
                    delta = _decode_delta(value)
                except UNDECODABLE:
                    await self._bury(partition, offset, value)
                else:
                    yield offset, delta, message.timestamp()[1]
