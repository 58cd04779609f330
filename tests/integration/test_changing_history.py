"""Changes that need the past, and audiences that calls of Engage name, while calls pour in and workers die."""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import Order, as_events, make_orders

BEFORE = """
audiences:
  - {name: Rich, when: {trait: spent, at_least: 100}}
  - {name: Chosen, source: engage}
  - {name: Named, when: {event: Order Completed, within: 30d}}
traits:
  spent: {event: Order Completed, sum: revenue, within: 20d}
"""
# "Rich" is as it was; what it reads is not.
AFTER = """
audiences:
  - {name: Rich, when: {trait: spent, at_least: 100}}
  - {name: Chosen, when: {event: Order Completed, within: 60d}}
  - {name: Named, source: engage}
  - {name: Large, when: {trait: largest, at_least: 60}}
traits:
  spent: {event: Order Completed, sum: revenue, within: 90d}
  largest: {event: Order Completed, max: revenue}
"""


def says(key: str, user: str, member: bool, number: int) -> dict[str, Any]:
    """A call of Engage."""
    instant = (datetime.now(UTC) - timedelta(hours=1) + timedelta(milliseconds=number)).isoformat()
    return {
        "type": "track",
        "event": "Audience Entered" if member else "Audience Exited",
        "userId": user,
        "messageId": f"personas_{key}_{number}",
        "timestamp": instant,
        "receivedAt": instant,
        "properties": {key: member},
        "context": {"personas": {"computation_class": "audience", "computation_key": key}},
    }


def calls_of_engage(keys: list[str], users: int, count: int) -> list[dict[str, Any]]:
    rng = random.Random(2)
    return [
        says(rng.choice(keys), f"user_{rng.randrange(users)}", rng.random() < 0.7, number)
        for number in range(count)
    ]


def said_last(calls: list[dict[str, Any]], key: str) -> set[str]:
    last: dict[str, bool] = {}
    for call in calls:
        if key in call["properties"]:
            last[call["userId"]] = call["properties"][key]
    return {user for user, member in last.items() if member}


def expected(orders: list[Order], calls: list[dict[str, Any]]) -> dict[str, set[str]]:
    now = datetime.now(UTC)
    spent: dict[str, int] = {}
    for order in orders:
        if now < order.at + timedelta(days=90):
            spent[order.user] = spent.get(order.user, 0) + order.cents
    return {
        "rich": {user for user, cents in spent.items() if cents >= 10_000},
        "chosen": {order.user for order in orders if now < order.at + timedelta(days=60)},
        "named": said_last(calls, "named"),
        "large": {order.user for order in orders if order.cents >= 6_000},
    }


def mixed(*streams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In a random order that keeps the one within each stream."""
    rng = random.Random(3)
    turns = [number for number, stream in enumerate(streams) for _ in stream]
    rng.shuffle(turns)
    rest = [iter(stream) for stream in streams]
    return [next(rest[turn]) for turn in turns]


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", BEFORE)) as made:
        yield made


def start(installation: Installation) -> list[WorkerProcess]:
    workers = [installation.start_worker(instance=f"slot-{number}") for number in range(2)]
    for worker in workers:
        wait_until(worker.ready, lambda worker=worker: worker.said)  # type: ignore[misc] # the loop's own
    return workers


def listed(installation: Installation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(installation.command("audiences", "list", "--json").stdout)
    return found


def filled(installation: Installation, version: int) -> bool:
    found = listed(installation)
    running = found["running"]
    return found["version"] == version and set(running.values()) == {version} and found["filling"] == []


def said(workers: list[WorkerProcess]) -> str:
    return "\n".join(worker.said for worker in workers)


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_traits_and_sources_change_while_calls_come_in(installation: Installation, killed: bool) -> None:
    orders = make_orders(count=3_000, users=500, days=140)
    calls = calls_of_engage(["chosen", "named"], users=500, count=1_500)
    stream = mixed(as_events(orders), calls)
    half = len(stream) // 2
    installation.produce(stream[:half])
    workers = start(installation)
    applied = installation.apply(AFTER)
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.splitlines() == [
        "added large",
        "added traits.largest",
        "changed chosen",
        "changed named",
        "changed traits.spent",
        "published as version 2",
    ]
    installation.produce(stream[half : half + half // 2])
    if killed:
        workers[1].process.kill()
        workers[1].ended()
        workers[1] = installation.start_worker(instance="slot-1")
    installation.produce(stream[half + half // 2 :])
    wait_until(lambda: filled(installation, 2), lambda: said(workers), every=1)
    installation.wait_until_idle(*workers)
    wanted, deltas = expected(orders, calls), installation.memberships()
    assert all(wanted.values())
    assert_unbroken(deltas)
    found = members_of(deltas)
    assert {key: found[key] ^ wanted[key] for key in wanted} == {key: set() for key in wanted}
    for worker in workers:
        assert worker.stop(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_engage_creates_the_audiences_that_it_names(installation: Installation, killed: bool) -> None:
    installation.settings |= {
        "AUDIENCE_SYNC_ENGAGE_AUTO_CREATE": "true",
        "AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX": "2",
    }
    keys = ["big_spenders", "j_o_step"]
    calls = calls_of_engage(keys, users=300, count=1_200)
    half = len(calls) // 2
    workers = start(installation)
    # All that is ever said of these comes before anybody has defined them.
    installation.produce(calls[:half])
    if killed:
        workers[0].process.kill()
        workers[0].ended()
        workers[0] = installation.start_worker(instance="slot-0")
    wait_until(
        lambda: {"big_spenders", "j_o_step"} <= {item["key"] for item in listed(installation)["audiences"]},
        lambda: said(workers),
        every=1,
    )
    installation.produce(
        [*calls[half:], says("one_too_many", "user_1", True, 9_999), says("Not-a-key", "user_1", True, 9_998)]
    )
    wait_until(lambda: filled(installation, listed(installation)["version"]), lambda: said(workers), every=1)
    installation.wait_until_idle(*workers)
    deltas = installation.memberships()
    assert_unbroken(deltas)
    wanted = {key: said_last(calls, key) for key in keys}
    assert all(wanted.values())
    assert members_of(deltas) == wanted
    facebook = installation.facebook_members()
    assert {key: facebook[key] for key in keys} == wanted
    assert set(facebook) == {"Rich", "Chosen", "Named", *keys}
    unknown = [worker.stats() or {} for worker in workers]
    assert sum(stats["unknown_audiences"]["calls"].get("one_too_many", 0) for stats in unknown) == 1
    # A file that does not name them leaves them alone.
    version = listed(installation)["version"]
    applied = installation.apply(BEFORE, "--allow-delete")
    assert (applied.returncode, applied.stdout.strip()) == (0, f"version {version} is the same already")
    for worker in workers:
        assert worker.stop(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said
