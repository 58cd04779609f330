"""The delivery loop with the real client and the real clock, against the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.memory import MemoryDeadLetters, MemoryLiveness, MemoryMembershipLog, MemorySyncLedger
from app.domain.counters import Counters
from app.pipeline.deliver import Delivery, DeliveryOptions
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from schemas.dead_letter import Reason
from schemas.membership import Cause, Change, MembershipDelta
from tests.contract.sandbox_client import TOKEN, SandboxClient, running, sha


class Line:
    """A worker's delivery of one audience, fed by hand."""

    def __init__(self, sandbox: SandboxClient, graph: FacebookGraph, **options: Any) -> None:
        self.sandbox = sandbox
        self.ledger = MemorySyncLedger()
        self.letters = MemoryDeadLetters()
        self.failures: list[BaseException] = []
        self.log = MemoryMembershipLog()
        self._end = 0
        definition = AudienceDefinition(
            key="vips",
            name="Vips",
            source=AudienceSource.ENGAGE,
            destinations=[FacebookDestination(id="vips", ad_account_id="act_1")],
        )
        self.delivery = Delivery(
            definitions=[definition],
            graph=graph,
            ledger=self.ledger,
            letters=self.letters,
            log=self.log,
            clock=SystemClock(),
            liveness=MemoryLiveness(),
            counters=Counters(),
            options=DeliveryOptions(installation="test", batch_seconds=0.05, **options),
            partition_of=lambda _: 0,
            memberships_topic="audience.memberships",
            on_failure=self.failures.append,
            draw=lambda: 0.0,
        )

    async def send(self, profile: str, change: Change, *rows: dict[str, Any]) -> None:
        delta = MembershipDelta("vips", profile, change, self._end, {"vips": list(rows)}, 0, 0, Cause.EVENT)
        self.log.append(0, delta)
        self.delivery.offer(0, [(self._end, delta)], self._end + 1)
        self._end += 1
        await self.until(self.delivery.idle)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                assert self.failures == []
                await asyncio.sleep(0.01)

    async def members(self) -> list[dict[str, Any]]:
        (audience,) = (await self.sandbox.request("GET", "/_sandbox/audiences")).body
        return await self.sandbox.members(audience["id"])


@asynccontextmanager
async def line(
    seconds: float = 10.0, faults: Sequence[tuple[dict[str, Any], dict[str, Any]]] = (), **options: Any
) -> AsyncIterator[Line]:
    """`faults`, each met once, are there before the first call; a call is waited for `seconds`."""
    async with running() as sandbox:
        url = sandbox.sandbox.base_url
        for respond, matchers in faults:
            await sandbox.fault(respond, **matchers, times=1)
        graph = FacebookGraph(url, "v25.0", SecretStr(TOKEN), SystemClock(), timeout_seconds=seconds)
        async with graph:
            made = Line(sandbox, graph, request_timeout_seconds=seconds, **options)
            await made.delivery.assign(0, {}, 0)
            try:
                yield made
            finally:
                await made.delivery.stop()
        assert made.failures == []


async def test_people_come_and_go() -> None:
    async with line() as made:
        await made.send("ann", Change.ENTERED, {"EXTERN_ID": "ann", "EMAIL": sha("a")}, {"EMAIL": sha("b")})
        assert await made.members() == [{"EMAIL": sha("b")}, {"EXTERN_ID": "ann", "EMAIL": sha("a")}]
        await made.send("ann", Change.EXITED, {"EXTERN_ID": "ann", "EMAIL": sha("a")}, {"EMAIL": sha("b")})
        assert await made.members() == []


async def test_a_lost_answer_leads_to_one_audience_and_the_right_members() -> None:
    async with line() as made:
        await made.until(lambda: made.delivery.destinations()["vips"].facebook_id is not None)
        await made.sandbox.fault({"drop": "after"}, times=1, path="/users$")
        await made.send("ann", Change.ENTERED, {"EXTERN_ID": "ann"})
        assert await made.members() == [{"EXTERN_ID": "ann"}]


async def test_a_refused_row_becomes_a_letter() -> None:
    async with line() as made:
        await made.send("ann", Change.ENTERED, {"EXTERN_ID": "ann", "EMAIL": "not a hash"})
        await made.send("bob", Change.ENTERED, {"EXTERN_ID": "bob", "EMAIL": sha("b")})
        assert await made.members() == [{"EXTERN_ID": "bob", "EMAIL": sha("b")}]
        (letter,) = made.letters.letters.values()
        assert (letter.reason, letter.profile) == (Reason.REJECTED_ROW, "ann")
