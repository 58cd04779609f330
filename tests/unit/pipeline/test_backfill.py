"""Reading the source again for audiences that are newer than it: when, what, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from app.adapters.memory import ManualClock, MemoryControl
from app.domain.clock import SourcePartition
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.published import Published, to_apply
from app.domain.resolution import ResolveOptions, Resolver
from app.pipeline import backfill
from app.pipeline.backfill import Backfill
from app.pipeline.expire import LaneProgress
from app.pipeline.follow import Follower, InForce
from schemas.profile import PAST, PAST_END, ProfileEvent
from tests.unit.pipeline.source_lanes import SOURCE, of_source, own

ONE = "{name: One, when: {event: A, within: 30d}}"
NEW = "{name: New, when: {event: B, within: 30d}}"


@dataclass
class Message:
    """As confluent-kafka hands it over."""

    number: int
    event: str
    instant: str = "2026-01-01T00:00:00Z"

    def value(self) -> bytes:
        instant = self.instant
        call = {
            "type": "track",
            "event": self.event,
            "userId": f"user_{self.number}",
            "messageId": str(self.number),
        }
        return json.dumps({**call, "timestamp": instant, "receivedAt": instant}).encode()

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_767_225_600_000

    def offset(self) -> int:
        return self.number


def of(*audiences: str) -> DefinitionSet:
    return parse_definitions([Document("audiences.yaml", f"audiences: [{', '.join(audiences)}]")])


class World:
    """Two partitions of profile.events, and one source partition with a call of A and one of B in turn."""

    def __init__(self) -> None:
        self.control = MemoryControl()
        self.written: list[tuple[int, bytes, ProfileEvent]] = []
        self.lanes = LaneProgress(SOURCE)
        own(self.lanes, 0)
        self.lost_behind: int | None = None
        follower = Follower(self.control, 2, self._in_thread, self._use)
        self.backfill = Backfill(
            follower=follower,
            lanes=self.lanes,
            writer=self,
            clock=ManualClock(),
            partitions=2,
            output="profile.events",
            resolver=lambda plan, topic: Resolver(plan, ResolveOptions(), topic),
            end_offset=lambda _: 6,
            batches=self._batches,
            in_thread=self._in_thread,
        )

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return call(*args)

    async def _use(self, in_force: InForce) -> None:
        del in_force

    def _batches(self, partition: SourcePartition, end: int) -> Iterator[list[Message]]:
        assert partition == of_source(0)
        for first in range(0, end, 2):
            if first == self.lost_behind:
                own(self.lanes)
            # The last ones were received first, as their sender says.
            day = "2026-01-01T00:00:00Z" if first < 4 else "2025-12-01T00:00:00Z"
            yield [Message(first, "A", day), Message(first + 1, "B", day)]

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        assert topic == "profile.events"
        event = msgspec.msgpack.decode(value or b"", type=ProfileEvent)
        self.written.append((partition, key or b"", event))

    def flush(self) -> None:
        pass

    def publish(self, *audiences: str) -> None:
        self.control.publish(lambda published: to_apply(published, of(*audiences), 2, 0, allow_delete=True))

    async def step(self) -> list[tuple[int, bytes, ProfileEvent]]:
        """What it writes."""
        del self.written[:]
        await self.backfill.follower.refresh()
        await self.backfill.step()
        return list(self.written)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(backfill, "PAUSE_SECONDS", 0)
    made = World()
    made.publish(ONE)
    made.control.run_by({0: 1, 1: 1})
    return made


async def test_reads_nothing_before_every_partition_has_gone_over(world: World) -> None:
    assert await world.step() == []
    world.publish(ONE, NEW)
    world.control.run_by({0: 2})
    assert await world.step() == []


async def test_writes_what_the_new_audience_needs_and_the_end_everywhere(world: World) -> None:
    world.publish(ONE, NEW)
    world.control.run_by({0: 2, 1: 2})
    # No partition has said yet that it waits no longer.
    world.control.published = Published(
        world.control.published.versions, world.control.published.running, frozenset({0, 1})
    )
    written = await world.step()
    calls = [(key, event.offset) for _, key, event in written if event.kind == PAST]
    assert calls == [(b"user_1", 1), (b"user_3", 3), (b"user_5", 5)]
    assert {event.lane for _, _, event in written} == {"past/2/topic/0"}
    assert {event.received for _, _, event in written if event.kind == PAST} == {1_767_225_600_000}, (
        "at their lane's time, as resolve would have it"
    )
    assert [(partition, event.offset) for partition, _, event in written if event.kind == PAST_END] == [
        (0, 6),
        (1, 6),
    ]
    assert [event.kind for _, _, event in written[-2:]] == [PAST_END, PAST_END]
    assert (world.backfill.progress[of_source(0)].read, world.backfill.progress[of_source(0)].end) == (6, 6)
    assert list(world.backfill.by_name(SOURCE)) == ["0"]
    assert list(world.backfill.by_name("other")) == [f"{SOURCE}/0"]
    assert await world.step() == [], "once"
    world.control.published = Published(world.control.published.versions, {0: 2, 1: 2})
    assert await world.step() == []
    assert world.backfill.progress == {}


async def test_says_no_end_of_a_lane_that_has_become_another_workers(world: World) -> None:
    world.publish(ONE, NEW)
    world.control.published = Published(world.control.published.versions, {0: 2, 1: 2}, frozenset({0, 1}))
    world.lost_behind = 4
    written = await world.step()
    assert [event.offset for _, _, event in written] == [1, 3]
    own(world.lanes, 0)
    world.lost_behind = None
    written = await world.step()
    assert [event.kind for _, _, event in written] == [PAST, PAST, PAST, PAST_END, PAST_END], (
        "from the beginning"
    )


async def test_reads_mapped_fields_while_their_audience_goes_on(world: World) -> None:
    mapped = ONE.replace("}}", "}, facebook: {fields: {external_id: $.messageId}}}")
    world.publish(mapped)
    world.control.published = Published(world.control.published.versions, {0: 2, 1: 2}, frozenset({0, 1}))
    written = await world.step()
    assert world.backfill.follower.versions.held[2] == frozenset()
    past = [event for _, _, event in written if event.kind == PAST]
    assert [list((event.identifiers or {}).values()) for event in past] == [[[str(n)]] for n in range(6)]
    assert all(column.endswith("@past") for event in past for column in event.identifiers or {})
    assert not any(event.hits for event in past), "nothing counts twice"
    assert [event.kind for _, _, event in written[-2:]] == [PAST_END, PAST_END]
