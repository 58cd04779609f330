"""The events to measure with, and what has to come out of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = ("Order Completed", "Product Viewed", "Product Added", "Signed In", "Checkout Started")
CATEGORIES = ("shoes", "hats", "coats")
INTERVAL_MS = 50

# (audience, profile) -> whether it was a member after each transition.
Transitions = dict[tuple[str, str], list[bool]]


@dataclass(slots=True)
class _Person:
    orders: int = 0
    spent: float = 0.0
    hats: int = 0


@dataclass(slots=True)
class Expectation:
    """The three audiences of audiences.yaml, computed in the plainest way; nobody ever leaves one of them."""

    transitions: Transitions = field(default_factory=dict)
    _people: dict[str, _Person] = field(default_factory=dict)

    def add(self, user: str, event: str, properties: dict[str, Any]) -> None:
        person = self._people.setdefault(user, _Person())
        if event == "Order Completed":
            person.orders += 1
            person.spent += properties["revenue"]
        elif event == "Product Viewed" and properties["category"] == "hats":
            person.hats += 1
        if person.orders >= 1:
            self.transitions[("has_ordered", user)] = [True]
        if person.spent >= 500:
            self.transitions[("big_spender", user)] = [True]
        if person.hats >= 3:
            self.transitions[("hat_lover", user)] = [True]


def calls(count: int, users: int, last_ms: int, expectation: Expectation) -> Iterator[tuple[str, bytes]]:
    """`count` track calls (user id, JSON), the last of them made and received at `last_ms`; the same every time."""
    chance = random.Random(7)
    first_ms = last_ms - (count - 1) * INTERVAL_MS
    for number in range(count):
        user = f"user_{chance.randrange(users)}"
        event = chance.choice(EVENTS)
        properties = {
            # Quarters add up without rounding: the sum does not depend on the order of events.
            "revenue": chance.randrange(800) / 4,
            "product_id": chance.randrange(500),
            "currency": "USD",
            "category": chance.choice(CATEGORIES),
        }
        expectation.add(user, event, properties)
        yield user, call(user, event, properties, number, first_ms + number * INTERVAL_MS)


def call(user: str, event: str, properties: dict[str, Any], number: int, instant_ms: int) -> bytes:
    """A track call as a browser's library makes it, about 780 bytes."""
    moment = datetime.fromtimestamp(instant_ms / 1000, UTC)
    instant = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps(
        {
            "type": "track",
            "event": event,
            "userId": user,
            "anonymousId": f"anon-{user}-9f3c2a",
            "messageId": f"ajs-{number:010}-5d2f8c1e",
            "timestamp": instant,
            "receivedAt": instant,
            "sentAt": instant,
            "context": {
                "ip": "203.0.113.9",
                "library": {"name": "analytics.js", "version": "2.11.1"},
                "locale": "en-US",
                "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36",
                "page": {
                    "path": "/products/42",
                    "referrer": "",
                    "search": "",
                    "title": "Product 42",
                    "url": "https://shop.example/products/42",
                },
                "traits": {
                    "email": f"{user}@example.com",
                    "first_name": "Ann",
                    "last_name": "Lee",
                    "phone": "+14155550123",
                },
            },
            "integrations": {"All": True},
            "properties": properties,
        }
    )
