"""Calls of people who are forgotten now and then, and what Facebook has of them by a destination that seldom reads."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from schemas.membership import Change, MembershipDelta
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.random_definitions import instant

DEVICES = [f"38400000-8cf0-11bd-b23e-10b96e40000{number}" for number in range(3)]
USERS = ["u0", "u1", "u2"]


def line(at: int, **call: Any) -> bytes:
    """A call that happened and was received then; `device`, `email`: what it names besides."""
    device, email = call.pop("device", None), call.pop("email", None)
    context: dict[str, Any] = {"traits": {"email": f"{email}@example.com"}} if email else {}
    if device:
        context["device"] = {"type": "ios", "advertisingId": device, "adTrackingEnabled": True}
    said = {"type": "track", "event": "A", **call} if "type" not in call else call
    times = {"timestamp": instant(at), "receivedAt": instant(at), "messageId": f"m{at}"}
    return json.dumps({**times, **said, "context": context}).encode()


def anything(random: Random) -> dict[str, Any]:
    call: dict[str, Any] = {"type": "track", "event": random.choice("AB")}
    which = random.random()
    if which < 0.6:
        call["userId"] = random.choice(USERS)
    if which > 0.3:
        call["anonymousId"] = f"a{random.randrange(4)}"
    if random.random() < 0.3:
        call["device"] = random.choice(DEVICES)
    if random.random() < 0.3:
        call["email"] = f"e{random.randrange(4)}"
    return call


class Sent:
    """What Facebook has, of destinations that read only now and then, and of each membership the newest record: all that
    compaction leaves, and all that a batch sends of changes that wait together. Those of an audience that is defined no
    longer read when it is back.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.read = 0
        self.values: set[tuple[str, str, str]] = set()
        self._waiting: list[MembershipDelta] = []

    def let_go(self) -> None:
        """They read what has been committed, and so confirm what has been removed."""
        cluster = self.cluster
        for number in range(len(cluster.nodes)):
            cluster.commit(number)
        newest: dict[tuple[str, str], MembershipDelta] = {}
        for delta in [*self._waiting, *cluster.deltas[self.read :]]:
            newest.pop((delta.audience, delta.profile), None)
            newest[delta.audience, delta.profile] = delta
        self.read, self._waiting = len(cluster.deltas), []
        for place, delta in newest.items():
            if place not in cluster.memberships:
                continue  # there is a tombstone
            if delta.audience not in cluster.plan.audiences:
                self._waiting.append(delta)
            elif delta.change is Change.EXITED:
                self.values -= values_of(delta)
            else:
                self.values |= values_of(delta)
        cluster.let_go()


def values_of(delta: MembershipDelta) -> set[tuple[str, str, str]]:
    return {
        (delta.audience, column, str(value))
        for rows in delta.rows.values()
        for row in rows
        for column, value in row.items()
        if column in ("EXTERN_ID", "EMAIL", "MADID")
    }
