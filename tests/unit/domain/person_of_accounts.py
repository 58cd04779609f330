"""A person in an account whom Facebook is told of by Engage calls."""

from __future__ import annotations

from typing import Any

from app.domain.compact import audience_id
from app.domain.counters import Counters
from app.domain.engage_calls import EngageCalls
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from schemas.profile import (
    ENTRY,
    JOIN,
    MARKER,
    VERSION,
    ProfileEvent,
    Standing,
)
from tests.unit.domain.accounts_of_users import of_accounts, users
from tests.unit.domain.identity_lines import line
from tests.unit.domain.plans import FAR_WALL, START, plan_of

ANY = of_accounts(users("any"))
DESTINATION = "audience_0"


class Person:
    """The partition of `u1` alone, whose accounts live elsewhere."""

    def __init__(self, early: int = 0) -> None:
        self.plan = plan_of(ANY, {**ANY, "name": "Other"}, {"name": "Buyers", "when": {"event": "Bought"}})
        place = Place(0, lambda profile: 1 if profile.startswith("group_id:") else 0)
        calls = EngageCalls("shop", ["identify"], early)
        self.partition = AudiencePartition(self.plan, early, Counters(), place=place, calls=calls)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])
        self.clock(START)
        self.resolver = Resolver(self.plan, ResolveOptions())
        self.offset = 0

    def clock(self, instant: int) -> None:
        progress = {"lane": instant}
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress=progress)
        )

    def join(self, group: str) -> None:
        self.offset += 1
        said = Standing(account=f"group_id:{group}")
        self.partition.apply(
            "u1", ProfileEvent(VERSION, JOIN, "lane", self.offset, 0, START, START, standing=said)
        )

    def enter(self, group: str, sequence: int, audiences: list[str], at: int) -> None:
        said = Standing(f"group_id:{group}", audiences=list(map(audience_id, audiences)), sequence=sequence)
        self.partition.apply(
            "u1", ProfileEvent(VERSION, ENTRY, f"profiles/{group}", sequence, 0, at, at, standing=said)
        )

    def buys(self, day: float) -> None:
        self.offset += 1
        raw = line(day, "track", event="Bought", user="u1")
        for profile, event in self.resolver.resolve(raw, None, FAR_WALL, "lane", self.offset).records:
            self.partition.apply(profile, event)

    def remembered(self) -> dict[str, int]:
        self.partition.drain()
        state = self.partition.states.find("u1")
        assert state is not None
        assert state.calls is not None
        return state.calls.newest

    def said(self) -> list[tuple[dict[str, Any], str]]:
        outcome = self.partition.drain()
        return [(call.traits or {}, call.timestamp) for _, call in outcome.calls]
