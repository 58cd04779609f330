"""Throughput: the same backlog through a worker, stock Faust and a loop written by hand, in turns."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from app.errors import PermanentError
from tests.bench.cluster import (
    SOURCE_PARTITIONS,
    describe_difference,
    read_delta,
    read_peer_delta,
    transitions_of,
)
from tests.bench.processes import HERE, PARTITIONS, running, worker
from tests.bench.progress import follow
from topics.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.cluster import Backlog, Cluster, Offsets
    from tests.bench.progress import Sample

WORKER = "audience-sync worker"
LOOP = "hand-written loop"
FAUST = "stock Faust"

TARGET_OF_FAUST = 12.0
TARGET_OF_LOOP = 0.6


@dataclass(frozen=True, slots=True)
class Run:
    """One system's way through its backlog. CPU and memory are None where the machine does not tell."""

    system: str
    events: int
    seconds: float
    cpu_seconds: float | None
    peak_rss_bytes: int | None

    @property
    def rate(self) -> float:
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Throughput:
    """All runs, in the order they were made; round by round each system once."""

    runs: list[Run]

    def rates(self, system: str) -> list[float]:
        return [run.rate for run in self.runs if run.system == system]

    def ratio(self, to: str) -> float:
        """Median over the rounds, as what else the machine does weighs on neighbours alike."""
        return median(ours / theirs for ours, theirs in zip(self.rates(WORKER), self.rates(to), strict=True))


class ThroughputBench:
    """`small` is the backlog of stock Faust, which is too slow for the whole."""

    def __init__(
        self, cluster: Cluster, folder: Path, backlog: Backlog, small: Backlog, say: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._backlog = backlog
        self._small = small
        self._say = say

    def run(self, rounds: int) -> Throughput:
        systems: list[Callable[[str], Run]] = [self._worker, self._loop, self._faust]
        runs = []
        for number in range(rounds):
            for offset in range(len(systems)):
                # In turns, so that none always runs on what another left behind.
                system = systems[(number + offset) % len(systems)]
                run = system(f"round{number}.")
                runs.append(run)
                self._say(
                    f"throughput, round {number + 1} of {rounds}: {run.system} {run.rate:,.0f} events/s"
                )
        return Throughput(runs)

    # -- systems -----------------------------------------------------------------------------------------------

    def _worker(self, prefix: str) -> Run:
        cluster, backlog = self._cluster, self._backlog
        prefix = f"{prefix}worker."
        catalog = Catalog(prefix=prefix, source_topic=backlog.topic)
        cluster.create_all(catalog, PARTITIONS)
        events = catalog.profile_events.name
        with worker(self._folder, cluster.bootstrap, prefix, backlog.topic, "worker") as process:
            process.wait_for_line("ready")
            samples = follow(cluster, process, catalog.app_id, backlog.ends, events)
            peak = process.peak_rss_bytes()
        span = cluster.span(events, PARTITIONS)
        self._check(WORKER, backlog, catalog.memberships.name, PARTITIONS, read_delta)
        cluster.delete(prefix)
        return _run(WORKER, backlog, samples, span.first_ms, {**backlog.ends, **span.ends}, peak)

    def _loop(self, prefix: str) -> Run:
        prefix = f"{prefix}loop."
        topics = [f"{prefix}deltas", f"{prefix}changelog"]
        for topic in topics:
            self._cluster.create(topic, PARTITIONS)
        backlog, group = self._backlog, f"{prefix}loop"
        arguments = ["peer_loop.py", self._cluster.bootstrap, backlog.topic, *topics, group]
        return self._peer(LOOP, arguments, prefix, backlog, PARTITIONS)

    def _faust(self, prefix: str) -> Run:
        prefix = f"{prefix}faust."
        deltas = f"{prefix}deltas"
        # A table has as many partitions as the topic it is filled from.
        self._cluster.create(deltas, SOURCE_PARTITIONS)
        backlog, group = self._small, f"{prefix}faust"
        arguments = [
            "peer_faust.py",
            self._cluster.bootstrap,
            backlog.topic,
            deltas,
            str(SOURCE_PARTITIONS),
            group,
        ]
        return self._peer(FAUST, arguments, prefix, backlog, SOURCE_PARTITIONS)

    def _peer(self, system: str, arguments: list[str], prefix: str, backlog: Backlog, partitions: int) -> Run:
        command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
        with running(prefix.rstrip("."), command, self._folder, {}) as process:
            samples = follow(self._cluster, process, arguments[-1], backlog.ends)
            peak = process.peak_rss_bytes()
        deltas = f"{prefix}deltas"
        span = self._cluster.span(deltas, partitions)
        self._check(system, backlog, deltas, partitions, read_peer_delta)
        self._cluster.delete(prefix)
        return _run(system, backlog, samples, span.first_ms, backlog.ends, peak)

    # -- measuring ---------------------------------------------------------------------------------------------

    def _check(
        self,
        system: str,
        backlog: Backlog,
        topic: str,
        partitions: int,
        read: Callable[[bytes], tuple[str, str, bool]],
    ) -> None:
        found = transitions_of(self._cluster.read(topic, partitions), read)
        difference = describe_difference(found, backlog.transitions)
        if difference is not None:
            raise PermanentError(f"{system} computed other memberships than its events make: {difference}")


def _run(
    system: str, backlog: Backlog, samples: list[Sample], first_ms: float, ends: Offsets, peak: int | None
) -> Run:
    """From the first record processed, which is when the first output record was made, to all of it committed."""
    done = (
        sample for sample in samples if all(sample.committed[place] >= end for place, end in ends.items())
    )
    last = next(done, None)
    if last is None:
        raise PermanentError(f"{system} still had something to do when it was no longer watched")
    before = [sample.cpu_seconds for sample in samples if sample.at_ms <= first_ms]
    cpu_first = before[-1] if before else 0.0
    cpu = None
    if last.cpu_seconds is not None and cpu_first is not None:
        cpu = last.cpu_seconds - cpu_first
    return Run(system, backlog.events, (last.at_ms - first_ms) / 1000, cpu, peak)
