"""What delivery expects of a clock that can be waited on, of the machine's and of the one moved by hand."""

from __future__ import annotations

import asyncio

import pytest

from app.adapters.clock import SystemClock
from app.adapters.memory import ManualClock
from app.ports import Timer


@pytest.fixture(params=[SystemClock, ManualClock])
def clock(request: pytest.FixtureRequest) -> Timer:
    made: Timer = request.param()
    return made


async def let_pass(clock: Timer, seconds: float) -> None:
    if isinstance(clock, ManualClock):
        await clock.advance(seconds)
    else:
        await asyncio.sleep(seconds)


async def test_an_event_ends_a_wait(clock: Timer) -> None:
    event = asyncio.Event()
    waiting = asyncio.ensure_future(clock.wait(event, None))
    await let_pass(clock, 0.01)
    assert not waiting.done()
    event.set()
    await asyncio.wait_for(waiting, 5)


async def test_an_event_that_is_set_is_not_waited_for(clock: Timer) -> None:
    event = asyncio.Event()
    event.set()
    await asyncio.wait_for(clock.wait(event, None), 5)


async def test_time_ends_a_wait(clock: Timer) -> None:
    before = clock.monotonic(), clock.now_ms()
    waiting = asyncio.ensure_future(clock.wait(asyncio.Event(), 0.05))
    await asyncio.sleep(0)
    await let_pass(clock, 0.06)
    await asyncio.wait_for(waiting, 5)
    assert clock.monotonic() - before[0] >= 0.05
    assert clock.now_ms() > before[1]


async def test_a_wait_can_be_cancelled(clock: Timer) -> None:
    waiting = asyncio.ensure_future(clock.wait(asyncio.Event(), 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_time_moved_by_hand_wakes_each_at_its_own_instant() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.wait(asyncio.Event(), seconds)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.ensure_future(sleeper(name, seconds)) for name, seconds in (("late", 20), ("early", 5))]
    await clock.advance(19)
    assert woken == [("early", 5.0)]
    await clock.advance(1)
    assert woken == [("early", 5.0), ("late", 20.0)]
    await asyncio.gather(*tasks)
