"""How far a process has come, watched from outside: by the offsets that its group has committed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import PermanentError
from tests.bench.processes import PARTITIONS

if TYPE_CHECKING:
    from tests.bench.cluster import Cluster, Offsets
    from tests.bench.processes import Process

_SAMPLE_SECONDS = 0.04
_STALLED_SECONDS = 120.0
# Each round lasts until everything written before it is committed: the call, and then a question and its answer for
# each of the identifiers beside the user id that it names.
_ROUNDS_OF_TALK = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """What was committed by `at_ms`, and the CPU time used by then."""

    at_ms: float
    cpu_seconds: float | None
    committed: Offsets


def follow(
    cluster: Cluster, process: Process, group: str, ends: Offsets, second_hop: str | None = None
) -> list[Sample]:
    """Samples until the group has committed everything below `ends`, and of the second hop's topic as well.

    What the first hop writes is only known once it is done; then the second hop must pass the end that its topic
    has at that moment, and what profiles have said to each other meanwhile, which is written to the same topic.
    """
    places = [*ends, *((second_hop, p) for p in range(PARTITIONS) if second_hop)]
    samples: list[Sample] = []
    with cluster.committed(group) as ask:

        def until(wanted: Offsets) -> None:
            moved_at = time.perf_counter()
            while True:
                committed = ask(places)
                if samples and committed != samples[-1].committed:
                    moved_at = time.perf_counter()
                samples.append(Sample(time.time_ns() / 1e6, process.cpu_seconds(), committed))
                if all(committed[place] >= end for place, end in wanted.items()):
                    return
                process.check()
                if time.perf_counter() - moved_at > _STALLED_SECONDS:
                    raise PermanentError(f"{process.name} has committed nothing for {_STALLED_SECONDS:.0f} s")
                time.sleep(_SAMPLE_SECONDS)

        until(ends)
        if second_hop is not None:
            for _ in range(_ROUNDS_OF_TALK):
                until(cluster.ends(second_hop, PARTITIONS))
    return samples
