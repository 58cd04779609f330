"""The stage that folds and commits: what goes into which commit."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.state import CLOCK_KEY
from app.pipeline import evaluate
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from schemas.profile import CALL, MARKER, VERSION, FeedHit, ProfileEvent
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, START, plan_of
from topics.catalog import Catalog

LANE = "source-0"
CATALOG = Catalog(prefix="", source_topic="source")


@dataclass
class Arrived:
    """As a consumer hands it over."""

    offset: int
    value: bytes
    key: bytes = b""
    timestamp: int = START


class StillWall:
    def now_ms(self) -> int:
        return FAR_WALL

    def monotonic(self) -> float:
        return 0.0


class Bench:
    """One partition in a stage, and the commits it made."""

    def __init__(self) -> None:
        plan = plan_of({"when": {"event": "Order Completed", "within": "30d"}, "facebook": FACEBOOK})
        self.feed = plan.events["Order Completed"].feeds[0]
        self.commits: list[GroupCommit] = []
        self.offset = 0
        self.stage = EvaluateStage(
            lambda _: AudiencePartition(plan, 0, Counters()),
            self._commit,
            StillWall(),
            Counters(),
            CATALOG,
            1,
        )
        self.partition = self.stage.add(0)
        self.partition.finish_recovery()
        self.partition.set_expected([LANE])

    async def _commit(self, commit: GroupCommit) -> None:
        self.commits.append(commit)

    def _arrived(self, event: ProfileEvent, key: str) -> Arrived:
        self.offset += 1
        return Arrived(self.offset, msgspec.msgpack.encode(event), key.encode())

    def order(self, at: int, profile: str) -> Arrived:
        number = self.offset
        hits = [FeedHit(self.feed.id)]
        return self._arrived(
            ProfileEvent(VERSION, CALL, LANE, number, 0, at, at, f"message-{number}", hits), profile
        )

    def marker(self, at: int) -> Arrived:
        return self._arrived(ProfileEvent(VERSION, MARKER, "", 0, 0, at, at, progress={LANE: at}), "")


def profiles_in(commit: GroupCommit) -> list[bytes]:
    changelog = CATALOG.profiles_changelog.name
    return [record.key for record in commit.records if record.topic == changelog and record.key != CLOCK_KEY]


async def test_a_clock_that_jumps_is_committed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "MAX_FIRED", 4)
    bench = Bench()
    acknowledged: list[int] = []
    await bench.stage.process(
        0,
        [bench.marker(START), *(bench.order(START + n * HOUR, f"user_{n}") for n in range(10))],
        lambda: acknowledged.append(1),
    )
    await bench.stage.flush()
    del bench.commits[:]
    jump = bench.order(START + 60 * DAY, "late_comer")
    await bench.stage.process(0, [jump], lambda: acknowledged.append(2))
    assert [len(profiles_in(commit)) for commit in bench.commits] == [4, 4]
    # The record that moved the clock is not done yet: after a crash it comes again.
    assert [offset.next_offset for commit in bench.commits for offset in commit.offsets] == [jump.offset] * 2
    assert acknowledged == [1]
    await bench.stage.flush()
    assert sorted(profiles_in(bench.commits[-1])) == [b"late_comer", b"user_8", b"user_9"]
    assert [offset.next_offset for offset in bench.commits[-1].offsets] == [jump.offset + 1]
    assert acknowledged == [1, 2]
