"""`reconcile` sees what differs, names what repairs it, and changes nothing; and a rolling restart changes nothing."""

from __future__ import annotations

import hashlib
import json
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.integration.audiences_of_traits import wait_until_paused
from tests.integration.installation import Installation, WorkerProcess, wait_until
from tests.integration.topic_records import RawRecord, write_records
from topics.partitioning import partition_for

AUDIENCES = """
audiences:
  - {name: Active, when: {trait: active, equals: true}}
  - {name: Others, when: {trait: other, equals: true}}
  - {name: Nowhere, when: {trait: active, equals: true}, facebook: []}
"""
USERS = [f"user_{number}" for number in range(60)]


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)) as made:
        yield made


def identify(trait: str, value: bool, users: list[str]) -> list[dict[str, Any]]:
    return [{"type": "identify", "userId": user, "traits": {trait: value}} for user in users]


def reconciled(installation: Installation, *keys: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and the audiences by key; asserts that status and `ok` agree."""
    done = installation.command("reconcile", *keys, "--json")
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is (done.returncode == 0)
    return done.returncode, {each["audience"]: each for each in result["audiences"]}


def kinds(found: dict[str, Any]) -> list[str]:
    groups = [found["differences"], *(each["differences"] for each in found["destinations"])]
    return [difference["kind"] for group in groups for difference in group]


def wait_for_members(installation: Installation, worker: WorkerProcess, name: str, users: list[str]) -> None:
    wait_until(lambda: installation.facebook_members().get(name) == set(users), lambda: worker.said)
    installation.wait_until_idle(worker)


def writes(installation: Installation) -> list[str]:
    """Requests that were no mere reads."""
    requests = installation.sandbox_get("requests")
    return [f"{each['method']} {each['path']}" for each in requests if each["method"] != "GET"]


def test_what_differs_is_named_with_its_repair(installation: Installation) -> None:
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(identify("active", True, USERS) + identify("other", True, USERS[:20]))
    wait_for_members(installation, worker, "Active", USERS)
    wait_for_members(installation, worker, "Others", USERS[:20])

    before = installation.sandbox_get("requests")
    status, found = reconciled(installation)
    assert (status, {key: kinds(each) for key, each in found.items()}) == (
        0,
        {"active": [], "others": [], "nowhere": []},
    )
    assert [(each["counted"], each["members"]) for each in found.values()] == [(60, 60), (20, 20), (60, 60)]
    [active] = found["active"]["destinations"]
    assert (active["told"], active["confirmed"], active["pending"]) == (60, 60, 0)
    assert active["bounds"]["asked"] is True
    assert len(installation.sandbox_get("requests")) > len(before)
    assert writes(installation) == [
        f"{each['method']} {each['path']}" for each in before if each["method"] != "GET"
    ]
    table = installation.command("reconcile", "others")
    assert table.returncode == 0
    assert "others" in table.stdout
    assert "active" not in table.stdout
    assert installation.command("reconcile", "unknown").returncode == 2

    # What is paused waits, however short.
    assert installation.command("audiences", "pause", "active").returncode == 0
    wait_until_paused(worker, "active")
    installation.produce(identify("active", False, USERS[:7]))
    wait_until(lambda: reconciled(installation)[1]["active"]["members"] == 53, lambda: worker.said)
    status, found = reconciled(installation)
    assert (status, kinds(found["active"]), kinds(found["others"])) == (1, ["paused"], [])
    [active] = found["active"]["destinations"]
    assert (active["told"], active["confirmed"], active["pending"]) == (53, 53, 7)
    assert active["differences"][0]["repair"] == "audience-sync audiences resume active"
    assert installation.command("audiences", "resume", "active").returncode == 0
    wait_for_members(installation, worker, "Active", USERS[7:])
    assert reconciled(installation)[0] == 0

    # Facebook refuses one row, and does not show the other audience.
    installation.fault(
        {"status": 400, "body": {"error": {"message": "no", "code": 100, "type": "OAuthException"}}},
        method="POST",
        row={"EXTERN_ID": "refused"},
        times=None,
    )
    installation.produce(identify("other", True, ["refused"]))
    wait_until(lambda: bool(installation.dead_letters()), lambda: worker.said)
    status, found = reconciled(installation)
    assert (status, kinds(found["others"]), kinds(found["active"])) == (1, ["dead_letters"], [])

    # Somebody else writes to a topic of ours.
    assert worker.stop() == 0
    delta = {
        "audience": "active",
        "profile": "stranger",
        "change": "entered",
        "sequence": 1,
        "rows": {"active": [{"EXTERN_ID": "stranger"}]},
        "at": 1,
        "detected_at": 1,
        "cause": "event",
    }
    partition = partition_for(b"active", installation.partitions)
    long_ago = 1_700_000_000_000
    record = RawRecord(json.dumps(delta).encode(), b"active|stranger", partition, long_ago)
    write_records(installation.bootstrap_servers, installation.catalog.memberships.name, [record])
    status, found = reconciled(installation, "active")
    assert (status, kinds(found["active"])) == (1, ["counters", "behind"])
    assert (found["active"]["counted"], found["active"]["members"]) == (53, 54)
    told = installation.command("reconcile", "active")
    assert "active: the state counts 53 members, audience.memberships has 54" in told.stdout
    assert "  repair: " in told.stdout
    installation.stop_sandbox()
    done = installation.command("reconcile", "others", "--json")
    assert done.returncode == 1
    assert "Facebook was not asked" in done.stderr
    installation.start_sandbox()


def graph_post(installation: Installation, path: str, body: dict[str, Any]) -> None:
    """As whoever else has the right to the ad account."""
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer somebody"}
    request = urllib.request.Request(f"{installation.graph_url}/v25.0/{path}", data, headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_one_worker_looks_on_a_schedule_and_what_it_offers_repairs(installation: Installation) -> None:
    """3,000 strangers at Facebook: found without anybody asking, and gone after the command that was offered."""
    often = {"AUDIENCE_SYNC_RECONCILE_HOURS": "0.0005"}
    workers = [installation.start_worker(instance=name, settings=often) for name in ("slot-1", "slot-2")]
    installation.wait_until_idle(*workers)
    installation.produce(identify("active", True, USERS))
    wait_until(lambda: installation.facebook_members().get("Active") == set(USERS), lambda: workers[0].said)

    def looks() -> list[dict[str, Any]]:
        found = [
            (worker.stats() or {}).get("reconcile") for worker in workers if worker.process.poll() is None
        ]
        return [each for each in found if each is not None and each["checked_at"] is not None]

    def said() -> str:
        return "".join(
            str(worker.said()) if callable(worker.said) else str(worker.said) for worker in workers
        )

    wait_until(lambda: [(each["audiences"], each["differing"]) for each in looks()] == [(3, {})], said)

    [active] = [each for each in installation.sandbox_get("audiences") if each["name"] == "Active"]
    strangers = [[hashlib.sha256(f"stranger {n}".encode()).hexdigest()] for n in range(3_000)]
    payload = {"schema": ["EMAIL"], "data": strangers}
    graph_post(installation, f"{active['id']}/users", {"payload": payload})
    wait_until(lambda: [list(each["differing"]) for each in looks()] == [["active"]], said)
    [look] = looks()
    [difference] = look["differing"]["active"]
    assert (look["differing_audiences"], difference["kind"]) == (1, "too_many")
    offered = "audience-sync audiences resync active --replace"
    assert difference["repair"].startswith(offered)
    wait_until(lambda: f"repair: {offered}" in said(), said)

    assert installation.command(*offered.split()[1:]).returncode == 0
    wait_until(lambda: [each["differing"] for each in looks()] == [{}], said)
    assert installation.facebook_members()["Active"] == set(USERS)

    # Whoever is left becomes the one; a worker ends in order, whatever it is reading.
    first = next(number for number, worker in enumerate(workers) if (worker.stats() or {})["reconcile"])
    assert workers[first].stop() == 0, said()
    wait_until(lambda: len(looks()) == 1, said)
    assert workers[1 - first].stop() == 0, said()


def test_a_rolling_restart_changes_nothing(installation: Installation) -> None:
    """Calls go on coming in, none of which changes a membership."""
    workers = [installation.start_worker(instance=name) for name in ("slot-1", "slot-2")]
    installation.wait_until_idle(*workers)
    calls = identify("active", True, USERS) + identify("other", True, USERS[:20])
    installation.produce(calls)
    expected = {"Active": set(USERS), "Others": set(USERS[:20])}
    wait_until(lambda: installation.facebook_members() == expected, lambda: workers[0].said)
    installation.wait_until_idle(*workers)
    deltas, written = installation.memberships(), writes(installation)
    assert len(deltas) == 2 * len(USERS) + 20
    for place, name in enumerate(("slot-1", "slot-2")):
        installation.produce(calls)
        assert workers[place].stop() == 0, workers[place].said
        installation.produce(calls)
        workers[place] = installation.start_worker(instance=name)
        wait_until(workers[place].ready, lambda p=place: workers[p].said)  # type: ignore[misc] # the loop's own
    installation.produce(calls)
    installation.wait_until_idle(*workers)
    evaluated = sum((worker.stats() or {})["stages"]["evaluate"]["in"] for worker in workers)
    assert evaluated >= len(calls), "the restarted workers had nothing to do"
    assert installation.memberships() == deltas
    assert writes(installation) == written
    assert reconciled(installation)[0] == 0
