"""Audiences that Engage calls name: noted before the call is done, published once, filled from history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from app.adapters.memory import ManualClock, MemoryControl
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.published import Published, definitions_of, read_published, to_apply, to_publish_at_start
from app.pipeline.auto_create import AutoCreate
from app.pipeline.expire import LaneProgress
from app.pipeline.follow import Follower, InForce
from schemas.audience import AudienceSource
from schemas.control import DefinitionsRecord
from tests.unit.pipeline.source_lanes import SOURCE, own

ONE = "{name: One, when: {event: A, within: 30d}}"


def of(*audiences: str, defaults: str = "{}") -> DefinitionSet:
    text = f"{{defaults: {defaults}, audiences: [{', '.join(audiences)}]}}"
    return parse_definitions([Document("audiences.yaml", text)])


class World:
    """Two workers over one log; the first owns source partition 0."""

    def __init__(self, most: int = 3, defaults: str = "{}") -> None:
        self.control = MemoryControl()
        self.written: list[tuple[str, bytes, bytes, int]] = []
        self.workers = [self._worker(partition, most) for partition in (0, 1)]
        self.apply(of(ONE, defaults=defaults))
        self.control.run_by({0: 1})

    def _worker(self, partition: int, most: int) -> AutoCreate:
        lanes = LaneProgress(SOURCE)
        own(lanes, partition)
        return AutoCreate(
            follower=Follower(self.control, 1, self._in_thread, self._use),
            lanes=lanes,
            writer=self,
            clock=ManualClock(),
            partitions=1,
            control_topic="audience.control",
            most=most,
        )

    async def _in_thread(self, call: Callable[[], Published]) -> Published:
        await asyncio.sleep(0)
        return call()

    async def _use(self, in_force: InForce) -> None:
        del in_force

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        self.written.append((topic, key or b"", value or b"", partition))
        records = {key: value for _, key, value, _ in self.written}
        wanted = read_published(records).wanted
        known = self.control.published
        self.control.published = Published(known.versions, known.running, known.filling, wanted)

    def flush(self) -> None:
        pass

    def apply(self, definitions: DefinitionSet) -> None:
        self.control.publish(lambda published: to_apply(published, definitions, 1, 0, allow_delete=True))

    async def step(self) -> DefinitionsRecord:
        for worker in self.workers:
            await worker.follower.refresh()
            await worker.step()
        newest = self.control.published.newest
        assert newest is not None
        return newest


async def test_what_calls_name_is_created_once_and_filled() -> None:
    world = World()
    await world.step()
    for worker in world.workers:
        worker.note("vips")
        worker.note("vips")
    topic, key, _, partition = world.written[0]
    assert (topic, key, partition) == ("audience.control", b"wanted|vips", 0)
    assert len(world.written) == 2, "once by each worker"
    record = await world.step()
    assert (record.number, record.created, record.generations) == (2, ("vips",), {"vips": 2})
    created = definitions_of(record).audiences[-1]
    assert (created.key, created.name, created.source) == ("vips", "vips", AudienceSource.ENGAGE)
    assert [item.id for item in created.destinations] == ["vips"]
    assert world.control.published.wanted == frozenset()
    assert await world.step() is record
    world.workers[1].note("vips")
    assert len(world.written) == 2, "it is there"


async def test_waits_until_what_was_created_before_is_filled() -> None:
    world = World()
    await world.step()
    world.workers[0].note("vips")
    await world.step()
    world.workers[1].note("buyers")
    assert (await world.step()).number == 2
    world.control.run_by({0: 2})
    assert (await world.step()).created == ("vips", "buyers")


async def test_no_more_than_so_many_and_only_keys() -> None:
    world = World(most=2)
    await world.step()
    for key in ("Not a key", "x" * 201, "", "one", "a", "b", "c"):
        world.workers[0].note(key)
    assert [key for _, key, _, _ in world.written] == [b"wanted|a", b"wanted|b"]
    # Other workers did not know of that yet.
    world.workers[1].note("d")
    assert (await world.step()).created == ("a", "b")


async def test_only_the_owner_of_the_first_partition_publishes() -> None:
    world = World()
    await world.step()
    own(world.workers[0].lanes, 7)
    world.workers[1].note("vips")
    assert (await world.step()).number == 1


async def test_files_leave_them_alone_until_one_defines_them() -> None:
    world = World()
    await world.step()
    world.workers[0].note("vips")
    record = await world.step()
    world.control.run_by({0: 2})
    published = world.control.published
    assert to_apply(published, of(ONE), 1, 0, allow_delete=True) is None
    assert to_publish_at_start(published, of(ONE), "f.yaml", 1, 0) == (None, None)
    two = "{name: Two, when: {event: A, within: 9d}}"
    world.apply(of(two))
    newest = await world.step()
    assert (newest.number, newest.created, newest.generations) == (3, ("vips",), record.generations)
    world.control.run_by({0: 3})
    own = "{name: VIPs, key: vips, source: engage}"
    world.apply(of(two, own))
    newest = await world.step()
    assert (newest.created, newest.generations) == ((), record.generations), (
        "the same claims, under another name"
    )
    world.apply(of(two))
    newest = await world.step()
    assert [item.key for item in definitions_of(newest).audiences] == ["two"]
    world.control.run_by({0: newest.number})
    await world.step()
    world.workers[0].note("vips")
    assert (await world.step()).created == ("vips",), "named again"


DEFAULTS = """{
    require: {trait: consent, equals: true}, include_history: false, include_anonymous: true,
    facebook: [{ad_account_id: act_1}, {ad_account_id: act_2}]}"""


@pytest.mark.parametrize("later", [False, True], ids=["from the start", "as the defaults change"])
async def test_they_are_what_the_defaults_say(later: bool) -> None:
    before = DEFAULTS.replace("require: {trait: consent, equals: true},", "") if later else DEFAULTS
    world = World(defaults=before)
    await world.step()
    world.workers[0].note("vips")
    record = await world.step()
    if later:
        world.control.run_by({0: 2})
        world.apply(of(ONE, defaults=DEFAULTS))
        record = await world.step()
    created = definitions_of(record).audiences[-1]
    assert created.key == "vips"
    assert created.require is not None
    assert created.include_anonymous
    assert created.include_history, "its calls are its history"
    assert [item.id for item in created.destinations] == ["vips@act_1", "vips@act_2"]
