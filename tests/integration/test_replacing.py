"""Everybody in a Facebook audience is replaced, while changes come in and a worker dies in the middle of it."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import Any

from tests.integration.audiences_of_traits import AUDIENCES, Make, identify, listed, users, wait_for
from tests.integration.installation import Installation


def add_at_facebook(installation: Installation, name: str, people: set[str]) -> None:
    """By somebody else."""
    [identifier] = [each["id"] for each in installation.sandbox_get("audiences") if each["name"] == name]
    payload = {"schema": ["EXTERN_ID"], "data": [[user] for user in sorted(people)]}
    request = urllib.request.Request(
        f"{installation.graph_url}/v25.0/{identifier}/users",
        data=json.dumps({"payload": payload}).encode(),
        headers={"Authorization": "Bearer token", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def batches(installation: Installation) -> list[dict[str, Any]]:
    """The sessions of the batches that arrived, in order."""
    requests = installation.sandbox_get("requests")
    return [one["body"]["session"] for one in requests if one["path"].endswith("/usersreplace")]


def test_strangers_are_gone_and_members_are_there_though_a_worker_dies(make: Make) -> None:
    installation = make(AUDIENCES, AUDIENCE_SYNC_BATCH_ROWS="50")
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, users(0, 400)))
    wait_for(worker, lambda: installation.facebook_members().get("Active") == users(0, 400))
    installation.produce(identify("active", False, users(0, 30)))
    wait_for(worker, lambda: installation.facebook_members()["Active"] == users(30, 400))
    installation.wait_until_idle(worker)
    add_at_facebook(installation, "Active", {f"stranger_{number}" for number in range(40)})

    # From the fourth batch on, no answer comes in time, and what was sent arrives late.
    installation.fault({"delay_ms": 4_000}, path="/usersreplace$", skip=3, times=None)
    asked = installation.command("audiences", "resync", "active", "--replace")
    assert (asked.returncode, asked.stdout) == (0, "resync active [active]\n"), asked.stderr
    wait_for(worker, lambda: len(batches(installation)) >= 4)
    assert len(installation.facebook_members()["Active"]) == 410, "nobody has gone yet"
    assert listed(installation, "active")["state"] == "catching_up"
    installation.produce(
        identify("active", True, users(400, 500))
        + identify("active", False, users(390, 400))
        + identify("active", False, users(40, 50))
    )
    worker.process.kill()
    worker.ended()
    assert not any(session["last_batch_flag"] for session in batches(installation)), "in the middle"
    installation.clear_faults()

    worker = installation.start_worker(instance="slot")
    expected = users(30, 40) | users(50, 390) | users(400, 500)
    wait_for(worker, lambda: installation.facebook_members()["Active"] == expected)
    installation.wait_until_idle(worker)
    assert installation.facebook_members()["Active"] == expected
    sent = batches(installation)
    assert len({session["session_id"] for session in sent}) == 1, "the session that was open went on"
    assert Counter(session["batch_seq"] for session in sent) == Counter(range(1, len(sent) + 1))
    assert [session["last_batch_flag"] for session in sent] == [False] * (len(sent) - 1) + [True]

    installation.produce(identify("active", False, users(50, 60)))
    wait_for(worker, lambda: installation.facebook_members()["Active"] == expected - users(50, 60))
    assert len(batches(installation)) == len(sent), "once"
