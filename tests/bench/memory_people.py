"""People for the memory benchmark: some whose calls really go through the stages, and any number that are like them.

What the changelog has of a person is the same for everybody but for the identifiers, so those of the first ones are
copied with other identifiers in their place: a million people take seconds and not an hour.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from tests.bench.processes import HERE
from tests.bench.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.plan import Plan

AUDIENCES = HERE / "memory.yaml"

FIRST_MS = 1_760_000_000_000
DAY_MS = 86_400_000
# Each is counted by one audience or more; two on one day, the others on days of their own.
_EVENTS: tuple[tuple[float, str, dict[str, Any]], ...] = (
    (0.0, "Product Viewed", {"category": "hats"}),
    (2.1, "Product Viewed", {"category": "hats"}),
    (4.2, "Order Completed", {"revenue": 310.25}),
    (6.3, "Product Added", {"product_id": 7}),
    (6.4, "Order Completed", {"revenue": 240.5}),
)
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Person:
    """The four identifiers of a person; each is a profile of its own, and three of them end in the first."""

    user: str
    email: str
    anonymous: str
    device: str

    @classmethod
    def of(cls, number: int) -> Person:
        digits = hashlib.blake2b(b"%d" % number, digest_size=32).hexdigest()
        anonymous, device = (
            f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
            for text in (digits[:32], digits[32:])
        )
        return cls(f"user_{number:08}", f"{number:08}@shop.example", anonymous, device)

    @property
    def email_hash(self) -> str:
        return hashlib.sha256(self.email.encode()).hexdigest()

    @property
    def profiles(self) -> list[str]:
        """As profile ids, the one that goes on first."""
        return [
            self.user,
            f"email:{self.email_hash}",
            f"anonymous_id:{self.anonymous}",
            f"madid:{self.device}",
        ]

    @property
    def raw(self) -> list[bytes]:
        """As they may stand in a state: the user id as text, the others as bytes or as text."""
        hashed, anonymous, device = self.email_hash, self.anonymous, self.device
        return [
            self.user.encode(),
            *(bytes.fromhex(text.replace("-", "")) for text in (hashed, anonymous, device)),
            *(text.encode() for text in (hashed, anonymous, device)),
        ]


Records = list[bytes]


async def records_of(plan: Plan, people: int) -> list[Records]:
    """Of people whose calls have gone through both stages: what the changelog has of each one's four profiles."""
    stages = Stages(plan)
    chance = random.Random(7)
    persons = [Person.of(number) for number in range(people)]
    calls = sorted((call for person in persons for call in _calls(person, chance)), key=lambda call: call[0])
    for first in range(0, len(calls), _BATCH):
        await stages.work(calls[first : first + _BATCH])
    states = {key.decode(): value for (_, key), value in stages.states.items() if key[0]}
    return [[states[profile] for profile in person.profiles] for person in persons]


def _calls(person: Person, chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """What they are, and then five events over a week."""
    first_ms = FIRST_MS + chance.randrange(DAY_MS)
    traits = {"email": person.email, "plan": "gold"}
    yield _call(person, first_ms - 1, {"type": "identify", "traits": traits}, chance)
    for days, event, properties in _EVENTS:
        at = first_ms + int(days * DAY_MS)
        yield _call(person, at, {"type": "track", "event": event, "properties": properties}, chance)


def _call(person: Person, at: int, said: dict[str, Any], chance: random.Random) -> tuple[int, bytes]:
    instant = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    digits = f"{chance.getrandbits(128):032x}"
    call = {
        **said,
        "userId": person.user,
        "anonymousId": person.anonymous,
        "messageId": f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
        "timestamp": instant.replace("+00:00", "Z"),
        "receivedAt": instant.replace("+00:00", "Z"),
        "context": {"device": {"type": "ios", "advertisingId": person.device, "adTrackingEnabled": True}},
    }
    return at, orjson.dumps(call)
