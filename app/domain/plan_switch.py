"""Which version of the definitions one partition of profile.events runs by, and what a switch leaves to do.

Markers follow what was written before them, so behind the marker of a version nothing older comes on its lanes: when
all live lanes have shown one, everything that comes has been taken from its call for that version too. A version
that a lane has shown stays: a marker of a worker that was frozen does not take it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.plan import Plan
    from app.domain.plan_versions import PlanVersions
    from app.domain.state import PartitionRecord, ProfileState
    from schemas.membership import MembershipDelta
    from schemas.profile import ProfileEvent


class PlanSwitch:
    """`number` is the version that the partition runs by, `applied` when audiences that need to know it began here.

    `lanes` are the live ones, `wall` the real time: the owner keeps both. `told` are the destinations of each
    audience, as of the last time at which all states were made by one plan.
    """

    __slots__ = ("_seen", "_untold", "_versions", "applied", "lanes", "number", "told", "wall")

    def __init__(self, plan: Plan, versions: PlanVersions, wall: int) -> None:
        self.number = versions.newest
        self.lanes: frozenset[str] = frozenset()
        self.wall = wall
        self.applied: dict[str, int] = {}
        self.told = told_by(plan)
        self._versions = versions
        self._seen: dict[str, int] = {}
        self._untold: set[str] = set()

    def recover(self, plan: Plan, record: PartitionRecord | None) -> Plan:
        """The plan of the version that the partition ran by; `plan` where that is not known or no more in force."""
        known: dict[str, int] = {}
        if record is not None:
            if record.definitions in self._versions.plans:
                self.number = record.definitions
                plan = self._versions.plans[record.definitions]
            known, self.told = record.applied, record.told
        return self._begin(plan, known)

    def see(self, marker: ProfileEvent) -> None:
        """What a marker says of its lanes."""
        seen, number = self._seen, marker.definitions
        for lane in marker.progress or ():
            if seen.get(lane, 0) < number:
                seen[lane] = number

    def begin_newer(self) -> Plan | None:
        """The plan to go over to, once: of the version that all lanes have reached, if it is newer and known here."""
        carried = min((self._seen.get(lane, 0) for lane in self.lanes), default=0)
        if carried <= self.number or carried not in self._versions.plans:
            return None
        self.number = carried
        return self._begin(self._versions.plans[carried], self.applied)

    def _begin(self, plan: Plan, known: dict[str, int]) -> Plan:
        self.applied = {key: known.get(key, self.wall) for key in plan.unapplied}
        told = self.told
        self._untold = {
            key
            for key, audience in plan.audiences.items()
            if not set(audience.destinations) <= set(told.get(key, ()))
        }
        return plan.applied(self.applied)

    def announced(self, state: ProfileState, deltas: Iterable[MembershipDelta]) -> set[str] | None:
        """For a state that was another plan's: the audiences whose destinations have heard of the profile, of old or by
        these deltas. The others have a destination that was not there before. None: there is no such audience.
        """
        if not self._untold:
            return None
        return (state.memberships.keys() - self._untold) | {delta.audience for delta in deltas}

    def finish(self, plan: Plan) -> None:
        """All states are made by this plan."""
        self.told, self._untold = told_by(plan), set()


def reclaim(state: ProfileState, plan: Plan) -> bool:
    """Drops traits and claims that the plan does not use; whether there were any.

    Memberships stay, also of audiences that are no longer there: their sequences must not begin anew, and an audience
    that comes back makes net changes only.
    """
    traits = [path for path in state.traits if path not in plan.of_trait]
    for path in traits:
        del state.traits[path]
    claims = [key for key in state.claims if key not in plan.audiences or not plan.audiences[key].claimed]
    for key in claims:
        del state.claims[key]
    return bool(traits or claims)


def told_by(plan: Plan) -> dict[str, list[str]]:
    """The destinations of each audience."""
    return {key: list(audience.destinations) for key, audience in plan.audiences.items()}
