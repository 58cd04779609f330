"""The Kafka that everything is measured on, and what the benchmark asks of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from app.adapters.kafka_client import DurableProducer, client_config
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.errors import PermanentError, UnreachableError
from tests.bench.backlog import Expectation, Transitions, calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from topics.catalog import Catalog

SOURCE_PARTITIONS = 4
_REQUEST_SECONDS = 10.0
# What a group's coordinator says, or others say of it, before it has loaded its groups for the first time.
_NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_LEADER_TRIES = 200
_LEADER_PAUSE_SECONDS = 0.05

Offsets = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Backlog:
    """A source topic, and the memberships that its events make."""

    topic: str
    events: int
    bytes_per_event: float
    transitions: Transitions
    ends: Offsets


@dataclass(frozen=True, slots=True)
class Span:
    """Where an output topic's records of one kind lie: the first one's time, and the offset behind the last ones."""

    first_ms: int
    ends: Offsets
    records: int


class Cluster:
    """One broker; blocking."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.log = LogReader(bootstrap)
        self._admin = AdminClient(client_config(bootstrap))

    def create(self, topic: str, partitions: int) -> None:
        for future in self._admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result()
        self._await_leaders(topic, partitions)

    def create_all(self, catalog: Catalog, partitions: int) -> None:
        """All topics of an installation but its source; returns when they can be used."""
        specs = tuple(spec for spec in catalog.all() if spec.ours)
        TopicAdmin(self.bootstrap, partitions, 1).ensure(specs)
        for spec in specs:
            self._await_leaders(spec.name, spec.partitions or partitions)

    def _await_leaders(self, topic: str, partitions: int) -> None:
        """A broker reports a topic a moment before it leads its partitions."""
        for _ in range(_LEADER_TRIES):
            try:
                # Each time a new client: one that has been told of no leader remembers it for a while.
                LogReader(self.bootstrap).end_offsets(topic, range(partitions))
            except UnreachableError:
                time.sleep(_LEADER_PAUSE_SECONDS)
            else:
                return
        raise PermanentError(f"nobody leads the partitions of {topic}")

    def delete(self, prefix: str) -> None:
        """All topics whose names begin so: a round's output only takes room afterwards."""
        names = [
            name
            for name in self._admin.list_topics(timeout=_REQUEST_SECONDS).topics
            if name.startswith(prefix)
        ]
        for future in (self._admin.delete_topics(names) if names else {}).values():
            future.result()

    def fill(self, topic: str, events: int, users: int) -> Backlog:
        """A new source topic whose last event has just happened."""
        self.create(topic, SOURCE_PARTITIONS)
        producer = DurableProducer(self.bootstrap, linger_ms=50, compression_type="none")
        expectation, size = Expectation(), 0
        for user, event in calls(events, users, time.time_ns() // 1_000_000, expectation):
            size += len(event)
            producer.produce(topic, event, user.encode())
        producer.flush()
        return Backlog(
            topic,
            events,
            size / events,
            expectation.transitions,
            self.ends(topic, SOURCE_PARTITIONS),
        )

    def add(self, topic: str, events: int, users: int) -> Offsets:
        """More of the same calls, that happen now; the topic's ends behind them."""
        producer = DurableProducer(self.bootstrap)
        for user, event in calls(events, users, time.time_ns() // 1_000_000, Expectation()):
            producer.produce(topic, event, user.encode())
        producer.flush()
        return self.ends(topic, SOURCE_PARTITIONS)

    @contextmanager
    def committed(self, group: str) -> Iterator[Callable[[Sequence[tuple[str, int]]], Offsets]]:
        """A function that asks for a group's committed offsets; -1: none yet."""
        consumer = Consumer(client_config(self.bootstrap, group_id=group, enable_auto_commit=False))

        def ask(places: Sequence[tuple[str, int]]) -> Offsets:
            partitions = [TopicPartition(topic, partition) for topic, partition in places]
            try:
                found = consumer.committed(partitions, timeout=_REQUEST_SECONDS)
            except KafkaException as exc:
                if exc.args[0].code() not in _NO_COORDINATOR:
                    raise
                found = []
            offsets = dict.fromkeys(places, -1)
            offsets.update(((p.topic, p.partition), max(p.offset, -1)) for p in found)
            return offsets

        try:
            yield ask
        finally:
            consumer.close()

    def ends(self, topic: str, partitions: int) -> Offsets:
        """Behind the last record that exists, committed or not."""
        found = self.log.end_offsets(topic, range(partitions), IsolationLevel.READ_UNCOMMITTED)
        return {(topic, partition): end for partition, end in found.items()}

    def read(self, topic: str, partitions: int) -> Iterator[Message]:
        """Every committed record."""
        ends = self.log.settled_ends(topic, range(partitions))
        for batch in self.log.batches(topic, {p: (0, end) for p, end in ends.items()}):
            yield from batch

    def span(self, topic: str, partitions: int) -> Span:
        """Of the records with a key; markers have none."""
        first_ms, ends, records = 2**62, {}, 0
        for message in self.read(topic, partitions):
            if message.key():
                first_ms = min(first_ms, message.timestamp()[1])
                ends[(topic, int(message.partition() or 0))] = int(message.offset() or 0) + 1
                records += 1
        return Span(first_ms, ends, records)


def transitions_of(
    messages: Iterable[Message], read: Callable[[bytes], tuple[str, str, bool]]
) -> Transitions:
    """What an output topic says happened; order holds for each (audience, profile)."""
    found: Transitions = {}
    for message in messages:
        audience, profile, member = read(message.value() or b"")
        found.setdefault((audience, profile), []).append(member)
    return found


def read_delta(value: bytes) -> tuple[str, str, bool]:
    delta = orjson.loads(value)
    return delta["audience"], delta["profile"], delta["change"] != "exited"


def read_peer_delta(value: bytes) -> tuple[str, str, bool]:
    delta = orjson.loads(value)
    return delta["a"], delta["u"], delta["in"]


def describe_difference(found: Transitions, expected: Transitions) -> str | None:
    """None when they are the same."""
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = sum(found[key] != expected[key] for key in found.keys() & expected.keys())
    if not (missing or extra or other):
        return None
    return (
        f"of {len(expected)} memberships {len(missing)} are missing and {other} did not come about in one step; "
        f"{len(extra)} are wrong"
    )
