"""What the stage adds to what a resolver has made of a call."""

from __future__ import annotations

import json

import msgspec

from app.domain.counters import Counters
from app.domain.resolution import ResolveOptions, Resolver
from app.pipeline.expire import LaneProgress
from app.pipeline.resolve import ResolveStage
from schemas.profile import ProfileEvent
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START, plan_of
from tests.unit.domain.switching_world import iso
from tests.unit.pipeline.source_lanes import SOURCE, of_source, own
from tests.unit.pipeline.test_evaluate import Arrived, StillWall
from topics.catalog import Catalog


class Stage:
    """One that reads one lane; what it has written, by the offset of the call."""

    def __init__(self) -> None:
        self.written: dict[int, ProfileEvent] = {}
        self._lanes = LaneProgress(SOURCE)
        own(self._lanes, 0)
        plan = plan_of({"when": {"event": "Order Completed", "within": "30d"}})
        self._resolver = Resolver(plan, ResolveOptions())
        self._stage = ResolveStage(
            self._resolver_of, self, self._lanes, StillWall(FAR_WALL), Counters(), Catalog()
        )

    def _resolver_of(self, topic: str) -> Resolver:
        del topic
        return self._resolver

    def project_for(self, definitions: int) -> None:
        self._stage.project_for(self._resolver_of, definitions)

    def order(self, offset: int, received: int) -> ProfileEvent:
        call = {"type": "track", "event": "Order Completed", "userId": "user_1", "receivedAt": iso(received)}
        value = json.dumps({**call, "timestamp": iso(received)}).encode()
        self._stage.process(of_source(0), [Arrived(offset, value)])
        return self.written[offset]

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """As a RecordWriter."""
        del topic, key, partition
        event = msgspec.msgpack.decode(value or b"", type=ProfileEvent)
        self.written[event.offset] = event

    def flush(self) -> None: ...


def test_each_record_says_for_which_version_it_is_written() -> None:
    stage = Stage()
    assert stage.order(7, START).definitions == 0
    stage.project_for(2)
    assert stage.order(8, START).definitions == 2


def test_a_record_stands_where_its_lane_stands() -> None:
    stage = Stage()
    later, earlier = stage.order(7, START + DAY), stage.order(8, START + HOUR)
    assert (later.received, later.timestamp) == (START + DAY, START + DAY)
    assert (earlier.received, earlier.timestamp) == (START + DAY, START + HOUR)
