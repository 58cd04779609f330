"""Somebody is forgotten while a destination is sent everything again, or has everybody replaced."""

from __future__ import annotations

import asyncio

import pytest

from schemas.membership import Cause, Change, MembershipDelta
from tests.unit.pipeline.delivery_world import PERIOD, TIMEOUT, World, people
from tests.unit.pipeline.paused_world import PausedWorld, PausedWorlds, crowd
from tests.unit.pipeline.replaced_world import HOUR, ReplacedWorlds, full

# Of two each; ann is in the second.
CROWD = [*crowd(3), "ann", *crowd(3, first=3)]


async def forget(world: World, profile: str = "ann") -> int:
    """The removal is written, and offered; gives where a cursor has to stand that has confirmed it."""
    world._sequence += 1
    rows: dict[str, list[dict[str, str | float]]] = {"vips": [{"EXTERN_ID": profile}]}
    delta = MembershipDelta("vips", profile, Change.EXITED, world._sequence, rows, 0, 0, Cause.FORGOTTEN)
    world.log.append(0, delta)
    end = world.log.end(0)
    world.delivery.offer(0, [(end - 1, delta)], end)
    await world.clock.settle()
    return end


def is_confirmed(world: World, end: int) -> bool:
    """As app.pipeline.forgetting asks."""
    return world.ledger.states["vips"].cursor >= end


def bury(world: World) -> None:
    """There is a tombstone, and the log has been compacted."""
    records = world.log._records[0]
    for offset in [offset for offset, delta in records.items() if delta.profile == "ann"]:
        del records[offset]


async def end_of(world: World, end: int, others: set[str]) -> None:
    """Never counted as confirmed while Facebook has the person."""
    for _ in range(200):
        await world.clock.advance(PERIOD)
        if is_confirmed(world, end):
            break
    assert is_confirmed(world, end)
    assert "ann" not in world.members()
    await world.clock.advance(2 * PERIOD)
    assert world.members() == others
    assert world.delivery.idle()


async def _in_a_resync(world: PausedWorld, before: int) -> asyncio.Event:
    """So many requests of the resync have been answered, and one is under way until that is set."""
    await world.start()
    await world.live(*CROWD)
    await world.clock.advance(5 * PERIOD)
    assert world.members() == set(CROWD)
    if before:
        world.graph.script("add", times=before)
    answered = asyncio.Event()
    world.graph.script("add", until=answered)
    sent = len(world.graph.calls_of("add"))
    await world.resync()
    await world.clock.advance(before * PERIOD + 1)
    assert len(world.graph.calls_of("add")) - sent == before + 1
    return answered


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
async def test_whoever_is_forgotten_in_a_resync_is_taken_out_behind_it(
    paused_worlds: PausedWorlds, before: int, *, restarted: bool
) -> None:
    world = paused_worlds(batch_rows=2, max_pending_rows=2)
    answered = await _in_a_resync(world, before)
    end = await forget(world)
    assert not is_confirmed(world, end)
    if restarted:
        await world.restart()
        await world.clock.advance(TIMEOUT + 1)
    else:
        answered.set()
    await end_of(world, end, {*CROWD} - {"ann"})


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_resync_does_not_bring_back_who_was_forgotten_before(
    paused_worlds: PausedWorlds, *, compacted: bool
) -> None:
    world = paused_worlds(batch_rows=2, max_pending_rows=2)
    await world.start()
    await world.live(*CROWD)
    await world.clock.advance(5 * PERIOD)
    end = await forget(world)
    await world.clock.advance(2 * PERIOD)
    assert is_confirmed(world, end)
    sent = len(world.graph.calls_of("add"))
    if compacted:
        bury(world)
    await world.resync()
    await end_of(world, end, {*CROWD} - {"ann"})
    added = [who for call in world.graph.calls_of("add")[sent:] for who in people(call)]
    assert sorted(added) == sorted({*CROWD} - {"ann"})


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3, 4])
async def test_whoever_is_forgotten_while_everybody_is_replaced_is_taken_out_behind_it(
    replaced_worlds: ReplacedWorlds, batch: int, *, restarted: bool
) -> None:
    world = replaced_worlds(batch_rows=2)
    await full(world, *CROWD)
    if batch > 1:
        world.graph.script("replace", times=batch - 1)
    answered = asyncio.Event()
    world.graph.script("replace", until=answered)
    await world.want(replace=True)
    await world.clock.advance(1)
    assert len(world.replacing) == batch
    end = await forget(world)
    assert not is_confirmed(world, end)
    if restarted:
        await world.restart()
        await world.clock.advance(3 * HOUR)
    else:
        answered.set()
    await end_of(world, end, {*CROWD} - {"ann"})


@pytest.mark.parametrize("compacted", [False, True])
async def test_whoever_was_forgotten_is_none_of_those_who_replace_everybody(
    replaced_worlds: ReplacedWorlds, *, compacted: bool
) -> None:
    """Somebody else has put the person back meanwhile, or Facebook had refused to let go."""
    world = replaced_worlds(batch_rows=2)
    await full(world, *CROWD)
    end = await forget(world)
    await world.clock.advance(2 * PERIOD)
    assert is_confirmed(world, end)
    world.settle_in("ann")
    if compacted:
        bury(world)
    await world.want(replace=True)
    await end_of(world, end, {*CROWD} - {"ann"})
    assert "ann" not in [who for _, sent, _ in world.batches for who in sent]
