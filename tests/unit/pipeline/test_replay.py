"""Replay over topics in memory: what is written for which letter, and that nothing is done twice."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.clock import SourcePartition
from app.domain.filling import as_past, held_back, of_the_past, past_lane
from app.domain.published import Published, definitions_of
from app.domain.replaying import projected
from app.domain.resolution import Resolver
from app.domain.room import Room
from app.errors import FatalError
from app.pipeline.replay import Outcome
from schemas.dead_letter import Reason
from schemas.profile import CALL, PAST_END, VERSION, ProfileEvent
from tests.unit.pipeline.replay_world import (
    LARGE,
    NEW,
    NUMBERS,
    ONE,
    SMALL,
    WAREHOUSE,
    World,
    call,
    outcomes,
    row,
    version,
)
from tests.unit.pipeline.source_lanes import SOURCE, of_source


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
    plan = projected(Published({2: new}, {}), 2, Room())
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
                told = as_past(event, 2)
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
