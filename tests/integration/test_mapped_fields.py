"""Mapped fields and what people are worth, from a real Kafka to the Graph API's stand-in."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.canaries import found_in
from tests.integration.installation import Installation, assert_unbroken, wait_until

AUDIENCES = """
audiences:
  - name: Worth
    when: {event: Order Completed}
    facebook:
      ad_account_id: act_1
      value_based: true
      fields:
        value: {trait: spent}
        email: $.traits.work_email
        city: [$.properties.shop.city, {const: Berlin}]
  - {name: Plain, when: {event: Order Completed}}
traits:
  spent: {event: Order Completed, sum: price}
"""
PEOPLE = 40


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def calls() -> list[dict[str, Any]]:
    """Everybody buys twice; who has an odd number has a work address."""
    start = datetime.now(UTC) - timedelta(days=2)
    made: list[dict[str, Any]] = []
    for number in range(PEOPLE):
        user = f"user_{number}"
        traits = {"email": f"home{number}@canary.com"}
        if number % 2:
            traits["work_email"] = f"Work{number}@canary.com"
        made.append({"type": "identify", "userId": user, "traits": traits})
        made += [
            {
                "type": "track",
                "event": "Order Completed",
                "userId": user,
                "properties": {"price": price, **({"shop": {"city": "Canaryville"}} if number % 3 else {})},
            }
            for price in (number, 0.5)
        ]
    for place, call in enumerate(made):
        instant = (start + timedelta(seconds=place)).isoformat().replace("+00:00", "Z")
        call |= {"messageId": f"m{place}", "timestamp": instant, "receivedAt": instant}
    return made


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES)) as made:
        yield made


def members(installation: Installation) -> dict[str, dict[str, dict[str, Any]]]:
    """By the audience's name and the external id."""
    return {
        audience["name"]: {
            member["EXTERN_ID"]: member
            for member in installation.sandbox_get(f"audiences/{audience['id']}/members")["members"]
        }
        for audience in installation.sandbox_get("audiences")
    }


def test_each_destination_gets_what_is_mapped_for_it(installation: Installation) -> None:
    worker = installation.start_worker()
    installation.produce(calls())
    installation.wait_until_idle(worker)
    found = members(installation)
    numbers = range(PEOPLE)
    assert {user: one["LOOKALIKE_VALUE"] for user, one in found["Worth"].items()} == {
        f"user_{number}": number + 0.5 for number in numbers
    }
    assert {user: one.get("EMAIL") for user, one in found["Worth"].items()} == {
        f"user_{number}": digest(f"work{number}@canary.com") if number % 2 else None for number in numbers
    }
    assert {user: one["CT"] for user, one in found["Worth"].items()} == {
        f"user_{number}": digest("canaryville" if number % 3 else "berlin") for number in numbers
    }
    assert {user: one["EMAIL"] for user, one in found["Plain"].items()} == {
        f"user_{number}": digest(f"home{number}@canary.com") for number in numbers
    }
    assert not any("LOOKALIKE_VALUE" in one or "CT" in one for one in found["Plain"].values())
    assert_unbroken(installation.memberships())
    assert installation.dead_letters() == []
    assert found_in(installation, ["canary"], worker) == []


PLAIN = "{name: Plain, when: {event: Order Completed}}"
# Work addresses were of no interest to this audience; now they alone are sent, and where people have bought.
CHANGED = """
  - name: Plain
    when: {event: Order Completed}
    facebook: {fields: {email: [$.traits.job_email, $.traits.work_email], city: [$.properties.store, $.properties.shop.city]}}
"""


def filled(installation: Installation) -> bool:
    found = json.loads(installation.command("audiences", "list", "--json").stdout)
    running = set(found["running"].values())
    return found["version"] == 2 and running == {2} and found["filling"] == []


@pytest.mark.parametrize("killed", [False, True], ids=["all live", "one is killed"])
def test_a_changed_mapping_reaches_what_was_said_before(installation: Installation, killed: bool) -> None:
    workers = [installation.start_worker(instance=f"slot-{number}") for number in range(2)]
    stream = calls()
    early = stream[: len(stream) * 3 // 4]
    installation.produce(early)
    installation.wait_until_idle(*workers)
    applied = installation.apply(AUDIENCES.replace(f"  - {PLAIN}\n", CHANGED))
    assert applied.returncode == 0, applied.stderr
    installation.produce(stream[len(early) :])
    if killed:
        workers[1].process.kill()
        workers[1].ended()
        workers[1] = installation.start_worker(instance="slot-1")
    said = lambda: "\n".join(worker.said for worker in workers)  # noqa: E731 - no more than a name
    wait_until(lambda: filled(installation), said, every=1)
    installation.wait_until_idle(*workers)
    found = members(installation)
    numbers = range(PEOPLE)
    work = {f"user_{number}": digest(f"work{number}@canary.com") for number in numbers if number % 2}
    sent = {user: one.get("EMAIL") for user, one in found["Plain"].items()}
    assert {user: sent[user] for user in work} == work
    assert {user: one["EMAIL"] for user, one in found["Worth"].items() if user in work} == work
    assert {user for user, one in found["Plain"].items() if "CT" in one} == {
        f"user_{number}" for number in numbers if number % 3
    }
    deltas = installation.memberships()
    assert_unbroken(deltas)
    if not killed:
        # Of who says nothing since: all are sent by the new mapping, and once more those of whom the past knows more.
        for number in range(PEOPLE * 3 // 4 - 1):
            key = ("plain", f"user_{number}")
            told = [delta["change"] for delta in deltas if (delta["audience"], delta["profile"]) == key]
            assert told == ["entered", "updated", *(["updated"] if number % 2 or number % 3 else [])]
    assert installation.dead_letters() == []
    for worker in workers:
        assert found_in(installation, ["canary"], worker) == []
        assert worker.stop(signal.SIGTERM) == 0
        assert "Traceback" not in worker.said
