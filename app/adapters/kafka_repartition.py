"""`topics repartition`: our topics with another number of partitions, whatever moment it is broken off at.

    copying     everything is copied to staging topics; the topics are what counts, and are not touched
    swapping    the staging topics are what counts: each topic is deleted, made anew and filled from its own
    finishing   the topics are whole again: the group's offsets, audience.control, and the staging topics go

The step stands in audience.control. As long as it does no worker starts (`Published.refuse_half_moved`), and one that
had started just before ends when it is assigned partitions. Whoever runs the command again goes on from the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_layout import TopicMaker
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_moving import Moved, Moving, copy, require_ends
from app.adapters.kafka_tallies import TallyReader
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.kafka_transactions import Step, no_step
from app.domain.clock import lane_name
from app.domain.published import definitions_of
from app.domain.repartitioning import refuse_unfinished
from app.domain.reverse_etl import row_topics
from app.errors import FatalError, InvalidInputError
from app.ports import Record
from schemas.control import (
    RUNNING,
    RepartitionRecord,
    RepartitionStep,
    RunningRecord,
    SetAsideRecord,
    TopicSettings,
)
from topics.catalog import Catalog
from topics.spec import TopicSpec, staging


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """`moved` None: the copies were made by an earlier run."""

    before: int
    after: int
    moved: Moved | None


class Repartition:
    """Blocking. `report` is told of each step; `after_step` is for tests that end the process there.

    Raises InvalidInputError for what only a person can change, FatalError for what Kafka refuses; either leaves
    everything so that `run` can be called again.
    """

    def __init__(
        self,
        brokers: Brokers,
        catalog: Catalog,
        report: Callable[[str], None],
        after_step: Step = no_step,
    ) -> None:
        self._brokers = brokers
        self._catalog = catalog
        self._report = report
        self._after_step = after_step
        self._reader = LogReader(brokers)
        # Neither number is used: nothing is created by it.
        self._topics = TopicAdmin(brokers, 1, -1)
        self._maker = TopicMaker(brokers)
        self._specs = tuple(spec for spec in catalog.all() if spec.ours and spec.partitions is None)

    def run(self, after: int) -> Repartitioned | None:
        """None: the topics have so many partitions already."""
        if self._topics.layouts((self._catalog.control,))[self._catalog.control.name] is None:
            raise InvalidInputError("there are no topics yet: `audience-sync topics` creates them")
        record = (
            KafkaControl(self._reader, self._brokers, self._catalog, after).refresh(settled=True).repartition
        )
        self._require_nobody()
        moved = None
        if record is None or record.step is RepartitionStep.COPYING:
            before = self._partitions()
            self._control = KafkaControl(self._reader, self._brokers, self._catalog, before)
            if before == after:
                if record is not None:
                    self._report("given up: nothing has been changed")
                    self._delete_staging()
                    self._control.write([Record(self._control.topic, 0, record.key.encode(), None)])
                return None
            record, moved = self._copy(before, after)
        elif record.after != after:
            raise InvalidInputError(
                f"the topics are on their way from {record.before} partitions to {record.after}, and past the way back: "
                f"run this with --partitions {record.after} first"
            )
        self._control = KafkaControl(self._reader, self._brokers, self._catalog, after)
        if record.step is RepartitionStep.SWAPPING:
            record = self._swap(record)
        self._finish(record)
        return Repartitioned(record.before, record.after, moved)

    # -- who is there, and what ---------------------------------------------------------------------------------

    def _require_nobody(self) -> None:
        group = self._catalog.app_id
        members = self._maker.members(group)
        if members:
            raise InvalidInputError(
                f"{members} worker(s) are in group {group}: stop all of them with SIGTERM. One that was killed is in it until "
                "its session has ended (AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS)"
            )

    def _partitions(self) -> int:
        layouts = self._topics.layouts(self._specs)
        missing = sorted(name for name, layout in layouts.items() if layout is None)
        if missing:
            raise InvalidInputError(
                f"{', '.join(missing)}: not there; `audience-sync topics` creates what is missing"
            )
        counts = {layout.partitions for layout in layouts.values() if layout is not None}
        if len(counts) > 1:
            shown = ", ".join(
                f"{name} {layout.partitions}" for name, layout in layouts.items() if layout is not None
            )
            raise InvalidInputError(f"the topics differ in their numbers of partitions: {shown}")
        return counts.pop()

    def _ends(self, before: int) -> dict[str, dict[int, int]]:
        return {spec.name: self._reader.settled_ends(spec.name, range(before)) for spec in self._specs}

    def _committed(self) -> dict[str, int]:
        """By live lane, the offset below which resolve is done: of the source topic, and of the topics of rows."""
        source, group = self._catalog.source, self._catalog.app_id
        if self._topics.layouts((source,))[source.name] is None:
            raise InvalidInputError(
                f"the source topic {source.name} is gone: AUDIENCE_SYNC_SOURCE_TOPIC names it"
            )
        newest = self._control.refresh(settled=True).newest
        rows = {} if newest is None else row_topics(definitions_of(newest).audiences, source.name)
        specs = (source, *map(self._catalog.rows, rows))
        done: dict[str, int] = {}
        for topic, layout in self._topics.layouts(specs).items():
            if layout is None:
                continue  # nothing of it can be read again
            partitions = range(layout.partitions)
            committed = self._maker.committed(group, topic, partitions)
            done |= {lane_name(layout.id, number): committed.get(number, 0) for number in partitions}
        return done

    # -- copying ------------------------------------------------------------------------------------------------

    def _copy(self, before: int, after: int) -> tuple[RepartitionRecord, Moved]:
        ends, committed = self._ends(before), self._committed()
        changelog = ends[self._catalog.profiles_changelog.name]
        records = TallyReader(self._reader, self._catalog, before).records(changelog)
        refuse_unfinished(self._control.refresh(settled=True), records, committed, before)
        record = RepartitionRecord(
            before=before,
            after=after,
            step=RepartitionStep.COPYING,
            topics=self._maker.settings([spec.name for spec in self._specs]),
            started_at=time.time_ns() // 1_000_000,
        )
        self._control.publish(_once(record))
        self._after_step("copying")
        # Whoever started before that was written is in the group by now, or ends when it is assigned partitions.
        self._require_nobody()
        self._report(f"copying from {before} partitions to {after}")
        self._make_staging(record)
        self._after_step("staging")
        events = self._catalog.profile_events.name
        moving = Moving(
            self._reader,
            self._brokers,
            self._catalog,
            before,
            after,
            ends,
            self._maker.committed(self._catalog.app_id, events, range(before)),
            committed,
        )
        moved = moving.run()
        for spec in self._specs:
            name = staging(spec).name
            require_ends(self._reader, name, {p: moving.written[name, p] for p in range(after)})
        self._require_nobody()
        for spec in self._specs:
            require_ends(self._reader, spec.name, ends[spec.name])
        self._after_step("copied")
        record = record.model_copy(update={"step": RepartitionStep.SWAPPING})
        self._control.publish(_once(record))
        self._after_step("swapping")
        return record, moved

    def _make_staging(self, record: RepartitionRecord) -> None:
        self._delete_staging()
        for spec in self._specs:
            self._create(staging(spec), record.after, record.topics[spec.name], {})

    def _delete_staging(self) -> None:
        for spec in self._specs:
            self._maker.delete(staging(spec).name)

    def _create(self, spec: TopicSpec, partitions: int, known: TopicSettings, own: Mapping[str, str]) -> None:
        self._maker.create(spec.name, partitions, known.replication, {**spec.kafka_config(), **own})

    # -- swapping -----------------------------------------------------------------------------------------------

    def _swap(self, record: RepartitionRecord) -> RepartitionRecord:
        for spec in self._specs:
            staged = staging(spec)
            layout = self._topics.layouts((staged,))[staged.name]
            if layout is None or layout.partitions != record.after:
                raise FatalError(
                    f"topic {staged.name} is gone, or not as it was made: it had what {spec.name} is made of. Restore it"
                )
            self._report(f"making {spec.name} anew")
            self._maker.delete(spec.name)
            self._after_step(f"deleted {spec.value}")
            known = record.topics[spec.name]
            self._create(spec, record.after, known, known.config)
            self._after_step(f"created {spec.value}")
            copy(self._reader, self._brokers, staged.name, spec.name, record.after)
            self._after_step(f"filled {spec.value}")
        record = record.model_copy(update={"step": RepartitionStep.FINISHING})
        self._control.publish(_once(record))
        self._after_step("finishing")
        return record

    # -- finishing ----------------------------------------------------------------------------------------------

    def _finish(self, record: RepartitionRecord) -> None:
        partitions = range(record.after)
        group, events, memberships = (
            self._catalog.app_id,
            self._catalog.profile_events.name,
            self._catalog.memberships.name,
        )
        self._maker.commit(group, events, dict.fromkeys(partitions, 0))
        self._maker.commit(group, memberships, self._reader.settled_ends(memberships, partitions))
        self._after_step("offsets")
        self._delete_staging()
        self._after_step("cleaned")
        self._control.write(self._running(record))
        self._after_step("done")

    def _running(self, record: RepartitionRecord) -> Sequence[Record]:
        """What each partition runs by now, and no word of the repartition."""
        topic = self._control.topic
        changelog = self._catalog.profiles_changelog.name
        ends = self._reader.settled_ends(changelog, range(record.after))
        states = TallyReader(self._reader, self._catalog, record.after).records(ends)
        number = max((state.definitions for state in states), default=0)
        told = [
            RunningRecord(partition=partition, number=number) for partition in range(record.after) if number
        ]
        gone = [f"{RUNNING}|{partition}" for partition in range(len(told), record.before)]
        return [
            *(Record(topic, 0, one.key.encode(), one.model_dump_json().encode()) for one in told),
            *(Record(topic, 0, key.encode(), None) for key in (*gone, *self._places_gone())),
            Record(topic, 0, record.key.encode(), None),
        ]

    def _places_gone(self) -> list[str]:
        """Keys of records that were set aside where other ones may stand now."""
        places = self._control.refresh(settled=True).set_aside
        return [
            SetAsideRecord(topic=topic, partition=number, offset=offset, written_at=0).key
            for topic, number, offset in sorted(places)
        ]


def _once(record: RepartitionRecord) -> Callable[[object], RepartitionRecord | None]:
    """For `KafkaControl.publish`: the record, unless it is what is published."""
    return lambda published: None if getattr(published, "repartition", None) == record else record
