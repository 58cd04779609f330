"""Workers come, go and die while calls pour in: the result is that of plain counting, and nobody is forgotten."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders
from topics.partitioning import partition_for

# A dead worker's partitions are to be served within 15 s; here is a margin for a busy machine.
SERVED_AGAIN_SECONDS = 30.0


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    # Most of the lapsed buy again, which is no mistake here.
    settings = {"AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000"}
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES, settings=settings)) as made:
        yield made


def evaluated(worker: WorkerProcess) -> int:
    assert worker.process.poll() is None, worker.said
    stats = worker.stats()
    return 0 if stats is None else int(stats["stages"]["evaluate"]["in"])


def ready(*workers: WorkerProcess) -> None:
    for worker in workers:
        wait_until(worker.ready, lambda worker=worker: worker.said)  # type: ignore[misc] # the loop's own


@pytest.mark.parametrize("names", [("slot-1", "slot-2"), (None, None)], ids=["static", "dynamic"])
def test_start_stop_and_kill_while_calls_come_in(
    installation: Installation, names: tuple[str | None, str | None]
) -> None:
    orders = make_orders(count=9_000, users=1_200, days=150)
    events = as_events(orders)
    thirds = len(events) // 3
    installation.produce(events[:thirds])
    first = installation.start_worker(instance=names[0])
    wait_until(lambda: evaluated(first) > 0, lambda: first.said)
    second = installation.start_worker(instance=names[1])
    ready(second, first)
    installation.produce(events[thirds : 2 * thirds])
    wait_until(lambda: evaluated(second) > 0, lambda: second.said)
    assert first.stop(signal.SIGTERM) == 0, first.said
    installation.produce(events[2 * thirds :])
    second.process.kill()
    second.ended()
    third = installation.start_worker(instance=names[1])
    installation.wait_until_idle(third)
    expected, deltas = expected_members(orders), installation.memberships()
    assert all(expected.values())
    assert_unbroken(deltas)
    assert members_of(deltas) == expected
    assert installation.facebook_members() == {NAMES[key]: members for key, members in expected.items()}


def test_survivor_serves_the_partitions_of_a_dead_worker(installation: Installation) -> None:
    """With the session that is the default, not a test's."""
    settings = {"AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS": "10"}
    survivor = installation.start_worker(settings=settings)
    doomed = installation.start_worker(settings=settings)
    ready(survivor, doomed)
    before = buyers(installation)
    installation.wait_until_idle(survivor, doomed)
    assert evaluated(doomed) > 0, "it owned nothing that could be missed"
    doomed.process.kill()
    killed_at = time.monotonic()
    after = buyers(installation)
    wait_until(
        lambda: installation.facebook_members()["Recent"] >= before | after, lambda: survivor.said, every=0.2
    )
    assert time.monotonic() - killed_at < SERVED_AGAIN_SECONDS
    assert installation.facebook_members()["Recent"] == before | after
    installation.wait_until_idle(survivor)
    assert_unbroken(installation.memberships())


def buyers(installation: Installation) -> set[str]:
    """New ones, in every partition of profile.events."""
    users = {f"user_{uuid.uuid4().hex}" for _ in range(40)}
    partitions = {partition_for(user.encode(), installation.partitions) for user in users}
    assert len(partitions) == installation.partitions
    order = {"type": "track", "event": "Order Completed", "properties": {"revenue": 1}}
    installation.produce([{**order, "userId": user} for user in sorted(users)])
    return users
