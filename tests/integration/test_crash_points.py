"""A worker that dies or freezes at any point of a commit changes nothing about the result."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import (
    AUDIENCES,
    NAMES,
    Order,
    as_events,
    expected_members,
    make_orders,
    with_facebook_ids,
)

EVALUATE_STEPS = ["begin", "produce", "flush", "offsets", "commit"]


@pytest.fixture
def orders() -> list[Order]:
    return make_orders(count=3_000, users=400, days=150)


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str, orders: list[Order]) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES)) as made:
        made.produce(as_events(orders))
        yield made


def assert_as_if_nothing_had_happened(installation: Installation, orders: list[Order]) -> None:
    expected = expected_members(orders)
    assert all(expected.values()), "every audience has members, or the comparison would say little"
    deltas = installation.memberships()
    assert_unbroken(deltas)
    assert members_of(deltas) == expected
    assert installation.facebook_members() == {NAMES[key]: members for key, members in expected.items()}


@pytest.mark.parametrize(
    "steps",
    [
        ["resolve.produce", "resolve.flush"],
        [f"evaluate.{step}" for step in EVALUATE_STEPS],
        [f"deliver.{step}" for step in EVALUATE_STEPS],
    ],
    ids=["resolve", "evaluate", "deliver"],
)
def test_killed_behind_each_step_in_turn(
    installation: Installation, orders: list[Order], steps: list[str]
) -> None:
    for step in steps:
        worker = installation.start_worker(instance="slot-1", at=(step, 2, signal.SIGKILL))
        assert worker.ended() == -signal.SIGKILL, worker.said
    survivor = installation.start_worker(instance="slot-1")
    installation.wait_until_idle(survivor)
    assert_as_if_nothing_had_happened(installation, orders)


def test_out_of_memory_in_each_stage_in_turn(installation: Installation, orders: list[Order]) -> None:
    """A MemoryError is an exception like any other: the process says so and ends, and nothing is half done."""
    for step in ("resolve.flush", "evaluate.offsets", "deliver.flush"):
        worker = installation.start_worker(instance="slot-1", at=(step, 2, MemoryError.__name__))
        assert worker.ended() == 1, worker.said
        assert worker.said.splitlines()[-1].startswith("worker: ended: unexpected MemoryError at"), (
            worker.said
        )
    survivor = installation.start_worker(instance="slot-1")
    installation.wait_until_idle(survivor)
    assert_as_if_nothing_had_happened(installation, orders)


def stopped(worker: WorkerProcess) -> bool:
    stat = Path(f"/proc/{worker.process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    ("step", "frozen_seconds"),
    [
        # The session is 3 s, so another worker has taken over; the transaction, which the broker ends after 10 s,
        # is still open.
        ("begin", 6),
        ("produce", 6),
        ("flush", 6),
        ("offsets", 6),
        # The broker has ended it.
        ("offsets", 14),
        ("commit", 6),
    ],
)
def test_frozen_behind_a_step_while_another_takes_over(
    installation: Installation, orders: list[Order], step: str, frozen_seconds: int
) -> None:
    # What is frozen in the middle of creating an audience may create it when it wakes: that is another test's matter.
    connected = {name: installation.create_audience(name) for name in NAMES.values()}
    installation.define(with_facebook_ids(connected))
    zombie = installation.start_worker(at=(f"evaluate.{step}", 3, signal.SIGSTOP))
    wait_until(lambda: stopped(zombie), lambda: zombie.said)
    successor = installation.start_worker()
    time.sleep(frozen_seconds)
    os.kill(zombie.process.pid, signal.SIGCONT)
    # It is told to go, or joins the group again by itself.
    wait_until(lambda: zombie.process.poll() is not None or zombie.idle(), lambda: zombie.said)
    alive = [worker for worker in (zombie, successor) if worker.process.poll() is None]
    installation.wait_until_idle(*alive)
    assert_as_if_nothing_had_happened(installation, orders)
