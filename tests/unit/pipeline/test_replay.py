"""Replay over topics in memory: what is written for which letter, and that nothing is done twice."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.memory import ManualClock
from app.adapters.memory_replay import MemoryReplayLog, MemoryTopics
from app.domain.clock import SourcePartition
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.delivery_letters import LetterContext, rejected_row
from app.domain.filling import as_past, held_back, of_the_past, past_lane
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan_versions import PlanVersions
from app.domain.published import Published, definitions_of, next_version
from app.domain.replaying import Projection, projected
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.users_requests import build_requests
from app.errors import FatalError
from app.pipeline.expire import LaneProgress
from app.pipeline.replay import Outcome, Replay, Result
from app.pipeline.resolve import ResolveStage
from app.ports import StoredRecord
from schemas.control import DefinitionsRecord
from schemas.dead_letter import DeadLetter, Origin, Reason, dead_letter_id
from schemas.membership import MembershipDelta
from schemas.profile import ASK, CALL, MARKER, PAST_END, REPEAT, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.pipeline.source_lanes import SOURCE, of_source, own
from topics.catalog import Catalog
from topics.partitioning import membership_key, partition_for

SMALL = ResolveOptions(max_event_bytes=1_024)
LARGE = ResolveOptions()
ONE = "{name: One, when: {event: A, count: {exactly: 1}}, facebook: {ad_account_id: act_1}}"
NEW = "{name: New, when: {event: A, count: {exactly: 1}}, facebook: {ad_account_id: act_1}}"
WAREHOUSE = "{name: Leads, source: reverse_etl, rows: {topic: warehouse}}"
NUMBERS = (0, 1)
_decode = msgspec.msgpack.Decoder(ProfileEvent).decode


def version(
    before: DefinitionsRecord | None, at: int, *audiences: str, generations: dict[str, int] | None = None
) -> DefinitionsRecord:
    text = f"audiences: [{', '.join(audiences)}]"
    return next_version(before, parse_definitions([Document("audiences.yaml", text)]), at, generations or {})


def call(user: str, message: str, size: int = 0) -> bytes:
    said = {"type": "track", "event": "A", "userId": user, "messageId": message}
    instant = {"timestamp": "2026-01-01T00:00:00Z", "receivedAt": "2026-01-01T00:00:00Z"}
    return json.dumps({**said, **instant, "properties": {"note": "x" * size}}).encode()


def row(user: str, message: str, size: int) -> bytes:
    return call(user, message, size).replace(b'"event": "A"', b'"event": "new"')


class World:
    """Two partitions of everything, and the parts of a worker that matter here."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.clock = ManualClock()
        self.topics = MemoryTopics(self.catalog, len(NUMBERS))
        first = version(None, self.clock.now_ms(), ONE)
        self.published = Published({1: first}, dict.fromkeys(NUMBERS, 1))
        self.counters = Counters()
        self.versions = PlanVersions()
        self.versions.take(1, self.projection().plan)
        self.lanes = LaneProgress(SOURCE)
        own(self.lanes, *NUMBERS)
        self.partitions = {number: self._partition(number) for number in NUMBERS}
        self.deltas: list[MembershipDelta] = []
        self._read = dict.fromkeys(NUMBERS, 0)

    def _partition(self, number: int) -> AudiencePartition:
        place = Place(number, lambda profile: partition_for(profile.encode(), len(NUMBERS)))
        plan = self.versions.plans[1]
        partition = AudiencePartition(plan, 0, self.counters, 0, place, self.versions)
        partition.finish_recovery()
        partition.set_wall(2**50)
        partition.set_expected([self.lanes.lane(of_source(number)) for number in NUMBERS])
        return partition

    def projection(self) -> Projection:
        found = projected(self.published, len(NUMBERS))
        assert found is not None
        return found

    # -- a worker --

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """As a RecordWriter."""
        self.topics.write(topic, partition, key, value)

    def flush(self) -> None: ...

    def arrive(self, partition: int, value: bytes, key: bytes = b"k") -> int:
        return self.topics.write(self.catalog.source.name, partition, key, value, self.clock.now_ms())

    def resolve(self, options: ResolveOptions, topic: str = SOURCE, **how: Any) -> None:
        """All that has arrived in the topic and is not done yet."""
        resolver, source = Resolver(self.projection().plan, options, topic), topic
        stage = ResolveStage(
            lambda _: resolver, self, self.lanes, self.clock, self.counters, self.catalog, **how
        )
        for number in [one.number for one in self.lanes.partitions if one.topic == topic]:
            done = self.topics.done.get((source, number), 0)
            records = [one for one in self.topics.read(source, number) if one.offset >= done]
            if records:
                stage.process(SourcePartition(topic, number), records)
                self.topics.done[source, number] = records[-1].offset + 1
        self.mark()

    def mark(self, number: int = 1) -> None:
        now = self.clock.now_ms()
        progress = {self.lanes.lane(one): now for one in self.lanes.partitions}
        marker = ProfileEvent(VERSION, MARKER, "", 0, 0, now, now, progress=progress, definitions=number)
        for partition in NUMBERS:
            self.produce(self.catalog.profile_events.name, msgspec.msgpack.encode(marker), b"", partition)

    def evaluate(self) -> None:
        """Everything in profile.events that has not been read yet."""
        for number, partition in self.partitions.items():
            records = self.topics.read(self.catalog.profile_events.name, number)[self._read[number] :]
            self._read[number] += len(records)
            for record in records:
                self._apply(partition, record)
            for delta in partition.drain().deltas:
                key = membership_key(delta.audience, delta.profile)
                self.produce(
                    self.catalog.memberships.name,
                    msgspec.json.encode(delta),
                    key,
                    partition_for(delta.audience.encode(), len(NUMBERS)),
                )
                self.deltas.append(delta)

    @staticmethod
    def _apply(partition: AudiencePartition, record: StoredRecord) -> None:
        event, profile = _decode(record.value or b""), (record.key or b"").decode()
        if event.kind == MARKER:
            partition.apply_marker(event)
        elif event.kind == REPEAT:
            partition.apply_repeat(profile, event)
        elif event.kind <= 5:
            partition.apply(profile, event)
        else:
            partition.apply_past(profile, event)

    def members(self, audience: str) -> set[str]:
        state: dict[str, str] = {}
        for delta in self.deltas:
            if delta.audience == audience:
                state[delta.profile] = delta.change.value
        return {profile for profile, change in state.items() if change != "exited"}

    # -- letters --

    def all_letters(self) -> dict[str, DeadLetter]:
        topic = self.catalog.dead_letters.name
        written = [record for number in NUMBERS for record in self.topics.read(topic, number)]
        found = [DeadLetter.model_validate_json(record.value or b"") for record in written]
        return {letter.id: letter for letter in found}

    def letters(self) -> list[DeadLetter]:
        return [letter for letter in self.all_letters().values() if letter.resolved is None]

    def bury(self, letter: DeadLetter) -> None:
        value = orjson.dumps(letter.model_dump(mode="json"))
        self.produce(self.catalog.dead_letters.name, value, letter.id.encode())

    def begin(self) -> MemoryReplayLog:
        log = MemoryReplayLog(self.topics)
        log.start()
        return log

    def replay(
        self,
        options: ResolveOptions = LARGE,
        log: MemoryReplayLog | None = None,
        letters: list[DeadLetter] | None = None,
        most: int = 2,
        **how: Any,
    ) -> list[Result]:
        log = log or self.begin()
        job = Replay(log, self.projection, options, self.clock, self.catalog, "id-of-dead-letters")
        return [
            result
            for results in job.run(self.letters() if letters is None else letters, most, **how)
            for result in results
        ]

    def events(self) -> list[ProfileEvent]:
        topic = self.catalog.profile_events.name
        decoded = [_decode(one.value or b"") for number in NUMBERS for one in self.topics.read(topic, number)]
        return [event for event in decoded if event.kind != MARKER]


def outcomes(results: list[Result]) -> list[str]:
    return sorted(result.outcome.value for result in results)


# --- calls ---


@settings(deadline=None)
@given(
    calls=st.lists(st.tuples(st.sampled_from(NUMBERS), st.booleans(), st.booleans()), max_size=12),
    runs=st.lists(
        st.tuples(st.sets(st.integers(0, 11)), st.integers(1, 4), st.sampled_from(["", "lost", "raced"])),
        max_size=6,
    ),
)
def test_each_call_counts_once_in_whatever_order_and_however_often_it_is_replayed(
    calls: list[tuple[int, bool, bool]], runs: list[tuple[set[int], int, str]]
) -> None:
    """Some calls are too large, some of these come in otherwise as well; runs take some letters and may be lost."""
    world = World()
    for number, (partition, large, otherwise) in enumerate(calls):
        world.arrive(partition, call(f"user_{number}", f"m{number}", 2_000 * large))
        if large and otherwise:
            world.arrive(1 - partition, call(f"user_{number}", f"m{number}"))
    world.resolve(SMALL)
    for chosen, most, trouble in [*runs, (set(range(12)), 3, "")]:
        log = world.begin()
        log.failing = trouble == "lost"
        if trouble == "raced":
            world.begin()
        letters = [letter for place, letter in enumerate(world.letters()) if place in chosen]
        if trouble and letters:
            with pytest.raises(FatalError):
                world.replay(log=log, letters=letters, most=most)
        else:
            world.replay(log=log, letters=letters, most=most)
        world.evaluate()
    assert world.letters() == []
    assert world.replay() == []
    assert world.members("one") == {f"user_{number}" for number in range(len(calls))}
    # Nothing that was replayed is taken for a redelivery: only what had come in otherwise is known.
    known = sum(large and otherwise for _, large, otherwise in calls)
    assert world.counters.stages["evaluate"].dropped["duplicate"] == known


def test_a_replayed_call_keeps_its_message_id_and_has_a_lane_of_its_own() -> None:
    world = World()
    offset = world.arrive(0, call("ann", "m1", 2_000))
    world.resolve(SMALL)
    (result,) = world.replay()
    assert (result.outcome, result.letter.resolved) == (Outcome.REPLAYED, "replayed")
    (event,) = world.events()
    assert (event.kind, event.message_id, event.lane) == (CALL, "m1", "replay/id-of-dead-letters")
    assert world.letters() == []
    assert world.all_letters()[result.letter.id].origin.offset == offset


def test_a_call_that_nobody_needs_is_replayed_to_no_effect() -> None:
    world = World()
    world.arrive(0, call("ann", "m1", 2_000).replace(b'"A"', b'"Unasked"'))
    world.resolve(SMALL)
    world.resolve(SMALL)
    results = world.replay()
    assert [(one.outcome, one.dropped) for one in results] in (
        [(Outcome.REPLAYED, "not_needed")],
        [(Outcome.REPLAYED, None)],
    )


def test_what_fails_again_has_one_more_attempt_and_the_newest_reason() -> None:
    world = World()
    world.arrive(0, b"x" * 2_000)
    world.resolve(SMALL)
    (before,) = world.letters()
    first = world.clock.now_ms()
    world.clock._now += 60
    (result,) = world.replay()
    (after,) = world.letters()
    assert (before.reason, after.reason) == (Reason.TOO_LARGE, Reason.INVALID_JSON)
    assert (after.id, after.attempts) == (before.id, 2)
    assert (after.first_failed_at, after.last_failed_at) == (first, first + 60_000)
    assert (result.outcome, result.why) == (Outcome.FAILED, "the record is not JSON")
    assert world.events() == []


def test_a_dry_run_writes_nothing() -> None:
    world = World()
    world.arrive(0, call("ann", "m1", 2_000))
    world.arrive(0, b"no call")
    world.resolve(SMALL)
    before = world.all_letters()
    assert outcomes(world.replay(dry_run=True)) == ["failed", "replayed"]
    assert world.all_letters() == before
    assert world.events() == []


def test_what_the_worker_may_read_again_waits() -> None:
    """It may yet be resolved by the worker itself, with another limit: it would count twice."""
    world = World()
    offset = world.arrive(0, call("ann", "m1", 2_000))
    world.resolve(SMALL)
    source = world.catalog.source.name
    for done in (offset, None):
        if done is None:
            del world.topics.done[source, 0]
        else:
            world.topics.done[source, 0] = done
        assert outcomes(world.replay()) == ["waiting"]
        assert len(world.letters()) == 1
        assert world.events() == []
    world.topics.done[source, 0] = offset + 1
    assert outcomes(world.replay()) == ["replayed"]


def test_a_record_of_a_topic_of_rows_is_read_again_there_and_is_a_row() -> None:
    world = World()
    first = version(None, world.clock.now_ms(), WAREHOUSE)
    world.published = Published({1: first}, dict.fromkeys(NUMBERS, 1))
    world.topics.write("warehouse", 0, b"k", call("bob", "m1", 2_000), world.clock.now_ms())
    place = world.topics.write("warehouse", 0, b"k", row("ann", "m2", 2_000), world.clock.now_ms())
    world.lanes.assign({SOURCE: "topic", "warehouse": "rows"}, [SourcePartition("warehouse", 0)])
    world.resolve(SMALL, topic="warehouse")
    letters = world.letters()
    assert {(letter.origin.topic, letter.reason) for letter in letters} == {("warehouse", Reason.TOO_LARGE)}
    world.topics.done["warehouse", 0] = place
    assert sorted(outcomes(world.replay())) == ["failed", "waiting"], (
        "one is none, one may be read by the worker"
    )
    world.topics.done["warehouse", 0] = place + 1
    (of_row,) = [letter for letter in letters if letter.origin.offset == place]
    assert outcomes(world.replay(letters=[of_row])) == ["replayed"]
    assert [event.claims for event in world.events()] == [{"leads": True}]


def test_nobody_knows_what_a_record_of_a_topic_is_that_is_not_read_any_more() -> None:
    """Of a topic of rows whose audience has been deleted, it may read like an event, and is none."""
    world = World()
    world.topics.write("warehouse", 0, b"k", call("ann", "m1", 2_000), world.clock.now_ms())
    world.lanes.assign({"warehouse": "rows"}, [SourcePartition("warehouse", 0)])
    first = version(None, world.clock.now_ms(), WAREHOUSE)
    before, world.published = world.published, Published({1: first}, dict.fromkeys(NUMBERS, 1))
    world.resolve(SMALL, topic="warehouse")
    world.published = before
    (result,) = world.replay()
    assert result.outcome is Outcome.WAITING
    assert "neither the source topic" in (result.why or "")
    assert world.events() == []
    assert len(world.letters()) == 1


def test_a_record_that_is_gone_is_expired() -> None:
    world = World()
    world.arrive(0, call("ann", "m1", 2_000))
    world.arrive(0, call("bob", "m2", 2_000))
    world.resolve(SMALL)
    world.topics.delete_before(world.catalog.source.name, 0, 1)
    assert outcomes(world.replay()) == ["expired", "replayed"]
    assert world.letters() == []
    assert [event.message_id for event in world.events()] == ["m2"]


@pytest.mark.parametrize(
    "changed",
    [{"topic": "deleted.topic"}, {"partition": 9}, {"offset": 99}],
    ids=["no such topic", "no such partition", "never written"],
)
def test_coordinates_that_lead_nowhere_are_expired(changed: dict[str, Any]) -> None:
    world = World()
    world.arrive(0, call("ann", "m1", 2_000))
    world.resolve(SMALL)
    (letter,) = world.letters()
    world.topics.done[world.catalog.source.name, 9] = 1
    world.topics.done[world.catalog.source.name, 0] = 100
    lost = letter.model_copy(update={"origin": letter.origin.model_copy(update=changed)})
    assert outcomes(world.replay(letters=[lost])) == ["expired"]
    assert world.events() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"k", call("bob", "m1", 2_000)), (b"other", call("ann", "m1", 2_000)), (b"k", call("ann", "m1"))],
    ids=["another value of the same length", "another key", "another length"],
)
def test_another_record_at_the_same_place_is_not_taken_for_it(key: bytes, value: bytes) -> None:
    first = World()
    first.arrive(0, call("ann", "m1", 2_000))
    first.resolve(SMALL)
    created_again = World()
    created_again.arrive(0, value, key)
    created_again.topics.done[created_again.catalog.source.name, 0] = 1
    (result,) = created_again.replay(letters=first.letters())
    assert (result.outcome, result.letter.resolved) == (Outcome.EXPIRED, "expired")
    assert created_again.events() == []


def test_a_letter_that_keeps_the_record_outlives_it() -> None:
    world = World()
    value = call("ann", "m1", 2_000).replace(b'"receivedAt": "2026-01-01T00:00:00Z", ', b"")
    world.arrive(0, value)
    world.resolve(SMALL, keep_raw=True)
    world.topics.delete_before(world.catalog.source.name, 0, 1)
    (letter,) = world.letters()
    assert letter.record is not None
    assert base64.b64decode(letter.record["raw"]) == value
    received = world.clock.now_ms()
    world.clock._now += 60
    (result,) = world.replay()
    assert result.outcome is Outcome.REPLAYED
    assert result.letter.record is not None
    assert set(result.letter.record) == {"bytes", "sha256"}, "it is in the clear no longer"
    (event,) = world.events()
    assert (event.message_id, event.received) == ("m1", received)
    assert b"xxx" not in b"".join(one.value or b"" for one in world.topics.read("profile.events", 0))


def test_without_the_setting_no_letter_keeps_the_record() -> None:
    world = World()
    world.arrive(0, call("ann", "m1", 2_000))
    world.resolve(SMALL)
    (letter,) = world.letters()
    assert letter.record is not None
    assert set(letter.record) == {"bytes", "sha256"}


@pytest.mark.parametrize("read_before_the_mend", [True, False])
def test_an_audience_filled_from_history_meanwhile_counts_the_call_once(
    read_before_the_mend: bool,
) -> None:
    """The reading of the past has seen the record, too: with the limit of that time."""
    world = World()
    world.arrive(0, call("ann", "m1", 2_000))
    for number in range(9):
        # Of both partitions: up to here, what is read again is news to those who are filled.
        world.arrive(0, call(f"other_{number}", f"other {number}"))
    world.resolve(SMALL)
    world.evaluate()
    world.clock._now += 60
    old = world.published.versions[1]
    new = version(old, world.clock.now_ms(), ONE, NEW, generations={"new": 2})
    world.published = Published({1: old, 2: new}, dict.fromkeys(NUMBERS, 1))
    plan = projected(Published({2: new}, {}), 2)
    assert plan is not None
    held = held_back(definitions_of(new), definitions_of(old).audiences, {"new"}, plan.plan)
    world.versions.take(2, plan.plan, held)
    world.mark(2)
    world.evaluate()
    assert all(partition.is_filling for partition in world.partitions.values())
    options = SMALL if read_before_the_mend else LARGE
    past = Resolver(of_the_past(plan.plan, held, 2), options)
    for number in NUMBERS:
        lane = past_lane(2, world.lanes.lane(of_source(number)))
        for record in world.topics.read(world.catalog.source.name, number):
            outcome = past.resolve(record.value, record.timestamp, world.clock.now_ms(), lane, record.offset)
            for profile, event in outcome.records:
                told = as_past(event)
                assert told is not None
                topic = world.catalog.profile_events.name
                world.produce(topic, msgspec.msgpack.encode(told), profile.encode())
        end = msgspec.msgpack.encode(ProfileEvent(VERSION, PAST_END, lane, 99, 0, 0, 0))
        for target in NUMBERS:
            world.produce(world.catalog.profile_events.name, end, b"", target)
    world.mark(2)
    world.evaluate()
    world.published = Published({2: new}, dict.fromkeys(NUMBERS, 2))
    others = {f"other_{number}" for number in range(9)}
    assert world.members("new") == (others if read_before_the_mend else {"ann", *others})
    assert outcomes(world.replay()) == ["replayed"]
    world.mark(2)
    world.evaluate()
    assert world.members("one") == world.members("new") == {"ann", *others}


# --- what Facebook refused ---


def refused(world: World, profile: str, destination: str = "one", attempts: int = 1) -> DeadLetter:
    """The letter of the profile's newest delta."""
    delta = [one for one in world.deltas if one.profile == profile][-1]
    partition = partition_for(delta.audience.encode(), len(NUMBERS))
    records = world.topics.read(world.catalog.memberships.name, partition)
    key = membership_key(delta.audience, profile)
    offset = [one.offset for one in records if one.key == key][-1]
    (request,) = build_requests([(offset, delta)], destination)
    context = LetterContext(
        world.catalog.memberships.name, partition, destination, attempts, world.clock.now_ms()
    )
    letter = rejected_row(context, request, 0, "no", None)
    world.bury(letter)
    return letter


def bought(*profiles: str) -> World:
    world = World()
    for profile in profiles:
        world.arrive(0, call(profile, f"of {profile}"))
    world.resolve(LARGE)
    world.evaluate()
    return world


def test_a_refused_row_is_said_once_more_and_keeps_its_letter() -> None:
    world = bought("ann", "bob")
    first = refused(world, "ann")
    assert outcomes(world.replay()) == ["replayed"]
    world.evaluate()
    again = world.deltas[-1]
    assert (again.profile, again.sequence, again.change.value) == ("ann", 2, "updated")
    assert world.letters() == []
    second = refused(world, "ann", attempts=3)
    assert (second.id, second.attempts) == (first.id, 4)
    assert second.first_failed_at == first.first_failed_at
    assert second.sequence == first.sequence
    assert outcomes(world.replay()) == ["replayed"]
    world.evaluate()
    assert [delta.sequence for delta in world.deltas if delta.profile == "ann"] == [1, 2, 3]
    assert refused(world, "ann").attempts == 5


def test_letters_of_one_membership_ask_for_it_once() -> None:
    world = bought("ann")
    letter = refused(world, "ann")
    others = [
        letter.model_copy(update={"id": dead_letter_id("deliver", letter.origin, index), "attempts": index})
        for index in (1, 2, 3)
    ]
    for other in others:
        world.bury(other)
    assert outcomes(world.replay(most=1)) == ["replayed"] * 4
    asked = [event.repeat for event in world.events() if event.kind == REPEAT]
    assert len(asked) == 1
    assert asked[0] is not None
    assert asked[0].failures == {"one": (3, letter.first_failed_at)}


def test_a_change_that_is_not_the_newest_is_superseded() -> None:
    world = bought("ann")
    refused(world, "ann")
    world.arrive(0, call("ann", "one more"))
    world.resolve(LARGE)
    world.evaluate()
    assert world.deltas[-1].change.value == "exited"
    before = world.events()
    assert outcomes(world.replay()) == ["superseded"]
    assert world.events() == before
    (letter,) = world.all_letters().values()
    assert letter.resolved == "superseded"


def test_a_change_that_is_overtaken_on_the_way_is_not_said() -> None:
    world = bought("ann")
    refused(world, "ann")
    world.arrive(0, call("ann", "one more"))
    world.resolve(LARGE)
    assert outcomes(world.replay()) == ["replayed"]
    world.evaluate()
    assert [delta.change.value for delta in world.deltas] == ["entered", "exited"]
    assert world.counters.stages["evaluate"].dropped == {"superseded": 1}


def test_a_forgotten_person_and_a_destination_that_is_gone_are_superseded() -> None:
    world = bought("ann", "bob")
    refused(world, "ann")
    letter = refused(world, "bob")
    world.bury(letter.model_copy(update={"id": "x", "destination": "gone@act_9"}))
    key = membership_key("one", "ann")
    world.produce(world.catalog.memberships.name, None, key, partition_for(b"one", len(NUMBERS)))
    assert outcomes(world.replay()) == ["replayed", "superseded", "superseded"]


# --- records of our own topics ---


def strange(world: World, stage: str, topic: str, value: bytes, key: bytes = b"ann") -> DeadLetter:
    partition = partition_for(key, len(NUMBERS))
    origin = Origin(topic=topic, partition=partition, offset=world.topics.write(topic, partition, key, value))
    letter = DeadLetter(
        id=dead_letter_id(stage, origin),
        stage=stage,
        reason=Reason.INVALID_FIELD,
        detail="not read",
        origin=origin,
        first_failed_at=1,
        last_failed_at=1,
    )
    world.bury(letter)
    return letter


def test_a_record_that_can_be_read_by_now_is_taken_again() -> None:
    world = World()
    said = Linking(["anonymous_id:b"], "ann")
    ask = ProfileEvent(VERSION, ASK, "profiles/1", 7, 0, 5, 6, linking=said)
    strange(world, "evaluate", world.catalog.profile_events.name, msgspec.msgpack.encode(ask))
    assert outcomes(world.replay()) == ["replayed"]
    first, second = world.events()
    assert (first.lane, second.lane) == ("profiles/1", "replay/id-of-dead-letters")
    assert (second.kind, second.linking, second.received) == (ASK, said, 6)


@pytest.mark.parametrize(
    ("stage", "value", "outcome"),
    [
        ("evaluate", b"\xc1", "failed"),
        ("evaluate", msgspec.msgpack.encode([1, 2]), "failed"),
        ("deliver", b"[]", "failed"),
        (
            "evaluate",
            msgspec.msgpack.encode(ProfileEvent(VERSION, MARKER, "", 0, 0, 1, 1, progress={"x": 1})),
            "superseded",
        ),
    ],
    ids=["no MessagePack", "too short", "no delta", "a marker"],
)
def test_what_still_is_nothing_fails_again(stage: str, value: bytes, outcome: str) -> None:
    world = World()
    topics = {"evaluate": world.catalog.profile_events.name, "deliver": world.catalog.memberships.name}
    letter = strange(world, stage, topics[stage], value)
    assert outcomes(world.replay()) == [outcome]
    assert world.all_letters()[letter.id].attempts == (2 if outcome == "failed" else 1)


def test_a_value_that_does_not_fit_its_feed_fails_again() -> None:
    world = World()
    (feed,) = world.versions.plans[1].feeds
    event = ProfileEvent(VERSION, CALL, "lane", 7, 0, 5, 6, hits=[FeedHit(feed, ["one too many"])])
    strange(world, "evaluate", world.catalog.profile_events.name, msgspec.msgpack.encode(event))
    assert outcomes(world.replay()) == ["failed"]
