"""Replay of letters about somebody who is forgotten, before and after Facebook has let go of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import pytest

from app.adapters.memory_replay import MemoryReplayLog
from app.domain.forgetting import forgotten_key
from app.domain.resolution import ResolveOptions
from app.pipeline.replay import Outcome
from app.ports import StoredRecord
from schemas.dead_letter import DeadLetter
from schemas.membership import Change
from schemas.profile import FORGET, REPEAT, VERSION, ProfileEvent
from tests.unit.pipeline.replay_world import LARGE, NUMBERS, SMALL, World, call, outcomes
from tests.unit.pipeline.test_replay_rows import bought, refused
from topics.partitioning import membership_key, partition_for

# Of a call 2,000 bytes long, which the first resolve refuses.
SIZE = 2_000


def forget(world: World, profile: str, at: int | None = None) -> None:
    at = world.clock.now_ms() if at is None else at
    event = ProfileEvent(VERSION, FORGET, "forget/x", at, 0, at, at)
    partition = partition_for(profile.encode(), len(NUMBERS))
    world.produce(
        world.catalog.profile_events.name, msgspec.msgpack.encode(event), profile.encode(), partition
    )
    world.evaluate()


def confirm(world: World, profile: str) -> None:
    """Every destination has let go: tombstones, and no name any more."""
    partition = world.partitions[partition_for(profile.encode(), len(NUMBERS))]
    key = forgotten_key(profile)
    assert partition.confirm_removal(key, partition.forgotten.removals[key])
    for audience, gone in partition.drain().left:
        number = partition_for(audience.encode(), len(NUMBERS))
        world.produce(world.catalog.memberships.name, None, membership_key(audience, gone), number)


def delete(world: World, letter: DeadLetter) -> None:
    world.produce(world.catalog.dead_letters.name, None, letter.id.encode())


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_call_of_before_brings_nobody_back(*, confirmed: bool) -> None:
    world = World()
    world.arrive(0, call("ann", "m1", SIZE))
    world.arrive(0, call("bob", "m2", SIZE))
    world.resolve(SMALL)
    forget(world, "ann")
    if confirmed:
        confirm(world, "ann")
    assert outcomes(world.replay()) == ["replayed", "replayed"]
    world.evaluate()
    assert world.members("one") == {"bob"}
    assert world.counters.stages["evaluate"].dropped["forgotten"] == 1


@pytest.mark.parametrize("confirmed", [False, True])
def test_an_entry_that_was_refused_is_not_said_again(*, confirmed: bool) -> None:
    world = bought("ann", "bob")
    refused(world, "ann")
    forget(world, "ann")
    if confirmed:
        confirm(world, "ann")
    before = len(world.deltas)
    assert outcomes(world.replay()) == ["superseded"]
    world.evaluate()
    assert len(world.deltas) == before
    assert world.members("one") == {"bob"}


def test_an_entry_that_is_asked_for_before_the_person_is_forgotten_is_not_said_afterwards() -> None:
    world = bought("ann")
    refused(world, "ann")
    (result,) = world.replay()
    assert result.outcome is Outcome.REPLAYED
    at = world.clock.now_ms()
    event = ProfileEvent(VERSION, FORGET, "forget/x", at, 0, at, at)
    world.partitions[partition_for(b"ann", len(NUMBERS))].apply("ann", event)
    world.evaluate()
    assert [(one.change, one.sequence) for one in world.deltas] == [
        (Change.ENTERED, 1),
        (Change.EXITED, 2),
    ]


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_removal_that_was_refused_stays_listed_and_says_what_to_do(*, confirmed: bool) -> None:
    """Whoever takes it for done leaves the person in the Facebook audience."""
    world = bought("ann")
    forget(world, "ann")
    letter = refused(world, "ann")
    if confirmed:
        confirm(world, "ann")
    (result,) = world.replay()
    assert result.outcome is Outcome.WAITING
    assert "audiences resync one --replace" in (result.why or "")
    assert world.letters() == [letter]
    assert not [event for event in world.events() if event.kind == REPEAT]


class Forgetting(MemoryReplayLog):
    """The person is forgotten while the replay reads the topic of its letters."""

    def __init__(self, world: World, letters: Collection[DeadLetter]) -> None:
        super().__init__(world.topics)
        self._world = world
        self._gone = list(letters)

    def position(self) -> int:
        raise AssertionError("nothing is to be written")

    def records_at(self, topic: str, partition: int, offsets: Sequence[int]) -> Mapping[int, StoredRecord]:
        if topic == self._world.catalog.source.name:
            while self._gone:
                delete(self._world, self._gone.pop())
        return super().records_at(topic, partition, offsets)


@pytest.mark.parametrize("options", [SMALL, LARGE])
def test_a_letter_that_is_deleted_meanwhile_is_not_written_again(options: ResolveOptions) -> None:
    """Neither as one that has failed again nor as one that is done: nothing would delete it once more."""
    world = World()
    world.arrive(0, call("ann", "m1", SIZE))
    world.resolve(SMALL)
    letters = world.letters()
    log = Forgetting(world, letters)
    log.start()
    world.replay(options, log, letters)
    assert world.all_letters() == {}
