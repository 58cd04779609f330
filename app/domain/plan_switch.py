"""Which version of the definitions one partition of profile.events runs by, and what a switch leaves to do.

Markers follow what was written before them, so behind the marker of a version nothing older comes on its lanes: when
all live lanes have shown one, everything that comes has been taken from its call for that version too. A version
that a lane has shown stays: a marker of a worker that was frozen does not take it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.domain.account_plan import is_asked
from app.domain.feeds import key_of
from app.domain.fields import SEPARATOR
from app.domain.filling import PAST_LANE, lane_of_past, waiting
from app.domain.past_fields import name_of_past
from app.domain.state import AudiencesRecord
from app.domain.telling import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.plan import Plan
    from app.domain.plan_versions import PlanVersions
    from app.domain.state import PartitionRecord, ProfileState
    from schemas.profile import ProfileEvent


class PlanSwitch:
    """`number` is the version that the partition runs by, `applied` when audiences that need to know it began here.
    `shown` is the version that all live lanes have shown, 0 where nobody knows: what is written for an older one comes
    from a former owner of its lane, who was frozen.

    `lanes` are the live ones, `wall` the real time: the owner keeps both. `told` is what destinations have heard.
    `full` is the plan of the version, whoever waits.

    While anything is filled from the past, `boundary` is where each live lane stood when the partition went over: of
    what is read again exactly the records up to there are news to them, as whatever came later was taken for them. What
    resolve had dropped before it went over has left no record here, so a lane stands at least there.
    `filled` are the lanes of which all has been read.
    """

    __slots__ = (
        "_finished",
        "_seen",
        "_since",
        "_versions",
        "_written",
        "applied",
        "boundary",
        "filled",
        "full",
        "lanes",
        "number",
        "shown",
        "told",
        "wall",
    )

    def __init__(self, plan: Plan, versions: PlanVersions, wall: int) -> None:
        self.number = versions.newest
        self.shown = 0
        self.lanes: frozenset[str] = frozenset()
        self.wall = wall
        self.applied: dict[str, int] = {}
        self.told = Told.by(plan)
        self.full = plan
        self.boundary: dict[str, int] | None = None
        self.filled: set[str] = set()
        self._versions = versions
        self._seen: dict[str, int] = {}
        self._since: dict[str, int] = {}
        # The plan that all states are made by, and what the changelog has.
        self._finished: Plan | None = None
        self._written: AudiencesRecord | None = None

    def recover(self, plan: Plan, record: PartitionRecord | None, audiences: AudiencesRecord) -> Plan:
        """The plan of the version that the partition ran by, or begins by; `plan` where that is no more in force."""
        plans = self._versions.plans
        known: dict[str, int] = {}
        if record is None and plans:
            # What is there already may have been written for the oldest one.
            self.number = min(plans)
            plan = plans[self.number]
            self.told = Told.by(plan)
        elif record is not None:
            if record.definitions in plans:
                self.number = self.shown = record.definitions
                plan = plans[record.definitions]
                self.boundary, self.filled = record.boundary, set(record.filled)
            known, self.told = audiences.applied, Told(audiences.told, audiences.told_exits)
            self._written = audiences
        return self._begin(plan, known)

    def see(self, marker: ProfileEvent) -> None:
        """What a marker says of its lanes."""
        seen, number = self._seen, marker.definitions
        for lane in marker.progress or ():
            if seen.get(lane, 0) <= number:
                seen[lane] = number
                # Whoever takes a lane over later says a later one: all before it is here too, or was not needed.
                if marker.since is not None and lane in marker.since:
                    self._since[lane] = marker.since[lane]

    def begin_newer(self, positions: Mapping[str, int]) -> Plan | None:
        """The plan to go over to, once: of the version that all lanes have reached, if it is newer and known here.

        `positions` are the offsets of the newest records of the lanes.
        """
        carried = min((self._seen.get(lane, 0) for lane in self.lanes), default=0)
        if carried <= self.number or carried not in self._versions.plans:
            return None
        self.number = self.shown = carried
        fills = self._versions.reads_again(carried)
        self.boundary, self.filled = (self._stood_at(positions) if fills else None), set()
        return self._begin(self._versions.plans[carried], self.applied)

    def _stood_at(self, positions: Mapping[str, int]) -> dict[str, int]:
        return dict(positions) | {
            lane: max(positions.get(lane, -1), since - 1) for lane, since in self._since.items()
        }

    def _begin(self, plan: Plan, known: dict[str, int]) -> Plan:
        self.applied = {key: known.get(key, self.wall) for key in plan.unapplied}
        self._finished = None
        self.full = plan.applied(self.applied)
        self.told.compare(self.full)
        if self.boundary is None:
            return self.full
        return waiting(self.full, self._versions.held.get(self.number, ()))

    def news(self, event: ProfileEvent) -> ProfileEvent:
        """What was read again, as far as it counts for those who wait. What one profile says to another has been
        asked.
        """
        if not event.lane.startswith(PAST_LANE):
            return event
        lane = lane_of_past(event.lane, self.number)
        if lane is None or self.boundary is None or event.offset > self.boundary.get(lane, -1):
            event = replace(event, hits=[])
        if event.claims:
            claims = {name: said for name, said in event.claims.items() if self._counts(name, event.received)}
            event = replace(event, claims=claims)
        return event

    def _counts(self, claim: str, received: int) -> bool:
        audience = self.full.audiences.get(key_of(claim))
        return audience is not None and received >= audience.claims_from

    def end_lane(self, event: ProfileEvent) -> Plan | None:
        """The end of a lane of the past; the plan to go over to, when it is the last one."""
        lane = lane_of_past(event.lane, self.number)
        if lane is None or self.boundary is None:
            return None
        self.filled.add(lane)
        if not self.lanes or not self.lanes <= self.filled:
            return None
        self.boundary, self.filled = None, set()
        self.told.compare(self.full)
        return self.full

    def finish(self, plan: Plan) -> None:
        """All states are made by this plan."""
        if plan is not self._finished:
            self._finished = plan
            self.told.finish(plan, self.full)

    def to_write(self) -> AudiencesRecord | None:
        """What is to be remembered of the audiences; None: the changelog has it."""
        written, told = self._written, self.told
        if written is not None and written.applied is self.applied and written.told is told.entries:
            return None
        self._written = AudiencesRecord(1, self.applied, told.entries, told.exits)
        return None if self._written == written else self._written


def reclaim(state: ProfileState, plan: Plan) -> bool:
    """Drops traits, claims, mapped values and answers to accounts that the plan does not use; whether there were any.

    Memberships stay, also of audiences that are no longer there: their sequences must not begin anew, and an audience
    that comes back makes net changes only.
    """
    traits = [path for path in state.traits if path not in plan.of_trait]
    for path in traits:
        del state.traits[path]
    claims = [name for name in state.claims if not _is_used(name, plan)]
    for key in claims:
        del state.claims[key]
    known = frozenset() if plan.call_fields is None else plan.call_fields.columns
    columns = [
        column for column in state.identifiers if SEPARATOR in column and name_of_past(column) not in known
    ]
    for column in columns:
        del state.identifiers[column]
        state.further.pop(column, None)
    answers = [short for short in state.memberships if is_asked(short) and short not in plan.by_id]
    for short in answers:
        del state.memberships[short]
    return bool(traits or claims or columns or answers)


def _is_used(claim: str, plan: Plan) -> bool:
    audience = plan.audiences.get(key_of(claim))
    return audience is not None and audience.claimed and audience.claim == claim
