"""Audiences: what a thousand of them cost an event that touches three, against what those three alone cost it.

Both stages run in this process, without Kafka, by turns with three and with a thousand audiences over the same calls.
CPU time is compared, not time: what else the machine does has no part in it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import orjson

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from app.errors import PermanentError
from tests.bench.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.plan import Plan

FEW = 3
MANY = 1_000
TARGET_RATIO = 0.8

_EVENTS = 40_000
_BATCH = 2_000
_PEOPLE = 4_000
# Of all calls: identify calls, and calls of people who are not known by a user id.
_EVERY_IDENTIFY = 10
_EVERY_ANONYMOUS = 5
_FIRST_MS = 1_760_000_000_000
_INTERVAL_MS = 50

_FACEBOOK = {"ad_account_id": "act_1"}
_TOUCHED: tuple[dict[str, Any], ...] = (
    {"event": "Order Completed", "within": "30d"},
    {"event": "Order Completed", "sum": {"property": "revenue", "at_least": 500}},
    {"event": "Order Completed", "count": {"at_least": 3}, "within": "90d", "where": {"category": "hats"}},
)


@dataclass(frozen=True, slots=True)
class Audiences:
    """Seconds of CPU for the same calls, round by round, with few and with many audiences defined."""

    events: int
    few_seconds: list[float]
    many_seconds: list[float]

    @property
    def ratio(self) -> float:
        """Of the throughput with few audiences, what is left with many: the median over the rounds."""
        return median(few / many for few, many in zip(self.few_seconds, self.many_seconds, strict=True))


def definitions(count: int) -> bytes:
    """The three that every order touches, and others of all kinds that no event of the benchmark does, as JSON."""
    others = [_other(number) for number in range(count - len(_TOUCHED))]
    audiences = [
        {"name": f"Audience {number}", "when": when, "facebook": _FACEBOOK}
        for number, when in enumerate((*_TOUCHED, *others))
    ]
    return orjson.dumps({"audiences": audiences})


def _other(number: int) -> dict[str, Any]:
    """An event name has several audiences, as in life."""
    event, trait = f"Event {number // 4}", f"trait_{number // 8}"
    kinds: tuple[dict[str, Any], ...] = (
        {"event": event, "within": "7d"},
        {"event": event, "count": {"at_least": 2}, "where": {"category": "hats"}, "within": "60d"},
        {"event": event, "sum": {"property": "revenue", "at_least": 100}, "within": "30d"},
        {"all": [{"event": event, "within": "90d"}, {"trait": trait, "equals": "gold"}]},
        {"event": event, "between": ["7d", "1d"], "then": {"event": f"{event} Done", "within": "1d"}},
        {"any": [{"trait": trait, "equals": "silver"}, {"event": event, "count": {"at_least": 5}}]},
        {"trait": f"{trait}_ends_at", "within_next": "7d"},
        {"all": [{"event": event}, {"not": {"event": f"{event} Undone", "within": "30d"}}]},
    )
    return kinds[number % len(kinds)]


def plan_of(count: int) -> Plan:
    return compile_audiences(
        parse_definitions([Document("audiences.json", definitions(count).decode())]).audiences
    )


def calls(count: int) -> list[tuple[int, bytes]]:
    """Orders, some of them of people who are unknown yet, and identify calls with traits that no audience uses."""
    made = []
    for number in range(count):
        at = _FIRST_MS + number * _INTERVAL_MS
        instant = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
        person = number * 7_919 % _PEOPLE
        call: dict[str, Any] = {
            "type": "track",
            "event": "Order Completed",
            "messageId": f"ajs-{number:010}-5d2f8c1e",
            "timestamp": instant.replace("+00:00", "Z"),
            "receivedAt": instant.replace("+00:00", "Z"),
            "properties": {
                "revenue": number % 800 / 4,
                "category": ("shoes", "hats", "coats")[number % 3],
                "currency": "USD",
            },
        }
        if number % _EVERY_IDENTIFY == 0:
            call["type"] = "identify"
            call["traits"] = {"email": f"user_{person}@shop.example", "plan": "gold", "logins": number}
        call["anonymousId"] = f"anon-{person}-9f3c2a"
        if number % _EVERY_ANONYMOUS:
            call["userId"] = f"user_{person}"
        made.append((at, orjson.dumps(call)))
    return made


def measure_audiences(rounds: int, say: Callable[[str], None]) -> Audiences:
    """Raises PermanentError when the two do not come to the same memberships."""
    say(f"audiences: {_EVENTS:,} calls with {FEW} and with {MANY:,} audiences defined")
    few, many, made = plan_of(FEW), plan_of(MANY), calls(_EVENTS)
    result = Audiences(_EVENTS, [], [])
    for number in range(rounds):
        turns = [(few, result.few_seconds), (many, result.many_seconds)]
        counts = set()
        for plan, seconds in turns if number % 2 else turns[::-1]:
            spent, deltas = _run(plan, made)
            seconds.append(spent)
            counts.add(deltas)
        if len(counts) != 1 or counts == {0}:
            raise PermanentError(f"the same calls have made different numbers of deltas: {sorted(counts)}")
        say(
            f"audiences, round {number + 1} of {rounds}: {result.few_seconds[-1]:.2f} s of CPU with few, "
            f"{result.many_seconds[-1]:.2f} s with many"
        )
    return result


def _run(plan: Plan, made: list[tuple[int, bytes]]) -> tuple[float, int]:
    """Seconds of CPU, and how many deltas there were."""
    stages = Stages(plan)

    async def work() -> float:
        started = time.process_time()
        for first in range(0, len(made), _BATCH):
            await stages.work(made[first : first + _BATCH])
        return time.process_time() - started

    gc.collect()
    return asyncio.run(work()), stages.deltas
