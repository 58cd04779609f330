"""dead.letters as commands read it, and what replaying letters needs of Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_client import client_config, kafka_reason
from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import TransactionalWriter
from app.domain.formats import read_stored
from app.errors import FatalError, InvalidInputError, UnreachableError, UnreadableRecordError
from app.ports import Record, StoredRecord
from schemas.dead_letter import DeadLetter
from topics.catalog import Catalog
from topics.spec import TopicSpec

_SECONDS = 30.0
_PAUSE_SECONDS = 0.2
# Offsets that are nearer to each other are read in one go.
_NEAR = 1_000


@dataclass(frozen=True, slots=True)
class FoundLetters:
    """`unreadable` records of the topic are no letters: somebody else has written them."""

    letters: list[DeadLetter]
    unreadable: int


def newest_letters(
    reader: LogReader, topic: str, partitions: int, meets: Callable[[DeadLetter], bool]
) -> FoundLetters:
    """The letters whose newest records `meets` lets through; takes memory for those alone."""
    found: dict[bytes, DeadLetter] = {}
    unreadable = 0

    def keep(batch: list[Message]) -> None:
        nonlocal unreadable
        for message in batch:
            key, value = message.key() or b"", message.value()
            found.pop(key, None)
            if value is None:
                continue
            try:
                letter = read_stored(DeadLetter, value)
            except UnreadableRecordError:
                unreadable += 1
                continue
            if meets(letter):
                found[key] = letter

    ends = reader.settled_ends(topic, range(partitions))
    reader.read(topic, {partition: (0, end) for partition, end in ends.items()}, keep)
    return FoundLetters(list(found.values()), unreadable)


class KafkaReplayLog:
    """Implements `app.ports.ReplayLog`. Blocking; one thread at a time.

    `start` ends every other replay of the installation; what is read before it may be out of date.
    """

    def __init__(
        self,
        reader: LogReader,
        admin: TopicAdmin,
        bootstrap_servers: Brokers,
        catalog: Catalog,
        partitions: int,
    ) -> None:
        self._reader = reader
        self._admin = admin
        self._bootstrap_servers = bootstrap_servers
        self._catalog = catalog
        self._partitions = partitions
        self._writer: TransactionalWriter | None = None

    def start(self) -> None:
        """Before `commit`."""
        self._writer = TransactionalWriter(self._bootstrap_servers, f"{self._catalog.app_id}-replay")
        self._writer.start()

    def topic_id(self) -> str:
        """Kafka's own, of dead.letters; raises InvalidInputError when there is no such topic."""
        name = self._catalog.dead_letters.name
        layout = self._admin.layouts((self._catalog.dead_letters,))[name]
        if layout is None:
            raise InvalidInputError(f"there is no topic {name}: `audience-sync topics` creates it")
        return layout.id

    def kept(self, topic: str) -> Mapping[int, tuple[int, int]]:
        layout = self._admin.layouts((_any_topic(self._catalog, topic),))[topic]
        if layout is None:
            return {}
        partitions = range(layout.partitions)
        firsts = _patiently(lambda: self._reader.first_offsets(topic, partitions))
        ends = _patiently(lambda: self._reader.end_offsets(topic, partitions))
        return {partition: (firsts[partition], ends[partition]) for partition in partitions}

    def records_at(self, topic: str, partition: int, offsets: Sequence[int]) -> Mapping[int, StoredRecord]:
        wanted, found = set(offsets), {}
        for message in self._reader.spans(topic, partition, _spans(sorted(wanted))):
            offset = int(message.offset() or 0)
            if offset in wanted:
                found[offset] = StoredRecord(offset, message.timestamp()[1], message.key(), message.value())
        return found

    def committed(self, topic: str) -> Mapping[int, int]:
        group = self._catalog.app_id
        admin = AdminClient(client_config(self._bootstrap_servers))
        partitions = [TopicPartition(topic, partition) for partition in self.kept(topic)]
        try:
            futures = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, partitions)], request_timeout=_SECONDS
            )
            (future,) = futures.values()
            found = future.result().topic_partitions
        except KafkaException as exc:
            raise UnreachableError(
                f"Kafka did not say how far group {group} has come ({kafka_reason(exc)})"
            ) from exc
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def newest_deltas(
        self, partition: int, first: int, keys: Collection[bytes]
    ) -> Mapping[bytes, bytes | None]:
        topic = self._catalog.memberships.name
        newest: dict[bytes, bytes | None] = {}

        def keep(batch: list[Message]) -> None:
            for message in batch:
                key = message.key() or b""
                if key in keys:
                    newest[key] = message.value()

        ends = self._reader.settled_ends(topic, (partition,))
        self._reader.read(topic, {partition: (first, ends[partition])}, keep)
        return newest

    def position(self) -> int:
        """The size of dead.letters, to which every commit adds, even one that is not finished."""
        topic, partitions = self._catalog.dead_letters.name, range(self._partitions)
        ends = _patiently(
            lambda: self._reader.end_offsets(topic, partitions, IsolationLevel.READ_UNCOMMITTED)
        )
        return sum(ends.values())

    def commit(self, records: Sequence[Record]) -> None:
        if self._writer is None:
            raise FatalError("the replay has not been started")
        try:
            self._writer.commit(records, (), b"")
        except FatalError as exc:
            raise FatalError(f"another replay may have begun, which goes on with the rest: {exc}") from exc


def _patiently(ask: Callable[[], dict[int, int]]) -> dict[int, int]:
    """The answer; a partition may have no leader for a moment."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return ask()
        except UnreachableError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _any_topic(catalog: Catalog, name: str) -> TopicSpec:
    """Of whatever topic a letter names, only the name counts."""
    source = catalog.source
    return TopicSpec(name, source.key, source.value, source.cleanup, ours=False)


def _spans(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """(first, end) of what to read for these offsets, in order."""
    spans: list[tuple[int, int]] = []
    for offset in offsets:
        if spans and offset - spans[-1][1] < _NEAR:
            spans[-1] = (spans[-1][0], offset + 1)
        else:
            spans.append((offset, offset + 1))
    return spans
