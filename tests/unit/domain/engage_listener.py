"""A second installation that has nothing but the Engage calls of a first one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from schemas.engage_call import EngageCall
from schemas.membership import Change, MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import plan_of

FAR_WALL = 2**50
LANE = "engage.calls/0"


class EngageListener:
    """Has the audiences of the first one under the same keys, with `source: engage`."""

    def __init__(self, audiences: Mapping[str, Mapping[str, Any]]) -> None:
        plan = plan_of(
            *(
                {
                    "name": key,
                    "key": key,
                    "source": "engage",
                    "include_anonymous": bool(audience.get("include_anonymous")),
                }
                for key, audience in audiences.items()
            )
        )
        self.counters = Counters()
        self._resolver = Resolver(plan, ResolveOptions())
        self._partition = AudiencePartition(plan, 0, self.counters)
        self._partition.finish_recovery()
        self._partition.set_wall(FAR_WALL)
        self._partition.set_expected([LANE])
        self._partition.apply_marker(ProfileEvent(VERSION, MARKER, "", 0, 0, 0, 0, progress={LANE: 0}))
        self._offset = 0
        self.deltas: list[MembershipDelta] = []
        self.members: set[tuple[str, str]] = set()

    def hear(self, calls: Iterable[tuple[str, EngageCall]]) -> None:
        for _, call in calls:
            self._offset += 1
            resolution = self._resolver.resolve(msgspec.json.encode(call), None, FAR_WALL, LANE, self._offset)
            assert resolution.refused is None, resolution.refused
            assert resolution.dropped is None, resolution.dropped
            for profile, event in resolution.records:
                self._partition.apply(profile, event)
        for delta in self._partition.drain().deltas:
            self.deltas.append(delta)
            key = (delta.audience, delta.profile)
            if delta.change is Change.ENTERED:
                self.members.add(key)
            elif delta.change is Change.EXITED:
                self.members.discard(key)
