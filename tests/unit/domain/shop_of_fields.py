"""A shop whose audience is sent mapped fields."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from app.domain.counters import Counters
from app.domain.instants import format_instant
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from schemas.membership import MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import FAR_WALL, START, plan_of

BOUGHT = {"event": "Bought"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Shop:
    """One partition; an audience `a` of all who have bought anything."""

    def __init__(self, fields: dict[str, Any], traits: dict[str, Any] | None = None, **facebook: Any) -> None:
        self.traits = traits
        self.log: dict[bytes, bytes] = {}
        self.records: list[bytes] = []
        self.offset = 0
        self.define({"fields": fields, **facebook} if fields else {})
        self.wait_until(START)

    def define(self, facebook: dict[str, Any] | list[dict[str, Any]]) -> None:
        """From the next record on, after a restart."""
        audience = {"name": "a", "include_anonymous": True, "when": BOUGHT, "facebook": facebook}
        self.plan = plan_of(audience, traits=self.traits)
        self.resolver = Resolver(self.plan, ResolveOptions(default_country="DE"))
        self.partition = AudiencePartition(self.plan, 0, Counters())
        for key, value in self.log.items():
            self.partition.load(key, value)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])

    def wait_until(self, instant: int) -> None:
        event = ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress={"lane": instant})
        self.partition.apply_marker(event)

    def hears(self, at: int = START, **call: Any) -> None:
        self.offset += 1
        line = {
            "type": "identify" if "traits" in call else "track",
            "userId": "ann",
            "receivedAt": format_instant(at),
            "messageId": f"m{self.offset}",
            **call,
        }
        raw = json.dumps(line).encode()
        resolution = self.resolver.resolve(raw, None, FAR_WALL, "lane", self.offset)
        assert resolution.refused is None
        for profile, event in resolution.records:
            encoded = msgspec.msgpack.encode(event)
            self.records.append(encoded)
            self.partition.apply(profile, msgspec.msgpack.decode(encoded, type=ProfileEvent))

    def knows(self, at: int = START, **traits: Any) -> None:
        self.hears(at, traits=traits)

    def buys(self, at: int = START, **call: Any) -> None:
        self.hears(at, event="Bought", **call)

    def deltas(self) -> list[MembershipDelta]:
        outcome = self.partition.drain()
        self.log.update(outcome.states)
        return outcome.deltas

    def sent(self, destination: str = "a") -> list[tuple[str, list[dict[str, Any]]]]:
        return [(delta.change.value, delta.rows[destination]) for delta in self.deltas()]

    def row(self) -> dict[str, Any]:
        """Of the newest delta, which has one row."""
        (row,) = self.sent()[-1][1]
        return row
