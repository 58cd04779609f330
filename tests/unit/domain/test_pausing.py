"""What people want of audiences and destinations, and what their commands publish."""

from __future__ import annotations

import pytest

from app.adapters.memory import MemoryControl
from app.domain.definitions import Document, parse_definitions
from app.domain.pausing import NO_REASON, Desired, desired_of, to_pause, to_resume, to_resync
from app.domain.published import next_version
from app.errors import InvalidInputError
from schemas.sync import BrakeState, BrakeTrip, SyncState

SET = """
audiences:
  - {name: One, when: {event: A}}
  - {name: Two, when: {event: B}, facebook: [{ad_account_id: act_1}, {ad_account_id: act_2}]}
  - {name: Nowhere, when: {event: C}, facebook: []}
"""
FIRST, SECOND = "two@act_1", "two@act_2"
TRIP = BrakeTrip(at=1_767_225_600_000, removed=2_000, members=5_000)


class World:
    def __init__(self) -> None:
        self.control = MemoryControl()
        definitions = parse_definitions([Document("audiences.yaml", SET)])
        self.control.publish(lambda published: next_version(published.newest, definitions, 0))
        self.states: dict[str, SyncState] = {}
        self.now = 100

    def pause(self, target: str, reason: str | None = None) -> bool:
        return self._publish(lambda known: to_pause(known, target, reason, self.now))

    def resume(self, target: str, *, accept_shrink: bool = False) -> bool:
        return self._publish(
            lambda known: to_resume(known, self.states, target, self.now, accept_shrink=accept_shrink)
        )

    def resync(self, target: str) -> bool:
        return self._publish(lambda known: to_resync(known, target, self.now))

    def _publish(self, decide: object) -> bool:
        self.now += 1
        before = self.control.published
        self.control.publish(decide)  # type: ignore[arg-type] # a closure of the two above
        return self.control.published != before

    def trip(self, destination: str) -> None:
        brake = BrakeState(position=1, members=3_000, accepted_at=0, trip=TRIP)
        self.states[destination] = SyncState(
            destination=destination, audience="two", marker="m", updated_at=0, brake=brake
        )

    def of(self, audience: str, destination: str) -> Desired:
        return desired_of(self.control.published.desired, audience, destination)


def test_nobody_wants_anything_at_first() -> None:
    assert World().of("one", "one") == Desired(None, 0)


def test_an_audience_is_paused_with_all_its_destinations_and_resumed() -> None:
    world = World()
    assert world.pause("two", "no budget")
    assert [world.of("two", id_).paused for id_ in (FIRST, SECOND)] == ["no budget"] * 2
    assert world.of("one", "one").paused is None
    assert not world.pause("two", "no budget"), "nothing new"
    assert world.pause("two"), "another reason"
    assert world.of("two", FIRST).paused == NO_REASON
    assert world.resume("two")
    assert world.of("two", FIRST).paused is None
    assert not world.resume("two")


def test_what_was_said_last_holds_of_the_audience_and_its_destination() -> None:
    world = World()
    world.pause("two")
    world.resume(FIRST)
    assert [world.of("two", id_).paused for id_ in (FIRST, SECOND)] == [None, NO_REASON]
    world.pause("two", "again")
    assert [world.of("two", id_).paused for id_ in (FIRST, SECOND)] == ["again", "again"]
    world.pause(SECOND, "this one")
    world.resume("two")
    assert [world.of("two", id_).paused for id_ in (FIRST, SECOND)] == [None, None]


@pytest.mark.parametrize("target", ["three", "two@act_3", "nowhere"])
def test_what_is_not_delivered_is_refused_by_name(target: str) -> None:
    for command in (World().pause, World().resume, World().resync):
        with pytest.raises(InvalidInputError, match=target):
            command(target)


def test_a_reason_is_not_a_story() -> None:
    with pytest.raises(InvalidInputError, match="--reason"):
        World().pause("one", "x" * 501)


@pytest.mark.parametrize("target", ["two", SECOND])
def test_the_brake_is_released_by_accepting_alone(target: str) -> None:
    world = World()
    world.trip(SECOND)
    with pytest.raises(InvalidInputError, match=r"2,000 of 5,000 members.*--accept-shrink"):
        world.resume(target)
    assert world.control.published.desired == {}
    assert world.resume(target, accept_shrink=True)
    assert world.of("two", SECOND) == Desired(None, world.now)
    world.pause(target)
    assert world.of("two", SECOND).accepted_at == world.now - 1, "a pause takes nothing back"
    assert world.resume(target), "the worker has not written yet that it took it up"


def test_what_was_accepted_for_an_audience_holds_for_a_destination_that_is_paused_since() -> None:
    world = World()
    world.resume("two", accept_shrink=True)
    at = world.now
    world.pause(FIRST)
    assert world.of("two", FIRST) == Desired(NO_REASON, at)


def test_another_destination_is_resumed_while_the_brake_holds_one() -> None:
    world = World()
    world.trip(SECOND)
    world.pause(FIRST)
    assert world.resume(FIRST)


def test_a_shrink_may_be_accepted_before_it_happens() -> None:
    world = World()
    assert world.resume("one", accept_shrink=True)
    assert world.of("one", "one") == Desired(None, world.now)


def test_a_resync_pauses_and_resumes_nothing() -> None:
    world = World()
    world.pause(FIRST, "alone")
    assert world.resync("two")
    at = world.now
    assert [world.of("two", id_) for id_ in (FIRST, SECOND)] == [
        Desired("alone", 0, at),
        Desired(None, 0, at),
    ]
    world.pause("two", "all")
    world.resync(FIRST)
    assert [world.of("two", id_) for id_ in (FIRST, SECOND)] == [
        Desired("all", 0, world.now),
        Desired("all", 0, at),
    ]
    world.resume("two", accept_shrink=True)
    assert world.of("two", SECOND) == Desired(None, world.now, at), "it is still asked for"


@pytest.mark.parametrize("command", ["pause", "resume", "resync"])
def test_what_is_delivered_nowhere_is_told_so_whatever_is_asked(command: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^nowhere is delivered nowhere .*: it has no destination$"):
        getattr(World(), command)("nowhere")
