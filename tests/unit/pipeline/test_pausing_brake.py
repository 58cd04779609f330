"""Destinations that the safety brake pauses; with in-memory twins, no test here waits."""

from __future__ import annotations

import pytest

from app.adapters.memory import MemoryMembershipLog
from app.domain.brake import BrakePolicy
from tests.unit.pipeline.delivery_world import (
    ENTER,
    EXIT,
    PERIOD,
    TIMEOUT,
    refused,
)
from tests.unit.pipeline.paused_world import LIVE, PAUSED, PausedWorld, PausedWorlds, crowd

SMALL = BrakePolicy(percent=20.0, members=5)


async def trip(world: PausedWorld) -> None:
    """Of 20 people, 12 leave."""
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    await world.happen(EXIT, *crowd(12))


async def test_too_many_removals_are_not_sent(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL)
    await trip(world)
    await world.clock.advance(3_600)
    assert world.members() == set(crowd(20))
    view = world.view()
    assert view.state is PAUSED
    assert "12 of 20 members" in (view.reason or "")
    assert "audience-sync audiences resume vips --accept-shrink" in (view.reason or "")
    await world.resume()
    await world.clock.advance(3_600)
    assert world.view().state is PAUSED, "a plain resume does not release it"
    await world.resume(accept_shrink=True)
    await world.pass_period()
    assert world.members() == set(crowd(8, first=12))


async def test_small_batches_are_stopped_before_the_excess(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(batch_rows=1, brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    for profile in crowd(12):
        await world.happen(EXIT, profile)
    await world.clock.advance(3_600)
    assert len(world.members()) == 20 - 5, "20 % are 4, and up to 5 may always leave"


async def test_the_shrink_goes_on_when_it_was_accepted(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL)
    await trip(world)
    await world.resume(accept_shrink=True)
    await world.happen(EXIT, *crowd(8, first=12))
    await world.pass_period()
    assert world.members() == set()
    assert world.view().state is LIVE


@pytest.mark.parametrize("written", [True, False], ids=["in the ledger", "not in the ledger"])
async def test_a_crash_does_not_release_the_brake(paused_worlds: PausedWorlds, written: bool) -> None:
    world = paused_worlds(brake=SMALL)
    await trip(world)
    if not written:
        # It died before it wrote that it had tripped, and the exits were in the log.
        before = [state for state in world.ledger.history if state.state is not PAUSED]
        world.ledger.states["vips"] = before[-1]
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == set(crowd(20))
    assert "12 of 20 members" in (world.view().reason or "")


async def test_what_the_brake_has_seen_is_written_while_it_is_paused(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.pause()
    await world.happen(ENTER, *crowd(20))
    await world.clock.advance(2 * PERIOD)
    state = world.ledger.states["vips"]
    assert state.brake is not None
    assert (state.cursor, state.brake.position, state.brake.members) == (0, 20, 20)


async def test_a_partition_that_was_made_anew_is_counted_anew(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.clock.advance(2 * PERIOD)
    world.log = MemoryMembershipLog()
    world.write("ann", ENTER)
    await world.restart()
    await world.clock.advance(2 * PERIOD)
    brake = world.ledger.states["vips"].brake
    assert brake is not None
    assert (brake.position, brake.members) == (1, 1)


async def test_what_happened_while_nobody_looked_counts_by_when_it_was_written(
    paused_worlds: PausedWorlds, caplog: pytest.LogCaptureFixture
) -> None:
    world = paused_worlds(brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    for profile in crowd(12):
        world.write(profile, EXIT)
    await world.clock.advance(3_600 * 5)
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert (world.view().state, world.members()) == (PAUSED, set(crowd(20)))
    assert "destination vips is paused: safety brake" in caplog.text


async def test_removals_that_are_spread_over_hours_go_out(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    for number in range(20):
        await world.happen(EXIT, f"p{number}")
        await world.clock.advance(3_600 / 4)
        if number % 7 == 3:
            await world.restart()
            await world.clock.advance(TIMEOUT)
    await world.clock.advance(PERIOD)
    assert (world.view().state, world.members()) == (LIVE, set())


async def test_a_pause_by_people_stays_when_the_brake_is_released(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL)
    await trip(world)
    await world.pause(reason="by hand")
    assert (world.view().reason or "").endswith(" | by hand")
    world._want("vips", paused=True, reason="by hand", accepted_at=world.clock.now_ms())
    await world.clock.settle()
    assert (world.view().state, world.view().reason) == (PAUSED, "by hand")


async def test_it_holds_while_the_destination_is_behind(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(batch_rows=2, max_pending_rows=2, brake=SMALL)
    await world.start()
    world.graph.script("add", refused(80003, 2446079), times=None)
    await world.happen(ENTER, *crowd(20))
    await world.happen(EXIT, *crowd(12))
    await world.pass_period()
    world.graph.scripts.clear()
    await world.clock.advance(3_600)
    assert world.view().state is PAUSED
    assert world.graph.calls_of("remove") == []


async def test_a_destination_that_is_new_counts_who_is_there_already(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL)
    for profile in crowd(40):
        world.write(profile, ENTER)
    for profile in crowd(20):
        world.write(profile, EXIT)
    await world.start()
    await world.pass_period()
    assert (world.view().state, world.members()) == (LIVE, set(crowd(20, first=20))), (
        "nobody was there to remove"
    )
    brake = world.ledger.states["vips"].brake
    assert brake is not None
    assert brake.members == 20


async def test_a_dry_run_shows_what_the_brake_would_do(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(brake=SMALL, dry_run=True)
    await trip(world)
    assert (world.view().state, world.graph.calls) == (PAUSED, [])
