"""What a worker is given by its group, and what happens while that changes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from faust.types import TP

from app.adapters import faust_transport
from app.adapters.faust_worker import Batch, FaustWorker
from tests.contract.faust_bench import PARTITIONS, Bench, acknowledge, bench_of, rejoin, until


@pytest.fixture
def bench(bootstrap_servers: str, topic_prefix: str) -> Bench:
    return bench_of(bootstrap_servers, topic_prefix)


async def test_a_successor_takes_over_within_the_session_though_it_listens_elsewhere(bench: Bench) -> None:
    # A static member does not leave the group, so its session outlives it and nobody else is given its partitions.
    successor = Bench(bench.bootstrap_servers, bench.catalog)
    async with bench.worker(acknowledge, routes=True, instance="slot", session_seconds=60.0) as first:
        generation, member = first._member
    async with successor.worker(acknowledge, routes=True, instance="slot", session_seconds=60.0) as second:
        assert successor.port != bench.port
        assert second._member[0] == generation, "no rebalance was needed"
        assert second._member[1] != member
        assert successor.restored[0][0] == bench.restored[0][0]
    assert successor.failures == []


async def test_a_broker_that_has_just_come_back_takes_nothing_from_the_group(bench: Bench) -> None:
    async with bench.worker(acknowledge) as worker:
        client = worker.consumer._thread._consumer._client
        ask, refusals = client._metadata_update, iter(range(3))

        async def refuse_at_first(cluster: Any, topics: Any) -> bool:
            return False if next(refusals, None) is not None else await ask(cluster, topics)

        async def forget() -> None:
            client._metadata_update = refuse_at_first
            client.cluster._partitions.clear()

        await worker.consumer._thread.call_thread(forget)
        await rejoin(worker)
        await until(lambda: len(bench.restored) == 2)
        assert next(refusals, None) is None, "it has been asked again"
    before, after = (owned for owned, _ in bench.restored)
    assert before == after != set()
    assert bench.failures == []


async def test_who_is_never_told_of_its_topics_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_transport, "_KNOWN_WITHIN_SECONDS", 0.5)
    async with bench.worker(acknowledge) as worker:
        client = worker.consumer._thread._consumer._client

        async def know_nothing(cluster: Any, topics: Any) -> bool:
            cluster._partitions.clear()
            return True

        client._metadata_update = know_nothing
        client.cluster._partitions.clear()
        await rejoin(worker)
        await asyncio.wait_for(bench.failed.wait(), 30)
    assert bench.source in str(bench.failures[0])


class ChangedAnswers:
    """What the group coordinator answers to requests of one kind: first `error_code`, `times` times, then the truth."""

    def __init__(
        self, worker: FaustWorker, request: str, error_code: int, times: int, after: float = 0
    ) -> None:
        self._coordinator = worker.consumer._thread._consumer._coordinator
        self._ask, self._coordinator._client.send = self._coordinator._client.send, self
        self._request, self._error_code, self._after = request, error_code, after
        self.left = times

    async def __call__(self, node: Any, request: Any, **how: Any) -> Any:
        answer = await self._ask(node, request, **how)
        if not self.left or type(request).__name__ != self._request:
            return answer
        self.left -= 1
        await asyncio.sleep(self._after)
        said = {name: getattr(answer, name) for name in answer.SCHEMA.names}
        said |= (
            {"topics": [], "error_code": self._error_code}
            if "topics" in said
            else {"error_code": self._error_code}
        )
        return type(answer)(**said)


async def test_who_is_not_let_into_the_group_is_told_of(bench: Bench) -> None:
    async with bench.worker(acknowledge) as worker:
        await until(lambda: worker.consumer.flow_active)
        # By when nobody waits for records any more.
        ChangedAnswers(worker, "JoinGroupRequest", -1, times=1, after=2.5)
        await rejoin(worker)
        await asyncio.wait_for(bench.failed.wait(), 30)
    assert "does not let this worker in" in str(bench.failures[0])
    assert "UnknownError" in str(bench.failures[0])


@pytest.mark.parametrize("error_code", [14, 15, 16])
async def test_a_coordinator_that_is_loading_has_not_said_that_nothing_is_committed(
    bench: Bench, error_code: int
) -> None:
    await commit_some(bench)
    bench.produce([b"new"])
    seen: list[bytes] = []

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        seen.extend(record.value for record in batch.records)
        batch.ack()

    async with bench.worker(stage) as worker:
        await until(lambda: seen == [b"new"])
        # So many that each of those who ask has got one.
        changed = ChangedAnswers(worker, "OffsetFetchRequest", error_code, times=6)
        await rejoin(worker)
        await until(lambda: not changed.left and worker.ready.is_set() and worker.consumer.flow_active)
        bench.produce([b"newer"])
        await until(lambda: b"newer" in seen)
    assert seen == [b"new", b"new", b"newer"], "what is not committed comes once more, and nothing before it"
    assert bench.failures == []


async def test_no_restore_begins_behind_its_own_revocation(bench: Bench) -> None:
    late: list[bool] = []
    async with bench.worker(acknowledge) as worker:
        await until(lambda: worker.consumer.flow_active)
        recovery: Any = worker.app.tables.recovery
        restore = recovery.restore

        async def watched(owned: set[TP], kept: set[TP]) -> dict[TP, int]:
            late.append(worker.app.rebalancing_count != recovery._rebalance)
            # As long as others take to join.
            await asyncio.sleep(0.05)
            offsets: dict[TP, int] = await restore(owned, kept)
            return offsets

        recovery.restore = watched
        coordinator = worker.consumer._thread._consumer._coordinator
        complete, left = coordinator._on_join_complete, iter(range(20))

        async def joins_again(*answer: Any) -> None:
            await complete(*answer)
            if next(left, None) is not None:
                coordinator.request_rejoin()

        coordinator._on_join_complete = joins_again
        await rejoin(worker)
        await until(lambda: next(left, None) is None and worker.ready.is_set())
    assert late
    assert not any(late)
    assert bench.failures == []


class HeldSeek:
    """Holds back the answer to where the group has come to, until told to give it."""

    def __init__(self, worker: FaustWorker) -> None:
        coordinator = worker.consumer._thread._consumer._coordinator
        self._ask = coordinator.fetch_committed_offsets
        coordinator.fetch_committed_offsets = self
        self.asked, self.go = threading.Event(), threading.Event()

    async def __call__(self, partitions: list[Any]) -> Any:
        answer = await self._ask(partitions)
        self.asked.set()
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return answer


async def commit_some(bench: Bench) -> None:
    """So that there are positions to go to in all partitions of the source."""

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        worker.consumer.mark_durable(TP(batch.topic, batch.partition), batch.records[-1].offset + 1)
        batch.ack()

    for partition in range(PARTITIONS):
        bench.produce([b"old"], partition)
    async with bench.worker(stage):
        await until(lambda: all(bench.committed(partition) == 1 for partition in range(PARTITIONS)))


async def test_a_rebalance_while_offsets_are_looked_up_is_no_failure(bench: Bench) -> None:
    await commit_some(bench)
    seen: list[bytes] = []

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        seen.extend(record.value for record in batch.records)
        batch.ack()

    other = Bench(bench.bootstrap_servers, bench.catalog)
    async with bench.worker(stage) as worker:
        await until(lambda: worker.consumer.flow_active)
        held = HeldSeek(worker)
        coordinator = worker.consumer._thread._consumer._coordinator
        await rejoin(worker)
        await until(held.asked.is_set)
        between = coordinator._stop_commit_offsets_refresh_task

        async def answer_between() -> None:
            # The assignment has changed, and Faust does not know yet.
            held.go.set()
            await asyncio.sleep(0.5)
            await between()

        coordinator._stop_commit_offsets_refresh_task = answer_between
        async with other.worker(stage):
            for partition in range(PARTITIONS):
                bench.produce([b"new-%d" % partition], partition)
            await until(lambda: len(seen) == PARTITIONS or bool(bench.failures))
    assert bench.failures == other.failures == []
    assert sorted(seen) == [b"new-0", b"new-1"]


async def test_nothing_is_processed_in_the_middle_of_a_rebalance(bench: Bench) -> None:
    await commit_some(bench)
    async with bench.worker(acknowledge) as worker:
        await until(lambda: worker.consumer.flow_active)
        held = HeldSeek(worker)
        coordinator = worker.consumer._thread._consumer._coordinator
        join, may_join = coordinator._do_rejoin_group, threading.Event()
        await rejoin(worker)
        await until(held.asked.is_set)

        async def join_when_told(subscription: Any) -> Any:
            while not may_join.is_set():
                await asyncio.sleep(0.01)
            return await join(subscription)

        coordinator._do_rejoin_group = join_when_told
        rebalances = worker.app.rebalancing_count
        try:
            await rejoin(worker)
            await until(lambda: worker.app.rebalancing_count > rebalances and not worker.ready.is_set())
            held.go.set()
            # As long as it takes to let the streams go on.
            await asyncio.sleep(1)
            assert not worker.consumer.flow_active
        finally:
            may_join.set()
        await until(lambda: worker.consumer.flow_active)
    assert bench.failures == []
