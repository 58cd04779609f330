"""Writes requests to forget people to profile.events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import IsolationLevel

from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import TransactionalWriter
from app.errors import InvalidInputError
from app.ports import Record
from topics.catalog import Catalog


class KafkaForget:
    """Blocking; of two at the same time the earlier one ends with a FatalError."""

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
        self._writer = TransactionalWriter(bootstrap_servers, f"{catalog.app_id}-forget")
        self._topic = catalog.profile_events
        self._partitions = partitions

    def ask(self, make: Callable[[str, int], Sequence[Record]]) -> None:
        """Writes what `make` gives, all or nothing, for the topic's own id and a position that only grows.

        The position is the size of the topic, to which every request adds.
        """
        layout = self._admin.layouts((self._topic,))[self._topic.name]
        if layout is None:
            raise InvalidInputError(
                f"there is no topic {self._topic.name}: `audience-sync topics` creates it"
            )
        self._writer.start()
        ends = self._reader.end_offsets(
            self._topic.name, range(self._partitions), IsolationLevel.READ_UNCOMMITTED
        )
        self._writer.commit(make(layout.id, sum(ends.values())), (), b"")
