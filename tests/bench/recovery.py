"""Recovery: a worker starts on the state that another one left."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from tests.bench.cluster import SOURCE_PARTITIONS
from tests.bench.processes import AUDIENCES, PARTITIONS, worker
from tests.bench.progress import follow
from topics.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.cluster import Cluster

_PREFIX = "recovery."
_SOURCE = f"{_PREFIX}events"
_EMPTY_PREFIX = "empty."
# A few more than the throughput has, so that over 50,000 of them have an event that some audience needs.
_USERS = 60_000
_EVENTS = 400_000
# From the death of a worker until another one serves its partitions.
TARGET_TAKEOVER_SECONDS = 15.0
# Of a takeover: enough to be in all partitions.
_CALLS = 2_000


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from starting the process until it says `ready`, with this state and with nothing to load; and of
    the loading alone, done with the worker's own reader and partitions in this process. Of a takeover: from the
    SIGKILL of one of two workers until the other one has evaluated every call that came in since, of all partitions.
    """

    profiles: int
    records: int
    ready_seconds: list[float]
    empty_seconds: list[float]
    load_seconds: list[float]
    takeover_seconds: list[float]

    @property
    def records_per_second(self) -> float:
        return self.records / median(self.load_seconds)


def measure_recovery(
    cluster: Cluster, folder: Path, rounds: int, events: int | None, say: Callable[[str], None]
) -> Recovery:
    """`events` None: as many as make the state of more than 50,000 profiles."""
    count = events or _EVENTS
    say(f"recovery: a worker makes the state of {count:,} events")
    backlog = cluster.fill(_SOURCE, count, _USERS)
    catalog = Catalog(prefix=_PREFIX, source_topic=_SOURCE)
    cluster.create_all(catalog, PARTITIONS)
    with worker(folder, cluster.bootstrap, _PREFIX, _SOURCE, "recovery") as process:
        follow(cluster, process, catalog.app_id, backlog.ends, catalog.profile_events.name)
    cluster.create(f"{_EMPTY_PREFIX}events", SOURCE_PARTITIONS)
    cluster.create_all(Catalog(prefix=_EMPTY_PREFIX), PARTITIONS)
    ready, empty, loads, takeovers = [], [], [], []
    for number in range(rounds):
        empty.append(_time_start(cluster, folder, _EMPTY_PREFIX))
        ready.append(_time_start(cluster, folder, _PREFIX))
        seconds, profiles, records = _time_load(cluster, catalog)
        loads.append(seconds)
        takeovers.append(_time_takeover(cluster, folder, catalog))
        say(
            f"recovery, round {number + 1} of {rounds}: ready after {ready[-1]:.2f} s, "
            f"a dead worker's partitions served again after {takeovers[-1]:.2f} s"
        )
    for prefix in (_PREFIX, _EMPTY_PREFIX):
        cluster.delete(prefix)
    return Recovery(profiles, records, ready, empty, loads, takeovers)


def _time_start(cluster: Cluster, folder: Path, prefix: str) -> float:
    started = time.perf_counter()
    with worker(folder, cluster.bootstrap, prefix, f"{prefix}events", f"{prefix}start") as process:
        process.wait_for_line("ready")
        return time.perf_counter() - started


def _time_takeover(cluster: Cluster, folder: Path, catalog: Catalog) -> float:
    """With the session that is the default, and the state to be loaded."""
    with (
        worker(folder, cluster.bootstrap, _PREFIX, _SOURCE, "survivor") as survivor,
        worker(folder, cluster.bootstrap, _PREFIX, _SOURCE, "doomed") as doomed,
    ):
        for process in (survivor, doomed):
            process.wait_for_line("ready")
        # Both are in one group now, and have come to the end of what there was.
        follow(
            cluster,
            survivor,
            catalog.app_id,
            cluster.add(_SOURCE, _CALLS, _USERS),
            catalog.profile_events.name,
        )
        os.kill(doomed.watched.pid, signal.SIGKILL)
        killed = time.perf_counter()
        follow(
            cluster,
            survivor,
            catalog.app_id,
            cluster.add(_SOURCE, _CALLS, _USERS),
            catalog.profile_events.name,
        )
        return time.perf_counter() - killed


def _time_load(cluster: Cluster, catalog: Catalog) -> tuple[float, int, int]:
    """Seconds, profiles and records: what restoring all partitions costs, as in `Pipeline.restore`."""
    plan = compile_audiences(read_definitions(AUDIENCES).audiences)
    partitions = [AudiencePartition(plan, 0, Counters()) for _ in range(PARTITIONS)]
    topic, records = catalog.profiles_changelog.name, 0
    started = time.perf_counter()
    ends = cluster.log.settled_ends(topic, range(PARTITIONS))
    for batch in cluster.log.batches(topic, {number: (0, end) for number, end in ends.items()}):
        records += len(batch)
        for message in batch:
            partitions[message.partition() or 0].load(message.key() or b"", message.value())
    for partition in partitions:
        partition.finish_recovery()
    seconds = time.perf_counter() - started
    profiles = sum(
        len(partition.states.resting) + len(partition.states.forwarders) for partition in partitions
    )
    return seconds, profiles, records
