"""A Faust worker with stages of a test in place of the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from confluent_kafka import Consumer, TopicPartition
from faust.types import TP

from app.adapters.faust_worker import Batch, FaustOptions, FaustWorker
from app.adapters.kafka_client import DurableProducer, client_config
from app.adapters.kafka_embedded import free_port
from app.adapters.kafka_topics import TopicAdmin
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
    # What each worker was told at each assignment of the notes of its offsets.
    resumed: list[dict[tuple[str, int], str]] = field(default_factory=list)

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
        made.when_resumed(lambda notes: self.resumed.append(dict(notes)))
        await made.start()
        try:
            await until(lambda: made.ready.is_set() or bool(self.failures))
            assert self.failures == []
            yield made
        finally:
            await made.stop()


def bench_of(bootstrap_servers: str, prefix: str) -> Bench:
    """With its topics."""
    catalog = Catalog(prefix=prefix, source_topic=f"{prefix}source")
    TopicAdmin(bootstrap_servers, PARTITIONS, -1).ensure(catalog.all())
    return Bench(bootstrap_servers, catalog)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def rejoin(worker: FaustWorker) -> None:
    """Let the worker join its group once more."""

    async def request() -> None:
        worker.consumer._thread._consumer._coordinator.request_rejoin()

    await worker.consumer._thread.call_thread(request)


async def acknowledge(worker: FaustWorker, batch: Batch) -> None:
    batch.ack()
