"""Reading a topic's partitions from a known offset to their present end, outside any consumer group."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from app.adapters.kafka_client import client_config, kafka_reason
from app.adapters.kafka_connection import Brokers
from app.errors import FatalError, UnreachableError

_POLL_SECONDS = 0.05
_REQUEST_SECONDS = 10.0
_BATCH = 2_000
# What is fetched and not yet handed over, per reader: several destinations may read at once. librdkafka's own bounds
# are 64 MiB each.
_QUEUED_KILOBYTES = 8_192
_FETCH_BYTES = 8 << 20


class LogReader:
    """Bounded reads of one cluster. Blocking; every call makes its own consumer.

    `stop` ends waits early: a call then raises InterruptedError.
    """

    def __init__(self, bootstrap_servers: Brokers) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._admin = AdminClient(client_config(bootstrap_servers))

    def end_offsets(
        self, topic: str, partitions: Sequence[int], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[int, int]:
        """The offset behind the last record; read_committed: behind the last one no open transaction holds back.

        Raises UnreachableError.
        """
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # the client's own annotations are partial
        return self._offsets(topic, partitions, latest, isolation)

    def first_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The offset of the first record that is still kept. Raises UnreachableError."""
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call] # as above
        return self._offsets(topic, partitions, earliest, IsolationLevel.READ_COMMITTED)

    def _offsets(
        self, topic: str, partitions: Sequence[int], which: OffsetSpec, isolation: IsolationLevel
    ) -> dict[int, int]:
        request = {TopicPartition(topic, p): which for p in partitions}
        futures = self._admin.list_offsets(
            request, isolation_level=isolation, request_timeout=_REQUEST_SECONDS
        )
        try:
            offsets = {tp.partition: future.result().offset for tp, future in futures.items()}
        except KafkaException as exc:
            self._look_up_leaders(topic)
            raise UnreachableError(
                f"Kafka did not give the offsets of {topic} ({kafka_reason(exc)})"
            ) from exc
        if any(offset < 0 for offset in offsets.values()):
            # A broker that has just come back may leave a partition out, which librdkafka takes for no error. As an end it
            # would say that there is nothing to read.
            self._look_up_leaders(topic)
            raise UnreachableError(f"Kafka did not give the offsets of all partitions of {topic}")
        return offsets

    def _look_up_leaders(self, topic: str) -> None:
        """Ask who leads the partitions now: librdkafka goes on asking the leaders that it knows, in their old epoch,
        for minutes after a broker has come back.
        """
        with contextlib.suppress(KafkaException):
            self._admin.list_topics(topic, timeout=_REQUEST_SECONDS)

    def settled_ends(
        self, topic: str, partitions: Sequence[int], stop: threading.Event | None = None
    ) -> dict[int, int]:
        """End offsets, after every transaction that was open when this was called has ended.

        A worker that lost these partitions may have died, or be frozen, with its last commit half done; until the
        broker has decided that commit, the log does not say what the state is.
        """
        ends = self._ends_at_last(topic, partitions, IsolationLevel.READ_UNCOMMITTED, stop)
        while True:
            stable = self._ends_at_last(topic, partitions, IsolationLevel.READ_COMMITTED, stop)
            if all(stable[p] >= ends[p] for p in partitions):
                return ends
            _wait(stop)

    def _ends_at_last(
        self, topic: str, partitions: Sequence[int], isolation: IsolationLevel, stop: threading.Event | None
    ) -> dict[int, int]:
        while True:
            try:
                return self.end_offsets(topic, partitions, isolation)
            except UnreachableError:
                _wait(stop)

    def read(
        self,
        topic: str,
        ranges: Mapping[int, tuple[int, int]],
        on_batch: Callable[[list[Message]], None],
        stop: threading.Event | None = None,
    ) -> None:
        """Hand over every visible record with first <= offset < end of each partition's (first, end), in batches.

        Order holds within a partition; compacted and aborted records are absent.
        """
        for batch in self.batches(topic, ranges, stop):
            on_batch(batch)

    def batches(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], stop: threading.Event | None = None
    ) -> Iterator[list[Message]]:
        """As `read`, as an iterator."""
        ends = {p: end for p, (first, end) in ranges.items() if first < end}
        if not ends:
            return
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(topic, p, ranges[p][0]) for p in ends])
            yield from _until_ends(consumer, ends, stop)
        finally:
            consumer.close()

    def spans(self, topic: str, partition: int, spans: Sequence[tuple[int, int]]) -> Iterator[Message]:
        """The visible records of several (first, end) of one partition, which exist, one span after the other."""
        consumer = self._consumer()
        try:
            for first, end in spans:
                consumer.assign([TopicPartition(topic, partition, first)])
                for batch in _until_ends(consumer, {partition: end}, None):
                    yield from batch
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            client_config(
                self._bootstrap_servers,
                # librdkafka wants a name even where no group is joined and nothing committed.
                group_id="audience-sync-reader",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                enable_partition_eof=True,
                fetch_wait_max_ms=50,
                queued_max_messages_kbytes=_QUEUED_KILOBYTES,
                fetch_max_bytes=_FETCH_BYTES,
            )
        )

    def latest_values(self, topic: str, partitions: int) -> dict[bytes, bytes]:
        """The newest value of every key of a compacted topic; a tombstone removes its key."""
        values: dict[bytes, bytes] = {}

        def keep(batch: list[Message]) -> None:
            for message in batch:
                key, value = message.key(), message.value()
                if key is None:
                    continue
                if value is None:
                    values.pop(key, None)
                else:
                    values[key] = value

        ends = self.settled_ends(topic, range(partitions))
        self.read(topic, {p: (0, end) for p, end in ends.items()}, keep)
        return values


# What librdkafka goes on trying by itself.
_RETRIED = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT})  # noqa: SLF001 - librdkafka's names


def _until_ends(
    consumer: Consumer, ends: dict[int, int], stop: threading.Event | None
) -> Iterator[list[Message]]:
    open_partitions = set(ends)
    while open_partitions:
        if stop is not None and stop.is_set():
            raise InterruptedError("reading was stopped")
        batch = []
        for message in consumer.consume(_BATCH, 0.2):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                _raise_unless_retried(message.topic(), error)
                continue
            partition, offset = int(message.partition() or 0), int(message.offset() or 0)
            if error is None and offset < ends[partition]:
                batch.append(message)
            # Behind the last visible record there may be only markers: then the end of the partition says so.
            if (offset + 1 if error is None else offset) >= ends[partition]:
                open_partitions.discard(partition)
        if batch:
            yield batch


def _raise_unless_retried(topic: str | None, error: KafkaError) -> None:
    if not error.retriable() and error.code() not in _RETRIED:
        raise FatalError(f"reading {topic} failed: {kafka_reason(KafkaException(error))}")


def _wait(stop: threading.Event | None) -> None:
    if stop is None:
        time.sleep(_POLL_SECONDS)
    elif stop.wait(_POLL_SECONDS):
        raise InterruptedError("waiting was stopped")
