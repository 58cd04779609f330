"""Deliveries: from raw values to hashed rows, to bodies of requests, to an endpoint that takes them; and what waits."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.memory import MemoryDeadLetters, MemoryLiveness, MemorySyncLedger
from app.domain.counters import Counters
from app.domain.users_requests import build_requests
from app.errors import PermanentError
from app.pipeline.deliver import Delivery, DeliveryOptions
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from tests.bench.facebook_people import SCHEMA, delta, fields, raw, row_of
from tests.bench.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schemas.membership import MembershipDelta

PEOPLE = 20_000
DELIVERED = 1_000_000
AUDIENCES = 8
WAITING_AUDIENCES = 50
BATCH = 10_000

TARGET_OF_SDK = 1.0
TARGET_BODIES = 500_000.0
TARGET_DELIVERED = 60_000.0
TARGET_WAITING_BYTES = 300_000_000
TARGET_REQUESTS = 1.05


@dataclass(frozen=True, slots=True)
class Delivered:
    """What `DELIVERED` changes took; `cpu_seconds` are ours, without those of the endpoint."""

    seconds: float
    cpu_seconds: float
    requests: int

    @property
    def rate(self) -> float:
        return DELIVERED / self.seconds


@dataclass(frozen=True, slots=True)
class Facebook:
    """Rows per second, a figure for each round, by CPU time."""

    hashed: list[float]
    hashed_by_sdk: list[float]
    bodies: list[float]
    delivered: Delivered
    before_bytes: int
    waiting_bytes: int

    @property
    def of_sdk(self) -> float:
        pairs = zip(self.hashed, self.hashed_by_sdk, strict=True)
        return median(ours / theirs for ours, theirs in pairs)

    @property
    def requests_of_full(self) -> float:
        """Times as many requests as full ones would have been."""
        return self.delivered.requests / (DELIVERED / BATCH)


def measure_facebook(rounds: int, say: Callable[[str], None]) -> Facebook:
    """Raises PermanentError when the two clients disagree about a row, or when something breaks down."""
    say(f"facebook: {PEOPLE:,} people are hashed, {rounds} rounds")
    hashed, by_sdk = _hash(rounds)
    bodies = _bodies(rounds)
    say(f"facebook: {DELIVERED:,} changes of {AUDIENCES} audiences are delivered")
    delivery = _deliver()
    say(f"facebook: {WAITING_AUDIENCES} audiences wait with full batches")
    waiting = _waiting()
    return Facebook(
        hashed,
        by_sdk,
        bodies,
        delivery,
        waiting["before_bytes"],
        waiting["after_bytes"],
    )


def _hash(rounds: int) -> tuple[list[float], list[float]]:
    from facebook_business.adobjects.customaudience import CustomAudience  # noqa: PLC0415 - the other parts do without

    draw = random.Random(7)
    people = [raw(number, draw) for number in range(PEOPLE)]
    given = [fields(cells) for cells in people]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        started = time.process_time()
        rows = [row_of(person) for person in given]
        between = time.process_time()
        sent = CustomAudience.format_params(list(SCHEMA), people, is_raw=True)["payload"]["data"]
        ended = time.process_time()
        if rows != sent:
            raise PermanentError("Meta's client and ours hash the same people differently")
        ours.append(PEOPLE / (between - started))
        theirs.append(PEOPLE / (ended - between))
    return ours, theirs


def _bodies(rounds: int) -> list[float]:
    changes = [(number, delta(number, "a", ["a"])) for number in range(PEOPLE)]
    rates = []
    for _ in range(rounds):
        started = time.process_time()
        for request in build_requests(changes, "a"):
            orjson.dumps({"payload": {"schema": list(request.schema), "data": request.data}})
        rates.append(PEOPLE / (time.process_time() - started))
    return rates


class _Log:
    """Every audience has the same changes; they lie in memory, as what is measured is not Kafka."""

    def __init__(self, changes: list[MembershipDelta]) -> None:
        self._changes = changes

    async def read(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncIterator[tuple[int, MembershipDelta]]:
        del partition, audience
        for offset in range(first, end):
            yield offset, self._changes[offset]

    async def read_written(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncIterator[tuple[int, MembershipDelta, int]]:
        async for offset, change in self.read(partition, first, end, audience):
            yield offset, change, 0


def _deliver() -> Delivered:
    command = [sys.executable, "-m", "tests.bench.facebook_endpoint"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as endpoint:
        try:
            line = endpoint.stdout.readline() if endpoint.stdout else ""
            if not line:
                raise PermanentError("the endpoint that takes deliveries did not start")
            return asyncio.run(_deliver_to(line.strip()))
        finally:
            endpoint.terminate()


async def _deliver_to(url: str) -> Delivered:
    keys = [f"audience_{place}" for place in range(AUDIENCES)]
    changes = [delta(number, keys[0], keys) for number in range(DELIVERED // AUDIENCES)]
    failures: list[BaseException] = []
    async with FacebookGraph(url, "v25.0", SecretStr("EAAbench"), SystemClock()) as graph:
        counters = Counters()
        delivery = Delivery(
            definitions=[_definition(key, place) for place, key in enumerate(keys)],
            graph=graph,
            ledger=MemorySyncLedger(),
            letters=MemoryDeadLetters(),
            log=_Log(changes),
            clock=SystemClock(),
            liveness=MemoryLiveness(),
            counters=counters,
            options=DeliveryOptions(installation="bench", batch_rows=BATCH, batch_seconds=2.0),
            partition_of=lambda _: 0,
            memberships_topic="audience.memberships",
            on_failure=failures.append,
        )
        started, cpu = time.perf_counter(), time.process_time()
        await delivery.assign(0, {}, len(changes))
        while counters.stages["deliver"].records_out < DELIVERED:
            if failures:
                raise failures[0]
            await asyncio.sleep(0.01)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        await delivery.stop()
    async with aiohttp.ClientSession() as session, session.get(f"{url}/count") as answer:
        return Delivered(seconds, cpu, int((await answer.json())["requests"]))


def _definition(key: str, place: int) -> AudienceDefinition:
    """Two audiences in each ad account."""
    destination = FacebookDestination(
        id=key, ad_account_id=f"act_{place // 2 + 1}", audience_id=str(place + 1)
    )
    return AudienceDefinition(key=key, name=key, source=AudienceSource.ENGAGE, destinations=[destination])


def _waiting() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.facebook_process", str(WAITING_AUDIENCES), str(BATCH)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermanentError(f"the process under measurement failed:\n{done.stderr}")
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found
