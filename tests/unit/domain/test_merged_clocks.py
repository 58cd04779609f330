"""Profiles that become one where their partitions' clocks differ: an event counts once, whichever clock has passed it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.plans import HOUR, START, plan_of
from tests.unit.domain.switching_world import iso

ANONYMOUS = {"include_anonymous": True}
TWICE = {"name": "Twice", "when": {"event": "A", "count": {"at_least": 2}}, **ANONYMOUS}
RICH = {"name": "Rich", "when": {"event": "A", "sum": {"property": "revenue", "at_least": 20}}, **ANONYMOUS}
OFTEN = {"name": "Often", "when": {"trait": "times", "at_least": 2}, **ANONYMOUS}
SPENDER = {"name": "Spender", "when": {"trait": "spent", "at_least": 20}, **ANONYMOUS}
# `lately` keeps the events of `spent` beside its totals.
TRAITS = {
    "times": {"event": "A", "count": True},
    "spent": {"event": "A", "sum": "revenue"},
    "lately": {"event": "A", "sum": "revenue", "within": "30d"},
}
# Likewise of the audiences; they also say who has become one of the two.
MONTH = {"name": "Month", "when": {"event": "A", "within": "30d"}, **ANONYMOUS}
KEPT = {"name": "Kept", "when": {"event": "A", "within": "30d", "sum": {"property": "revenue", "at_least": 1}}, **ANONYMOUS}  # fmt: skip
OTHERS = {"name": "Others", "when": {"event": "B", "count": {"at_least": 9}}, **ANONYMOUS}


def raw(after: int, **fields: Any) -> bytes:
    at = iso(START + after)
    return json.dumps({"timestamp": at, "receivedAt": at, "messageId": str(after), **fields}).encode()


@pytest.mark.parametrize("event_of", ["who ends", "who goes on"])
@pytest.mark.parametrize("audience", [TWICE, RICH, OFTEN, SPENDER], ids=lambda one: str(one["name"]))
def test_an_event_that_one_clock_has_passed_counts_once(audience: dict[str, Any], event_of: str) -> None:
    """The visitor's partition hears of the slower lane first, and so its clock is ahead when the two become one; the
    user's partition counts the event as early.
    """
    cluster = Cluster(plan_of(MONTH, KEPT, OTHERS, audience, traits=TRAITS), 2, 2)
    user = next(name for n in range(99) if cluster.partition_of(name := f"u{n}") == 0)
    visitor = next(name for n in range(99) if cluster.partition_of(f"anonymous_id:{(name := f'a{n}')}") == 1)
    for lane in (0, 1):
        cluster.marker(START, lane)
    cluster.settle()
    slower, ahead = cluster.nodes
    cluster.marker(START + 1_200, 1)
    held_back = slower.log.pop()
    who = {"anonymousId": visitor} if event_of == "who ends" else {"userId": user}
    cluster.call(0, raw(1_000, type="track", event="A", properties={"revenue": 10}, **who))
    other = {"userId": user} if event_of == "who ends" else {"anonymousId": visitor}
    cluster.call(0, raw(1_025, type="track", event="B", **other))
    # The visitor is looked at where the clock of the visitor's partition has come to.
    cluster.call(0, raw(1_050, type="track", event="B", anonymousId=visitor))
    cluster.call(0, raw(1_100, type="identify", userId=user, anonymousId=visitor))
    cluster.step(0, len(slower.log))
    cluster.commit(0)
    cluster.step(1, len(ahead.log))
    cluster.commit(1)
    assert (slower.engine.clock.now, ahead.engine.clock.now) == (START, START + 1_100)
    cluster.step(0, len(slower.log))
    cluster.commit(0)
    slower.log.append(held_back)
    cluster.settle()
    for lane in (0, 1):
        cluster.marker(START + HOUR, lane)
    cluster.settle()
    assert cluster.members() == {("month", user), ("kept", user)}
    assert not [delta for delta in cluster.deltas if delta.audience == str(audience["name"]).lower()]
