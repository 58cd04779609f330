"""Accounts and their users: calls, audiences, and an account that is driven by hand."""

from __future__ import annotations

from typing import Any

from app.domain.counters import Counters
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition, Outcome
from app.domain.plan import Plan
from app.domain.resolution import Resolution, Resolver
from schemas.profile import MARKER, VERSION, ProfileEvent, Standing
from tests.unit.domain.identity_lines import line
from tests.unit.domain.plans import FACEBOOK, FAR_WALL, START, plan_of

LOGGED_IN = {"event": "Logged In", "within": "30d"}


def of_accounts(when: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"entity": "account", "when": when, "facebook": FACEBOOK, **more}


def users(quantifier: str, asked: dict[str, Any] = LOGGED_IN) -> dict[str, Any]:
    return {"users": {quantifier: asked}}


def joins(day: float, group: str = "g1", **fields: Any) -> bytes:
    return line(day, "group", groupId=group, **fields)


def logs_in(day: float, **fields: Any) -> bytes:
    return line(day, "track", event="Logged In", **fields)


class Account:
    """The partition of an account alone; its users live elsewhere."""

    def __init__(self, when: dict[str, Any], clock: int | None = START, runs_by: Plan | None = None) -> None:
        """`runs_by`: the partition has another plan than the users, who still say what this one asked."""
        asking = plan_of(of_accounts(when))
        self.plan = asking if runs_by is None else runs_by
        assert asking.accounts is not None
        [self.asked] = asking.accounts.asked
        place = Place(0, lambda profile: 0 if profile.startswith("group_id:") else 1)
        self.counters = Counters()
        self.partition = AudiencePartition(self.plan, 0, self.counters, place=place)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])
        if clock is not None:
            self.move_clock(clock)
        self.offset = 0

    def move_clock(self, instant: int) -> None:
        marker = ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress={"lane": instant})
        self.partition.apply_marker(marker)

    def hear(
        self, kind: int, user: str, holds: bool = False, replaces: tuple[str, ...] = (), at: int = START
    ) -> Outcome:
        self.offset += 1
        said = Standing(user=user, replaces=list(replaces), holds={self.asked: holds})
        self.apply(ProfileEvent(VERSION, kind, f"profiles/{user}", self.offset, 0, at, at, standing=said))
        return self.partition.drain()

    def apply(self, event: ProfileEvent) -> None:
        self.partition.apply("group_id:g1", event)

    @property
    def known(self) -> list[str]:
        state = self.partition.states.find("group_id:g1")
        assert state is not None
        assert state.ties is not None
        assert sum(stand.users for stand in state.ties.stands) == len(state.ties.users)
        return sorted(state.ties.users)

    @property
    def is_member(self) -> bool:
        return self.partition.states.is_member("audience_0", "group_id:g1")


def resolve(resolver: Resolver, raw: bytes) -> Resolution:
    return resolver.resolve(raw, None, FAR_WALL, "lane", 7)
