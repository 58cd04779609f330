"""Replay of what Facebook refused, and of records of our own topics."""

from __future__ import annotations

import msgspec
import pytest

from app.domain.delivery_letters import LetterContext, rejected_row
from app.domain.users_requests import build_requests
from schemas.dead_letter import DeadLetter, Origin, Reason, dead_letter_id
from schemas.profile import ASK, CALL, MARKER, REPEAT, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.pipeline.replay_world import LARGE, NUMBERS, World, call, outcomes
from topics.partitioning import membership_key, partition_for

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
