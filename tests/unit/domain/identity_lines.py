"""Lines of `simulate` that name people by several identifiers, and what comes of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from schemas.membership import MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, START

VIEWED = {"when": {"event": "Page Viewed", "count": {"at_least": 3}}, "facebook": FACEBOOK}
ORDERED = {"when": {"event": "Order Completed"}, "facebook": FACEBOOK}
TWICE = {"when": {"event": "Order Completed", "count": {"at_least": 2}}, "facebook": FACEBOOK}
NEVER = {"when": {"event": "Order Completed", "count": {"exactly": 0}}, "facebook": FACEBOOK}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def line(day: float, kind: str, *, user: str | None = None, anon: str | None = None, **fields: Any) -> bytes:
    """A call on that day of March 2025, counted from 0; `email` and `madid` stand where libraries put them."""
    milliseconds = round(day * DAY)
    at = (
        f"2025-03-{milliseconds // DAY + 1:02}T{milliseconds // HOUR % 24:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1_000 % 60:02}.{milliseconds % 1_000:03}Z"
    )
    call: dict[str, Any] = {
        "type": kind,
        "receivedAt": at,
        "timestamp": at,
        "messageId": f"{day}",
    }
    if user is not None:
        call["userId"] = user
    if anon is not None:
        call["anonymousId"] = anon
    if "email" in fields:
        (call if kind == "identify" else call.setdefault("context", {}))["traits"] = {
            "email": fields.pop("email")
        }
    if "madid" in fields:
        device = {"type": "ios", "advertisingId": fields.pop("madid"), "adTrackingEnabled": True}
        call.setdefault("context", {})["device"] = device
    return json.dumps({**call, **fields}).encode()


def page(day: float, **fields: Any) -> bytes:
    return line(day, "page", name="Pricing", **fields)


def order(day: float, **fields: Any) -> bytes:
    return line(day, "track", event="Order Completed", **fields)


def identify(day: float, **fields: Any) -> bytes:
    return line(day, "identify", **fields)


def transitions(plan: Plan, *lines: bytes, until: float = 300) -> list[tuple[float, str, bool]]:
    found = list(simulate(plan, lines, START + round(until * DAY)))
    assert all(isinstance(item, Transition) for item in found), found
    return [
        ((item.at - START) / DAY, item.profile, item.member) for item in found if isinstance(item, Transition)
    ]


class Worker:
    """One partition that holds everything, fed as a worker feeds it; for what `simulate` does not print."""

    def __init__(self, plan: Plan) -> None:
        self.partition = AudiencePartition(plan, 0, Counters())
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])
        self._resolver = Resolver(plan, ResolveOptions())
        self._offset = 0

    def feed(self, *lines: bytes) -> list[MembershipDelta]:
        for one in lines:
            self._offset += 1
            resolution = self._resolver.resolve(one, None, FAR_WALL, "lane", self._offset)
            assert resolution.received is not None
            self.move_clock(resolution.received)
            for profile, event in resolution.records:
                self.partition.apply(profile, event)
        return self.partition.drain().deltas

    def move_clock(self, instant: int) -> None:
        marker = ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress={"lane": instant})
        self.partition.apply_marker(marker)


def changes(deltas: list[MembershipDelta]) -> list[tuple[str, str, int]]:
    return [(delta.profile, delta.change.value, delta.sequence) for delta in deltas]
