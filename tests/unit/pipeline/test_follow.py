"""What is in force in a worker, as audience.control changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from app.adapters.memory import MemoryControl
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.published import Published, next_version
from app.errors import InvalidInputError
from app.pipeline import follow
from app.pipeline.follow import Follower, InForce
from schemas.control import DesiredRecord, RepartitionRecord, RepartitionStep

ONE = "{name: One, when: {event: A, within: 30d}, facebook: {on_delete: clear}}"
TWO = "{name: Two, when: {event: B, within: 20d}}"


def of(*audiences: str) -> DefinitionSet:
    return parse_definitions([Document("audiences.yaml", f"audiences: [{', '.join(audiences)}]")])


class World:
    def __init__(self) -> None:
        self.control = MemoryControl()
        self.used: list[InForce] = []
        self.heard: list[str] = []
        self.follower = Follower(self.control, 2, self._in_thread, self._use, desire=self._desire)

    async def _in_thread(self, call: Callable[[], Published]) -> Published:
        await asyncio.sleep(0)
        return call()

    async def _use(self, in_force: InForce) -> None:
        await asyncio.sleep(0)
        self.used.append(in_force)
        self.heard.append("definitions")

    def _desire(self, desired: Mapping[str, DesiredRecord]) -> None:
        self.heard.append(",".join(desired))

    def publish(self, *audiences: str) -> None:
        self.control.publish(lambda published: next_version(published.newest, of(*audiences), 0))

    async def refresh(self) -> InForce:
        await self.follower.refresh()
        assert self.follower.current is not None
        return self.follower.current


async def test_nothing_is_in_force_before_something_is_published() -> None:
    world = World()
    await world.follower.refresh()
    assert (world.used, world.follower.current) == ([], None)


async def test_what_people_want_is_known_before_anything_is_delivered() -> None:
    world = World()
    world.publish(ONE)
    world.control.publish(lambda _: DesiredRecord(target="one", number=1, paused=True, written_at=0))
    await world.refresh()
    assert world.heard == ["one", "definitions"]
    world.control.publish(lambda _: DesiredRecord(target="two", number=2, paused=True, written_at=0))
    await world.refresh()
    assert world.heard[2:] == ["one,two"], "also without another version"


async def test_projects_for_all_versions_that_a_partition_may_run_by() -> None:
    world = World()
    world.publish(ONE)
    first = await world.refresh()
    assert first.number == 1
    assert set(first.projection.events) == {"A"}
    world.publish(TWO)
    second = await world.refresh()
    assert second.number == 2
    assert set(second.projection.events) == {"A", "B"}
    assert set(world.follower.versions.plans) == {1, 2}
    world.control.run_by({0: 2})
    assert await world.refresh() is second, "the other partition has not switched"
    world.control.run_by({1: 2})
    third = await world.refresh()
    assert set(third.projection.events) == {"B"}
    assert set(world.follower.versions.plans) == {2}
    assert world.used == [first, second, third]


async def test_a_deleted_audience_is_delivered_while_it_is_cleared_and_takes_no_calls() -> None:
    world = World()
    world.publish(ONE, TWO)
    await world.refresh()
    world.publish(TWO)
    in_force = await world.refresh()
    assert [audience.key for audience in in_force.definitions.audiences] == ["two"]
    assert [audience.key for audience in in_force.delivered] == ["two", "one"]
    plan = world.follower.versions.plans[2]
    assert not plan.audiences["one"].enabled
    world.control.run_by({0: 2, 1: 2})
    assert "one" not in (await world.refresh()).projection.audiences


async def test_goes_on_with_what_is_known_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FOLLOW_SECONDS", 0)
    monkeypatch.setattr(follow, "UNREACHABLE_PAUSE_SECONDS", 0)
    world = World()
    world.publish(ONE)
    await world.refresh()
    world.control.unreachable = True
    following = asyncio.create_task(world.follower.run())
    waiting = asyncio.create_task(world.follower.refresh())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not following.done()
    assert not waiting.done(), "who takes a lane over must know of the newest version"
    world.control.unreachable = False
    world.publish(ONE, TWO)
    await waiting
    assert world.used[-1].number == 2
    following.cancel()


async def test_nobody_takes_partitions_while_the_topics_are_repartitioned() -> None:
    """Also who had started before: `refresh` is called at every assignment, before anything is read."""
    world = World()
    world.publish(ONE)
    move = RepartitionRecord(before=2, after=3, step=RepartitionStep.COPYING, topics={}, started_at=0)
    world.control.publish(lambda _: move)
    with pytest.raises(InvalidInputError, match="`audience-sync topics repartition --partitions 3`"):
        await world.follower.refresh()
    assert world.used == []
