"""A worker that really gets no more memory: it ends, says nothing untrue, and the next one makes up for it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.integration.installation import Installation, assert_unbroken, members_of, wait_until
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders

MIB = 2**20


def address_space(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.parametrize("more_mib", [1, 8, 24])
def test_no_more_memory_in_the_middle_of_the_work(
    bootstrap_servers: str, topic_prefix: str, more_mib: int
) -> None:
    # Many buy a third time, or again, which is no mistake here.
    no_brake = {"AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000"}
    installation = Installation(bootstrap_servers, topic_prefix, AUDIENCES, settings=no_brake)
    try:
        orders = make_orders(count=30_000, users=15_000, days=150)
        events = as_events(orders)
        installation.produce(events[:100])
        # Batches that need room.
        settings = {"AUDIENCE_SYNC_POLL_RECORDS": "10000"}
        worker = installation.start_worker(instance="slot-1", settings=settings)
        installation.wait_until_idle(worker)
        _, hard = resource.prlimit(worker.process.pid, resource.RLIMIT_AS)
        limit = address_space(worker.process.pid) + more_mib * MIB
        resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (limit, hard))
        installation.produce(events[100:])
        wait_until(lambda: worker.process.poll() is not None, lambda: worker.said)
        # 1 with a reason, or the signal with which a library of C ended it.
        assert worker.process.returncode == 1 or worker.process.returncode < 0, worker.said
        print(f"ended with {worker.process.returncode}: {worker.said.strip().splitlines()[-1:]}")
        successor = installation.start_worker(instance="slot-1", settings=settings)
        installation.wait_until_idle(successor)
        expected, deltas = expected_members(orders), installation.memberships()
        assert_unbroken(deltas)
        assert members_of(deltas) == expected
        assert installation.facebook_members() == {NAMES[key]: people for key, people in expected.items()}
    finally:
        installation.close()
