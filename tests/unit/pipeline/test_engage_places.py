"""Places that Engage calls name: noted before the call is done, published once, and what follows for destinations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from app.adapters.memory import ManualClock, MemoryControl
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.engage_places import SILENT_MS
from app.domain.published import Published, definitions_of, read_published, to_apply
from app.pipeline.engage_places import EngagePlaces
from app.pipeline.expire import LaneProgress
from app.pipeline.follow import Follower, InForce
from schemas.control import DefinitionsRecord, Place
from tests.unit.pipeline.source_lanes import SOURCE, own

VIPS = "{name: VIPs, source: engage}"
ONE = "{name: One, when: {event: A, within: 30d}}"
A, B = Place(ad_account_id="act_7", audience_id="70"), Place(ad_account_id="act_8", audience_id="80")


def of(*audiences: str) -> DefinitionSet:
    return parse_definitions([Document("audiences.yaml", f"audiences: [{', '.join(audiences)}]")])


class World:
    """Two workers over one log; the first owns source partition 0."""

    def __init__(self, *audiences: str) -> None:
        self.control = MemoryControl()
        self.written: dict[bytes, bytes] = {}
        self.coming: set[str] = set()
        self.workers = [self._worker(partition) for partition in (0, 1)]
        self.apply(of(*audiences))
        self.control.run_by({0: 1})

    def _worker(self, partition: int) -> EngagePlaces:
        lanes = LaneProgress(SOURCE)
        own(lanes, partition)
        return EngagePlaces(
            follower=Follower(self.control, 1, self._in_thread, self._use),
            lanes=lanes,
            writer=self,
            clock=ManualClock(),
            partitions=1,
            control_topic="audience.control",
            is_coming=lambda key: key in self.coming,
        )

    async def _in_thread(self, call: Callable[[], Published]) -> Published:
        await asyncio.sleep(0)
        return call()

    async def _use(self, in_force: InForce) -> None:
        del in_force

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        assert (topic, partition) == ("audience.control", 0)
        self.written[key or b""] = value or b""
        self.control.published = replace(self.control.published, placed=read_published(self.written).placed)

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
        self.control.run_by({0: newest.number})
        return newest

    def places(self) -> list[tuple[str | None, str | None]]:
        newest = self.control.published.newest
        assert newest is not None
        return [
            (one.ad_account_id, one.audience_id)
            for audience in definitions_of(newest).audiences
            for one in audience.destinations
        ]


async def test_what_a_call_says_is_published_once_and_stays_when_files_are_applied() -> None:
    world = World(VIPS)
    await world.step()
    for worker in world.workers:
        worker.note("vips", A, 1_000)
    record = await world.step()
    assert (record.number, world.places()) == (2, [("act_7", "70")])
    for worker in world.workers:
        worker.note("vips", A, 2_000)
    assert (await world.step()).number == 2
    world.apply(of(VIPS, ONE))
    assert ((await world.step()).number, world.places()[0]) == (3, ("act_7", "70"))
    world.apply(of("{name: VIPs, source: engage, facebook: {ad_account_id: act_1}}", ONE))
    assert ((await world.step()).number, world.places()[0]) == (4, ("act_1", None)), "the file goes before"
    world.apply(of(ONE))
    assert (await world.step()).placed == {}


async def test_only_audiences_that_are_or_come_are_noted_and_only_where_it_matters() -> None:
    world = World(ONE, "{name: VIPs, source: engage, facebook: {ad_account_id: act_1}}")
    await world.step()
    world.workers[0].note("nobody", A, 1_000)
    assert world.written == {}
    world.coming.add("nobody")
    world.workers[0].note("nobody", A, 1_000)
    world.workers[0].note("one", A, 1_000)
    world.workers[0].note("vips", A, 1_000)
    assert sorted(world.written) == [b"placed|nobody", b"placed|one", b"placed|vips"]
    assert (await world.step()).number == 1


async def test_two_instances_that_speak_in_turn_do_not_move_the_audience() -> None:
    world = World(VIPS)
    await world.step()
    first, second = world.workers
    first.note("vips", A, 0)
    await world.step()
    for minute in range(60):
        first.note("vips", (A, B)[minute % 2], minute * 60_000)
    assert ((await world.step()).number, world.places()) == (2, [("act_7", "70")])
    second.note("vips", B, 5_000)
    assert (await world.step()).number == 2
    first.note("vips", B, 58 * 60_000 + SILENT_MS + 1)
    assert ((await world.step()).number, world.places()) == (3, [("act_8", "80")])


async def test_only_the_owner_of_the_first_partition_publishes_and_nobody_while_history_is_read() -> None:
    world = World(VIPS)
    await world.step()
    world.workers[1].note("vips", A, 1_000)
    own(world.workers[0].lanes, 7)
    assert (await world.step()).number == 1
    own(world.workers[0].lanes, 0)
    world.control.published = replace(world.control.published, filling=frozenset({0}))
    newest = world.control.published.newest
    assert newest is not None
    held = newest.model_copy(update={"generations": {"vips": newest.number}})
    world.control.published = replace(world.control.published, versions={1: held})
    assert (await world.step()).number == 1
    world.control.published = replace(world.control.published, filling=frozenset())
    assert (await world.step()).number == 2
