"""Which version of the definitions one partition of profile.events runs by, and what a switch leaves to do.

Markers follow what was written before them, so behind the marker of a version nothing older comes on its lanes: when
all live lanes have shown one, everything that comes has been taken from its call for that version too. A version
that a lane has shown stays: a marker of a worker that was frozen does not take it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.fields import SEPARATOR
from app.domain.filling import PAST_LANE, lane_of_past, waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.plan import Plan
    from app.domain.plan_versions import PlanVersions
    from app.domain.state import PartitionRecord, ProfileState
    from schemas.membership import MembershipDelta
    from schemas.profile import ProfileEvent


class PlanSwitch:
    """`number` is the version that the partition runs by, `applied` when audiences that need to know it began here.

    `lanes` are the live ones, `wall` the real time: the owner keeps both. `told` are the destinations of each
    audience, as of the last time at which all states were made by one plan. `full` is the plan of the version, whoever
    waits.

    While audiences are filled from the past, `boundary` is where each live lane stood when the partition went over: of
    what is read again exactly the records up to there are news to them, as whatever came later was taken for them.
    `filled` are the lanes of which all has been read.
    """

    __slots__ = (
        "_seen",
        "_untold",
        "_versions",
        "applied",
        "boundary",
        "filled",
        "full",
        "lanes",
        "number",
        "told",
        "wall",
    )

    def __init__(self, plan: Plan, versions: PlanVersions, wall: int) -> None:
        self.number = versions.newest
        self.lanes: frozenset[str] = frozenset()
        self.wall = wall
        self.applied: dict[str, int] = {}
        self.told = told_by(plan)
        self.full = plan
        self.boundary: dict[str, int] | None = None
        self.filled: set[str] = set()
        self._versions = versions
        self._seen: dict[str, int] = {}
        self._untold: set[str] = set()

    def recover(self, plan: Plan, record: PartitionRecord | None) -> Plan:
        """The plan of the version that the partition ran by, or begins by; `plan` where that is no more in force."""
        plans = self._versions.plans
        known: dict[str, int] = {}
        if record is None and plans:
            # What is there already may have been written for the oldest one.
            self.number = min(plans)
            plan = plans[self.number]
            self.told = told_by(plan)
        elif record is not None:
            if record.definitions in plans:
                self.number = record.definitions
                plan = plans[record.definitions]
                self.boundary, self.filled = record.boundary, set(record.filled)
            known, self.told = record.applied, record.told
        return self._begin(plan, known)

    def see(self, marker: ProfileEvent) -> None:
        """What a marker says of its lanes."""
        seen, number = self._seen, marker.definitions
        for lane in marker.progress or ():
            if seen.get(lane, 0) < number:
                seen[lane] = number

    def begin_newer(self, positions: Mapping[str, int]) -> Plan | None:
        """The plan to go over to, once: of the version that all lanes have reached, if it is newer and known here.

        `positions` are the offsets of the newest records of the lanes.
        """
        carried = min((self._seen.get(lane, 0) for lane in self.lanes), default=0)
        if carried <= self.number or carried not in self._versions.plans:
            return None
        self.number = carried
        held = self._versions.held.get(carried)
        self.boundary, self.filled = (dict(positions) if held else None), set()
        return self._begin(self._versions.plans[carried], self.applied)

    def _begin(self, plan: Plan, known: dict[str, int]) -> Plan:
        self.applied = {key: known.get(key, self.wall) for key in plan.unapplied}
        self.full = plan.applied(self.applied)
        self._find_untold()
        if self.boundary is None:
            return self.full
        return waiting(self.full, self._versions.held.get(self.number, ()))

    def _find_untold(self) -> None:
        self._untold = {
            key
            for key, audience in self.full.audiences.items()
            if not set(audience.sent_to) <= set(self.told.get(key, ()))
        }

    def is_news(self, event: ProfileEvent) -> bool:
        """Whether what was read again counts for those who wait. What one profile says to another has been asked."""
        if not event.lane.startswith(PAST_LANE):
            return True
        lane = lane_of_past(event.lane, self.number)
        return lane is not None and self.boundary is not None and event.offset <= self.boundary.get(lane, -1)

    def end_lane(self, event: ProfileEvent) -> Plan | None:
        """The end of a lane of the past; the plan to go over to, when it is the last one."""
        lane = lane_of_past(event.lane, self.number)
        if lane is None or self.boundary is None:
            return None
        self.filled.add(lane)
        if not self.lanes or not self.lanes <= self.filled:
            return None
        self.boundary, self.filled = None, set()
        self._find_untold()
        return self.full

    def announced(self, state: ProfileState, deltas: Iterable[MembershipDelta]) -> set[str] | None:
        """For a state that was another plan's: the audiences whose destinations have heard of the profile, of old or by
        these deltas. The others have a destination that was not there before. None: there is no such audience.
        """
        if not self._untold:
            return None
        return (state.memberships.keys() - self._untold) | {delta.audience for delta in deltas}

    def finish(self, plan: Plan) -> None:
        """All states are made by this plan; those who wait have been told what they were told before."""
        waits = {key: told for key, told in self.told.items() if key in self.full.audiences}
        self.told, self._untold = waits | told_by(plan), set()


def reclaim(state: ProfileState, plan: Plan) -> bool:
    """Drops traits, claims and mapped values that the plan does not use; whether there were any.

    Memberships stay, also of audiences that are no longer there: their sequences must not begin anew, and an audience
    that comes back makes net changes only.
    """
    traits = [path for path in state.traits if path not in plan.of_trait]
    for path in traits:
        del state.traits[path]
    claims = [key for key in state.claims if key not in plan.audiences or not plan.audiences[key].claimed]
    for key in claims:
        del state.claims[key]
    known = frozenset() if plan.call_fields is None else plan.call_fields.columns
    columns = [column for column in state.identifiers if SEPARATOR in column and column not in known]
    for column in columns:
        del state.identifiers[column]
        state.further.pop(column, None)
    return bool(traits or claims or columns)


def told_by(plan: Plan) -> dict[str, list[str]]:
    """The destinations of each audience, and what they are sent."""
    return {key: list(audience.sent_to) for key, audience in plan.audiences.items()}
