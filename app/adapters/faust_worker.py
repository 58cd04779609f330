"""The Faust application of one worker: agents that hand whole batches to the stages.

Faust brings group membership, co-partitioned assignment, the table and the web server. Start, stop and failure are
this module's: an exception anywhere ends the process, since Faust would restart the agent past the failed batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust
from aiohttp import web as aiohttp_web
from aiohttp.typedefs import Middleware
from faust.types import TP
from faust.web.drivers.aiohttp import Web

from app.adapters.faust_assignor import SuccessorAssignor
from app.adapters.faust_recovery import PartitionedTable, Restore, install_recovery
from app.adapters.faust_transport import BatchConsumer, BatchTransport
from app.adapters.kafka_connection import Brokers, as_connection
from app.adapters.kafka_group_metadata import group_metadata
from app.adapters.kafka_security import aiokafka_settings, faust_settings
from app.errors import InvalidInputError

FETCH_BYTES = 8 << 20
# Batches that wait per agent: enough to keep it busy while the next fetch is on its way.
STREAM_BUFFER_BATCHES = 4
REBALANCE_SECONDS = 30.0
HEARTBEATS_PER_SESSION = 6


@dataclass(frozen=True, slots=True)
class FaustOptions:
    """`instance_id` None: dynamic membership. `web_port` 0: no web server."""

    app_id: str
    bootstrap_servers: Brokers
    partitions: int
    table: str
    web_host: str
    web_port: int
    instance_id: str | None
    session_timeout_seconds: float
    poll_records: int


@dataclass(slots=True)
class Batch:
    """What one poll brought of one partition, as aiokafka's ConsumerRecords in order of offset.

    `ack` must be called once the batch is finished; a rebalance waits for it.
    """

    topic: str
    partition: int
    records: Sequence[Any]
    ack: Callable[[], None]


BatchStage = Callable[[Batch], Awaitable[None]]


class _StatsWeb(Web):
    """Faust's web server without Faust's own pages, which would show table contents to anyone."""

    default_blueprints = ()
    production_blueprints = ()
    debug_blueprints = ()
    optional_blueprints = ()


class _App(faust.App):
    """Faust's application with our transport and web server; `when_crashed` is told of the end of any of
    its services.
    """

    when_crashed: Callable[[BaseException], None]

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.when_crashed(reason)

    def _create_directories(self) -> None:
        """There is nothing to put into them: a worker needs no disk."""

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, self.loop)

    def _new_web(self) -> Web:
        return _StatsWeb(self)


class FaustWorker:
    """Everything of Faust that the rest of the worker sees.

    `restore` and `revoked` are called at every change of the assignment, before and after which no stage runs.
    """

    def __init__(
        self,
        options: FaustOptions,
        restore: Restore,
        revoked: Callable[[set[TP]], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._options = options
        self._on_failure = on_failure
        self.ready = asyncio.Event()
        # Generation and member id.
        self._member = (-1, "")
        self._revocations = 0
        connection = as_connection(options.bootstrap_servers)
        servers = ";".join(f"kafka://{server.strip()}" for server in connection.bootstrap_servers.split(","))
        session = options.session_timeout_seconds
        self.app = _App(
            options.app_id,
            broker=servers,
            store="memory://",
            autodiscover=False,
            topic_partitions=options.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            reply_create_topic=False,
            consumer_group_instance_id=options.instance_id,
            PartitionAssignor=SuccessorAssignor,
            broker_session_timeout=session,
            broker_heartbeat_interval=session / HEARTBEATS_PER_SESSION,
            broker_rebalance_timeout=REBALANCE_SECONDS,
            broker_request_timeout=max(40.0, session),
            broker_commit_interval=1.0,
            broker_max_poll_records=options.poll_records,
            consumer_max_fetch_size=FETCH_BYTES,
            stream_buffer_maxsize=STREAM_BUFFER_BATCHES,
            stream_recovery_delay=0.0,
            web_enabled=bool(options.web_port),
            web_bind=options.web_host,
            web_port=options.web_port or 6066,
            **faust_settings(connection),
        )
        self.app.transport.consumer_settings = aiokafka_settings(connection)
        loop = asyncio.get_running_loop()

        def crashed(reason: BaseException) -> None:
            # Called in the consumer's thread as well.
            loop.call_soon_threadsafe(on_failure, reason)

        self.app.when_crashed = self.app.transport.on_failure = crashed
        self.table = PartitionedTable(
            self.app, name=options.table, partitions=options.partitions, key_type=bytes, value_type=bytes
        )
        self.app.tables.add(self.table)
        install_recovery(self.app.tables, self._when_restored(restore), on_failure)
        self.app.on_partitions_revoked.connect(self._signal(revoked), weak=False)

    def _when_restored(self, restore: Restore) -> Restore:
        async def restored(owned: set[TP], kept: set[TP]) -> dict[TP, int]:
            self._member = self.consumer._thread.member()
            revocations = self._revocations
            offsets = await restore(owned, kept)
            if self._revocations == revocations:
                self.ready.set()
            return offsets

        return restored

    def _signal(self, revoked: Callable[[set[TP]], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def on_revoked(app: faust.App, partitions: set[TP], **kwargs: Any) -> None:
            del app, kwargs
            self._revocations += 1
            self.ready.clear()
            await revoked(partitions)

        return on_revoked

    # -- stages ----------------------------------------------------------------------------------------------

    def add_stage(self, topics: Sequence[str], name: str, stage: BatchStage) -> None:
        """Let an agent called `name` hand the batches of all `topics` to `stage`, one after another."""
        self.app.transport.batched_topics.update(topics)
        channel = self.app.topic(*topics, key_serializer="raw", value_serializer="raw")

        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                message = event.message
                try:
                    await stage(Batch(message.topic, message.partition, event.value, event.ack))
                except Exception as exc:  # noqa: BLE001 - see the module's text
                    # Not durable, so never committed; a stop must not wait for it.
                    event.ack()
                    self._on_failure(exc)
                    await asyncio.Event().wait()

        self.app.agent(channel, name=name)(run)

    def when_resumed(self, resume: Callable[[Mapping[tuple[str, int], str]], None]) -> None:
        """Have `resume` told, at every assignment before any record of it comes, of the note that each partition's
        committed offset has: empty where it has none, or where the partition is not read from there.
        """
        self.app.transport.resume = resume

    def add_middleware(self, middleware: Middleware) -> None:
        """Let every request to the pages pass through it; to be called before `start`."""
        self.app.web.web_app.middlewares.append(middleware)

    def add_routes(self, routes: Sequence[aiohttp_web.RouteDef]) -> None:
        """Serve `routes` on Faust's web server."""
        self.app.web.web_app.add_routes(routes)

    # -- what the stages ask of the group ----------------------------------------------------------------------

    @property
    def consumer(self) -> BatchConsumer:
        consumer: BatchConsumer = self.app.consumer
        return consumer

    def group_metadata(self) -> bytes:
        """Who this worker was when it was assigned the partitions it works on, for transactions.

        Raises FatalError before the first assignment.
        """
        return group_metadata(self._options.app_id, *self._member, self._options.instance_id)

    def workers(self, topic: str | None = None, partition: int = 0) -> list[str]:
        """The URLs of all workers, or of those that own a partition of the changelog `topic`, as the group's last
        assignment has them: of a worker that came back under its instance id it may be the URL it had before.
        """
        distribution = self.app.assignor.changelog_distribution
        return sorted(
            str(url)
            for url, owned in distribution.items()
            if topic is None or partition in owned.get(topic, ())
        )

    def is_shared_out(self, topic: str) -> bool:
        """Whether the group's last assignment has that topic, whoever was given its partitions.

        A worker that comes back under its instance id is given what it had, without a new assignment: what it reads
        since then is in none.
        """
        distribution = self.app.assignor.external_topic_distribution
        return any(topic in owned for owned in distribution.values())

    def may_start_request(self) -> bool:
        """See app.ports.Liveness."""
        age: float = self.consumer._thread.heartbeat_age()
        return age < self._options.session_timeout_seconds / 2

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises InvalidInputError when the pages cannot be served where they should."""
        # What they retry is no news, and what they cannot retry arrives in `on_failure`; the web server would print requests
        # that it cannot read, with whatever stands in them.
        for library in ("faust", "aiokafka", "mode", "kafka", "aiohttp"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        try:
            await self.app.start()
        except OSError as exc:
            # Kafka's errors are none of these: only the web server opens anything of this machine.
            raise InvalidInputError(
                f"cannot listen on {self._options.web_host} port {self._options.web_port} "
                f"({exc.strerror or exc}): set AUDIENCE_SYNC_WEB_HOST and AUDIENCE_SYNC_WEB_PORT (0: no pages)"
            ) from exc

    async def stop(self) -> None:
        """Leave the group; takes at most a few seconds."""
        await self.app.stop()
