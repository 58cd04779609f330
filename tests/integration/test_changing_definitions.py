"""Other definitions while calls pour in and workers die: the end is that of plain counting, and nothing flaps."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, Order, as_events, expected_members, make_orders

# "Recent" is edited, "Spenders" has another name and one more ad account, "Two orders" and "Lapsed" are deleted, the
# latter with its people at Facebook.
BEFORE = AUDIENCES.replace("{name: Lapsed, ", "{name: Lapsed, facebook: {on_delete: clear}, ")
AFTER = """
audiences:
  - {name: Recent, when: {event: Order Completed, within: 10d}}
  - name: Great spenders
    key: spenders
    when: {event: Order Completed, within: 90d, sum: {property: revenue, at_least: 100}}
    facebook: {name: Spenders}
  - {name: Fresh spenders, when: {all: [{audience: recent}, {audience: spenders}]}}
"""
FACEBOOK_NAMES = {"recent": "Recent", "spenders": "Spenders", "fresh_spenders": "Fresh spenders"}


def expected_after(orders: list[Order]) -> dict[str, set[str]]:
    now = datetime.now(UTC)
    recent = {order.user for order in orders if now < order.at + timedelta(days=10)}
    spenders = expected_members(orders)["spenders"]
    return {"recent": recent, "spenders": spenders, "fresh_spenders": recent & spenders}


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", BEFORE)) as made:
        yield made


def ready(*workers: WorkerProcess) -> None:
    for worker in workers:
        wait_until(worker.ready, lambda worker=worker: worker.said)  # type: ignore[misc] # the loop's own


def evaluated(*workers: WorkerProcess) -> int:
    return sum(int((worker.stats() or ZERO)["stages"]["evaluate"]["in"]) for worker in workers)


ZERO = {"stages": {"evaluate": {"in": 0}}}


def taken_up(installation: Installation) -> bool:
    listed = json.loads(installation.command("audiences", "list", "--json").stdout)
    return set(listed["running"].values()) == {listed["version"]} == {2} and len(listed["running"]) == 4


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_applied_while_calls_come_in(installation: Installation, killed: bool) -> None:
    orders = make_orders(count=6_000, users=900, days=120)
    events = as_events(orders)
    half = len(events) // 2
    installation.produce(events[:half])
    workers = [installation.start_worker(instance=f"slot-{n}") for n in range(2)]
    ready(*workers)
    wait_until(lambda: evaluated(*workers) > half // 2, lambda: workers[0].said)
    refused = installation.apply(AFTER)
    assert refused.returncode == 2
    assert "lapsed, two_orders" in refused.stderr
    installation.produce(events[half : half + half // 2])
    applied = installation.apply(AFTER, "--allow-delete")
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.splitlines() == [
        "added fresh_spenders",
        "changed recent",
        "changed spenders",
        "removed lapsed",
        "removed two_orders",
        "published as version 2",
    ]
    if killed:
        workers[1].process.kill()
        workers[1].ended()
    installation.produce(events[half + half // 2 :])
    if killed:
        # Its own file is the one from before by now, and was published.
        workers[1] = installation.start_worker(instance="slot-1")
        ready(workers[1])
        assert "version 2 of the definitions runs" in workers[1].said
    wait_until(lambda: taken_up(installation), lambda: "\n".join(worker.said for worker in workers), every=1)
    installation.wait_until_idle(*workers)
    expected, deltas = expected_after(orders), installation.memberships()
    assert all(expected.values())
    assert_unbroken(deltas)
    found = members_of(deltas)
    assert {key: found[key] for key in expected} == expected
    assert found["lapsed"] == set()
    at_facebook = installation.facebook_members()
    assert {key: at_facebook[name] for key, name in FACEBOOK_NAMES.items()} == expected
    assert at_facebook["Lapsed"] == set()
    assert at_facebook["Two orders"], "deleted, and kept at Facebook"
    assert len(at_facebook) == 5, "nothing is created anew for another name"
    for worker in workers:
        assert worker.stop(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said


# --- filled from history ---

# What is asked of the past is not kept by BEFORE: longer, larger, everybody.
FILLED = BEFORE.replace(
    "{name: Recent, when: {event: Order Completed, within: 30d}}",
    """{name: Recent, when: {event: Order Completed, within: 100d}}
  - {name: Three lately, when: {event: Order Completed, within: 70d, count: {at_least: 3}}}
  - {name: Not recent, when: {not: {event: Order Completed, within: 70d}}}""",
)


def expected_filled(orders: list[Order]) -> dict[str, set[str]]:
    now = datetime.now(UTC)

    def buyers(days: int, count: int) -> set[str]:
        lately = [order.user for order in orders if now < order.at + timedelta(days=days)]
        return {user for user in lately if lately.count(user) >= count}

    everybody = {order.user for order in orders}
    return {
        **expected_members(orders),
        "recent": buyers(100, 1),
        "three_lately": buyers(70, 3),
        "not_recent": everybody - buyers(70, 1),
    }


def filled(installation: Installation) -> bool:
    listed = json.loads(installation.command("audiences", "list", "--json").stdout)
    return taken_up(installation) and listed["filling"] == []


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_new_audiences_are_filled_from_history_while_calls_come_in(
    installation: Installation, killed: bool
) -> None:
    orders = make_orders(count=4_000, users=600, days=140)
    events = as_events(orders)
    half = len(events) // 2
    installation.produce(events[:half])
    workers = [installation.start_worker(instance=f"slot-{n}") for n in range(2)]
    ready(*workers)
    wait_until(lambda: evaluated(*workers) > half // 2, lambda: workers[0].said)
    applied = installation.apply(FILLED)
    assert applied.returncode == 0, applied.stderr
    installation.produce(events[half : half + half // 2])
    if killed:
        workers[1].process.kill()
        workers[1].ended()
        workers[1] = installation.start_worker(instance="slot-1")
    installation.produce(events[half + half // 2 :])
    wait_until(lambda: filled(installation), lambda: "\n".join(worker.said for worker in workers), every=1)
    installation.wait_until_idle(*workers)
    expected, deltas = expected_filled(orders), installation.memberships()
    assert all(expected.values())
    assert_unbroken(deltas)
    found = members_of(deltas)
    assert {key: found[key] ^ expected[key] for key in expected} == {key: set() for key in expected}
    for worker in workers:
        assert worker.stop(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said
