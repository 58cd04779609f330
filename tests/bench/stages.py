"""The stages resolve and evaluate in this process, joined as the worker joins them, with lists in place of Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.clock import SourcePartition
from app.domain.counters import Counters
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.expire import LaneProgress
from app.pipeline.resolve import ResolveStage
from app.wiring import EARLY_MS
from tests.bench.processes import PARTITIONS
from topics.catalog import Catalog
from topics.partitioning import partition_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.plan import Plan

# The one lane of the source that everything comes on.
_LANE = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record as a consumer hands it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class _Wall:
    """Stands at the newest call that has been handed over."""

    def __init__(self) -> None:
        self.now = 0

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


class Stages:
    """`states` is what the changelog has at the end, `deltas` how many memberships have changed."""

    def __init__(self, plan: Plan) -> None:
        self.states: dict[tuple[int, bytes], bytes] = {}
        self.deltas = 0
        self._wall = _Wall()
        self._catalog = catalog = Catalog(prefix="", source_topic="source")
        self._waiting: list[list[Arrived]] = [[] for _ in range(PARTITIONS)]
        self._ends = [0] * PARTITIONS
        self._lanes = LaneProgress(catalog.source.name)
        self._partition = SourcePartition(catalog.source.name, _LANE)
        self._lanes.assign({catalog.source.name: "source"}, [self._partition])
        self._offset = 0
        counters = Counters()
        resolver = Resolver(plan, ResolveOptions())
        self._resolve = ResolveStage(lambda _: resolver, self, self._lanes, self._wall, counters, catalog)
        self._evaluate = EvaluateStage(
            lambda number: AudiencePartition(
                plan,
                EARLY_MS,
                counters,
                place=Place(number, lambda profile: partition_for(profile.encode(), PARTITIONS)),
            ),
            self._commit,
            self._wall,
            counters,
            catalog,
            PARTITIONS,
        )
        for number in range(PARTITIONS):
            partition = self._evaluate.new_partition(number)
            self._evaluate.add(number, partition)
            partition.finish_recovery()
            partition.set_expected([self._lanes.lane(self._partition)])

    async def work(self, calls: Sequence[tuple[int, bytes]]) -> None:
        """One poll's calls (received time, JSON), and all that profiles say to each other of them."""
        self._wall.now = calls[-1][0]
        records = [Arrived(self._offset + place, at, None, value) for place, (at, value) in enumerate(calls)]
        self._offset += len(records)
        self._resolve.process(self._partition, records)
        marker = self._lanes.marker(self._wall.now)
        for number in range(PARTITIONS):
            self.produce(self._catalog.profile_events.name, marker, b"", number)
        while any(self._waiting):
            for number, waiting in enumerate(self._waiting):
                if waiting:
                    self._waiting[number] = []
                    await self._evaluate.process(number, waiting, _done)
            await self._evaluate.flush()

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """As the producer of resolve, and for what profiles say to each other."""
        if topic != self._catalog.profile_events.name:
            raise ValueError(f"the stages have written to {topic}")
        number = partition_for(key or b"", PARTITIONS) if partition < 0 else partition
        self._waiting[number].append(Arrived(self._ends[number], self._wall.now, key, value))
        self._ends[number] += 1

    def flush(self) -> None:
        """Everything is durable at once."""

    async def _commit(self, commit: GroupCommit) -> None:
        changelog, memberships = self._catalog.profiles_changelog.name, self._catalog.memberships.name
        for topic, partition, key, value in (
            (record.topic, record.partition, record.key, record.value) for record in commit.records
        ):
            if topic == changelog and value is not None:
                self.states[partition, key] = value
            elif topic == memberships:
                self.deltas += 1
            else:
                self.produce(topic, value, key, partition)


def _done() -> None:
    """The offsets are of no interest."""
