"""audience.control in Kafka: reading what is new in it, and publishing one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import Message

from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import TransactionalWriter
from app.domain.published import Published, read_published, still_noted
from app.errors import FatalError, NewerFormatError
from app.ports import Record
from schemas.control import DEFINITIONS, WANTED, ControlRecord, DefinitionsRecord
from topics.catalog import Catalog

_TRIES = 10


class KafkaControl:
    """Implements `app.ports.ControlLog`. Blocking; one thread at a time."""

    def __init__(
        self, reader: LogReader, bootstrap_servers: Brokers, catalog: Catalog, partitions: int
    ) -> None:
        self._reader = reader
        self._bootstrap_servers = bootstrap_servers
        self._spec = catalog.control
        self.topic = self._spec.name
        self._transactional_id = f"{catalog.app_id}-control"
        self._partitions = partitions
        self._records: dict[bytes, bytes] = {}
        self._position = 0

    def refresh(self, *, settled: bool = False) -> Published:
        """See the protocol."""
        ends = self._reader.settled_ends if settled else self._reader.end_offsets
        end = ends(self.topic, (0,))[0]
        if end > self._position:
            self._reader.read(self.topic, {0: (self._position, end)}, self._keep)
            self._position = end
        try:
            return read_published(self._records)
        except NewerFormatError as error:
            raise NewerFormatError(f"{error}. It stands in {self.topic}") from error

    def _keep(self, batch: list[Message]) -> None:
        for message in batch:
            key, value = message.key(), message.value()
            if key is None:
                continue
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value

    def publish(self, decide: Callable[[Published], ControlRecord | None]) -> Published:
        """See the protocol. Whoever else publishes at the same moment is fenced by the transactional id."""
        tries = 0
        while decide(published := self.refresh(settled=True)) is not None:
            tries += 1
            writer = TransactionalWriter(self._bootstrap_servers, self._transactional_id)
            writer.start()
            # Nobody else can publish any more without ending this writer.
            published = self.refresh(settled=True)
            record = decide(published)
            if record is None:
                break
            try:
                writer.commit([*self._outlived(published, record), self._as_record(record)], (), b"")
            except FatalError:
                if tries == _TRIES:
                    raise
            else:
                return self.refresh(settled=True)
        return published

    def require_whole(self, topics: TopicAdmin) -> None:
        """Raises InvalidInputError while our topics are being repartitioned; where there are none yet, they are not."""
        if topics.layouts((self._spec,))[self.topic] is not None:
            self.refresh(settled=True).refuse_half_moved()

    def write(self, records: Sequence[Record]) -> None:
        """Records of this topic, all or none; whoever else publishes at the same moment is fenced."""
        writer = TransactionalWriter(self._bootstrap_servers, self._transactional_id)
        writer.start()
        writer.commit(records, (), b"")

    def _outlived(self, published: Published, record: ControlRecord) -> list[Record]:
        """Versions that no partition can come to any more, and what was wanted and is there."""
        kept = published.in_force(self._partitions)
        keys = [f"{DEFINITIONS}|{number}" for number in published.versions if number not in kept]
        if isinstance(record, DefinitionsRecord):
            keys += [f"{WANTED}|{key}" for key in sorted(still_noted(published, record))]
        return [Record(self.topic, 0, key.encode(), None) for key in keys]

    def _as_record(self, record: ControlRecord) -> Record:
        return Record(self.topic, 0, record.key.encode(), record.model_dump_json().encode())
