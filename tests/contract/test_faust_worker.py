"""What the stages rely on of Faust, on a real Kafka: batches, durable offsets, failure, recovery, web."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from confluent_kafka import Consumer, TopicPartition
from faust.types import TP

from app.adapters.faust_worker import Batch, FaustOptions, FaustWorker
from app.adapters.kafka_client import DurableProducer, client_config
from app.adapters.kafka_embedded import free_port
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import TransactionalWriter
from app.ports import Record
from topics.catalog import Catalog

PARTITIONS = 2


@dataclass
class Bench:
    """Topics of one installation, and what a worker on them reported."""

    bootstrap_servers: str
    catalog: Catalog
    restored: list[tuple[set[TP], set[TP]]] = field(default_factory=list)
    revoked: int = 0
    failures: list[BaseException] = field(default_factory=list)
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def source(self) -> str:
        return self.catalog.source_topic

    def produce(self, values: list[bytes], partition: int = 0) -> None:
        producer = DurableProducer(self.bootstrap_servers)
        for value in values:
            producer.produce(self.source, value, None, partition)
        producer.flush()

    def committed(self, partition: int = 0) -> int:
        """The group's offset, -1001 when it has none."""
        consumer = Consumer(client_config(self.bootstrap_servers, group_id=self.catalog.app_id))
        try:
            position = consumer.committed([TopicPartition(self.source, partition)], timeout=20)[0]
            return int(position.offset)
        finally:
            consumer.close()

    @asynccontextmanager
    async def worker(
        self,
        stage: Callable[[FaustWorker, Batch], Awaitable[None]],
        *,
        routes: bool = False,
        instance: str | None = None,
        session_seconds: float = 6.0,
    ) -> AsyncIterator[FaustWorker]:
        async def restore(owned: set[TP], kept: set[TP]) -> dict[TP, int]:
            self.restored.append((owned, kept))
            return {}

        async def revoke(partitions: set[TP]) -> None:
            self.revoked += len(partitions)

        def fail(exc: BaseException) -> None:
            self.failures.append(exc)
            self.failed.set()

        options = FaustOptions(
            app_id=self.catalog.app_id,
            bootstrap_servers=self.bootstrap_servers,
            partitions=PARTITIONS,
            table="profiles",
            web_host="127.0.0.1",
            web_port=free_port() if routes else 0,
            instance_id=instance,
            session_timeout_seconds=session_seconds,
            poll_records=1_000,
        )
        made = FaustWorker(options, restore, revoke, fail)
        if routes:

            async def hello(request: web.Request) -> web.Response:
                return web.Response(text="hello")

            made.add_routes([web.get("/hello", hello)])
            self.port = options.web_port

        async def source_stage(batch: Batch) -> None:
            assert self.restored, "a batch came in before the state was restored"
            await stage(made, batch)

        async def other_stage(batch: Batch) -> None:
            batch.ack()

        made.add_stage([self.source], "source", source_stage)
        made.add_stage([self.catalog.profile_events.name], "profile_events", other_stage)
        await made.start()
        try:
            await until(lambda: made.ready.is_set() or bool(self.failures))
            assert self.failures == []
            yield made
        finally:
            await made.stop()


@pytest.fixture
def bench(bootstrap_servers: str, topic_prefix: str) -> Bench:
    catalog = Catalog(prefix=topic_prefix, source_topic=f"{topic_prefix}source")
    TopicAdmin(bootstrap_servers, PARTITIONS, -1).ensure(catalog.all())
    return Bench(bootstrap_servers, catalog)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_every_record_arrives_once_in_order_and_many_at_a_time(bench: Bench) -> None:
    sent = {p: [b"%d-%d" % (p, i) for i in range(5_000)] for p in (0, 1)}
    for partition, values in sent.items():
        bench.produce(values, partition)
    got: dict[int, list[bytes]] = {0: [], 1: []}
    batches = 0

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        nonlocal batches
        batches += 1
        got[batch.partition].extend(record.value for record in batch.records)
        batch.ack()

    async with bench.worker(stage):
        await until(lambda: sum(map(len, got.values())) >= 10_000)
    assert got == sent
    assert batches <= 100


async def test_only_what_a_stage_called_durable_is_committed(bench: Bench) -> None:
    bench.produce([b"%d" % i for i in range(100)])
    seen: list[bytes] = []

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        seen.extend(record.value for record in batch.records)
        worker.consumer.mark_durable(TP(batch.topic, batch.partition), 40)
        batch.ack()

    async with bench.worker(stage):
        await until(lambda: len(seen) == 100)
    assert await asyncio.to_thread(bench.committed) == 40
    seen.clear()
    async with bench.worker(stage):
        await until(lambda: len(seen) == 60)
    assert seen == [b"%d" % i for i in range(40, 100)]


async def test_a_failing_stage_is_told_of_and_nothing_is_committed_past_it(bench: Bench) -> None:
    bench.produce([b"%d" % i for i in range(3_000)])
    batches = 0

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise RuntimeError("the flush failed")
        worker.consumer.mark_durable(TP(batch.topic, batch.partition), batch.records[-1].offset + 1)
        batch.ack()

    async with bench.worker(stage):
        await asyncio.wait_for(bench.failed.wait(), 30)
        await asyncio.sleep(1.5)
        assert batches == 2, "the stage was called again after it had failed"
    assert [str(exc) for exc in bench.failures] == ["the flush failed"]
    assert 0 < await asyncio.to_thread(bench.committed) <= 1_000


async def test_a_lane_is_caught_up_behind_transaction_markers_and_aborted_records(bench: Bench) -> None:
    def fill() -> int:
        writer = TransactionalWriter(bench.bootstrap_servers, f"{bench.catalog.app_id}-source")
        writer.start()
        writer.commit([Record(bench.source, 0, b"k", b"a")], [], b"")
        writer.commit([Record(bench.source, 0, b"k", b"b")], [], b"")
        return 4

    end = await asyncio.to_thread(fill)
    tp = TP(bench.source, 0)
    seen: list[bytes] = []
    hold = asyncio.Event()

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        await hold.wait()
        seen.extend(record.value for record in batch.records)
        batch.ack()

    async with bench.worker(stage) as worker:
        await until(lambda: worker.consumer._handed_over.get(tp, -1) >= end)
        assert not worker.consumer.caught_up(tp, end, -1), "the stage has not finished what it was given"
        hold.set()
        await until(lambda: len(seen) == 2)
        # Record b has offset 2; the marker behind it never reaches the stage.
        assert worker.consumer.caught_up(tp, end, 3)
        assert not worker.consumer.caught_up(tp, end + 1, 3)


async def test_the_state_of_a_partition_is_kept_only_by_who_owned_it_before(bench: Bench) -> None:
    async def stage(worker: FaustWorker, batch: Batch) -> None:
        batch.ack()

    other = Bench(bench.bootstrap_servers, bench.catalog)
    async with bench.worker(stage):
        first_owned, first_kept = bench.restored[0]
        assert len({tp for tp in first_owned if tp.topic == bench.source}) == 4
        assert first_kept == set()
        async with other.worker(stage):
            await until(lambda: len(bench.restored) >= 2)
        owned, kept = bench.restored[-1]
        assert kept == owned & first_owned
        assert kept, "a scale-out moves half of the partitions, not all"
        assert other.restored[-1][1] == set()
    assert bench.revoked > 0


async def test_the_web_server_has_our_pages_and_none_of_fausts(bench: Bench) -> None:
    async def stage(worker: FaustWorker, batch: Batch) -> None:
        batch.ack()

    async with (
        bench.worker(stage, routes=True),
        aiohttp.ClientSession(f"http://127.0.0.1:{bench.port}") as client,
    ):
        async with client.get("/hello") as response:
            assert (response.status, await response.text()) == (200, "hello")
        for page in ("/", "/router/", "/table/", "/table/profiles/x/", "/stats/", "/graph/", "/performance/"):
            async with client.get(page) as response:
                assert response.status == 404, page


async def test_requests_may_start_only_while_the_group_answers(bench: Bench) -> None:
    async def stage(worker: FaustWorker, batch: Batch) -> None:
        batch.ack()

    async with bench.worker(stage) as worker:
        await until(worker.may_start_request)
        worker.consumer._thread._heartbeat_at -= 3.1
        assert not worker.may_start_request()
        await until(worker.may_start_request)


async def rejoin(worker: FaustWorker) -> None:
    """Let the worker join its group once more."""

    async def request() -> None:
        worker.consumer._thread._consumer._coordinator.request_rejoin()

    await worker.consumer._thread.call_thread(request)


async def acknowledge(worker: FaustWorker, batch: Batch) -> None:
    batch.ack()


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


def broken(*args: object) -> None:
    raise RuntimeError("broken on purpose")


async def test_who_is_in_no_group_any_longer_is_told_of(bench: Bench) -> None:
    async with bench.worker(acknowledge) as worker:
        worker.app.assignor.on_assignment = broken

        await rejoin(worker)
        await asyncio.wait_for(bench.failed.wait(), 30)
    assert "broken on purpose" in str(bench.failures[0])


async def test_the_end_of_any_part_of_faust_is_told_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bench.worker(acknowledge) as worker:
        monkeypatch.setattr(worker.consumer, "_batch_message", broken)
        bench.produce([b"1"])
        await asyncio.wait_for(bench.failed.wait(), 30)
    assert "broken on purpose" in str(bench.failures[0])
    assert "broken on purpose" not in capsys.readouterr().err


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
