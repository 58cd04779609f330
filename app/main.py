"""The composition root: joins settings, adapters and stages to a running worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import traceback
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from faust.types import TP
from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.faust_worker import Batch, BatchStage, FaustOptions, FaustWorker
from app.adapters.kafka_client import DurableProducer, bounded_commit, in_thread, reachable, require_usable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_delivery import KafkaDeadLetters, KafkaMembershipLog, KafkaSyncLedger
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import Step, TransactionalWriter, no_step
from app.adapters.settings_options import letter_policy, resolve_options
from app.domain.brake import BrakePolicy
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import DefinitionSet
from app.domain.engage_calls import CALL_TYPES, EngageCalls
from app.domain.explanation import Explainer
from app.domain.letter_limits import LetterLimits
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.published import Published, cleared_by, definitions_of, to_publish_at_start
from app.domain.resolution import Resolver
from app.domain.reverse_etl import refuse_unread_topics
from app.errors import AudienceSyncError, InvalidInputError, NewerFormatError, UnreachableError
from app.pipeline.auto_create import AutoCreate
from app.pipeline.backfill import Backfill
from app.pipeline.deliver import Delivery
from app.pipeline.delivery_options import DeliveryOptions
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.expire import LaneProgress
from app.pipeline.follow import Follower, InForce
from app.pipeline.forgetting import Removals
from app.pipeline.resolve import ResolveStage
from app.pipeline.topology import Owned, Pipeline, Stages
from app.settings import Settings
from app.web.guard import Access, guard
from app.web.profiles import ProfileSource, profile_routes
from app.web.routes import not_found_route, routes
from app.web.stats import Stats
from app.web.worker_view import WorkerView
from schemas.audience import DeliveryMode
from schemas.control import DefinitionsRecord, DesiredRecord
from topics.partitioning import partition_for

# How long before its timestamp the worker may count an event: the clocks of the source's partitions never agree
# to the millisecond.
EARLY_MS = 5_000
KAFKA_TRY_SECONDS = 5.0
STATS_SECONDS = 1.0
STOP_SECONDS = 7.0
INTERRUPTED = 130
TABLE = "profiles"


def say(text: str) -> None:
    """A state change, for whoever watches the process."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the worker's output for its supervisor


def fail(exc: BaseException) -> None:
    """End the process: what is in memory may not be what Kafka has. A supervisor starts it again.

    Of an unexpected exception only the type and the place are said: its text may hold what an event held.
    """
    if isinstance(exc, AudienceSyncError):
        say(f"worker: ended: {exc}")
    else:
        frames = traceback.extract_tb(exc.__traceback__)[-3:]
        place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        say(f"worker: ended: unexpected {type(exc).__name__} at {place}")
    os._exit(NewerFormatError.exit_status if isinstance(exc, NewerFormatError) else 1)


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
        self._token = self._required_token()
        self._access = self._required_access()
        require_usable(self._brokers)
        self._own_definitions = definitions
        self._catalog = settings.catalog
        self._clock = SystemClock()
        self._counters = Counters()
        self._log = LogReader(self._brokers)
        self._topics = TopicAdmin(self._brokers, settings.partitions, settings.replication_factor)
        self._control = KafkaControl(self._log, self._brokers, self._catalog, settings.partitions)
        self._after_step = after_step
        self._lags: dict[str, int | None] = {}
        self._explainers: dict[int, Explainer] = {}
        # Counts the changes of what this worker owns.
        self._assignment = 0
        self._threads = ThreadPoolExecutor(8, "worker")
        self._commits = ThreadPoolExecutor(1, "commit")
        self._stopping = asyncio.Event()
        self._status = 0

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Work until SIGTERM (returns 0) or SIGINT (130).

        Raises InvalidInputError for what only a person can change. Threads may still wait for Kafka when this
        returns: the caller ends the process without joining them.
        """
        loop = asyncio.get_running_loop()
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)):
            loop.add_signal_handler(number, self._stop, status)
        work = asyncio.create_task(self._start_and_work())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping.is_set():
            # What is not finished by then is safe in Kafka, as after a crash.
            await asyncio.wait({work}, timeout=STOP_SECONDS)
        if work.done():
            work.result()
        return self._status

    def _fail(self, exc: BaseException) -> None:
        # Whoever stops cuts off what others wait for; what they had not finished is safe in Kafka.
        if not self._stopping.is_set():
            fail(exc)

    def _stop(self, status: int) -> None:
        self._status = status
        self._stopping.set()

    async def _start_and_work(self) -> None:
        if not await self._kafka_answers():
            return
        await in_thread(self._threads, self._topics.ensure, self._catalog.all())
        await in_thread(self._threads, self._agree_on_definitions)
        self._faust = faust = FaustWorker(self._faust_options(), self._restore, self._revoked, self._fail)
        faust.add_middleware(guard(self._access))
        async with self._graph() as graph:
            await self._work(faust, graph)

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

    def _required_token(self) -> SecretStr:
        token = self._settings.facebook_access_token
        if token is None:
            raise InvalidInputError(
                "FACEBOOK_ACCESS_TOKEN (or FACEBOOK_ACCESS_TOKEN_FILE) is not set; to run without sending "
                "anything give any token and set AUDIENCE_SYNC_FACEBOOK_MODE=dry_run"
            )
        return token

    def _required_access(self) -> Access:
        settings = self._settings
        # Without pages nobody is let in.
        return Access(settings.web_host if settings.web_port else "127.0.0.1", settings.web_token)

    def _graph(self) -> FacebookGraph:
        settings = self._settings
        return FacebookGraph(
            settings.facebook_api_url,
            settings.facebook_api_version,
            self._token,
            self._clock,
            settings.facebook_app_secret,
            settings.facebook_timeout_seconds,
            self._faust.may_start_request,
        )

    async def _work(self, faust: FaustWorker, graph: FacebookGraph) -> None:
        slot = self._settings.instance_id or uuid.uuid4().hex
        evaluate_writer, deliver_writer = (
            self._transactional(f"{stage}-{slot}") for stage in ("evaluate", "deliver")
        )
        await in_thread(self._threads, evaluate_writer.start)
        await in_thread(self._threads, deliver_writer.start)
        self._follower = Follower(
            self._control,
            self._settings.partitions,
            lambda call: in_thread(self._threads, call),
            self._use_definitions,
            self._settings.funnel_events,
            desire=self._use_desired,
        )
        self._pipeline = pipeline = self._join(graph, evaluate_writer, deliver_writer)
        self._backfill = self._join_backfill(pipeline)
        if self._settings.engage_auto_create:
            self._auto_create = self._join_auto_create(pipeline)
            pipeline.stages.resolve.want = self._auto_create.note
        await self._follower.refresh()
        self._add_stages()
        stats = Stats(self._view())
        faust.add_routes(
            [
                *routes(stats, faust.ready.is_set, lambda: None),
                *profile_routes(self._profiles(pipeline.stages.evaluate)),
                not_found_route(),
            ]
        )
        await faust.start()
        commits = self._supervised(pipeline.stages.evaluate.run_commits())
        others = [
            self._supervised(work)
            for work in (
                pipeline.run_markers(),
                self._follower.run(),
                self._backfill.run(),
                self._join_removals(pipeline).run(),
                *([self._auto_create.run()] if self._settings.engage_auto_create else []),
                self._watch(stats, graph),
                self._announce(),
            )
        ]
        await self._stopping.wait()
        pipeline.stop()
        for task in others:
            task.cancel()
        await pipeline.stages.delivery.stop()
        # Leaving the group waits for the batches under way, and those for their commit.
        await faust.stop()
        commits.cancel()

    def _profiles(self, evaluate: EvaluateStage) -> ProfileSource:
        changelog = self._catalog.profiles_changelog.name
        return ProfileSource(
            partitions=evaluate.partitions,
            count=self._settings.partitions,
            early_ms=EARLY_MS,
            explainer=self._explainer,
            owners=lambda partition: self._faust.workers(changelog, partition),
            workers=self._faust.workers,
            ready=self._faust.ready.is_set,
        )

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

    # -- joining -----------------------------------------------------------------------------------------------

    def _transactional(self, name: str) -> TransactionalWriter:
        stage = name.partition("-")[0]
        return TransactionalWriter(
            self._brokers,
            f"{self._catalog.app_id}-{name}",
            lambda step: self._after_step(f"{stage}.{step}"),
        )

    def _faust_options(self) -> FaustOptions:
        settings = self._settings
        return FaustOptions(
            app_id=self._catalog.app_id,
            bootstrap_servers=self._brokers,
            partitions=settings.partitions,
            table=TABLE,
            web_host=settings.web_host,
            web_port=settings.web_port,
            instance_id=settings.instance_id,
            session_timeout_seconds=settings.session_timeout_seconds,
            poll_records=settings.poll_records,
        )

    def _join(
        self, graph: FacebookGraph, evaluate_writer: TransactionalWriter, deliver_writer: TransactionalWriter
    ) -> Pipeline:
        settings, catalog, clock, counters = self._settings, self._catalog, self._clock, self._counters
        writer = DurableProducer(self._brokers)
        letters = KafkaDeadLetters(writer, catalog.dead_letters.name)
        lanes = LaneProgress()
        versions = self._follower.versions

        async def commit(content: GroupCommit) -> None:
            await bounded_commit(
                self._commits,
                evaluate_writer.commit,
                content.records,
                content.offsets,
                self._faust.group_metadata(),
            )

        async def bury(partition: int, offset: int) -> None:
            await self._pipeline.bury_delta(partition, offset)

        evaluate = EvaluateStage(
            lambda number: AudiencePartition(
                versions.plans[versions.newest],
                EARLY_MS,
                counters,
                clock.now_ms(),
                Place(number, lambda profile: partition_for(profile.encode(), settings.partitions)),
                versions,
                self._engage_calls(),
            ),
            commit,
            clock,
            counters,
            catalog,
            settings.partitions,
            LetterLimits(letter_policy(settings)),
        )
        delivery = Delivery(
            (),
            graph,
            KafkaSyncLedger(deliver_writer, self._faust.group_metadata, catalog, settings.partitions),
            letters,
            KafkaMembershipLog(self._log, catalog.memberships.name, bury),
            clock,
            self._faust,
            counters,
            DeliveryOptions(
                installation=catalog.app_id,
                ad_account_id=settings.facebook_ad_account_id,
                dry_run=settings.facebook_mode == DeliveryMode.DRY_RUN,
                batch_rows=settings.batch_rows,
                batch_seconds=settings.batch_seconds,
                request_timeout_seconds=settings.facebook_timeout_seconds,
                person_probe_seconds=settings.facebook_probe_seconds,
                brake=BrakePolicy(settings.brake_percent, settings.brake_members),
            ),
            lambda audience: partition_for(audience.encode(), settings.partitions),
            catalog.memberships.name,
            self._fail,
        )
        return Pipeline(
            stages=Stages(
                ResolveStage(
                    self._resolver(compile_audiences(())),
                    writer,
                    lanes,
                    clock,
                    counters,
                    catalog,
                    LetterLimits(letter_policy(settings)),
                    keep_raw=settings.dead_letters_keep_raw,
                ),
                evaluate,
                delivery,
                lanes,
            ),
            writer=writer,
            log=self._log,
            clock=clock,
            catalog=catalog,
            partitions=settings.partitions,
            source_layout=self._source_layout,
            caught_up=lambda partition, end, done: self._faust.consumer.caught_up(
                TP(catalog.source.name, partition), end, done
            ),
            in_thread=lambda call, *args: in_thread(self._threads, call, *args),
            letters=letters,
            counters=counters,
            on_failure=self._fail,
            refresh_definitions=self._follower.refresh,
        )

    def _engage_calls(self) -> EngageCalls | None:
        types = CALL_TYPES[self._settings.engage_calls]
        return EngageCalls(self._catalog.app_id, types, EARLY_MS) if types else None

    def _join_backfill(self, pipeline: Pipeline) -> Backfill:
        source, partitions = self._catalog.source.name, self._settings.partitions
        return Backfill(
            follower=self._follower,
            lanes=pipeline.stages.lanes,
            writer=pipeline.writer,
            clock=self._clock,
            partitions=partitions,
            output=self._catalog.profile_events.name,
            resolver=self._resolver,
            end_offset=lambda partition: self._log.end_offsets(source, (partition,))[partition],
            batches=lambda partition, end: self._log.batches(source, {partition: (0, end)}),
            in_thread=pipeline.in_thread,
        )

    def _join_removals(self, pipeline: Pipeline) -> Removals:
        topic, partitions = self._catalog.dead_letters.name, self._settings.partitions
        return Removals(
            evaluate=pipeline.stages.evaluate,
            log=self._log,
            letters=lambda meets: newest_letters(self._log, topic, partitions, meets).letters,
            writer=pipeline.writer,
            catalog=self._catalog,
            partitions=partitions,
            in_thread=pipeline.in_thread,
        )

    def _join_auto_create(self, pipeline: Pipeline) -> AutoCreate:
        return AutoCreate(
            follower=self._follower,
            lanes=pipeline.stages.lanes,
            writer=pipeline.writer,
            clock=self._clock,
            partitions=self._settings.partitions,
            control_topic=self._catalog.control.name,
            most=self._settings.engage_auto_create_max,
        )

    def _resolver(self, plan: Plan) -> Resolver:
        return Resolver(plan, resolve_options(self._settings))

    def _explainer(self, number: int) -> Explainer:
        """Of the version that a partition runs by."""
        if number not in self._explainers:
            record = self._follower.published.versions[number]
            defined = definitions_of(record)
            self._explainers[number] = Explainer(
                (*defined.audiences, *cleared_by(record)), defined.traits, record.generations
            )
        return self._explainers[number]

    async def _use_definitions(self, in_force: InForce) -> None:
        refuse_unread_topics(in_force.definitions.audiences, self._settings.source_topic)
        self._pipeline.stages.resolve.project_for(self._resolver(in_force.projection), in_force.number)
        await self._pipeline.update_destinations(in_force.delivered)

    def _use_desired(self, desired: Mapping[str, DesiredRecord]) -> None:
        self._pipeline.stages.delivery.desire(desired)

    def _source_layout(self) -> tuple[str, int]:
        source = self._catalog.source
        layout = self._topics.layouts((source,))[source.name]
        if layout is None:
            raise InvalidInputError(f"the source topic {source.name} is gone")
        return layout.id, layout.partitions

    def _add_stages(self) -> None:
        catalog, pipeline = self._catalog, self._pipeline

        async def source(batch: Batch) -> None:
            def durable() -> None:
                self._after_step("resolve.flush")
                tp = TP(batch.topic, batch.partition)
                self._faust.consumer.mark_durable(tp, batch.records[-1].offset + 1)
                batch.ack()

            await pipeline.on_source(batch.partition, batch.records, durable)
            self._after_step("resolve.produce")

        async def profile_events(batch: Batch) -> None:
            await pipeline.on_profile_events(batch.partition, batch.records, batch.ack)

        async def memberships(batch: Batch) -> None:
            await pipeline.on_memberships(batch.partition, batch.records, batch.ack)

        stages: dict[str, tuple[str, BatchStage]] = {
            "resolve": (catalog.source.name, source),
            "evaluate": (catalog.profile_events.name, profile_events),
            "deliver": (catalog.memberships.name, memberships),
        }
        for name, (topic, stage) in stages.items():
            self._faust.add_stage(topic, name, stage)

    # -- assignment --------------------------------------------------------------------------------------------

    async def _restore(self, owned: set[TP], kept: set[TP]) -> dict[TP, int]:
        offsets = await self._pipeline.restore(self._numbers(owned), self._numbers(kept))
        return {TP(self._catalog.memberships.name, number): offset for number, offset in offsets.items()}

    async def _revoked(self, partitions: set[TP]) -> None:
        self._assignment += 1
        self._lags.clear()
        if partitions:
            await self._pipeline.revoked()

    def _numbers(self, tps: set[TP]) -> Owned:
        def of(topic: str) -> frozenset[int]:
            return frozenset(tp.partition for tp in tps if tp.topic == topic)

        catalog = self._catalog
        return Owned(of(catalog.source.name), of(catalog.profile_events.name), of(catalog.memberships.name))

    # -- stats -------------------------------------------------------------------------------------------------

    def _view(self) -> WorkerView:
        return WorkerView(
            counters=self._counters,
            audiences=self._defined,
            destinations=self._pipeline.stages.delivery.destinations,
            lags=self._lags,
            clock=self._pipeline.clock_now,
            backfill=lambda: self._backfill.progress,
            wall=self._clock,
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
            await self._find_lags()
            await asyncio.sleep(STATS_SECONDS)

    async def _find_lags(self) -> None:
        """What is not known, or was found while partitions changed hands, is shown as unknown."""
        assignment = self._assignment
        found: dict[str, int | None] = {}
        with contextlib.suppress(AudienceSyncError):
            found = await self._pipeline.lags(self._faust.consumer.position_of)
        self._lags.clear()
        if assignment == self._assignment and self._faust.ready.is_set():
            self._lags.update(found)
