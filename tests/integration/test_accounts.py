"""Accounts whose users live in several partitions, on a real Kafka and through crashes, as `simulate` has them."""

from __future__ import annotations

import json
import random
import signal
from typing import Any

from app.adapters.clock import SystemClock
from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from tests.integration.installation import Installation, assert_unbroken, members_of, wait_until
from tests.integration.journeys import DAY, HOUR, SourceCall, text_of
from tests.integration.test_worker_and_simulate import source_records
from tests.unit.domain.identity_cluster import Cluster

AUDIENCES = """
audiences:
  - {name: Active, entity: account, when: {users: {any: {event: Logged In, within: 10d}}}}
  - {name: All in, entity: account, when: {users: {all: {event: Logged In, within: 30d}}}}
  - name: Quiet pros
    entity: account
    when: {all: [{trait: plan, equals: pro}, {users: {none: {event: Logged In, within: 10d}}}]}
  - {name: Admins of active, when: {all: [{audience: active}, {trait: role, equals: admin}]}}
"""
USERS, ACCOUNTS = 150, 40
SECOND = 1_000


def make_calls(now: int, seed: int) -> list[SourceCall]:
    """Each user joins an account or two, under a device or a user id, and logs in now and then. The last account is one
    whose only login is soon ten days old.
    """
    rng = random.Random(seed)
    made: list[tuple[int, dict[str, Any]]] = []
    for user in range(USERS):
        names = {"userId": f"user_{user}", "anonymousId": f"device_{user}"}
        alone = [{"anonymousId": names["anonymousId"]}, {"userId": names["userId"]}]
        for _ in range(rng.choice([1, 1, 2])):
            account = f"account_{rng.randrange(ACCOUNTS)}"
            traits = {"plan": rng.choice(["free", "pro"])}
            call = {"type": "group", "groupId": account, "traits": traits, **rng.choice([*alone, names])}
            made.append((now - rng.randrange(40 * DAY), call))
        made.append((now - rng.randrange(40 * DAY), {"type": "identify", **names, "traits": {"role": rng.choice(["admin", "user"])}}))  # fmt: skip
        for _ in range(rng.choice([0, 0, 1, 3])):
            call = {"type": "track", "event": "Logged In", **rng.choice([*alone, names])}
            made.append((now - rng.randrange(HOUR, 40 * DAY), call))
    soon = now - 10 * DAY + 60 * SECOND
    made.append(
        (soon - HOUR, {"type": "group", "groupId": "soon", "userId": "user_soon", "traits": {"plan": "pro"}})
    )
    made.append((soon, {"type": "track", "event": "Logged In", "userId": "user_soon"}))
    made.sort(key=lambda one: one[0])
    return [
        SourceCall(
            {**call, "messageId": f"m{number}", "timestamp": text_of(at), "receivedAt": text_of(at)}, at
        )
        for number, (at, call) in enumerate(made)
    ]


def members_in_one_partition(calls: list[SourceCall], until: int) -> dict[str, set[str]]:
    """By profile id, accounts and people."""
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


def test_accounts_and_their_people_are_the_same_in_four_partitions_and_through_crashes(
    bootstrap_servers: str, topic_prefix: str
) -> None:
    now = SystemClock().now_ms()
    calls = make_calls(now, seed=5)
    # Behind the moment at which the last account becomes quiet; nothing else changes that soon.
    expected = members_in_one_partition(calls, now + 5 * 60 * SECOND)
    assert {len(members) > 5 for members in expected.values()} == {True}, expected
    assert "group_id:soon" in expected["quiet_pros"]
    installation = Installation(bootstrap_servers, topic_prefix, AUDIENCES, source_partitions=2)
    try:
        installation.produce_raw(source_records(calls, 2))
        for step in ("evaluate.offsets", "evaluate.commit"):
            worker = installation.start_worker(instance="slot-1", at=(step, 3, signal.SIGKILL))
            assert worker.ended() == -signal.SIGKILL, worker.said
        survivor = installation.start_worker(instance="slot-1")
        installation.wait_until_idle(survivor)

        def is_quiet() -> bool:
            members = members_of(installation.memberships())
            return "user_soon" in members.get("quiet_pros", set())

        wait_until(is_quiet, lambda: survivor.said, every=1.0)
        installation.wait_until_idle(survivor)
        deltas = installation.memberships()
        at_facebook = installation.facebook_members()
        explained = installation.command(
            "explain", "group_id:soon", "--json", "--url", f"http://127.0.0.1:{survivor.port}"
        )
    finally:
        installation.close()
    assert_unbroken(deltas)
    assert {key: members for key, members in members_of(deltas).items() if members} == expected
    people = {key: {one for one in members if one.startswith("user_")} for key, members in expected.items()}
    assert {
        name.lower().replace(" ", "_"): members for name, members in at_facebook.items() if members
    } == people
    assert all(delta["rows"] == {} for delta in deltas if delta["profile"].startswith("group_id:"))
    assert explained.returncode == 0, explained.stderr
    audiences = {one["audience"]: one["member"] for one in json.loads(explained.stdout)["audiences"]}
    assert audiences == {"active": False, "all_in": True, "quiet_pros": True}


BEFORE = "audiences: [{name: Recent, when: {event: Logged In, within: 1d}}]"


def test_the_first_audiences_of_accounts_are_filled_by_two_workers_while_calls_come_in(
    bootstrap_servers: str, topic_prefix: str
) -> None:
    now = SystemClock().now_ms()
    calls = make_calls(now, seed=5)
    expected = members_in_one_partition(calls, now + 5 * 60 * SECOND)
    half = len(calls) * 3 // 4
    installation = Installation(bootstrap_servers, topic_prefix, BEFORE, source_partitions=2)
    try:
        installation.produce_raw(source_records(calls[:half], 2))
        workers = [installation.start_worker(instance=f"slot-{number}") for number in range(2)]
        installation.wait_until_idle(*workers)
        applied = installation.apply(AUDIENCES, "--allow-delete")
        assert applied.returncode == 0, applied.stderr
        installation.produce_raw(source_records(calls[half:], 2))

        def is_filled() -> bool:
            listed = json.loads(installation.command("audiences", "list", "--json").stdout)
            running = listed["running"]
            return set(running.values()) == {2} and len(running) == 4 and listed["filling"] == []

        def is_quiet() -> bool:
            members = members_of(installation.memberships())
            return "user_soon" in members.get("quiet_pros", set())

        wait_until(is_filled, lambda: "\n".join(worker.said for worker in workers), every=1.0)
        wait_until(is_quiet, lambda: "\n".join(worker.said for worker in workers), every=1.0)
        installation.wait_until_idle(*workers)
        deltas = installation.memberships()
    finally:
        installation.close()
    assert_unbroken(deltas)
    found = members_of(deltas)
    assert {key: found[key] ^ expected[key] for key in expected} == {key: set() for key in expected}
