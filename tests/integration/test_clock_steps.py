"""Somebody sets the wall of a running worker by hours, ahead and back again: nobody comes and goes, and all waiting is
by a clock that nobody can set."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.installation import (
    HERE,
    ROOT,
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders

# Less than what lies between the orders and the edges of the windows.
STEP_SECONDS = 2 * 3_600
BRIEF = "  - {name: Brief, when: {event: Order Completed, within: 1h}}\n"


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    # The smaller of windows empties at once.
    settings = {"AUDIENCE_SYNC_BRAKE_MEMBERS": "1000000"}
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES + BRIEF, settings=settings)) as made:
        yield made


def start(installation: Installation) -> WorkerProcess:
    worker = installation.start_worker()
    worker.process.kill()
    worker.ended()
    with worker.log.open("wb") as stderr:
        worker.process = subprocess.Popen(
            [sys.executable, str(HERE / "jumping_worker.py"), str(STEP_SECONDS), str(STEP_SECONDS)],
            cwd=ROOT,
            env=installation.environment(worker.port, None),
            stderr=stderr,
        )
    return worker


def buys(installation: Installation) -> str:
    """Somebody new, now."""
    user = f"user_{uuid.uuid4().hex}"
    instant = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    order: dict[str, Any] = {"type": "track", "event": "Order Completed", "properties": {"revenue": 1}}
    installation.produce([{**order, "userId": user, "timestamp": instant, "receivedAt": instant}])
    return user


def test_no_membership_flaps_and_no_wait_is_disturbed(installation: Installation) -> None:
    orders = make_orders(count=1_500, users=200, days=150)
    installation.produce(as_events(orders))
    worker = start(installation)
    installation.wait_until_idle(worker)
    expected = expected_members(orders)
    settled = installation.memberships()
    assert members_of(settled) == {
        **expected,
        **{key: set() for key in members_of(settled) if key == "brief"},
    }

    def at_facebook(user: str, name: str) -> bool:
        return user in installation.facebook_members().get(name, set())

    def jump(number: signal.Signals) -> None:
        said = worker.said.count("jumped")
        worker.process.send_signal(number)
        wait_until(lambda: worker.said.count("jumped") > said, lambda: worker.said)

    # Behind: the partition's clock stands, and what is beyond it waits.
    jump(signal.SIGUSR2)
    early = buys(installation)
    wait_until(lambda: evaluated(worker) > 0 and lag(worker) == 0, lambda: worker.said)
    jump(signal.SIGHUP)
    wait_until(lambda: at_facebook(early, "Recent") and at_facebook(early, "Brief"), lambda: worker.said)
    # Ahead: an hour has passed for all who bought; whoever buys now enters and is sent at once.
    jump(signal.SIGUSR1)
    wait_until(lambda: not at_facebook(early, "Brief"), lambda: worker.said)
    late = buys(installation)
    wait_until(lambda: at_facebook(late, "Recent"), lambda: worker.said)
    # Right again: the partition's clock waits for the wall and never goes back.
    jump(signal.SIGHUP)
    last = buys(installation)
    wait_until(lambda: at_facebook(last, "Recent"), lambda: worker.said)
    assert worker.process.poll() is None, worker.said

    deltas = installation.memberships()
    assert_unbroken(deltas)
    new = {early, late, last}
    # Of everybody else nothing has changed at all.
    assert [d for d in deltas if d["profile"] not in new] == [d for d in settled if d["profile"] not in new]
    changes = [(d["profile"], d["audience"], d["change"]) for d in deltas if d["profile"] in new]
    assert sorted(changes) == sorted(
        [(user, "recent", "entered") for user in new]
        + [(early, "brief", "entered"), (early, "brief", "exited")]
    )
    members = {NAMES[key]: people for key, people in expected.items()}
    assert installation.facebook_members() == {**members, "Recent": members["Recent"] | new, "Brief": set()}
    assert worker.stop() == 0, worker.said


def evaluated(worker: WorkerProcess) -> int:
    assert worker.process.poll() is None, worker.said
    return int((worker.stats() or {"stages": {"evaluate": {"in": 0}}})["stages"]["evaluate"]["in"])


def lag(worker: WorkerProcess) -> int | None:
    stats = worker.stats()
    return None if stats is None else stats["stages"]["resolve"]["lag"]
