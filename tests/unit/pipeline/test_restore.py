"""What is seen of a partition while its state is being loaded, and what becomes of a load that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from app.adapters.memory import ManualClock
from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.expire import LaneProgress
from app.pipeline.topology import Owned, Pipeline, Stages
from tests.unit.domain.plans import plan_of
from tests.unit.pipeline.source_lanes import SOURCE
from topics.catalog import Catalog

OWNED = Owned(profile_events=frozenset({0}))
PATIENCE_SECONDS = 30


async def no_commit(content: GroupCommit) -> None:
    raise AssertionError("there is nothing to commit")


class Loading:
    """A pipeline whose log is being read, in a thread, until `go` is set or the read is stopped."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.stopped: list[bool] = []
        clock, catalog = ManualClock(), Catalog()
        self.counters = Counters()
        plan = plan_of({"when": {"event": "A"}})
        self.evaluate = EvaluateStage(
            lambda _: AudiencePartition(plan, 0, self.counters),
            no_commit,
            clock,
            self.counters,
            catalog,
            1,
        )
        unused: Any = None
        nothing_to_deliver: Any = SimpleNamespace()
        log: Any = self
        self.pipeline = Pipeline(
            stages=Stages(
                resolve=unused,
                evaluate=self.evaluate,
                delivery=nothing_to_deliver,
                lanes=LaneProgress(SOURCE),
            ),
            writer=unused,
            log=log,
            clock=clock,
            catalog=catalog,
            partitions=1,
            sources=(SOURCE,),
            source_layouts=lambda topics: dict.fromkeys(topics, ("topic", 1)),
            caught_up=unused,
            in_thread=asyncio.to_thread,
            letters=unused,
            counters=self.counters,
            on_failure=unused,
            refresh_definitions=self._nothing_new,
        )

    async def _nothing_new(self) -> None: ...

    def settled_ends(self, topic: str, partitions: Sequence[int], stop: threading.Event) -> Mapping[int, int]:
        del topic, stop
        return dict.fromkeys(partitions, 5)

    def read(self, topic: str, ranges: Any, on_batch: Any, stop: threading.Event) -> None:
        del topic, ranges, on_batch
        self.began.set()
        for _ in range(PATIENCE_SECONDS * 100):
            if stop.wait(0.01):
                self.stopped.append(True)
                raise InterruptedError
            if self.go.is_set():
                return

    async def begun(self) -> asyncio.Task[dict[int, int]]:
        task = asyncio.create_task(self.pipeline.restore(OWNED, Owned()))
        await asyncio.to_thread(self.began.wait, PATIENCE_SECONDS)
        return task


async def test_nobody_sees_a_partition_before_all_of_its_state_is_there() -> None:
    loading = Loading()
    task = await loading.begun()
    assert loading.evaluate.partitions == {}
    loading.go.set()
    await task
    assert set(loading.evaluate.partitions) == {0}


async def test_a_load_ends_when_its_partitions_are_revoked() -> None:
    loading = Loading()
    task = await loading.begun()
    await loading.pipeline.revoked()
    assert await asyncio.wait_for(task, PATIENCE_SECONDS) == {}
    assert loading.stopped == [True]
    assert loading.evaluate.partitions == {}


async def test_a_load_ends_when_nobody_waits_for_it_any_longer() -> None:
    loading = Loading()
    task = await loading.begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not loading.stopped:
            await asyncio.sleep(0.01)
    assert loading.evaluate.partitions == {}


async def test_a_worker_that_stops_loads_no_further() -> None:
    loading = Loading()
    task = await loading.begun()
    loading.pipeline.stop()
    with pytest.raises(InterruptedError):
        await task
    assert await loading.pipeline.restore(OWNED, Owned()) == {}
    assert loading.stopped == [True], "nothing is read any more"
