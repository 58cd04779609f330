"""What the stages rely on of Faust, on a real Kafka: batches, durable offsets, failure, recovery, web."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from faust.types import TP

from app.adapters.faust_worker import Batch, FaustWorker
from app.adapters.kafka_transactions import TransactionalWriter
from app.ports import Record
from tests.contract.faust_bench import Bench, acknowledge, bench_of, rejoin, until


@pytest.fixture
def bench(bootstrap_servers: str, topic_prefix: str) -> Bench:
    return bench_of(bootstrap_servers, topic_prefix)


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


async def test_the_note_of_the_committed_offset_is_told_to_whoever_reads_on_from_it(bench: Bench) -> None:
    bench.produce([b"%d" % i for i in range(100)])
    tp, taken = TP(bench.source, 0), 0

    async def stage(worker: FaustWorker, batch: Batch) -> None:
        nonlocal taken
        assert len(bench.resumed) == len(bench.restored), "a batch came in before the note was told"
        # Faust commits now and then: each offset must have its own note, whichever it is.
        for record in batch.records:
            worker.consumer.mark_durable(tp, record.offset + 1, f"up to {record.offset + 1}")
            await asyncio.sleep(0.02)
        taken += len(batch.records)
        batch.ack()

    async with bench.worker(stage) as worker:
        assert bench.resumed[-1][tp] == ""
        await until(lambda: taken > 0)
        await rejoin(worker)
        await until(lambda: len(bench.resumed) == 2)
        assert bench.resumed[-1][tp] == f"up to {await asyncio.to_thread(bench.committed)}"
        await until(lambda: taken >= 100)
    async with bench.worker(stage):
        assert bench.resumed[-1] == {**dict.fromkeys(bench.resumed[-1], ""), tp: "up to 100"}


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
