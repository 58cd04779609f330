"""Due: people leave a window at known instants, with nothing arriving for them; when does everybody see that they have?

A real worker; each person's one event has been received just short of a day ago, so that their window of a day ends
while the benchmark looks on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import Consumer, TopicPartition

from app.adapters.kafka_client import DurableProducer, client_config
from app.errors import PermanentError
from tests.bench.backlog import call
from tests.bench.cluster import SOURCE_PARTITIONS
from tests.bench.latency import nearest_rank
from tests.bench.processes import HERE, PARTITIONS, worker
from topics.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.cluster import Cluster

TARGET_MS = 1_000.0
AUDIENCES = HERE / "due.yaml"

SOURCE = "due.events"
_PREFIX = "due."
_PEOPLE = 2_000
_WINDOW_MS = 86_400_000
# The first leaves so long after the events have been written, and the others one after the other.
_FIRST_LEAVES_MS = 15_000
_APART_MS = 10
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Due:
    """Milliseconds from the instant at which each person's window ended until their exit was visible."""

    milliseconds: list[float]

    def percentile(self, percent: float) -> float:
        return nearest_rank(self.milliseconds, percent)

    @property
    def met(self) -> bool:
        return max(self.milliseconds) <= TARGET_MS


def measure_due(cluster: Cluster, folder: Path, say: Callable[[str], None]) -> Due:
    """Raises PermanentError when somebody has not left in time to be measured, or has left before they were due."""
    catalog = Catalog(prefix=_PREFIX, source_topic=SOURCE)
    cluster.create(SOURCE, SOURCE_PARTITIONS)
    cluster.create_all(catalog, PARTITIONS)
    consumer = Consumer(
        client_config(
            cluster.bootstrap,
            group_id="due-watch",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_wait_max_ms=20,
        )
    )
    with worker(folder, cluster.bootstrap, _PREFIX, SOURCE, "due", AUDIENCES) as process:
        process.wait_for_line("ready")
        consumer.assign([TopicPartition(catalog.memberships.name, p, 0) for p in range(PARTITIONS)])
        try:
            leaves = _enter(cluster)
            say(f"due: {len(leaves):,} people leave a window, {_APART_MS} ms apart")
            found = _watch(consumer, leaves)
        finally:
            consumer.close()
    cluster.delete(_PREFIX)
    return Due(found)


def _enter(cluster: Cluster) -> dict[str, int]:
    """Person -> the instant at which their window ends."""
    producer = DurableProducer(cluster.bootstrap, linger_ms=5)
    first = time.time_ns() // 1_000_000 + _FIRST_LEAVES_MS
    leaves = {}
    for number in range(_PEOPLE):
        user = f"user_{number}"
        leaves[user] = first + number * _APART_MS
        event = call(user, "Order Completed", {"revenue": 20.25}, number, leaves[user] - _WINDOW_MS)
        producer.produce(SOURCE, event, user.encode())
    producer.flush()
    return leaves


def _watch(consumer: Consumer, leaves: dict[str, int]) -> list[float]:
    found: list[float] = []
    entered: set[str] = set()
    left: set[str] = set()
    deadline = max(leaves.values()) / 1000 + _PATIENCE_SECONDS
    while len(left) < len(leaves):
        message = consumer.poll(0.2)
        now = time.time()
        if now > deadline:
            raise PermanentError(f"{len(leaves) - len(left)} people have not left the window they were in")
        if message is None or message.error() is not None:
            continue
        delta = orjson.loads(message.value() or b"")
        profile = delta["profile"]
        if delta["change"] == "entered":
            entered.add(profile)
        elif delta["change"] == "exited":
            late = now * 1000 - leaves[profile]
            if late < 0 or delta["at"] != leaves[profile] or profile not in entered or profile in left:
                raise PermanentError(f"{profile} has not left when their window ended")
            left.add(profile)
            found.append(late)
    return found
