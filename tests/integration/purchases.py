"""A seeded stream of purchases with four audiences over it, and who belongs to them by plain counting."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

AUDIENCES = """
audiences:
  - {name: Recent, when: {event: Order Completed, within: 30d}}
  - {name: Spenders, when: {event: Order Completed, within: 90d, sum: {property: revenue, at_least: 100}}}
  - {name: Two orders, when: {event: Order Completed, count: {exactly: 2}}}
  - {name: Lapsed, when: {all: [{event: Order Completed}, {not: {event: Order Completed, within: 60d}}]}}
"""

NAMES = {"recent": "Recent", "spenders": "Spenders", "two_orders": "Two orders", "lapsed": "Lapsed"}


def with_facebook_ids(ids: dict[str, str]) -> str:
    """AUDIENCES connected to the Facebook audience of each one's name."""
    lines = AUDIENCES.splitlines()
    for name, facebook_id in ids.items():
        lines = [
            line.replace(f"{{name: {name},", f"{{name: {name}, facebook: {{audience_id: '{facebook_id}'}},")
            for line in lines
        ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Order:
    user: str
    at: datetime
    cents: int


def make_orders(count: int, users: int, days: int, seed: int = 1) -> list[Order]:
    """Orders in order of time, none of them near a window's edge now: no membership changes while a test runs."""
    rng = random.Random(seed)
    now = datetime.now(UTC)
    hour = (now + timedelta(hours=8)).replace(minute=0, second=0, microsecond=0)
    orders = [
        Order(
            f"user_{rng.randrange(users)}",
            hour - timedelta(days=rng.randrange(1, days), minutes=rng.randrange(240)),
            rng.randrange(100, 9_000),
        )
        for _ in range(count)
    ]
    return sorted(orders, key=lambda order: order.at)


def as_events(orders: list[Order]) -> list[dict[str, Any]]:
    """One track call each, every tenth sent twice under its message id."""
    events = []
    for number, order in enumerate(orders):
        instant = order.at.isoformat().replace("+00:00", "Z")
        event = {
            "type": "track",
            "event": "Order Completed",
            "userId": order.user,
            "messageId": f"order-{number}",
            "timestamp": instant,
            "receivedAt": instant,
            "properties": {"revenue": order.cents / 100},
        }
        events.append(event)
        if number % 10 == 0:
            events.append(event)
    return events


def expected_members(orders: list[Order]) -> dict[str, set[str]]:
    """By plain counting, now."""
    now = datetime.now(UTC)
    by_user: dict[str, list[Order]] = {}
    for order in orders:
        by_user.setdefault(order.user, []).append(order)

    def within(mine: list[Order], days: int) -> list[Order]:
        return [order for order in mine if now < order.at + timedelta(days=days)]

    return {
        "recent": {user for user, mine in by_user.items() if within(mine, 30)},
        "spenders": {
            user for user, mine in by_user.items() if sum(o.cents for o in within(mine, 90)) >= 10_000
        },
        "two_orders": {user for user, mine in by_user.items() if len(mine) == 2},
        "lapsed": {user for user, mine in by_user.items() if not within(mine, 60)},
    }
