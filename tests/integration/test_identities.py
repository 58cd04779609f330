"""People whose identifiers live in several partitions, on a real Kafka and through crashes, as `simulate` has them."""

from __future__ import annotations

import json
import random
import signal
from typing import Any

from app.adapters.clock import SystemClock
from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from tests.integration.installation import Installation, assert_unbroken, members_of
from tests.integration.journeys import AUDIENCES, KEYS, SourceCall, make_calls
from tests.integration.test_worker_and_simulate import source_records
from tests.unit.domain.identity_cluster import Cluster

PEOPLE = 200


def with_many_names(calls: list[SourceCall], seed: int) -> list[SourceCall]:
    """The same calls, each naming its person by user id, by one of three devices, or by both.

    One in seven is never known by a user id, and has one device.
    """
    rng = random.Random(seed)
    named = []
    for call in calls:
        body: dict[str, Any] = {name: value for name, value in call.body.items() if not name.endswith("Id")}
        body["messageId"] = call.body["messageId"]
        person = int(call.person.rpartition("_")[2].rpartition("-")[2])
        device = f"device-{person}" if person % 7 == 0 else f"device-{person}-{rng.randrange(3)}"
        how = rng.choice(["device", "device", "user", "both"])
        if person % 7 == 0 or how != "user":
            body["anonymousId"] = device
        if person % 7 and how != "device":
            body["userId"] = f"user_{person}"
        named.append(SourceCall(body, call.received))
    return named


def test_people_are_the_same_in_four_partitions_and_through_crashes(
    bootstrap_servers: str, topic_prefix: str
) -> None:
    now = SystemClock().now_ms()
    # Sent again, a call would name its person otherwise, and be another call.
    calls = {str(call.body["messageId"]): call for call in make_calls(4_000, PEOPLE, now, seed=5)}
    named = with_many_names(list(calls.values()), seed=6)
    expected = members_in_one_partition(named, now)
    assert len(expected) > len(KEYS) - 2, "nearly every audience has members"
    installation = Installation(bootstrap_servers, topic_prefix, AUDIENCES, source_partitions=2)
    try:
        installation.produce_raw(source_records(named, 2))
        # Resolve's comes first, while there is something to resolve for certain, and in more batches than three.
        small = {"AUDIENCE_SYNC_POLL_RECORDS": "500"}
        for step in ("resolve.flush", "evaluate.offsets", "evaluate.commit"):
            worker = installation.start_worker(
                instance="slot-1", at=(step, 3, signal.SIGKILL), settings=small
            )
            assert worker.ended() == -signal.SIGKILL, worker.said
        survivor = installation.start_worker(instance="slot-1")
        installation.wait_until_idle(survivor)
        deltas = installation.memberships()
        at_facebook = {
            audience["name"]: {
                member["EXTERN_ID"]
                for member in installation.sandbox_get(f"audiences/{audience['id']}/members")["members"]
                if "EXTERN_ID" in member
            }
            for audience in installation.sandbox_get("audiences")
        }
    finally:
        installation.close()
    assert_unbroken(deltas)
    assert sum(delta["cause"] == "merge" for delta in deltas) > PEOPLE, "or little was merged"
    assert {key: members for key, members in members_of(deltas).items() if members} == expected
    known = {key: {one for one in members if one.startswith("user_")} for key, members in expected.items()}
    assert {
        name.lower().replace(" ", "_"): members for name, members in at_facebook.items() if members
    } == known


def members_in_one_partition(calls: list[SourceCall], until: int) -> dict[str, set[str]]:
    """By profile id: what `simulate` does not print, as a membership passes on without a line."""
    parsed = parse_definitions([Document("audiences.yaml", AUDIENCES)])
    alone = Cluster(compile_audiences(parsed.audiences, parsed.traits), partitions=1, lanes=1)
    for call in calls:
        alone.call(0, json.dumps(call.body).encode())
    alone.marker(until, 0)
    alone.settle()
    members: dict[str, set[str]] = {}
    for audience, profile in alone.members():
        members.setdefault(audience, set()).add(profile)
    return members
