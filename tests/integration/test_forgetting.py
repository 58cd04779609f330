"""A person is forgotten by workers, while one of their audiences is paused: what Facebook and the topics have of them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.integration.audiences_of_traits import AUDIENCES, wait_for, wait_until_paused
from tests.integration.installation import Installation, WorkerProcess
from topics.spec import TopicSpec

USER = "canary-user-5c1d"
ANONYMOUS = "canary-anonymous-90aa"
EMAIL = "canary@example.com"
PHONE = "+14155550123"
BEFORE = "2025-01-01T00:00:00Z"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# In the clear, as Facebook wants them, as the states pack them, and as dead letters name a record's key.
CANARIES = [
    USER.encode(),
    ANONYMOUS.encode(),
    *(sha256(text).encode() for text in (EMAIL, PHONE.removeprefix("+"), USER)),
    *(bytes.fromhex(sha256(text)) for text in (EMAIL, PHONE.removeprefix("+"))),
]


@pytest.fixture
def installation(bootstrap_servers: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, f"test-{uuid.uuid4().hex[:12]}.", AUDIENCES)) as made:
        yield made


def person(user: str, **fields: Any) -> list[dict[str, Any]]:
    traits = {"active": True, "other": True, "email": EMAIL, "phone": PHONE}
    return [{"type": "identify", "userId": user, "anonymousId": ANONYMOUS, "traits": traits, **fields}]


def left_in(installation: Installation, spec: TopicSpec) -> list[str]:
    """The keys of the newest records that have something of the person."""
    newest: dict[bytes, bytes | None] = {}
    for record in installation.records(spec.name):
        newest[record.key() or b""] = record.value()
    return [
        repr(key)
        for key, value in newest.items()
        if value is not None and any(canary in key + value for canary in CANARIES)
    ]


def left(installation: Installation) -> dict[str, list[str]]:
    """In every topic of ours that is compacted; the others keep what they have until their retention has passed."""
    found = {
        spec.name: left_in(installation, spec)
        for spec in installation.catalog.all()
        if spec.ours and "compact" in spec.cleanup.value
    }
    assert len(found) == 5
    return {name: keys for name, keys in found.items() if keys}


def dropped(worker: WorkerProcess) -> int:
    stats = worker.stats() or {"stages": {"evaluate": {"dropped": {}}}}
    return int(stats["stages"]["evaluate"]["dropped"].get("forgotten", 0))


def test_a_forgotten_person_leaves_every_audience_and_every_topic(installation: Installation) -> None:
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    bob = {"type": "identify", "userId": "bob", "traits": {"active": True, "other": True}}
    broken = {"type": "track", "userId": USER, "event": " "}
    installation.produce([*person(USER), bob, broken])

    def members() -> dict[str, set[str]]:
        return installation.facebook_members()

    wait_for(worker, lambda: members() == {"Active": {USER, "bob"}, "Others": {USER, "bob"}})
    wait_for(worker, lambda: len(left(installation)) == 3)
    assert installation.command("audiences", "pause", "active").returncode == 0
    wait_until_paused(worker, "active")

    asked = installation.command("forget", EMAIL, "--json")
    assert (asked.returncode, json.loads(asked.stdout)) == (0, {"requested": 3}), asked.stderr
    assert EMAIL not in asked.stdout + asked.stderr
    wait_for(worker, lambda: members()["Others"] == {"bob"})
    installation.produce(person(USER, timestamp=BEFORE, receivedAt=BEFORE))
    wait_for(worker, lambda: dropped(worker) == 1)
    worker.process.kill()
    worker.ended()
    worker = installation.start_worker(instance="slot")
    wait_until_paused(worker, "active")
    assert members() == {"Active": {USER, "bob"}, "Others": {"bob"}}
    assert installation.catalog.memberships.name in left(installation), "the removal has still to be read"

    assert installation.command("audiences", "resume", "active").returncode == 0
    wait_for(worker, lambda: members() == {"Active": {"bob"}, "Others": {"bob"}})
    wait_for(worker, lambda: not left(installation))
    installation.produce(person(USER, timestamp=BEFORE, receivedAt=BEFORE))
    wait_for(worker, lambda: dropped(worker) == 1)
    assert not left(installation)
    # Who comes back by something new is somebody new.
    installation.produce(person(USER))
    wait_for(worker, lambda: members() == {"Active": {USER, "bob"}, "Others": {USER, "bob"}})


def test_a_call_asks_for_it_as_well(installation: Installation) -> None:
    worker = installation.start_worker(instance="slot")
    installation.wait_until_idle(worker)
    installation.produce(person(USER))
    wait_for(worker, lambda: installation.facebook_members() == {"Active": {USER}, "Others": {USER}})
    installation.produce([{"type": "delete", "userId": USER}])
    wait_for(worker, lambda: installation.facebook_members() == {"Active": set(), "Others": set()})
    wait_for(worker, lambda: not left(installation))
