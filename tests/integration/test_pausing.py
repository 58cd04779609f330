"""Paused audiences and the safety brake: what Facebook has of them, while workers die and come back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.audiences_of_traits import (
    AUDIENCES,
    Make,
    destination,
    identify,
    listed,
    users,
    wait_for,
    wait_for_lags,
    wait_until_paused,
)
from tests.integration.installation import HERE, Installation

MONTH = "audiences: [{name: Recent, when: {event: Order Completed, within: 30d}}]"
DAY = MONTH.replace("30d", "1d")


def orders(users: set[str], at: datetime) -> list[dict[str, Any]]:
    instant = at.isoformat().replace("+00:00", "Z")
    return [
        {"type": "track", "event": "Order Completed", "userId": user, "timestamp": instant}
        for user in sorted(users)
    ]


def test_what_changes_while_an_audience_is_paused_arrives_when_it_is_resumed(make: Make) -> None:
    installation = make(AUDIENCES)
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, users(0, 300)) + identify("other", True, users(0, 50)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 300))
    paused = installation.command("audiences", "pause", "active", "--reason", "campaign over")
    assert (paused.returncode, paused.stdout) == (0, "paused active [active]\n"), paused.stderr
    assert wait_until_paused(worker, "active")["reason"] == "campaign over"

    installation.produce(identify("active", False, users(0, 200)) + identify("active", True, users(300, 900)))
    wait_for_lags(worker)
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    wait_until_paused(worker, "active")
    installation.produce(identify("active", True, users(0, 20)) + identify("other", True, users(50, 80)))
    wait_for(worker, lambda: installation.facebook_members()["Others"] == users(0, 80))
    wait_for_lags(worker)
    assert installation.facebook_members()["Active"] == users(0, 300)
    assert destination(worker, "active")["pending"] == 0, "what is paused is kept in Kafka, not in memory"
    assert listed(installation, "active") == {"state": "paused", "reason": "campaign over"}
    shown = installation.command("audiences", "show", "active").stdout
    assert "delivered to: active, paused: campaign over" in shown

    resumed = installation.command("audiences", "resume", "active", "--json")
    assert json.loads(resumed.stdout) == {
        "target": "active",
        "state": "resumed",
        "destinations": ["active"],
    }
    expected = users(0, 20) | users(200, 900)
    wait_for(worker, lambda: installation.facebook_members()["Active"] == expected)
    installation.wait_until_idle(worker)
    installation.produce(identify("active", False, users(0, 20)))
    wait_for(worker, lambda: installation.facebook_members()["Active"] == users(200, 900))


def remove_at_facebook(installation: Installation, name: str, gone: set[str]) -> None:
    """By somebody else."""
    [identifier] = [each["id"] for each in installation.sandbox_get("audiences") if each["name"] == name]
    payload = {"schema": ["EXTERN_ID"], "data": [[user] for user in sorted(gone)]}
    request = urllib.request.Request(
        f"{installation.graph_url}/v25.0/{identifier}/users",
        data=json.dumps({"payload": payload}).encode(),
        headers={"Authorization": "Bearer token", "Content-Type": "application/json"},
        method="DELETE",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_a_resync_repairs_what_facebook_has_while_changes_come_in(make: Make) -> None:
    installation = make(AUDIENCES, AUDIENCE_SYNC_BATCH_ROWS="50")
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, users(0, 400)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 400))
    installation.produce(identify("active", False, users(0, 30)))
    wait_for(worker, lambda: installation.facebook_members()["Active"] == users(30, 400))
    remove_at_facebook(installation, "Active", users(100, 300))
    assert installation.facebook_members()["Active"] == users(30, 100) | users(300, 400)
    asked = installation.command("audiences", "resync", "active")
    assert (asked.returncode, asked.stdout) == (0, "resync active [active]\n"), asked.stderr
    installation.produce(
        identify("active", True, users(400, 500)) + identify("active", False, users(390, 400))
    )
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    expected = users(30, 390) | users(400, 500)
    wait_for(worker, lambda: installation.facebook_members()["Active"] == expected)
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Active"] == expected


def test_a_bad_edit_is_stopped_until_somebody_accepts_it(make: Make) -> None:
    installation = make(MONTH)
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    everybody = users(0, 2_000)
    installation.produce(orders(everybody, datetime.now(UTC) - timedelta(days=2)))
    wait_for(worker, lambda: installation.facebook_members()["Recent"] == everybody)
    applied = installation.apply(DAY)
    assert applied.returncode == 0, applied.stderr
    reason = wait_until_paused(worker, "recent")["reason"]
    assert reason.startswith("safety brake at ")
    assert "audience-sync audiences resume recent --accept-shrink" in reason
    wait_for_lags(worker)
    wait_for(worker, lambda: "2,000 of 2,000 members" in destination(worker, "recent")["reason"])
    left = installation.facebook_members()["Recent"]
    assert len(left) >= 1_000, "more than the brake allows was removed"

    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    wait_until_paused(worker, "recent")
    plain = installation.command("audiences", "resume", "recent")
    assert plain.returncode == 2
    assert "--accept-shrink" in plain.stderr
    wait_for_lags(worker)
    assert installation.facebook_members()["Recent"] == left
    accepted = installation.command("audiences", "resume", "recent", "--accept-shrink")
    assert accepted.returncode == 0, accepted.stderr
    wait_for(worker, lambda: installation.facebook_members()["Recent"] == set())
    installation.wait_until_idle(worker)


def test_a_wall_that_jumps_is_stopped_and_time_that_passes_is_not(make: Make) -> None:
    audiences = f"{MONTH[:-1]}, {{name: Brief, when: {{event: Order Completed, within: 8s}}}}]"
    installation = make(audiences, AUDIENCE_SYNC_BRAKE_MEMBERS="30")
    worker = installation.start_worker()
    worker.process.kill()
    worker.ended()
    with worker.log.open("wb") as stderr:
        environment = installation.environment(worker.port, None)
        command = [sys.executable, str(HERE / "jumping_worker.py")]
        worker.process = subprocess.Popen(command, cwd=HERE.parent.parent, env=environment, stderr=stderr)
    wait_for(worker, worker.ready)
    everybody = users(0, 500)
    installation.produce(orders(everybody, datetime.now(UTC)))
    wait_for(worker, lambda: installation.facebook_members().get("Recent") == everybody)
    # All of them leave at once, as was meant from the beginning.
    wait_for(worker, lambda: (worker.stats() or {})["audiences"]["brief"]["exited"] == len(everybody))
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Brief"] == set()

    worker.process.send_signal(signal.SIGUSR1)
    assert wait_until_paused(worker, "recent")["reason"].startswith("safety brake")
    wait_for(worker, lambda: "500 of 500 members" in destination(worker, "recent")["reason"])
    assert len(installation.facebook_members()["Recent"]) >= 400
    accepted = installation.command("audiences", "resume", "recent", "--accept-shrink")
    assert accepted.returncode == 0, accepted.stderr
    wait_for(worker, lambda: installation.facebook_members()["Recent"] == set())


def test_what_cannot_be_paused_is_named(make: Make) -> None:
    installation = make(AUDIENCES)
    worker = installation.start_worker()
    wait_for(worker, worker.ready)
    for command in ("pause", "resume"):
        refused = installation.command("audiences", command, "nobody")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "nobody" in refused.stderr
    assert installation.command("audiences", "resume", "active").returncode == 0
