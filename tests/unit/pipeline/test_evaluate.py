"""The stage that folds and commits: what goes into which commit."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from app.domain.counters import Counters
from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan_versions import PlanVersions
from app.errors import FatalError
from app.pipeline import evaluate
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from schemas.membership import MembershipDelta
from schemas.profile import ASK, CALL, FORGET, MARKER, MERGE, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, START, plan_of
from topics.catalog import Catalog
from topics.partitioning import partition_for

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
    """Until somebody moves it: the time of day, the time that has passed, or both."""

    def __init__(self, now: int = FAR_WALL) -> None:
        self.now = now
        self.passed = 0.0

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.passed


class Bench:
    """One partition in a stage, and the commits it made."""

    def __init__(self, partitions: int = 1, wall: int = FAR_WALL, versions: int = 0) -> None:
        """So many versions of the definitions, all with the same content, are in force."""
        self.wall = StillWall(wall)
        plan = plan_of({"when": {"event": "Order Completed", "within": "30d"}, "facebook": FACEBOOK})
        self.feed = plan.events["Order Completed"].feeds[0]
        self.counters = Counters()
        self.commits: list[GroupCommit] = []
        self.offset = 0
        in_force = PlanVersions()
        for number in range(1, versions + 1):
            in_force.take(number, plan)
        self.stage = EvaluateStage(
            lambda number: AudiencePartition(
                plan,
                0,
                Counters(),
                place=Place(number, lambda profile: partition_for(profile.encode(), partitions)),
                versions=in_force,
            ),
            self._commit,
            self.wall,
            self.counters,
            CATALOG,
            partitions,
        )
        self.partition = self.stage.new_partition(0)
        self.stage.add(0, self.partition)
        self.partition.finish_recovery()
        self.partition.set_expected([LANE])

    async def _commit(self, commit: GroupCommit) -> None:
        self.commits.append(commit)

    def arrived(self, event: ProfileEvent, key: str) -> Arrived:
        self.offset += 1
        return Arrived(self.offset, msgspec.msgpack.encode(event), key.encode())

    def order(self, at: int, profile: str, offset: int | None = None, definitions: int = 0) -> Arrived:
        number = self.offset if offset is None else offset
        hits = [FeedHit(self.feed.id)]
        return self.arrived(
            ProfileEvent(
                VERSION,
                CALL,
                LANE,
                number,
                0,
                at,
                at,
                f"message-{number}",
                hits,
                definitions=definitions,
            ),
            profile,
        )

    def marker(self, at: int, definitions: int = 0) -> Arrived:
        return self.arrived(
            ProfileEvent(VERSION, MARKER, "", 0, 0, at, at, progress={LANE: at}, definitions=definitions), ""
        )


def profiles_in(commit: GroupCommit) -> list[bytes]:
    changelog = CATALOG.profiles_changelog.name
    return [
        record.key
        for record in commit.records
        if record.topic == changelog and not record.key.startswith(b"\x00")
    ]


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


async def test_what_is_being_committed_is_not_committed_yet() -> None:
    bench = Bench()
    seen: list[int] = []

    async def commit(content: GroupCommit) -> None:
        del content
        seen.append(bench.stage.uncommitted)

    bench.stage._commit = commit
    await bench.stage.process(0, [bench.marker(START), bench.order(START, "user_1")], lambda: None)
    before = bench.stage.uncommitted
    await bench.stage.flush()
    assert (before, seen, bench.stage.uncommitted) == (2, [2], 0)


@pytest.mark.parametrize(("passed", "found"), [(1, START + 40 * DAY), (40 * DAY, START + 30 * DAY)])
async def test_a_wall_that_was_set_is_told_from_time_that_passed(passed: int, found: int) -> None:
    bench = Bench(wall=START)
    await bench.stage.process(0, [bench.marker(START), bench.order(START, "user_1")], lambda: None)
    bench.wall.now, bench.wall.passed = START + 40 * DAY, passed / 1_000
    await bench.stage.process(0, [bench.marker(START + 40 * DAY)], lambda: None)
    await bench.stage.flush()
    deltas = [
        msgspec.json.decode(record.value or b"", type=MembershipDelta)
        for commit in bench.commits
        for record in commit.records
        if record.topic == CATALOG.memberships.name
    ]
    assert [(delta.at, delta.detected_at) for delta in deltas] == [
        (START, START),
        (START + 30 * DAY, found),
    ]


async def test_what_a_frozen_owner_writes_for_an_older_version_moves_nothing_on() -> None:
    bench = Bench(versions=2)

    async def arrive(*records: Arrived) -> None:
        await bench.stage.process(0, records, lambda: None)

    await arrive(bench.marker(START, definitions=1), bench.order(START, "user_1", 5, definitions=1))
    await arrive(bench.marker(START + HOUR, definitions=2))
    assert bench.partition.definitions == 2
    # By now somebody else has the lane, and has read on from offset 6; whoever had it before wakes up.
    await arrive(
        bench.order(START + 2 * HOUR, "user_2", 9, definitions=1),
        bench.marker(START + 40 * DAY, definitions=1),
    )
    assert bench.partition.clock.now == START + HOUR
    assert bench.partition.states.find("user_2") is None
    assert bench.counters.stages["evaluate"].dropped == {"duplicate": 2}
    await arrive(bench.order(START + 2 * HOUR, "user_2", 8, definitions=2))
    assert bench.partition.states.find("user_2") is not None


async def test_records_of_no_version_count_whatever_the_partition_runs_by() -> None:
    bench = Bench(versions=2)
    await bench.stage.process(
        0,
        [bench.marker(START, definitions=2), bench.order(START + HOUR, "user_1"), bench.marker(START + DAY)],
        lambda: None,
    )
    assert (bench.partition.definitions, bench.partition.clock.now) == (2, START + DAY)
    assert bench.partition.states.find("user_1") is not None


async def test_what_profiles_say_to_other_partitions_is_part_of_the_commit() -> None:
    bench = Bench(partitions=2)
    here = next(f"user_{n}" for n in range(9) if partition_for(f"user_{n}".encode(), 2) == 0)
    there = next(f"anonymous_id:{n}" for n in range(9) if partition_for(f"anonymous_id:{n}".encode(), 2) == 1)
    call = ProfileEvent(VERSION, CALL, LANE, 7, 0, START, START, linking=Linking([there]))
    await bench.stage.process(0, [bench.marker(START), bench.arrived(call, here)], lambda: None)
    await bench.stage.flush()
    (commit,) = bench.commits
    (said,) = [record for record in commit.records if record.topic == CATALOG.profile_events.name]
    assert (said.partition, said.key) == (-1, there.encode()), "its key decides"
    asked = msgspec.msgpack.decode(said.value or b"", type=ProfileEvent)
    assert (asked.kind, asked.lane, asked.offset) == (ASK, "profiles/0", 1)
    assert profiles_in(commit) == [here.encode()]


@pytest.mark.parametrize("kind", [MERGE, FORGET])
async def test_a_profile_that_has_ended_and_cannot_be_read_is_a_dead_letter(kind: int) -> None:
    bench = Bench()
    said = Linking(asker="user_2", state=b"\xc1")
    broken = ProfileEvent(VERSION, kind, "profiles/1", 1, 0, START, START, linking=said)
    await bench.stage.process(0, [bench.marker(START), bench.arrived(broken, "user_1")], lambda: None)
    await bench.stage.flush()
    assert bench.counters.dead_letters == {"invalid_field": 1}
    assert bench.partition.states.find("user_1") is None


# -- too many letters ------------------------------------------------------------------------------------------


def limited(most: int, note: str = "") -> Bench:
    """Goes on behind an offset that was committed with that note."""
    bench = Bench()
    bench.stage._limits = LetterLimits(LetterPolicy(in_a_row=most))
    bench.stage.resume(0, note)
    return bench


async def test_what_is_counted_of_letters_is_committed_with_the_offset() -> None:
    note, done = "", 0

    async def run_until_it_ends(bench: Bench) -> None:
        nonlocal note, done
        for _ in range(9):
            await bench.stage.process(0, [Arrived(done, b"never an event", b"x")], lambda: None)
            await bench.stage.flush()
            (offset,) = bench.commits[-1].offsets
            note, done = offset.note, offset.next_offset

    for _ in range(4):
        with pytest.raises(FatalError, match=r"4 records of profile\.events in a row"):
            await run_until_it_ends(limited(4, note))
        assert done == 3, "not one more at any start"
    bench = limited(4, note)
    await bench.stage.process(0, [bench.order(START, "ann")], lambda: None)
    await bench.stage.flush()
    assert bench.commits[-1].offsets[0].note != note
    await bench.stage.process(0, [Arrived(9 + n, b"never an event", b"x") for n in range(3)], lambda: None)


async def test_letters_before_a_commit_in_the_middle_of_a_batch_are_in_its_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timers that fire before a record of the batch are committed up to it, with what was buried before."""
    bench = limited(4)
    known = [bench.order(START + n * HOUR, f"p{n}") for n in range(9)]
    await bench.stage.process(0, [bench.marker(START), *known], lambda: None)
    await bench.stage.flush()
    monkeypatch.setattr(evaluate, "MAX_FIRED", 4)
    bad = [Arrived(100 + n, b"never an event", b"x") for n in range(5)]
    late = bench.order(START + 60 * DAY, "late")
    with pytest.raises(FatalError):
        await bench.stage.process(0, [*bad[:3], Arrived(103, late.value, late.key), *bad], lambda: None)
    notes = [commit.offsets[0] for commit in bench.commits[1:]]
    assert [offset.next_offset for offset in notes] == [103] * len(notes)
    assert notes
    again = limited(4, notes[-1].note)
    with pytest.raises(FatalError):
        await again.stage.process(0, [bad[3]], lambda: None)
