"""Disks that are full: a worker needs none, and what Kafka could not write is written once it can."""

from __future__ import annotations

import resource

from tests.integration.installation import Installation, assert_unbroken, members_of
from tests.integration.purchases import AUDIENCES, NAMES, Order, as_events, expected_members, make_orders


def cannot_write(pid: int) -> None:
    """Whatever this process writes to a file from now on fails; pipes and sockets are as ever."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))


def assert_result(installation: Installation, orders: list[Order]) -> None:
    expected, deltas = expected_members(orders), installation.memberships()
    assert all(expected.values())
    assert_unbroken(deltas)
    assert members_of(deltas) == expected
    assert installation.facebook_members() == {NAMES[key]: members for key, members in expected.items()}


def test_a_worker_needs_no_disk(bootstrap_servers: str, topic_prefix: str) -> None:
    installation = Installation(bootstrap_servers, topic_prefix, AUDIENCES)
    try:
        orders = make_orders(count=500, users=80, days=150)
        installation.produce(as_events(orders))
        worker = installation.start_worker()
        cannot_write(worker.process.pid)
        installation.wait_until_idle(worker)
        assert_result(installation, orders)
        # Nor can it say anything: its log is on the same disk.
        assert worker.said == ""
        assert worker.stop() == 0
    finally:
        installation.close()
