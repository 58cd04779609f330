"""The composition root: a worker process from its start to its end. What its parts are made of: `app.wiring`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from faust.types import TP

from app.adapters.clock import SystemClock
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.faust_worker import FaustWorker
from app.adapters.kafka_client import in_thread, reachable, require_usable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import Step, no_step
from app.adapters.settings_options import room
from app.domain.access_tokens import FacebookView
from app.domain.clock import SourcePartition
from app.domain.counters import Counters
from app.domain.definitions import DefinitionSet
from app.domain.published import Published, to_publish_at_start
from app.domain.reverse_etl import refuse_own_topics, refuse_unread_topics, row_topics
from app.ending import fail, say
from app.errors import (
    FatalError,
    InvalidInputError,
    UnreachableError,
)
from app.pipeline.facebook_watch import FacebookWatch
from app.pipeline.follow import Follower, InForce
from app.pipeline.reconcile import Reconcile
from app.pipeline.topology import Owned
from app.settings import Settings
from app.web.guard import Access, guard
from app.web.lags import Lags
from app.web.profiles import profile_routes
from app.web.routes import not_found_route, routes
from app.web.stats import Stats
from app.web.worker_view import WorkerView
from app.wiring import Wiring
from schemas.control import DefinitionsRecord, DesiredRecord

KAFKA_TRY_SECONDS = 5.0
STATS_SECONDS = 1.0
STOP_SECONDS = 7.0
AWAY_MORE_SECONDS = 2.0
INTERRUPTED = 130


def _tell(text: str) -> None:
    say(f"worker: {text}")


class Worker:
    """One worker process.

    Raises InvalidInputError for settings that no worker can run with, before anything is started.
    `after_step` is called with each step done of a commit: resolve.produce, resolve.flush, and begin, produce, flush,
    offsets, commit of evaluate and deliver. Crash tests end or stop the process there.
    """

    def __init__(
        self,
        settings: Settings,
        definitions: DefinitionSet,
        after_step: Step = no_step,
    ) -> None:
        self._settings = settings
        self._brokers = kafka_connection(settings)
        self._require_token()
        self._access = self._required_access()
        require_usable(self._brokers)
        self._own_definitions = definitions
        self._catalog = settings.catalog
        self._clock = SystemClock()
        self._counters = Counters()
        self._topics = TopicAdmin(self._brokers, settings.partitions, settings.replication_factor)
        self._threads = ThreadPoolExecutor(8, "worker")
        log = LogReader(self._brokers)
        self._control = KafkaControl(log, self._brokers, self._catalog, settings.partitions)
        self._wiring = Wiring(
            settings=settings,
            brokers=self._brokers,
            catalog=self._catalog,
            clock=self._clock,
            counters=self._counters,
            log=log,
            topics=self._topics,
            threads=self._threads,
            commits=ThreadPoolExecutor(1, "commit"),
            after_step=after_step,
            on_failure=self._fail,
        )
        self._stopping = asyncio.Event()
        self._status = 0
        # Whether what the worker reads is settled: Faust takes no topics while it runs.
        self._has_sources = False
        # How long it stays away once it has stopped, and what ends that.
        self._away_seconds = 0.0
        self._signalled = asyncio.Event()

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Work until SIGTERM (returns 0) or SIGINT (130).

        Raises InvalidInputError for what only a person can change. Threads may still wait for Kafka when this
        returns: the caller ends the process without joining them.
        """
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)):
            loop.add_signal_handler(number, self._end_by_signal, status)
        work = asyncio.create_task(self._start_and_work())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping.is_set():
            # What is not finished by then is safe in Kafka, as after a crash.
            await asyncio.wait({work}, timeout=STOP_SECONDS)
        if work.done():
            work.result()
        if self._away_seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._signalled.wait(), self._away_seconds)
        return self._status

    def _end_by_signal(self, status: int) -> None:
        self._signalled.set()
        self._stop(status)

    def _fail(self, exc: BaseException) -> None:
        # Whoever stops cuts off what others wait for; what they had not finished is safe in Kafka.
        if not self._stopping.is_set():
            fail(exc)

    def _stop(self, status: int) -> None:
        self._status = status
        self._stopping.set()

    async def _start_and_work(self) -> None:
        if not await self._kafka_is_prepared():
            return
        self._faust = faust = FaustWorker(
            self._wiring.faust_options(), self._restore, self._revoked, self._fail
        )
        faust.add_middleware(guard(self._access))
        async with self._wiring.graph(faust.may_start_request) as graph:
            await self._work(faust, graph)

    async def _kafka_is_prepared(self) -> bool:
        """Wait for it as long as it takes; False when stopped meanwhile."""
        while await self._kafka_answers():
            try:
                await in_thread(self._threads, self._control.require_whole, self._topics)
                await in_thread(self._threads, self._topics.ensure, self._catalog.all())
                await in_thread(self._threads, self._agree_on_definitions)
            except UnreachableError as exc:
                say(f"worker: {exc}. Trying again until it answers.")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), KAFKA_TRY_SECONDS)
            else:
                return True
        return False

    async def _kafka_answers(self) -> bool:
        """Wait for Kafka as long as it takes; False when stopped meanwhile."""
        said: str | None = None
        while not self._stopping.is_set():
            tried_at = self._clock.monotonic()
            try:
                await in_thread(self._threads, reachable, self._brokers, KAFKA_TRY_SECONDS)
            except UnreachableError as exc:
                if str(exc) != said:
                    say(f"worker: {exc} Trying again until it answers.")
                said = str(exc)
                # A refusal comes at once.
                pause = KAFKA_TRY_SECONDS - (self._clock.monotonic() - tried_at)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), max(0.0, pause))
            else:
                return True
        return False

    def _agree_on_definitions(self) -> None:
        """Publish the own file if it is news; what was published last is what runs."""
        said: str | None = None

        def decide(published: Published) -> DefinitionsRecord | None:
            nonlocal said
            file, now = str(self._settings.audiences), self._clock.now_ms()
            partitions = self._settings.partitions
            record, said = to_publish_at_start(published, self._own_definitions, file, partitions, now)
            return record

        self._control.publish(decide)
        if said is not None:
            say(f"worker: {said}")

    def _require_token(self) -> None:
        if self._settings.facebook_access_token is None:
            raise InvalidInputError(
                "FACEBOOK_ACCESS_TOKEN (or FACEBOOK_ACCESS_TOKEN_FILE) is not set; to run without sending "
                "anything give any token and set AUDIENCE_SYNC_FACEBOOK_MODE=dry_run"
            )

    def _required_access(self) -> Access:
        settings = self._settings
        # Without pages nobody is let in.
        return Access(settings.web_host if settings.web_port else "127.0.0.1", settings.web_token)

    async def _work(self, faust: FaustWorker, graph: FacebookGraph) -> None:
        slot = self._settings.instance_id or uuid.uuid4().hex
        evaluate_writer, deliver_writer = (
            self._wiring.transactional(stage, slot) for stage in ("evaluate", "deliver")
        )
        await in_thread(self._threads, evaluate_writer.start)
        await in_thread(self._threads, deliver_writer.start)
        self._follower = Follower(
            self._control,
            self._settings.partitions,
            lambda call: in_thread(self._threads, call),
            self._use_definitions,
            room(self._settings, self._counters.cuts),
            desire=self._use_desired,
        )
        wiring, follower = self._wiring, self._follower
        self._pipeline = pipeline = wiring.pipeline(faust, graph, follower, evaluate_writer, deliver_writer)
        self._backfill = wiring.backfill(follower, pipeline)
        auto_create = wiring.auto_create(follower, pipeline) if self._settings.engage_auto_create else None
        if auto_create is not None:
            pipeline.stages.resolve.want = auto_create.note
        places = wiring.engage_places(follower, pipeline, auto_create)
        pipeline.stages.resolve.place = places.note
        await follower.refresh()
        await in_thread(self._threads, wiring.require_row_topics, follower)
        wiring.add_stages(faust, pipeline)
        self._lags = Lags(lambda: pipeline.lags(faust.consumer.position_of), faust.ready.is_set)
        watch = wiring.facebook_watch(graph, _tell)
        reconcile = wiring.reconcile(follower, pipeline, graph, _tell)
        stats = Stats(self._view(graph, watch, reconcile))
        faust.add_routes(
            [
                *routes(stats, faust.ready.is_set, lambda: None),
                *profile_routes(wiring.profiles(faust, follower, pipeline)),
                not_found_route(),
            ]
        )
        starting = asyncio.create_task(faust.start())
        await self._unless_stopped(starting)
        commits = self._supervised(pipeline.stages.evaluate.run_commits())
        beside = (
            pipeline.run_markers,
            follower.run,
            self._backfill.run,
            wiring.removals(pipeline).run,
            *(() if auto_create is None else (auto_create.run,)),
            places.run,
            lambda: self._watch(stats, graph),
            watch.run,
            *((reconcile.run,) if self._settings.reconcile_hours else ()),
            self._announce,
        )
        others = [self._supervised(run()) for run in beside if not self._stopping.is_set()]
        await self._stopping.wait()
        pipeline.stop()
        for task in others:
            task.cancel()
        await pipeline.stages.delivery.stop()
        # Leaving the group waits for the batches under way, and those for their commit.
        await faust.stop()
        commits.cancel()
        starting.cancel()

    async def _unless_stopped(self, work: asyncio.Task[None]) -> None:
        """Wait for it, but no longer than for the end of this worker: a recovery may take minutes."""
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if work.done():
            work.result()

    async def _announce(self) -> None:
        await self._faust.ready.wait()
        say("ready")

    def _supervised(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await work
            except Exception as exc:  # noqa: BLE001 - whatever it is, the process must not go on without this task
                self._fail(exc)

        return asyncio.create_task(run())

    # -- definitions -------------------------------------------------------------------------------------------

    async def _use_definitions(self, in_force: InForce) -> None:
        self._require_sources(in_force)
        resolver_of = functools.partial(self._wiring.resolver, in_force.projection)
        self._pipeline.stages.resolve.project_for(resolver_of, in_force.number)
        await self._pipeline.update_destinations(in_force.delivered)

    def _require_sources(self, in_force: InForce) -> None:
        """Raises FatalError, and has this worker end in order, for rows of a topic that it does not read."""
        audiences, source = in_force.definitions.audiences, self._catalog.source.name
        refuse_own_topics(audiences, source, self._catalog.own_names)
        if not self._has_sources:
            self._pipeline.sources = (source, *row_topics(audiences, source))
            self._has_sources = True
        try:
            refuse_unread_topics(audiences, self._pipeline.sources)
        except FatalError as error:
            say(f"worker: ends: {error}")
            self._stop(FatalError.exit_status)
            raise

    def _use_desired(self, desired: Mapping[str, DesiredRecord]) -> None:
        self._pipeline.stages.delivery.desire(desired)

    # -- assignment --------------------------------------------------------------------------------------------

    async def _restore(self, owned: set[TP], kept: set[TP]) -> dict[TP, int]:
        offsets = await self._pipeline.restore(self._numbers(owned), self._numbers(kept))
        self._leave_unless_shared_out()
        return {TP(self._catalog.memberships.name, number): offset for number, offset in offsets.items()}

    def _leave_unless_shared_out(self) -> None:
        """Kafka gives who comes back within the session what it had: a topic that is new to the group has no reader then,
        until all who came back so have been away for longer.
        """
        for topic in self._pipeline.sources[1:]:
            if not self._faust.is_shared_out(topic):
                self._away_seconds = self._settings.session_timeout_seconds + AWAY_MORE_SECONDS
                say(
                    f"worker: ends: the group still reads what it read before, without {topic}. In "
                    f"{self._away_seconds:.0f} s this process has ended and can be started again, to read it too"
                )
                self._stop(1)
                return

    async def _revoked(self, partitions: set[TP]) -> None:
        self._lags.forget()
        if partitions:
            await self._pipeline.revoked()

    def _numbers(self, tps: set[TP]) -> Owned:
        def of(topic: str) -> frozenset[int]:
            return frozenset(tp.partition for tp in tps if tp.topic == topic)

        catalog, sources = self._catalog, self._pipeline.sources
        source = frozenset(SourcePartition(*tp) for tp in tps if tp.topic in sources)
        return Owned(source, of(catalog.profile_events.name), of(catalog.memberships.name))

    # -- stats -------------------------------------------------------------------------------------------------

    def _view(self, graph: FacebookGraph, watch: FacebookWatch, reconcile: Reconcile) -> WorkerView:
        def facebook() -> FacebookView:
            view, answered = watch.view, graph.version_warning
            return view if answered is None else replace(view, warnings=(answered, *view.warnings))

        return WorkerView(
            counters=self._counters,
            audiences=self._defined,
            destinations=self._pipeline.stages.delivery.destinations,
            lags=self._lags.by_stage,
            clock=self._pipeline.clock_now,
            backfill=lambda: self._backfill.by_name(self._catalog.source.name),
            wall=self._clock,
            facebook=facebook,
            reconcile=lambda: reconcile.view,
        )

    def _defined(self) -> list[str]:
        in_force = self._follower.current
        return [] if in_force is None else [audience.key for audience in in_force.definitions.audiences]

    async def _watch(self, stats: Stats, graph: FacebookGraph) -> None:
        warned = None
        while True:
            if graph.version_warning not in (None, warned):
                warned = graph.version_warning
                say(f"worker: {warned}")
            stats.sample(self._clock.monotonic())
            await self._lags.refresh()
            await asyncio.sleep(STATS_SECONDS)
