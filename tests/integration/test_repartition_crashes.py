"""`topics repartition` in the way of which somebody dies; further steps are in tests/chaos/test_repartition_steps.py."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.installation import (
    Installation,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import NAMES, as_events, expected_members, make_orders
from tests.integration.repartitioning import (
    assert_run_again_behind,
    deltas,
    installation_of,
    rest,
)


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    with closing(installation_of(bootstrap_servers, topic_prefix)) as made:
        yield made


def test_killed_while_topics_are_swapped_it_is_run_again(installation: Installation) -> None:
    steps = ("swapping", "deleted ProfileEvent, MessagePack", "filled MembershipDelta, JSON")
    assert_run_again_behind(installation, steps)


def test_behind_a_worker_that_was_killed_nothing_counts_twice(installation: Installation) -> None:
    """No call has a message id that could be known again."""
    orders = make_orders(count=1_200, users=250, days=150)
    first = {event["messageId"]: event for event in as_events(orders)}
    # Received now, so that all clocks are near the wall.
    known = ("messageId", "receivedAt")
    events = [{name: said for name, said in event.items() if name not in known} for event in first.values()]
    installation.produce(events[:800])
    for step, count, target in (("resolve.flush", 4, 6), ("evaluate.commit", 4, 3)):
        worker = installation.start_worker(at=(step, count, signal.SIGKILL))
        assert worker.ended() == -signal.SIGKILL, worker.said

        def moved(target: int = target) -> subprocess.CompletedProcess[str]:
            return installation.command("topics", "repartition", "--partitions", str(target), "--json")

        # It is in the group until its session has ended.
        wait_until(lambda: "are in group" not in moved().stderr, lambda: "in the group for ever", every=1)
        if (done := moved()).returncode == 2:
            assert "a worker did not end by itself" in done.stderr
            helper = installation.start_worker()
            rest(helper)
            assert helper.stop() == 0
            done = moved()
        assert done.returncode == 0, done.stderr
        installation.partitions = target
    worker = installation.start_worker()
    installation.produce(events[800:])
    rest(worker)
    expected = expected_members(orders)
    members = members_of(deltas(installation))
    assert {key: members[key] for key in NAMES} == expected
    assert_unbroken(deltas(installation))
