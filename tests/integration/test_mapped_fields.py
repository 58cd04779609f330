"""Mapped fields and what people are worth, from a real Kafka to the Graph API's stand-in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.canaries import found_in
from tests.integration.installation import Installation, assert_unbroken

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
