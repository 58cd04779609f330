"""Looking on a schedule whether everything agrees: one worker of all, said once, broken off when it is not the one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from app.adapters.memory import ManualClock
from app.domain.delivery import AnswerKind, GraphRefusal, Refusal
from app.domain.published import Published
from app.domain.reconciling import AudienceFinding, Bounds, Difference
from app.errors import UnreachableError
from app.pipeline.reconcile import FIRST_SECONDS, LET_GO_SECONDS, Reconcile, ask_bounds
from app.ports import AudienceStatus
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from schemas.sync import SyncState

HOUR = 3_600.0
BEHIND = Difference("behind", "3 changes are not confirmed", "see that workers run")


def finding(key: str, *differences: Difference) -> AudienceFinding:
    return AudienceFinding(key, 1, 1, 0, (), differences)


class Reading:
    """Finds what the world has, or waits for its end."""

    def __init__(self, world: World, stop: threading.Event) -> None:
        self.states: dict[str, SyncState] = {}
        self._world = world
        self._stop = stop

    def read(self, published: Published, audiences: Sequence[AudienceDefinition]) -> None:
        del published, audiences
        self._world.reading.set()
        if self._world.endless:
            assert self._stop.wait(30)
            self._world.ended.set()
            raise InterruptedError("reading was stopped")

    def compare(self, bounds: Mapping[str, Bounds], now_ms: int, batch_ms: int) -> list[AudienceFinding]:
        del bounds, now_ms, batch_ms
        return self._world.findings


class World:
    """One worker; what it finds and whether it is the one is the test's."""

    def __init__(self, *, own: bool = True) -> None:
        self.own = own
        self.away = self.endless = False
        self.reading, self.ended = threading.Event(), threading.Event()
        self.findings = [finding("same"), finding("vips", BEHIND)]
        self.begun = 0
        self.said: list[str] = []
        self.clock = ManualClock()
        self.reconcile = Reconcile(
            owns=lambda: self.own,
            published=Published,
            begin=self._begin,
            graph=None,
            clock=self.clock,
            in_thread=self._in_thread,
            say=self.said.append,
            period_seconds=HOUR,
            batch_ms=30_000,
        )

    def _begin(self, stop: threading.Event) -> Reading:
        self.begun += 1
        if self.away:
            raise UnreachableError("Kafka does not answer")
        return Reading(self, stop)

    async def _in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(call, *args)

    async def after(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.reconcile.step()


async def started() -> World:
    world = World()
    await world.reconcile.step()
    return world


async def test_first_a_while_after_it_became_the_one_and_then_once_a_period() -> None:
    world = await started()
    await world.after(FIRST_SECONDS - 1)
    assert world.begun == 0
    await world.after(1)
    await world.after(HOUR - 1)
    assert world.begun == 1
    await world.after(1)
    assert world.begun == 2
    view = world.reconcile.view
    assert view is not None
    assert (view.checked_at, view.audiences, view.differing_audiences) == (world.clock.now_ms(), 2, 1)


async def test_whoever_is_not_the_one_looks_at_nothing() -> None:
    world = World(own=False)
    await world.reconcile.step()
    await world.after(10 * HOUR)
    assert (world.begun, world.reconcile.view) == (0, None)


async def test_a_difference_is_said_once_with_its_repair_and_when_it_has_gone() -> None:
    world = await started()
    await world.after(FIRST_SECONDS)
    said = [
        "reconcile: 1 of 2 audiences differ",
        "reconcile: vips: 3 changes are not confirmed; repair: see that workers run",
    ]
    assert world.said == said
    await world.after(HOUR)
    assert world.said == said
    world.findings = [finding("same"), finding("vips")]
    await world.after(HOUR)
    assert world.said[2:] == ["reconcile: all 2 audiences agree again"]


async def test_kafka_that_does_not_answer_is_said_once_and_tried_again() -> None:
    world = await started()
    world.away = True
    await world.after(FIRST_SECONDS)
    await world.after(HOUR)
    assert world.begun == 2
    assert world.said == ["reconcile: not done, and tried again later: Kafka does not answer"]
    assert world.reconcile.view is not None
    assert world.reconcile.view.trouble == "Kafka does not answer"
    world.away = False
    await world.after(HOUR)
    assert world.reconcile.view.trouble is None
    assert world.reconcile.view.checked_at is not None


async def test_a_rebalance_that_ends_where_it_was_forgets_nothing() -> None:
    world = await started()
    await world.after(FIRST_SECONDS)
    world.own = False
    await world.after(1)
    assert world.reconcile.view is None
    await world.after(LET_GO_SECONDS - 1)
    world.own = True
    await world.after(0)
    kept = world.reconcile.view
    assert kept is not None
    assert kept.checked_at is not None
    world.own = False
    await world.after(1)
    await world.after(LET_GO_SECONDS)
    world.own = True
    await world.after(0)
    begun_anew = world.reconcile.view
    assert begun_anew is not None
    assert begun_anew.checked_at is None


@pytest.mark.parametrize("how", ["lost", "cancelled"])
async def test_a_look_under_way_is_broken_off(how: str) -> None:
    """By another worker's having the partition, and by the end of this one."""
    world = await started()
    world.endless = True
    await world.clock.advance(FIRST_SECONDS)
    look = asyncio.create_task(world.reconcile.step())
    assert await asyncio.to_thread(world.reading.wait, 30)
    if how == "lost":
        world.own = False
        await look
    else:
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
    assert await asyncio.to_thread(world.ended.wait, 30)
    assert world.said == []


AUDIENCES = [
    AudienceDefinition(
        key=key, name=key, source=AudienceSource.ENGAGE, destinations=(FacebookDestination(id=key, name=key),)
    )
    for key in ("a", "b")
]


def state(key: str) -> SyncState:
    return SyncState(
        destination=key,
        audience=key,
        marker="m",
        updated_at=0,
        facebook_id=key,
        lower_bound=1_000,
        upper_bound=1_100,
    )


class Graph:
    """Answers with what it has for an audience."""

    def __init__(self, **answers: AudienceStatus | Exception) -> None:
        self._answers = answers

    async def read_audience(self, audience_id: str) -> AudienceStatus:
        answer = self._answers[audience_id]
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal(code: int) -> GraphRefusal:
    return GraphRefusal(Refusal(AnswerKind.ERROR, code=code, message="no"))


async def test_facebook_that_says_to_come_again_has_said_nothing_of_an_audience() -> None:
    states = {key: state(key) for key in ("a", "b")}
    fresh = AudienceStatus("b", None, 2_000, 2_100, None, None)
    found, trouble = await ask_bounds(Graph(a=refusal(100), b=fresh), AUDIENCES, states)
    assert found["a"].refused is not None
    assert (found["b"], trouble) == (Bounds(2_000, 2_100, asked=True), None)
    for passing in (refusal(4), refusal(17), UnreachableError("no answer")):
        found, trouble = await ask_bounds(Graph(a=passing, b=fresh), AUDIENCES, states)
        assert found == {"a": Bounds(1_000, 1_100), "b": Bounds(1_000, 1_100)}
        assert trouble is not None
        assert trouble.startswith("Facebook was not asked: ")
