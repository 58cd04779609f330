"""Latency: from handing one event to a producer until a read_committed consumer sees the membership it makes."""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from app.adapters.kafka_client import DurableProducer, client_config
from app.errors import PermanentError
from tests.bench.backlog import call
from tests.bench.cluster import SOURCE_PARTITIONS, read_delta
from tests.bench.processes import PARTITIONS, worker
from topics.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.cluster import Cluster

TARGET_P50_MS = 100.0

SOURCE = "latency.events"
_PREFIX = "latency."
_EVENTS = 300
# The first ones also wait for the worker's clock to start; they are not counted.
_WARM_UP = 20
_PAUSE_SECONDS = (0.04, 0.06)
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, in the order the events were sent."""

    milliseconds: list[float]

    def percentile(self, percent: float) -> float:
        return nearest_rank(self.milliseconds, percent)


def nearest_rank(values: Sequence[float], percent: float) -> float:
    """The least value that at least so many percent of all do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


class _Watch:
    """Notes when each profile's delta becomes visible, in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            client_config(
                bootstrap,
                group_id="latency-watch",
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_wait_max_ms=50,
            )
        )
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self._changed = threading.Condition()
        self._seen: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.2)
            now = time.perf_counter()
            if message is not None and message.error() is None:
                _, profile, _ = read_delta(message.value() or b"")
                with self._changed:
                    self._seen.setdefault(profile, now)
                    self._changed.notify()

    def wait_for(self, profile: str) -> float:
        """When it was seen; raises PermanentError when it does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: profile in self._seen, _PATIENCE_SECONDS):
                raise PermanentError(f"an event made no member within {_PATIENCE_SECONDS:.0f} s")
            return self._seen[profile]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()


def measure_latency(cluster: Cluster, folder: Path, say: Callable[[str], None]) -> Latency:
    """An idle worker, and one event after another, each the first order of a person of their own."""
    catalog = Catalog(prefix=_PREFIX, source_topic=SOURCE)
    cluster.create(SOURCE, SOURCE_PARTITIONS)
    cluster.create_all(catalog, PARTITIONS)
    with worker(folder, cluster.bootstrap, _PREFIX, SOURCE, "latency") as process:
        process.wait_for_line("ready")
        watch = _Watch(cluster.bootstrap, catalog.memberships.name)
        try:
            _send(cluster, watch, range(_WARM_UP))
            say(f"latency: sending {_EVENTS} events")
            found = _send(cluster, watch, range(_WARM_UP, _WARM_UP + _EVENTS))
        finally:
            watch.close()
    cluster.delete(_PREFIX)
    return Latency(found)


def _send(cluster: Cluster, watch: _Watch, numbers: range) -> list[float]:
    producer = DurableProducer(cluster.bootstrap, linger_ms=0)
    # Uneven, or the events would always meet the worker's own rhythms at the same point.
    chance = random.Random(7)
    sent = {}
    for number in numbers:
        user = f"user_{number}"
        properties = {"revenue": 20.25, "product_id": 7, "currency": "USD", "category": "hats"}
        event = call(user, "Order Completed", properties, number, time.time_ns() // 1_000_000)
        sent[user] = time.perf_counter()
        producer.produce(SOURCE, event, user.encode())
        time.sleep(chance.uniform(*_PAUSE_SECONDS))
    producer.flush()
    return [(watch.wait_for(user) - at) * 1000 for user, at in sent.items()]
