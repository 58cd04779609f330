"""engage.calls of a real Kafka: each change once, whatever happens to workers, and a second installation that reads it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.integration.installation import Installation, assert_unbroken, members_of
from tests.integration.purchases import (
    AUDIENCES,
    NAMES,
    Order,
    as_events,
    expected_members,
    make_orders,
)
from topics.partitioning import partition_for

TRAITS = """
traits:
  revenue: {event: Order Completed, sum: revenue}
  orders_30d: {event: Order Completed, count: true, within: 30d}
"""
LISTENING = "audiences:\n" + "".join(
    f"  - {{name: {name}, key: {key}, source: engage}}\n" for key, name in NAMES.items()
)


@pytest.fixture
def orders() -> list[Order]:
    return make_orders(count=2_000, users=300, days=150)


@pytest.fixture
def telling(bootstrap_servers: str, topic_prefix: str, orders: list[Order]) -> Iterator[Installation]:
    with closing(
        Installation(
            bootstrap_servers,
            topic_prefix,
            AUDIENCES + TRAITS,
            settings={"AUDIENCE_SYNC_ENGAGE_CALLS": "both"},
        )
    ) as made:
        made.produce(as_events(orders))
        yield made


def calls_of(installation: Installation) -> list[dict[str, Any]]:
    """In the order of each partition, checked for key and place."""
    found = []
    for record in installation.records(installation.catalog.engage_calls.name):
        call = json.loads(record.value() or b"")
        assert record.key() == call["userId"].encode()
        assert record.partition() == partition_for(record.key() or b"", installation.partitions)
        found.append(call)
    return found


def test_each_change_is_said_once_and_computes_the_same_elsewhere(
    telling: Installation, orders: list[Order], bootstrap_servers: str
) -> None:
    for step in ("produce", "commit"):
        killed = telling.start_worker(instance="slot-1", at=(f"evaluate.{step}", 2, signal.SIGKILL))
        assert killed.ended() == -signal.SIGKILL, killed.said
    worker = telling.start_worker(instance="slot-1")
    telling.wait_until_idle(worker)
    deltas, calls = telling.memberships(), calls_of(telling)
    assert worker.stop() == 0
    assert_unbroken(deltas)
    expected = expected_members(orders)
    assert members_of(deltas) == expected
    assert len({call["messageId"] for call in calls}) == len(calls)

    said: dict[str, list[tuple[str, str, bool]]] = {"identify": [], "track": []}
    values: dict[tuple[str, str], list[Any]] = {}
    for call in calls:
        personas = call["context"]["personas"]
        key = personas["computation_key"]
        if personas["computation_class"] == "computed_trait":
            values.setdefault((key, call["userId"]), []).append(call["traits"][key])
        else:
            content = call["traits"] if call["type"] == "identify" else call["properties"]
            said[call["type"]].append((key, call["userId"], content[key]))
    changes = sorted((one["audience"], one["profile"], one["change"] == "entered") for one in deltas)
    assert sorted(said["identify"]) == changes
    assert sorted(said["track"]) == changes

    assert all(one != next_one for those in values.values() for one, next_one in pairwise(those))
    newest = {key: those[-1] for key, those in values.items()}
    # A count that was never anything but 0 while somebody looked is not said.
    assert newest == {key: value for key, value in expected_values(orders).items() if value or key in newest}

    listening = Installation(
        bootstrap_servers,
        f"{telling.prefix}second.",
        LISTENING,
        settings={"AUDIENCE_SYNC_SOURCE_TOPIC": telling.catalog.engage_calls.name},
    )
    try:
        listener = listening.start_worker()
        listening.wait_until_idle(listener)
        heard = listening.memberships()
        assert_unbroken(heard)
        # What comes before the listener's clock has started is looked at once.
        told, first = by_profile(heard), by_profile(deltas)
        assert all(first[key][-len(those) :] == those for key, those in told.items())
        assert all(told.get(key) for key, those in first.items() if those[-1])
        assert members_of(heard) == expected
        assert listening.facebook_members() == {NAMES[key]: who for key, who in expected.items()}
        assert listening.dead_letters() == []
    finally:
        listening.close()


def by_profile(deltas: list[dict[str, Any]]) -> dict[tuple[str, str], list[bool]]:
    """Whether each (audience, profile) entered, change by change."""
    found: dict[tuple[str, str], list[bool]] = {}
    for one in deltas:
        found.setdefault((one["audience"], one["profile"]), []).append(one["change"] == "entered")
    return found


def expected_values(orders: list[Order]) -> dict[tuple[str, str], Any]:
    """By plain counting, now."""
    month_ago = datetime.now(UTC) - timedelta(days=30)
    found: dict[tuple[str, str], Any] = {}
    for order in orders:
        found["revenue", order.user] = found.get(("revenue", order.user), 0) + order.cents
        recent = ("orders_30d", order.user)
        found[recent] = found.get(recent, 0) + (order.at > month_ago)
    return {key: value / 100 if key[0] == "revenue" else value for key, value in found.items()}


def test_without_the_setting_the_topic_stays_empty(
    bootstrap_servers: str, topic_prefix: str, orders: list[Order]
) -> None:
    installation = Installation(bootstrap_servers, topic_prefix, AUDIENCES + TRAITS)
    try:
        installation.produce(as_events(orders[:200]))
        installation.wait_until_idle(installation.start_worker())
        assert installation.memberships()
        assert installation.records(installation.catalog.engage_calls.name, "read_uncommitted") == []
    finally:
        installation.close()
