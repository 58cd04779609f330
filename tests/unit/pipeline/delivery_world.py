"""Kafka's side and Facebook's side of delivery: in-memory twins and a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from app.adapters.memory import (
    ManualClock,
    MemoryDeadLetters,
    MemoryLiveness,
    MemoryMembershipLog,
    MemorySyncLedger,
)
from app.adapters.memory_graph import MemoryGraph
from app.domain.counters import Counters
from app.domain.delivery import GraphRefusal, Refusal
from app.errors import UnreachableError
from app.pipeline.deliver import Delivery, DeliveryOptions, DestinationView
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from schemas.control import DesiredRecord
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import SyncState

ENTER, EXIT, UPDATE = Change.ENTERED, Change.EXITED, Change.UPDATED
TIMEOUT = 90.0
PERIOD = 30.0


def audience(key: str, account: str | None = "act_1", **mapping: Any) -> AudienceDefinition:
    destination = FacebookDestination(id=key, ad_account_id=account, **mapping)
    return AudienceDefinition(
        key=key,
        name=key.title(),
        description="for tests",
        source=AudienceSource.ENGAGE,
        destinations=[destination],
    )


def no_jitter() -> float:
    return 0.0


class World:
    """Kafka's side and Facebook's side, which outlive a worker, and the worker that runs now."""

    def __init__(self, *definitions: AudienceDefinition, **options: Any) -> None:
        self.definitions = definitions or (audience("vips"),)
        self.options = DeliveryOptions(installation="test", revoke_grace_seconds=0.01, **options)
        self.clock = ManualClock()
        self.graph = MemoryGraph()
        self.ledger = MemorySyncLedger()
        self.letters = MemoryDeadLetters()
        self.log = MemoryMembershipLog()
        self.liveness = MemoryLiveness()
        self.counters = Counters()
        self.failures: list[BaseException] = []
        # What people want, read before anything is assigned, as `Follower.refresh` does.
        self.desired: dict[str, DesiredRecord] = {}
        self._sequence = 0
        self.delivery = self.worker()

    def worker(self, graph: MemoryGraph | None = None) -> Delivery:
        made = Delivery(
            definitions=self.definitions,
            graph=graph or self.graph,
            ledger=self.ledger,
            letters=self.letters,
            log=self.log,
            clock=self.clock,
            liveness=self.liveness,
            counters=self.counters,
            options=self.options,
            partition_of=lambda _: 0,
            memberships_topic="audience.memberships",
            on_failure=self.failures.append,
            draw=no_jitter,
        )
        made.desire(dict(self.desired))
        return made

    async def start(self) -> None:
        await self.delivery.assign(0, self.ledger.states, self.log.end(0))
        await self.clock.settle()

    async def restart(self) -> None:
        """The worker dies without a word, with what it had in memory; another one takes over."""
        dead, self.delivery = self.delivery, self.worker()
        for owned in dead._owned.values():
            for task in owned.tasks:
                task.cancel()
        await self.clock.settle()
        await self.start()

    def change(
        self,
        profile: str,
        change: Change = ENTER,
        key: str = "vips",
        rows: list[dict[str, Any]] | None = None,
    ) -> MembershipDelta:
        """A delta in the log, not yet offered."""
        self._sequence += 1
        sent: list[dict[str, Any]] = [{"EXTERN_ID": profile}] if rows is None else rows
        delta = MembershipDelta(key, profile, change, self._sequence, {key: sent}, 0, 0, Cause.EVENT)
        self.log.append(0, delta)
        return delta

    async def live(self, *profiles: str, change: Change = ENTER, key: str = "vips") -> None:
        """Changes that come in now, on the live stream."""
        for profile in profiles:
            delta = self.change(profile, change, key)
            end = self.log.end(0)
            self.delivery.offer(0, [(end - 1, delta)], end)
        await self.clock.settle()

    async def pass_period(self) -> None:
        await self.clock.advance(PERIOD)

    def view(self, key: str = "vips") -> DestinationView:
        return self.delivery.destinations()[key]

    def facebook_id(self, key: str = "vips") -> str:
        return self.ledger.states[key].facebook_id or ""

    def members(self, key: str = "vips") -> set[str]:
        return self.graph.members(self.facebook_id(key))

    async def end(self) -> None:
        """Ends the worker and raises what failed unseen."""
        await self.delivery.stop()
        assert self.failures == []


Worlds = Callable[..., World]
SomeWorld = TypeVar("SomeWorld", bound=World)


@asynccontextmanager
async def makes(kind: type[SomeWorld]) -> AsyncIterator[Callable[..., SomeWorld]]:
    """What makes worlds of this kind from definitions and options; they are ended afterwards."""
    made: list[SomeWorld] = []

    def make(*definitions: AudienceDefinition, **options: Any) -> SomeWorld:
        made.append(kind(*definitions, **options))
        return made[-1]

    yield make
    for world in made:
        await world.end()


def refused(code: int, subcode: int | None = None, **how: Any) -> GraphRefusal:
    return GraphRefusal(Refusal(code=code, subcode=subcode, message=f"(#{code}) words", trace="T1", **how))


def cut() -> UnreachableError:
    return UnreachableError("the connection broke")


def people(call: Any) -> list[str]:
    return [row["EXTERN_ID"] for row in call.rows]


def creating(world: World) -> SyncState:
    """As the ledger is left by a worker that died right after it wrote that it creates."""
    marker = "[audience-sync:test:vips]"
    return SyncState(
        destination="vips",
        audience="vips",
        marker=marker,
        creating=True,
        ad_account_id="act_1",
        updated_at=world.clock.now_ms(),
    )
