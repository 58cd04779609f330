"""How many members each audience has in one partition, and what of it a worker's counters show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.counters import AudienceCounters
from schemas.dead_letter import DropReason
from schemas.membership import Cause, Change, never_entered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.counters import Counters, StageCounters
    from app.domain.plan import Plan
    from schemas.membership import MembershipDelta

_ENTERED: Final = Change.ENTERED
_EXITED: Final = Change.EXITED


class Tally:
    """`members` per audience, as the partition's record keeps them, also of audiences that are no longer there.

    The worker's counters have those of the audiences `shown` alone, added to what its other partitions have.
    """

    __slots__ = ("_counters", "_evaluated", "_shown", "members")

    def __init__(self, counters: Counters, evaluated: StageCounters) -> None:
        self.members: dict[str, int] = {}
        self._counters = counters
        self._evaluated = evaluated
        self._shown: frozenset[str] = frozenset()

    def begin(self, members: Mapping[str, int], shown: Iterable[str]) -> None:
        """The partition is this worker's, with these members."""
        self.members = dict(members)
        self._shown = frozenset(shown)
        self._show(1)

    def end(self) -> None:
        """It is this worker's no longer."""
        self._show(-1)
        self.members = {}

    def _show(self, sign: int) -> None:
        for audience, members in self.members.items():
            if audience in self._shown:
                self._of(audience).members += sign * members

    def show(self, audiences: Iterable[str]) -> None:
        """Other audiences than before are there."""
        before, self._shown = self._shown, frozenset(audiences)
        counted = self._counters.audiences
        for key in before ^ self._shown:
            members = self.members.get(key, 0)
            if key in counted or members:
                self._of(key).members += members if key in self._shown else -members
            if key in before and key in counted and not counted[key].members:
                del counted[key]

    def note(self, deltas: Iterable[MembershipDelta], stage: StageCounters, plan: Plan) -> None:
        """Deltas that `stage` has made by this plan."""
        members = self.members
        for delta in deltas:
            key = delta.audience
            counted = self._counters.audiences.get(key) or self._of(key)
            if delta.change is _ENTERED:
                members[key] = members.get(key, 0) + 1
                counted.members += 1
                counted.entered += 1
                if delta.rows and not any(delta.rows.values()):
                    self._evaluated.dropped[DropReason.NO_IDENTIFIER.value] += 1
            elif delta.change is _EXITED and not never_entered(delta):
                told = delta.cause is Cause.MERGE or len(delta.rows) == len(plan.audiences[key].destinations)
                if not told:
                    stage.dropped[DropReason.NOT_IN_SYNC_MODE.value] += 1
                members[key] = members.get(key, 0) - 1
                counted.members -= 1
                counted.exited += 1

    def _of(self, audience: str) -> AudienceCounters:
        counted = self._counters.audiences.get(audience)
        if counted is None:
            counted = self._counters.audiences[audience] = AudienceCounters()
        return counted
