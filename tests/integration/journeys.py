"""A seeded stream of Segment calls of every kind, and audiences that need all of them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR

AUDIENCES = """
audiences:
  - {name: Recent, when: {event: Order Completed, within: 30d}}
  - name: Spenders
    when: {event: Order Completed, within: 20d, where: {currency: EUR}, sum: {property: revenue, at_least: 100}}
  - {name: Two orders, when: {event: Order Completed, count: {exactly: 2}}}
  - {name: No order lately, when: {event: Order Completed, count: {exactly: 0}, within: 10d}}
  - {name: Cart, when: {all: [{event: Product Added, between: [7d, 1d]}, {not: {event: Order Completed, within: 7d}}]}}
  - {name: Readers, when: {event: Page Viewed, count: {at_least: 2}, within: 36h, where: {page_name: Pricing}}}
  - {name: Dear, when: {event: Order Completed, within: 15d, average: {property: revenue, greater_than: {trait: usual}}}}
  - {name: Pro, when: {any: [{trait: plan, any_of: [pro, team]}, {trait: seats, at_least: 5}]}}
  - {name: Everybody, include_anonymous: true, when: {event: Page Viewed, within: 12h}}
  - {name: Engage VIPs, source: engage}
"""
KEYS = frozenset(
    {
        "recent",
        "spenders",
        "two_orders",
        "no_order_lately",
        "cart",
        "readers",
        "dear",
        "pro",
        "everybody",
        "engage_vips",
    }
)
# Ages at which a call enters or leaves some window above.
_EDGES = tuple(hours * HOUR for hours in (0, 12, 24, 36, 168, 240, 360, 480, 720))
_QUIET = HOUR // 4


@dataclass(frozen=True)
class SourceCall:
    """`received` is what the call says itself, or its record's time, in epoch milliseconds."""

    body: dict[str, Any]
    received: int

    @property
    def person(self) -> str:
        return str(self.body.get("userId") or self.body["anonymousId"])


def text_of(instant: int) -> str:
    return (
        datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def make_calls(count: int, people: int, now: int, seed: int, *, jitter: int = 0) -> list[SourceCall]:
    """Calls of the last 40 days up to an hour before `now`, in order of the time they are written.

    Nothing enters or leaves a window near `now`. `jitter` is how far receivedAt may be behind that of a call
    written before, in milliseconds.
    """
    rng = random.Random(seed)
    written = sorted(now - HOUR - rng.randrange(40 * DAY) for _ in range(count))
    calls: list[SourceCall] = []
    for number, at in enumerate(written):
        received = at - rng.randrange(jitter + 1)
        if calls and rng.random() < 0.08:
            calls.append(_sent_again(rng, calls[-30:], received))
            continue
        body = _BODIES[rng.choices(range(len(_BODIES)), _WEIGHTS)[0]](rng)
        person = rng.randrange(people)
        body |= {"anonymousId": f"device-{person}"} if person % 5 == 0 else {"userId": f"user_{person}"}
        if "email" in body.get("traits", {}):
            body["traits"]["email"] = email_of(person)
        body["messageId"] = f"message-{seed}-{number}"
        body["timestamp"] = text_of(_timestamp(rng, received, now))
        body["receivedAt"] = text_of(received)
        calls.append(SourceCall(body, received))
    return calls


def _timestamp(rng: random.Random, received: int, now: int) -> int:
    """Mostly just before; some calls come days late, and some devices' clocks are ahead."""
    kind = rng.random()
    while True:
        if kind < 0.80:
            instant = received - rng.randrange(3_000)
        elif kind < 0.93:
            instant = received - rng.randrange(9 * DAY)
        elif kind < 0.97:
            instant = received + rng.randrange(4_000)
        else:
            instant = received + rng.randrange(20 * HOUR)
        if not any(abs(now - instant - edge) < _QUIET for edge in _EDGES):
            return instant
        received -= HOUR


def _sent_again(rng: random.Random, lately: list[SourceCall], received: int) -> SourceCall:
    """A call under its own message id once more, received an hour or so later."""
    first = rng.choice(lately)
    return SourceCall({**first.body, "receivedAt": text_of(received)}, received)


def _order(rng: random.Random) -> dict[str, Any]:
    revenue: Any = rng.choice([rng.randrange(100, 6_000) / 100, str(rng.randrange(60)), None, True])
    properties = {"revenue": revenue, "currency": rng.choice(["EUR", "EUR", "USD"])}
    return {"type": "track", "event": "Order Completed", "properties": properties}


def _cart(rng: random.Random) -> dict[str, Any]:
    return {"type": "track", "event": "Product Added", "properties": {"price": rng.randrange(90)}}


def _page(rng: random.Random) -> dict[str, Any]:
    return {"type": "page", "name": rng.choice(["Pricing", "Pricing", "Home"]), "properties": {}}


def _unused(rng: random.Random) -> dict[str, Any]:
    return {"type": "track", "event": f"Clicked {rng.randrange(9)}", "properties": {"x": rng.random()}}


def _identify(rng: random.Random) -> dict[str, Any]:
    traits: dict[str, Any] = {}
    if rng.random() < 0.6:
        traits["plan"] = rng.choice(["free", "pro", "team", None])
    if rng.random() < 0.4:
        traits["seats"] = rng.choice([1, 4, 5, "7", None])
    if rng.random() < 0.4:
        traits["usual"] = rng.randrange(60)
    if rng.random() < 0.3:
        traits["email"] = "to be known below"
    return {"type": "identify", "traits": traits}


def _engage(rng: random.Random) -> dict[str, Any]:
    """For an audience of Engage, for one nobody defined, and for one that is computed here."""
    key = rng.choice(["engage_vips", "engage_vips", "engage_vips", "nobody_defined_this", "recent"])
    member = rng.random() < 0.6
    said = {"type": "identify", "traits": {key: member}}
    if rng.random() < 0.5:
        said = {
            "type": "track",
            "event": "Audience Entered",
            "properties": {"audience_key": key, key: member},
        }
    personas = {"computation_class": "audience", "computation_key": key, "computation_id": "aud_1"}
    return {**said, "context": {"personas": personas}}


_BODIES = (_order, _cart, _page, _identify, _engage, _unused)
_WEIGHTS = (30, 12, 25, 13, 10, 10)


def email_of(person: int) -> str:
    return f"mail{person}@example.com"


def device_names(people: int) -> dict[str, str]:
    """How results name somebody without a user id whose e-mail is known -> the anonymous id."""
    return {
        f"email:{hashlib.sha256(email_of(person).encode()).hexdigest()}": f"device-{person}"
        for person in range(people)
    }
