"""What a chaos run produces: a stream of calls that is the same for the same seed, and everything known of it.

Nothing here is the application's. Whoever is poisoned has rows that the Graph API refuses for as long as the run lasts.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.chaos.faults import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DAY_MS = 24 * 3_600_000
POISONED = tuple(REFUSED)
# Who moves from country to country all the time: an older change that is sent behind a newer one shows.
RESTLESS = (*POISONED, *(f"user_{number}" for number in range(200, 212)))
COUNTRIES = ("DE", "FR", "US")
CATEGORIES = ("hats", "shoes", "coats")
# How long before "now" windows of so many days end for some of the calls.
WINDOWS_MS = (30 * DAY_MS, 90 * DAY_MS)
LATE_MS = 60_000
# A window that ends so soon, and an order just before it does: whose clock runs ahead lets somebody out and in again.
CLOSE_MS = (2_000, 4_000)


@dataclass(frozen=True)
class Call:
    """A call that has been produced, as the truth needs it; `anonymous` is the anonymous id, if the call has one."""

    kind: str
    message_id: str
    timestamp: int
    user: str | None
    anonymous: str | None
    # Whether the call says its message id: where it does not, only its place tells a redelivery.
    tells_id: bool
    event: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Produced:
    """A record for the source topic."""

    key: bytes
    value: bytes


class Stream:
    """`edges_end` is the instant behind which nobody leaves a window any more, epoch milliseconds."""

    def __init__(self, seed: int, edges_end: int, users: int) -> None:
        self._chance = random.Random(seed)
        self._users = users
        self._edges_end = edges_end
        self._number = 0
        # (when, who) of orders just before a window ends.
        self._renewals: list[tuple[int, str]] = []
        self.calls: list[Call] = []
        self.repeated = 0
        self.broken: Counter[str] = Counter()

    def next(self, now: int) -> Iterator[Produced]:
        """The records of one call, made at `now`: mostly one."""
        chance = self._chance
        draw = chance.random()
        if draw < 0.02:
            yield self._broken(now)
            return
        if self._renewals and self._renewals[0][0] <= now:
            call = self._order(self._renewals.pop(0)[1], now)
        elif draw < 0.05 and now + CLOSE_MS[1] < self._edges_end:
            call = self._close_call(now)
        elif draw < 0.1:
            call = self._move(now)
        else:
            call = self._call(now)
        self.calls.append(call)
        yield self._record(call, now)
        if call.tells_id and chance.random() < 0.05:
            self.repeated += 1
            yield self._record(call, now)

    def _close_call(self, now: int) -> Call:
        """An order whose window ends in a moment, and before that there will be another one."""
        user, edge = self._user(), now + self._chance.randrange(*CLOSE_MS)
        self._renewals = sorted([*self._renewals, (edge - 1_500, user)])
        return self._order(user, edge - WINDOWS_MS[0])

    def _order(self, user: str, timestamp: int) -> Call:
        properties = {"revenue": 1.0, "category": CATEGORIES[1]}
        message = self._message()
        return Call("track", message, timestamp, user, None, True, "Order Completed", properties)

    def _move(self, now: int) -> Call:
        traits = {"country": self._chance.choice(COUNTRIES[:2])}
        user = self._chance.choice(RESTLESS)
        return Call("identify", self._message(), now, user, None, tells_id=True, traits=traits)

    def _user(self) -> str:
        return f"user_{self._chance.randrange(self._users)}"

    def _message(self) -> str:
        self._number += 1
        return f"m{self._number}"

    def _call(self, now: int) -> Call:
        chance = self._chance
        user = self._user()
        device = f"device-{user}-{chance.randrange(2)}"
        timestamp = self._timestamp(now)
        message = self._message()
        if chance.random() < 0.12:
            traits: dict[str, Any] = {"country": chance.choice(COUNTRIES)}
            if chance.random() < 0.5:
                traits["email"] = f"{user}@example.com"
            anonymous = device if chance.random() < 0.8 else None
            return Call("identify", message, timestamp, user, anonymous, tells_id=True, traits=traits)
        event = chance.choice(("Order Completed", "Product Viewed", "Product Viewed"))
        properties: dict[str, Any] = {
            "revenue": chance.randrange(400) / 4,
            "category": chance.choice(CATEGORIES),
        }
        anonymous_only = chance.random() < 0.3
        return Call(
            "track",
            message,
            timestamp,
            None if anonymous_only else user,
            device if anonymous_only or chance.random() < 0.3 else None,
            chance.random() < 0.6,
            event,
            properties,
        )

    def _timestamp(self, now: int) -> int:
        """Mostly now; else a bit late, or so long ago that a window ends for it in the course of the run."""
        draw = self._chance.random()
        if draw < 0.7:
            return now
        if draw < 0.8:
            return now - self._chance.randrange(LATE_MS)
        edge = self._chance.randrange(now, max(now + 1, self._edges_end))
        return edge - self._chance.choice(WINDOWS_MS)

    def _record(self, call: Call, now: int) -> Produced:
        body: dict[str, Any] = {
            "type": call.kind,
            # Of no meaning to anybody but `written`.
            "number": call.message_id,
            "timestamp": text(call.timestamp),
            "receivedAt": text(now),
        }
        if call.tells_id:
            body["messageId"] = call.message_id
        if call.user is not None:
            body["userId"] = call.user
        if call.anonymous is not None:
            body["anonymousId"] = call.anonymous
        if call.kind == "track":
            body |= {"event": call.event, "properties": call.properties}
        else:
            body["traits"] = call.traits
        return Produced((call.user or call.anonymous or "").encode(), json.dumps(body).encode())

    def _broken(self, now: int) -> Produced:
        """A record that is no usable call, counted under the reason that its dead letter has to have."""
        base = {"type": "track", "event": "Order Completed", "userId": "user_1", "receivedAt": text(now)}
        kinds: list[tuple[str, bytes]] = [
            ("invalid_json", b'{"type": "track", '),
            ("not_an_object", b"[1, 2]"),
            ("invalid_utf8", b'{"type": "track", "event": "\xff"}'),
            ("unknown_type", json.dumps({**base, "type": "trace"}).encode()),
            ("no_identity", json.dumps({**base, "userId": " ", "timestamp": text(now)}).encode()),
            ("invalid_timestamp", json.dumps({**base, "timestamp": "yesterday"}).encode()),
            ("future_timestamp", json.dumps({**base, "timestamp": text(now + 2 * DAY_MS)}).encode()),
            ("too_large", json.dumps({**base, "properties": {"text": "x" * 40_000}}).encode()),
            ("invalid_field", json.dumps({**base, "properties": []}).encode()),
        ]
        reason, value = self._chance.choice(kinds)
        self.broken[reason] += 1
        return Produced(f"broken-{self._chance.randrange(100)}".encode(), value)


def written(calls: Iterable[Call], records: Iterable[tuple[int, bytes]]) -> list[tuple[int, Call]]:
    """The calls as the source topic has them: one without a message id that a producer wrote twice is two.

    `records` are (when the broker took it, value), and each call gets the first of these instants.
    """
    taken: dict[str, list[int]] = {}
    for at, value in records:
        try:
            body = json.loads(value)
        except ValueError:
            continue
        if isinstance(body, dict):
            taken.setdefault(str(body.get("number")), []).append(at)
    return [
        (at, replace(call, message_id=f"{call.message_id}.{again}") if again else call)
        for call in calls
        for again, at in enumerate(taken.get(call.message_id, ())[: 1 if call.tells_id else None])
    ]


def text(instant: int) -> str:
    moment = datetime.fromtimestamp(instant / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
