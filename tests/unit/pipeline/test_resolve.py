"""What the stage adds to what a resolver has made of a call."""

from __future__ import annotations

import json

import msgspec
import pytest

from app.domain.counters import Counters
from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.domain.resolution import ResolveOptions, Resolver
from app.errors import FatalError
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

    def __init__(self, most: int = 1_000) -> None:
        self.written: dict[int, ProfileEvent] = {}
        self._lanes = LaneProgress(SOURCE)
        own(self._lanes, 0)
        plan = plan_of({"when": {"event": "Order Completed", "within": "30d"}})
        self._resolver = Resolver(plan, ResolveOptions())
        self._stage = ResolveStage(
            self._resolver_of,
            self,
            self._lanes,
            StillWall(FAR_WALL),
            Counters(),
            Catalog(),
            LetterLimits(LetterPolicy(in_a_row=most)),
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

    def take(self, *records: Arrived) -> str:
        """What is to be committed with the offset behind them."""
        return self._stage.process(of_source(0), records)

    def resume(self, note: str) -> None:
        self._stage.resume(of_source(0), note)

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """As a RecordWriter."""
        del key, partition
        if topic == Catalog().dead_letters.name:
            return
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


def test_started_again_and_again_it_does_no_more_of_a_run_of_letters_than_the_limit() -> None:
    note, done = "", 0

    def run_until_it_ends(stage: Stage) -> None:
        nonlocal note, done
        stage.resume(note)
        for _ in range(50):
            note = stage.take(Arrived(done, b"never a call"), Arrived(done + 1, b"nor this"))
            done += 2

    for _ in range(5):
        with pytest.raises(FatalError, match=r"10 records of segment\.events in a row"):
            run_until_it_ends(Stage(most=10))
        assert done == 8
    stage = Stage(most=10)
    stage.resume(note)
    stage.order(done, START)
    stage.take(*[Arrived(20 + number, b"never a call") for number in range(9)])
