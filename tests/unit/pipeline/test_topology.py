"""A rebalance in the middle of a restore: nothing is begun that is another worker's by then. And records that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.adapters.kafka_delivery import KafkaMembershipLog
from app.adapters.kafka_tallies import TallyReader
from app.adapters.memory import (
    ManualClock,
    MemoryDeadLetters,
    MemoryLiveness,
    MemoryMembershipLog,
    MemorySyncLedger,
)
from app.adapters.memory_graph import MemoryGraph
from app.domain.clock import SourcePartition
from app.domain.counters import Counters
from app.domain.sizes import SizeTally
from app.errors import UnreachableError
from app.pipeline import topology
from app.pipeline.deliver import Delivery, DeliveryOptions
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.expire import LaneProgress
from app.pipeline.topology import Owned, Pipeline, Stages
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from tests.unit.pipeline.source_lanes import SOURCE, of_source
from tests.unit.pipeline.test_evaluate import Arrived
from topics.catalog import Catalog

OWNED = Owned(source=frozenset({of_source(0)}), memberships=frozenset({0, 1}))
ENDS = {0: 7, 1: 9}


async def no_commit(content: GroupCommit) -> None:
    raise AssertionError("there is nothing to commit")


class World:
    """A pipeline of which every step that waits may be one in which the partitions are revoked."""

    def __init__(self, revoked_at: str) -> None:
        self.steps: list[str] = []
        clock, counters, catalog = ManualClock(), Counters(), Catalog()

        def definition(key: str) -> AudienceDefinition:
            destination = FacebookDestination(id=key, ad_account_id="act_1")
            return AudienceDefinition(
                key=key, name=key, description="", source=AudienceSource.ENGAGE, destinations=[destination]
            )

        self.delivery = Delivery(
            definitions=[definition("zero"), definition("one")],
            graph=MemoryGraph(),
            ledger=MemorySyncLedger(),
            letters=MemoryDeadLetters(),
            log=MemoryMembershipLog(),
            clock=clock,
            liveness=MemoryLiveness(),
            counters=counters,
            options=DeliveryOptions(installation="test", revoke_grace_seconds=0.01),
            partition_of={"zero": 0, "one": 1}.__getitem__,
            memberships_topic=catalog.memberships.name,
            on_failure=self._fail,
        )

        async def step(name: str) -> None:
            self.steps.append(name)
            if name == revoked_at:
                await self.pipeline.revoked()

        def in_thread_at(name: str, answer: Any) -> Callable[..., Awaitable[Any]]:
            async def answers(*_: Any) -> Any:
                await step(name)
                return answer

            return answers

        answers = {
            "layout": in_thread_at("layout", {SOURCE: ("topic", 1)}),
            "states": in_thread_at("states", {}),
            "ends": in_thread_at("ends", ENDS),
        }

        async def in_thread(call: Any, *arguments: Any) -> Any:
            if call in answers:
                return await answers[call](*arguments)
            await step("profiles")
            return call(*arguments)

        async def refresh() -> None:
            await step("definitions")

        self.lanes = LaneProgress(SOURCE)
        log: Any = SimpleNamespace(latest_values="states", settled_ends="ends")
        source_layouts: Any = "layout"
        unused: Any = None
        self.pipeline = Pipeline(
            stages=Stages(
                resolve=unused,
                evaluate=EvaluateStage(unused, no_commit, clock, counters, catalog, 2),
                delivery=self.delivery,
                lanes=self.lanes,
            ),
            writer=unused,
            log=log,
            clock=clock,
            catalog=catalog,
            partitions=2,
            sources=(SOURCE,),
            source_layouts=source_layouts,
            caught_up=unused,
            in_thread=in_thread,
            letters=unused,
            counters=counters,
            on_failure=self._fail,
            refresh_definitions=refresh,
        )

    @staticmethod
    def _fail(error: BaseException) -> None:
        raise error


STEPS = ["definitions", "layout", "profiles", "states", "ends"]


async def test_without_a_rebalance_everything_owned_begins() -> None:
    world = World(revoked_at="never")
    assert await world.pipeline.restore(OWNED, Owned()) == ENDS
    assert world.steps == STEPS
    assert set(world.delivery.destinations()) == {"zero", "one"}
    assert world.lanes.partitions == (of_source(0),)
    await world.delivery.stop()


@pytest.mark.parametrize("step", STEPS)
async def test_what_was_revoked_meanwhile_is_not_begun(step: str) -> None:
    world = World(revoked_at=step)
    await world.pipeline.restore(OWNED, Owned())
    assert not world.delivery.destinations()
    assert world.lanes.partitions == ()


@pytest.mark.parametrize("broken", ["flush", "done"])
async def test_whatever_fails_behind_the_last_batch_ends_the_process(broken: str) -> None:
    """No batch comes behind it that could bring the failure to light."""
    world, failures = World(revoked_at="never"), list[BaseException]()

    def out_of_memory(name: str) -> Callable[..., None]:
        def call(*_: str) -> None:
            if name == broken:
                raise MemoryError

        return call

    world.pipeline.on_failure = failures.append
    world.pipeline.stages.resolve = cast("Any", SimpleNamespace(process=lambda *_: ""))
    world.pipeline.writer = cast("Any", SimpleNamespace(flush=out_of_memory("flush")))
    await world.pipeline.on_source(of_source(0), [], out_of_memory("done"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert [type(failure) for failure in failures] == [MemoryError]


class TwoTopics(World):
    """A worker with a partition of the source topic and one of rows, and what Kafka says of their ends."""

    def __init__(self) -> None:
        super().__init__(revoked_at="never")
        self.ends = {(SOURCE, 0): 10, ("warehouse", 1): 5}
        self.pipeline.sources = (SOURCE, "warehouse")
        self.asked: list[tuple[str, ...]] = []
        self.pipeline.source_layouts = self._layouts
        self.pipeline.log = cast("Any", SimpleNamespace(end_offsets=self._end_offsets))
        self.pipeline.in_thread = self._at_once
        self.pipeline.caught_up = lambda *asked: asked[2] >= asked[1]

    def _layouts(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        self.asked.append(tuple(topics))
        return {SOURCE: ("s", 1), "warehouse": ("w", 2)}

    def _end_offsets(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        return {number: self.ends[topic, number] for number in numbers}

    @staticmethod
    async def _at_once(call: Any, *arguments: Any) -> Any:
        return call(*arguments)


async def test_each_topic_that_is_read_has_lanes_ends_and_lags_of_its_own() -> None:
    world = TwoTopics()
    rows = SourcePartition("warehouse", 1)
    await world.pipeline.restore(Owned(source=frozenset({of_source(0), rows})), Owned())
    assert world.asked == [(SOURCE, "warehouse")]
    assert {world.lanes.lane(one) for one in world.lanes.partitions} == {"s/0", "w/1"}
    world.lanes.processed(of_source(0), 0, 7, 100)
    world.lanes.processed(rows, 0, 5, 200)
    lags = await world.pipeline.lags(lambda *place: place[2])
    assert lags["resolve"] == 3
    await world.pipeline._probe_lanes()
    assert world.lanes.progress(of_source(0)) == 100, "is behind its own end"
    assert world.lanes.progress(rows) == world.pipeline.clock.now_ms()
    await world.delivery.stop()


async def test_no_marker_is_queued_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world, written = TwoTopics(), list[int]()
    monkeypatch.setattr(topology, "MARKER_SECONDS", 0)
    await world.pipeline.restore(Owned(source=frozenset({of_source(0)})), Owned())
    world.lanes.processed(of_source(0), 0, 7, 100)
    answer, answered = world.pipeline.log.end_offsets, asyncio.Event()
    refusals = iter(range(3))

    def refuse_at_first(topic: str, numbers: Sequence[int]) -> Any:
        if next(refusals, None) is not None:
            assert not written
            raise UnreachableError("away")
        answered.set()
        return answer(topic, numbers)

    writer = SimpleNamespace(produce=lambda *record: written.append(record[3]))
    log = SimpleNamespace(end_offsets=refuse_at_first)
    world.pipeline.log, world.pipeline.writer = cast("Any", log), cast("Any", writer)
    markers = asyncio.create_task(world.pipeline.run_markers())
    async with asyncio.timeout(30):
        await answered.wait()
        while not written:
            await asyncio.sleep(0)
    markers.cancel()
    assert written[:2] == [0, 1], "to every partition"
    await world.delivery.stop()


async def test_the_lanes_of_all_topics_are_waited_for() -> None:
    world, expected = TwoTopics(), list[list[str]]()
    partition = SimpleNamespace(set_expected=lambda lanes: expected.append(list(lanes)))
    world.pipeline.stages.evaluate.partitions[0] = cast("Any", partition)
    await world.pipeline.restore(Owned(), Owned(profile_events=frozenset({0})))
    assert expected == [["s/0", "w/0", "w/1"]]
    await world.delivery.stop()


# Of somebody else who writes to audience.memberships.
NO_DELTAS = {
    "bad UTF-8": b'{"audience": "\xff"}',
    "endless nesting": b'{"audience": "zero", "more": ' + b"[" * 100_000,
    "no object": b"[]",
}


@pytest.mark.parametrize("value", NO_DELTAS.values(), ids=NO_DELTAS)
async def test_what_is_no_delta_becomes_a_letter_and_ends_nobody(value: bytes) -> None:
    world, letters = World(revoked_at="never"), MemoryDeadLetters()
    world.pipeline.letters = letters
    done: list[bool] = []
    await world.pipeline.on_memberships(0, [Arrived(3, value, b"zero|user_1")], lambda: done.append(True))
    assert [(letter.reason, letter.origin.offset) for letter in letters.letters.values()] == [
        ("invalid_field", 3)
    ]
    assert done


@pytest.mark.parametrize("value", NO_DELTAS.values(), ids=NO_DELTAS)
async def test_what_is_no_delta_becomes_a_letter_where_a_destination_catches_up(value: bytes) -> None:
    message = SimpleNamespace(key=lambda: b"zero|user_1", value=lambda: value, offset=lambda: 3)
    reader: Any = SimpleNamespace(batches=lambda *_: iter([[message]]))
    buried: list[tuple[int, int, bytes]] = []

    async def bury(*place: Any) -> None:
        buried.append(place)

    log = KafkaMembershipLog(reader, "audience.memberships", bury)
    assert [delta async for delta in log.read(0, 0, 4, "zero")] == []
    assert buried == [(0, 3, value)]


@pytest.mark.parametrize("value", NO_DELTAS.values(), ids=NO_DELTAS)
def test_what_is_no_delta_is_no_member(value: bytes) -> None:
    message = SimpleNamespace(
        key=lambda: b"zero|user_1", value=lambda: value, partition=lambda: 0, offset=lambda: 3
    )
    reader: Any = SimpleNamespace(
        settled_ends=lambda *_: {0: 4}, read=lambda _topic, _ranges, take: take([message])
    )
    tally = SizeTally("zero")
    TallyReader(reader, Catalog(), 2).read_sizes(0, "zero", [tally])
    assert tally.members == {}
