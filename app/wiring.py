"""Makes a worker's parts from its settings and from each other: which adapter, option and stage goes where."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from faust.types import TP

from app.adapters.clock import SystemClock
from app.adapters.facebook_connection import data_use, facebook_access, facebook_graph
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.facebook_token_file import TokenFile
from app.adapters.faust_worker import Batch, BatchStage, FaustOptions, FaustWorker
from app.adapters.kafka_client import DurableProducer, bounded_commit, in_thread
from app.adapters.kafka_connection import KafkaConnection
from app.adapters.kafka_delivery import KafkaDeadLetters, KafkaMembershipLog, KafkaSyncLedger
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_reconcile import reading_beside
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import Step, TransactionalWriter
from app.adapters.settings_options import letter_policy, resolve_options
from app.domain.brake import BrakePolicy
from app.domain.clock import SourcePartition
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.engage_calls import CALL_TYPES, EngageCalls
from app.domain.explanation import Explainer
from app.domain.letter_limits import LetterLimits
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.published import cleared_by, definitions_of
from app.domain.resolution import Resolver
from app.domain.reverse_etl import row_topics
from app.errors import InvalidInputError
from app.pipeline.auto_create import AutoCreate
from app.pipeline.backfill import Backfill
from app.pipeline.deliver import Delivery
from app.pipeline.delivery_options import DeliveryOptions
from app.pipeline.engage_places import EngagePlaces, nothing_comes
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.expire import LaneProgress
from app.pipeline.facebook_watch import FacebookWatch, WatchOptions
from app.pipeline.follow import Follower
from app.pipeline.forgetting import Removals
from app.pipeline.reconcile import Reconcile
from app.pipeline.resolve import ResolveStage
from app.pipeline.topology import Pipeline, Stages
from app.settings import Settings, access_token_file
from app.web.profiles import ProfileSource
from schemas.audience import DeliveryMode
from topics.catalog import Catalog
from topics.partitioning import partition_for

# How long before its timestamp the worker may count an event: the clocks of the source's partitions never agree
# to the millisecond.
EARLY_MS = 5_000
TABLE = "profiles"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a worker has from its beginning; the methods make the parts of it, each to be called once.

    `commits` runs the commits of evaluate, one at a time. `after_step` hears of each step done of a commit,
    `on_failure` of what ends the process.
    """

    settings: Settings
    brokers: KafkaConnection
    catalog: Catalog
    clock: SystemClock
    counters: Counters
    log: LogReader
    topics: TopicAdmin
    threads: Executor
    commits: Executor
    after_step: Step
    on_failure: Callable[[BaseException], None]

    # -- what stands on the outside ----------------------------------------------------------------------------

    def faust_options(self) -> FaustOptions:
        settings = self.settings
        return FaustOptions(
            app_id=self.catalog.app_id,
            bootstrap_servers=self.brokers,
            partitions=settings.partitions,
            table=TABLE,
            web_host=settings.web_host,
            web_port=settings.web_port,
            instance_id=settings.instance_id,
            session_timeout_seconds=settings.session_timeout_seconds,
            poll_records=settings.poll_records,
        )

    def graph(self, may_start_request: Callable[[], bool]) -> FacebookGraph:
        settings = self.settings
        return facebook_graph(settings, self.clock, settings.facebook_timeout_seconds, may_start_request)

    def facebook_watch(self, graph: FacebookGraph, say: Callable[[str], None]) -> FacebookWatch:
        """Of the token that `graph` calls with; it may ask whether or not this worker has its place in the group."""
        settings = self.settings
        file = access_token_file()
        access = facebook_access(settings, graph.credentials, self.clock, settings.facebook_timeout_seconds)
        options = WatchOptions(
            version=settings.facebook_api_version,
            check_seconds=settings.facebook_token_check_seconds,
            warn_days=settings.facebook_token_warn_days,
            app_id=settings.facebook_app_id,
            asks=settings.facebook_mode != DeliveryMode.DRY_RUN,
        )
        return FacebookWatch(access, None if file is None else TokenFile(file), self.clock, options, say)

    def transactional(self, stage: str, slot: str) -> TransactionalWriter:
        """`slot` tells this worker from the others, and is the same when it comes back."""
        return TransactionalWriter(
            self.brokers,
            f"{self.catalog.app_id}-{stage}-{slot}",
            lambda step: self.after_step(f"{stage}.{step}"),
        )

    # -- the stages --------------------------------------------------------------------------------------------

    def pipeline(
        self,
        faust: FaustWorker,
        graph: FacebookGraph,
        follower: Follower,
        evaluate_writer: TransactionalWriter,
        deliver_writer: TransactionalWriter,
    ) -> Pipeline:
        settings, catalog = self.settings, self.catalog
        # However long Kafka is away: a record that was given up would leave a gap in its lane.
        writer = DurableProducer(self.brokers, message_timeout_ms=0)
        letters = KafkaDeadLetters(writer, catalog.dead_letters.name)
        lanes = LaneProgress(catalog.source.name)

        async def bury(partition: int, offset: int, value: bytes) -> None:
            await pipeline.bury_delta(partition, offset, value)

        def is_set_aside(*place: object) -> bool:
            return place in follower.published.set_aside

        pipeline = Pipeline(
            stages=Stages(
                ResolveStage(
                    functools.partial(self.resolver, compile_audiences(())),
                    writer,
                    lanes,
                    self.clock,
                    self.counters,
                    catalog,
                    LetterLimits(letter_policy(settings)),
                    keep_raw=settings.dead_letters_keep_raw,
                ),
                self._evaluate(faust, follower, evaluate_writer, is_set_aside),
                self._delivery(
                    faust,
                    graph,
                    KafkaSyncLedger(deliver_writer, faust.group_metadata, catalog, settings.partitions),
                    letters,
                    KafkaMembershipLog(self.log, catalog.memberships.name, bury),
                ),
                lanes,
            ),
            writer=writer,
            log=self.log,
            clock=self.clock,
            catalog=catalog,
            partitions=settings.partitions,
            sources=(catalog.source.name,),
            source_layouts=self._source_layouts,
            caught_up=lambda partition, end, done: faust.consumer.caught_up(TP(*partition), end, done),
            in_thread=lambda call, *args: in_thread(self.threads, call, *args),
            letters=letters,
            counters=self.counters,
            on_failure=self.on_failure,
            refresh_definitions=follower.refresh,
            is_set_aside=is_set_aside,
        )
        return pipeline

    def _evaluate(
        self,
        faust: FaustWorker,
        follower: Follower,
        writer: TransactionalWriter,
        is_set_aside: Callable[[str, int, int], bool],
    ) -> EvaluateStage:
        settings, versions = self.settings, follower.versions

        async def commit(content: GroupCommit) -> None:
            await bounded_commit(
                self.commits, writer.commit, content.records, content.offsets, faust.group_metadata()
            )

        return EvaluateStage(
            lambda number: AudiencePartition(
                versions.plans[versions.newest],
                EARLY_MS,
                self.counters,
                self.clock.now_ms(),
                Place(number, lambda profile: partition_for(profile.encode(), settings.partitions)),
                versions,
                self._engage_calls(),
            ),
            commit,
            self.clock,
            self.counters,
            self.catalog,
            settings.partitions,
            LetterLimits(letter_policy(settings)),
            is_set_aside,
        )

    def _engage_calls(self) -> EngageCalls | None:
        types = CALL_TYPES[self.settings.engage_calls]
        return EngageCalls(self.catalog.app_id, types, EARLY_MS) if types else None

    def _delivery(
        self,
        faust: FaustWorker,
        graph: FacebookGraph,
        ledger: KafkaSyncLedger,
        letters: KafkaDeadLetters,
        memberships: KafkaMembershipLog,
    ) -> Delivery:
        settings = self.settings
        return Delivery(
            (),
            graph,
            ledger,
            letters,
            memberships,
            self.clock,
            faust,
            self.counters,
            DeliveryOptions(
                installation=self.catalog.app_id,
                ad_account_id=settings.facebook_ad_account_id,
                data_use=data_use(settings),
                dry_run=settings.facebook_mode == DeliveryMode.DRY_RUN,
                batch_rows=settings.batch_rows,
                batch_seconds=settings.batch_seconds,
                request_timeout_seconds=settings.facebook_timeout_seconds,
                outage_probe_seconds=settings.facebook_probe_seconds,
                person_probe_seconds=settings.facebook_probe_seconds,
                brake=BrakePolicy(settings.brake_percent, settings.brake_members),
            ),
            lambda audience: partition_for(audience.encode(), settings.partitions),
            self.catalog.memberships.name,
            self.on_failure,
        )

    def _source_layouts(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        found = {}
        for name, layout in self.topics.layouts(tuple(self.catalog.rows(topic) for topic in topics)).items():
            if layout is None:
                what = "the source topic" if name == self.catalog.source.name else "the topic of rows"
                raise InvalidInputError(f"{what} {name} is gone")
            found[name] = (layout.id, layout.partitions)
        return found

    def resolver(self, plan: Plan, topic: str) -> Resolver:
        """For the records of that topic."""
        return Resolver(plan, resolve_options(self.settings), topic)

    def require_row_topics(self, follower: Follower) -> None:
        """Raises InvalidInputError when a topic that an audience takes its rows from is not there. Blocking."""
        if follower.current is not None:
            named = row_topics(follower.current.definitions.audiences, self.catalog.source.name)
            self.topics.require(tuple(map(self.catalog.rows, named)), named)

    def add_stages(self, faust: FaustWorker, pipeline: Pipeline) -> None:
        """Have Faust give each stage the records of its topic."""
        catalog = self.catalog

        async def source(batch: Batch) -> None:
            def durable() -> None:
                self.after_step("resolve.flush")
                tp = TP(batch.topic, batch.partition)
                faust.consumer.mark_durable(tp, batch.records[-1].offset + 1)
                batch.ack()

            partition = SourcePartition(batch.topic, batch.partition)
            await pipeline.on_source(partition, batch.records, durable)
            self.after_step("resolve.produce")

        async def profile_events(batch: Batch) -> None:
            await pipeline.on_profile_events(batch.partition, batch.records, batch.ack)

        async def memberships(batch: Batch) -> None:
            await pipeline.on_memberships(batch.partition, batch.records, batch.ack)

        stages: dict[str, tuple[Sequence[str], BatchStage]] = {
            "resolve": (pipeline.sources, source),
            "evaluate": ((catalog.profile_events.name,), profile_events),
            "deliver": ((catalog.memberships.name,), memberships),
        }
        for name, (topics, stage) in stages.items():
            faust.add_stage(topics, name, stage)

    # -- what goes on beside the stages ------------------------------------------------------------------------

    def backfill(self, follower: Follower, pipeline: Pipeline) -> Backfill:
        return Backfill(
            follower=follower,
            lanes=pipeline.stages.lanes,
            writer=pipeline.writer,
            clock=self.clock,
            partitions=self.settings.partitions,
            output=self.catalog.profile_events.name,
            resolver=self.resolver,
            end_offset=lambda one: self.log.end_offsets(one.topic, (one.number,))[one.number],
            batches=lambda one, end: self.log.batches(one.topic, {one.number: (0, end)}),
            in_thread=pipeline.in_thread,
        )

    def removals(self, pipeline: Pipeline) -> Removals:
        topic, partitions = self.catalog.dead_letters.name, self.settings.partitions
        return Removals(
            evaluate=pipeline.stages.evaluate,
            log=self.log,
            letters=lambda meets: newest_letters(self.log, topic, partitions, meets).letters,
            writer=pipeline.writer,
            catalog=self.catalog,
            partitions=partitions,
            in_thread=pipeline.in_thread,
        )

    def auto_create(self, follower: Follower, pipeline: Pipeline) -> AutoCreate:
        return AutoCreate(
            follower=follower,
            lanes=pipeline.stages.lanes,
            writer=pipeline.writer,
            clock=self.clock,
            partitions=self.settings.partitions,
            control_topic=self.catalog.control.name,
            most=self.settings.engage_auto_create_max,
        )

    def engage_places(
        self, follower: Follower, pipeline: Pipeline, auto_create: AutoCreate | None
    ) -> EngagePlaces:
        return EngagePlaces(
            follower=follower,
            lanes=pipeline.stages.lanes,
            writer=pipeline.writer,
            clock=self.clock,
            partitions=self.settings.partitions,
            control_topic=self.catalog.control.name,
            is_coming=nothing_comes if auto_create is None else auto_create.has_noted,
        )

    def reconcile(
        self, follower: Follower, pipeline: Pipeline, graph: FacebookGraph, say: Callable[[str], None]
    ) -> Reconcile:
        return Reconcile(
            owns=lambda: pipeline.stages.lanes.has_first,
            published=lambda: follower.published,
            begin=reading_beside(self.brokers, self.catalog, self.settings.partitions),
            graph=None if self.settings.facebook_mode == DeliveryMode.DRY_RUN else graph,
            clock=self.clock,
            in_thread=pipeline.in_thread,
            say=say,
            period_seconds=self.settings.reconcile_hours * 3_600,
            batch_ms=round(self.settings.batch_seconds * 1_000),
        )

    # -- what the pages are given ------------------------------------------------------------------------------

    def profiles(self, faust: FaustWorker, follower: Follower, pipeline: Pipeline) -> ProfileSource:
        changelog = self.catalog.profiles_changelog.name
        return ProfileSource(
            partitions=pipeline.stages.evaluate.partitions,
            count=self.settings.partitions,
            early_ms=EARLY_MS,
            explainer=_explainers(follower),
            owners=lambda partition: faust.workers(changelog, partition),
            workers=faust.workers,
            ready=faust.ready.is_set,
        )


def _explainers(follower: Follower) -> Callable[[int], Explainer]:
    """Gives that of the version that a partition runs by; each is made once."""

    @functools.cache
    def explainer(number: int) -> Explainer:
        record = follower.published.versions[number]
        defined = definitions_of(record)
        return Explainer((*defined.audiences, *cleared_by(record)), defined.traits, record.generations)

    return explainer
