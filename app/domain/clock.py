"""The clock of one partition of profile.events, and the memory of what its lanes have already brought.

A lane is where records come from: a partition of a topic that resolve reads, a replay, a backfill. Within a lane
positions only grow, so a record at or below the highest position seen is a redelivery.

The clock stands at the least progress over the expected lanes: nothing older can still come on any of them, as
far as received times tell. It never goes back and never past the wall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

# No lane holds the clock back beside the slowest: later than any instant there is.
_NO_OTHERS: Final = 2**62


class SourcePartition(NamedTuple):
    """One partition of a topic that resolve reads: the source topic, or one of rows."""

    topic: str
    number: int


def lane_name(topic_id: str, partition: int) -> str:
    """A lane's name; Kafka's topic id tells a topic from an earlier one of the same name."""
    return f"{topic_id}/{partition}"


class LaneRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """`offset` and `index` of the newest record of a lane (-1: none yet); `progress` None: not known yet."""

    lane: str
    offset: int
    index: int
    progress: int | None


class ClockRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a restart needs of a clock."""

    now: int | None
    lanes: list[LaneRecord]


class PartitionClock:
    """All instants are epoch milliseconds.

    `now` is None until the wall is set and every expected lane has made some progress. Read it as an attribute;
    only the methods here change it.
    """

    __slots__ = ("_expected", "_least", "_others", "_positions", "_progress", "_slowest", "_wall", "now")

    def __init__(self) -> None:
        self.now: int | None = None
        self._expected: frozenset[str] = frozenset()
        # The least progress, which lane has it, and what the others had at least when that was found. They only go on, so
        # up to there the slowest lane alone says where the clock stands.
        self._least: int | None = None
        self._slowest = ""
        self._others = 0
        self._positions: dict[str, tuple[int, int]] = {}
        self._progress: dict[str, int] = {}
        self._wall: int | None = None

    def set_expected(self, lanes: Iterable[str]) -> None:
        """The live source lanes; replay and backfill lanes are never among them. None of them: the clock stands."""
        self._expected = frozenset(lanes)
        self._find_least()

    def set_wall(self, now_ms: int) -> None:
        """The real time now; a wall that goes back has no effect on where the clock stands."""
        self._wall = now_ms
        self._advance()

    def accept(self, lane: str, offset: int, index: int) -> bool:
        """Whether the record at this position is new; remembers it. False: a redelivery, to be ignored."""
        position = (offset, index)
        last = self._positions.get(lane)
        if last is not None and position <= last:
            return False
        self._positions[lane] = position
        return True

    def take(self, lane: str, offset: int, index: int, instant: int) -> bool:
        """As `accept`, and the lane's progress up to `instant` if it is new: what every record brings."""
        position = (offset, index)
        last = self._positions.get(lane)
        if last is not None and position <= last:
            return False
        self._positions[lane] = position
        known = self._progress.get(lane)
        if known is None or instant > known:
            self._progress[lane] = instant
            self._note(lane, known, instant)
        return True

    def progress(self, lane: str, instant: int) -> None:
        """Everything of `lane` received before `instant` has been seen, as far as its own order tells."""
        known = self._progress.get(lane)
        if known is None or instant > known:
            self._progress[lane] = instant
            self._note(lane, known, instant)

    def forget(self, prefix: str) -> None:
        """The lanes whose names begin so bring nothing any more that has to be told from a redelivery."""
        for known in (self._positions, self._progress):
            for lane in [lane for lane in known if lane.startswith(prefix)]:
                del known[lane]

    def positions(self) -> dict[str, int]:
        """The offset of the newest record of each lane."""
        return {lane: position[0] for lane, position in self._positions.items()}

    def dump(self) -> ClockRecord:
        """The clock as a value; `load` of it in a new clock brings back positions, progress and `now`."""
        lanes = sorted(self._positions.keys() | self._progress.keys())
        return ClockRecord(
            self.now,
            [
                LaneRecord(lane, *self._positions.get(lane, (-1, -1)), self._progress.get(lane))
                for lane in lanes
            ],
        )

    def load(self, record: ClockRecord) -> None:
        """Meant for a new clock, before anything else is told to it."""
        self.now = record.now
        for lane in record.lanes:
            if lane.offset >= 0:
                self._positions[lane.lane] = (lane.offset, lane.index)
            if lane.progress is not None:
                self._progress[lane.lane] = lane.progress
        self._find_least()

    def _note(self, lane: str, known: int | None, instant: int) -> None:
        if lane == self._slowest and instant <= self._others:
            self._least = instant
            self._advance()
        # Only a lane that holds the clock back can move it.
        elif self._least is None or known is None or known <= self._least:
            self._find_least()

    def _find_least(self) -> None:
        self._least, self._slowest = None, ""
        if self._expected and self._expected <= self._progress.keys():
            standing = sorted((self._progress[lane], lane) for lane in self._expected)
            self._least, self._slowest = standing[0]
            self._others = standing[1][0] if len(standing) > 1 else _NO_OTHERS
        self._advance()

    def _advance(self) -> None:
        if self._least is None or self._wall is None:
            return
        instant = min(self._least, self._wall)
        if self.now is None or instant > self.now:
            self.now = instant
