"""The safety brake of one destination: removals that nobody meant are not sent.

It sees every delta of the audience once, in order of offset, however far the destination itself has come, and counts
who leaves in an hour of the wall. What it says depends on the deltas and on when they were written, never on when they
are seen: a restart goes on with what `dump` gave.

    counted      left by an event, a claim, a merge or another definition; by time, when the clock jumped
    not counted  left while the partition's clock was catching up; by time alone, when their time came
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.domain.profile_ids import is_account
from schemas.membership import Cause, Change, never_entered
from schemas.sync import BrakeState, BrakeTrip

if TYPE_CHECKING:
    from schemas.membership import MembershipDelta

# A partition's clock that is further behind the wall is catching up.
NEAR_THE_WALL_MS: Final = 5 * 60_000
_MINUTE_MS: Final = 60_000
_MINUTES: Final = 60
HOUR_MS: Final = _MINUTES * _MINUTE_MS


@dataclass(frozen=True, slots=True)
class BrakePolicy:
    """Trips when more leave in an hour than `members`, and than `percent` of who was a member. 100: never."""

    percent: float = 20.0
    members: int = 1_000


def is_counted(delta: MembershipDelta, written_at: int) -> bool:
    """Whether an exit, written at that instant of the wall, is one that somebody may not have meant."""
    if (
        never_entered(delta)
        or delta.cause is Cause.FORGOTTEN
        or written_at - delta.detected_at > NEAR_THE_WALL_MS
    ):
        return False
    return delta.cause is not Cause.TIME or delta.detected_at - delta.at > NEAR_THE_WALL_MS


class Brake:
    """`position`: every delta below that offset has been seen."""

    def __init__(self, destination: str, policy: BrakePolicy, known: BrakeState | None) -> None:
        self._destination = destination
        self._policy = policy
        self.position = known.position if known else 0
        self._members = known.members if known else 0
        self._exits = dict(known.exits) if known else {}
        self._accepted_at = known.accepted_at if known else 0
        self.trip = known.trip if known else None
        # Who is a member, by hash, until all that was there before the brake has been seen: of what a compacted topic
        # has left, changes cannot be added up.
        self._found: set[int] | None = None if known else set()

    @property
    def members(self) -> int:
        """Of the audience, at `position`. Near enough where records were compacted away while nobody looked."""
        return self._members if self._found is None else len(self._found)

    def see(self, offset: int, delta: MembershipDelta, written_at: int) -> None:
        """The next delta of the audience; `written_at` is the time of its record. One that was seen is passed over."""
        if offset < self.position:
            return
        self.position = offset + 1
        if is_account(delta.profile):
            return  # its people are counted
        if self._found is not None:
            self._find(self._found, delta)
        elif delta.change is Change.ENTERED:
            self._members += 1
        elif delta.change is Change.EXITED and not never_entered(delta):
            self._members = max(0, self._members - 1)
            # Without rows nobody is taken out at Facebook: a profile that has become part of another, for one.
            if delta.rows.get(self._destination) and is_counted(delta, written_at):
                self._count(written_at)

    def seen_to(self, end: int) -> None:
        """No other delta lies below `end`; the first time, that is all that was there before the brake."""
        self.position = max(self.position, end)
        if self._found is not None:
            self._members, self._found = len(self._found), None

    def accept(self, at: int) -> None:
        """Somebody means it, as they said at that instant: nothing that is written up to an hour later is counted."""
        if at > self._accepted_at:
            self._accepted_at = at
            self._exits.clear()
            self.trip = None

    def dump(self) -> BrakeState | None:
        """What to go on with; None while what was there before is still being looked through."""
        if self._found is not None:
            return None
        return BrakeState(
            position=self.position,
            members=self._members,
            exits=tuple(sorted(self._exits.items())),
            accepted_at=self._accepted_at,
            trip=self.trip,
        )

    def _find(self, found: set[int], delta: MembershipDelta) -> None:
        if delta.change is Change.EXITED:
            found.discard(hash(delta.profile))
        else:
            found.add(hash(delta.profile))

    def _count(self, written_at: int) -> None:
        if written_at < self._accepted_at + HOUR_MS and self._accepted_at:
            return
        if self.trip is not None:
            self.trip = self.trip.model_copy(update={"removed": self.trip.removed + 1})
            return
        minute = written_at // _MINUTE_MS
        if minute not in self._exits:
            # Of the minutes ahead only what walls that differ can have written; a wall that was put back begins anew.
            self._exits = {at: count for at, count in self._exits.items() if abs(at - minute) < _MINUTES}
        self._exits[minute] = self._exits.get(minute, 0) + 1
        removed = sum(self._exits.values())
        before = self._members + removed
        if removed > self._policy.members and removed * 100 > self._policy.percent * before:
            self.trip = BrakeTrip(at=written_at, removed=removed, members=before)
