"""In-memory twin of what replaying dead letters needs of Kafka."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from app.errors import FatalError
from app.ports import Record, StoredRecord
from topics.catalog import Catalog
from topics.partitioning import partition_for


class MemoryTopics:
    """Topics with the same number of partitions each; offsets begin at 0."""

    def __init__(self, catalog: Catalog, partitions: int) -> None:
        self.catalog = catalog
        self.partitions = partitions
        self.done: dict[tuple[str, int], int] = {}
        # Whoever has begun to replay last.
        self.newest: MemoryReplayLog | None = None
        self._records: defaultdict[tuple[str, int], list[StoredRecord]] = defaultdict(list)
        self._firsts: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._names = {spec.name for spec in catalog.all()}

    def write(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp: int = 0
    ) -> int:
        """The offset; partition -1 lets the key decide."""
        if partition < 0:
            partition = partition_for(key or b"", self.partitions)
        records = self._records[topic, partition]
        records.append(StoredRecord(len(records), timestamp, key, value))
        return len(records) - 1

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """As when retention has passed."""
        self._firsts[topic, partition] = offset

    def read(self, topic: str, partition: int) -> list[StoredRecord]:
        """All that is kept, in order."""
        return self._records[topic, partition][self._firsts[topic, partition] :]

    def kept(self, topic: str) -> dict[int, tuple[int, int]]:
        if topic not in self._names and not any(name == topic for name, _ in self._records):
            return {}
        return {
            partition: (self._firsts[topic, partition], len(self._records[topic, partition]))
            for partition in range(self.partitions)
        }


class MemoryReplayLog:
    """Implements `app.ports.ReplayLog`; a commit fails while `failing` is set."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self.failing = False

    def start(self) -> None:
        """End every other replay."""
        self._topics.newest = self

    def kept(self, topic: str) -> Mapping[int, tuple[int, int]]:
        return self._topics.kept(topic)

    def records_at(self, topic: str, partition: int, offsets: Sequence[int]) -> Mapping[int, StoredRecord]:
        wanted = set(offsets)
        return {
            record.offset: record for record in self._topics.read(topic, partition) if record.offset in wanted
        }

    def committed(self, topic: str) -> Mapping[int, int]:
        return {partition: offset for (name, partition), offset in self._topics.done.items() if name == topic}

    def newest_deltas(
        self, partition: int, first: int, keys: Collection[bytes]
    ) -> Mapping[bytes, bytes | None]:
        records = self._topics.read(self._topics.catalog.memberships.name, partition)
        return {
            record.key or b"": record.value
            for record in records
            if record.offset >= first and record.key in keys
        }

    def position(self) -> int:
        ends = self._topics.kept(self._topics.catalog.dead_letters.name)
        return sum(end for _, end in ends.values())

    def commit(self, records: Sequence[Record]) -> None:
        if self._topics.newest is not self or self.failing:
            raise FatalError("another replay may have begun, which goes on with the rest")
        for record in records:
            self._topics.write(record.topic, record.partition, record.key, record.value)
