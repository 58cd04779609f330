"""Removals that Facebook holds up, and the additions that go out ahead of them; no test here waits."""

from __future__ import annotations

from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, PERIOD, World, Worlds, people, refused
from tests.unit.pipeline.told_graph import HOUR, ToldGraph, is_at_the_end, offered, told

HELD = DestinationState.HELD
TOO_SMALL = refused(200, 1_870_047)


async def held_up(world: World) -> ToldGraph:
    """Eight members in batches of four, of whom five leave and cannot; behind them six enter."""
    graph = told(world)
    await world.start()
    await world.live(*[f"m{number}" for number in range(8)])
    await world.clock.advance(2 * PERIOD)
    graph.taken.clear()
    graph.fails = lambda call: TOO_SMALL if call.kind == "remove" else None
    for number in range(5):
        await world.live(f"m{number}", change=EXIT)
    for number in range(6):
        await world.live(f"n{number}")
    await world.clock.advance(6 * HOUR)
    return graph


EVERYBODY = {f"m{number}" for number in range(8)} | {f"n{number}" for number in range(6)}


async def test_additions_go_out_ahead_of_removals_that_fill_a_batch(worlds: Worlds) -> None:
    world = worlds(batch_rows=4)
    graph = await held_up(world)
    assert (world.members(), world.view().state) == (EVERYBODY, HELD)
    assert graph.rows_taken() == {("add", f"n{number}"): 1 for number in range(6)}, (
        "once, not again and again"
    )
    assert world.ledger.states["vips"].cursor == 8, "nothing is passed over"
    assert max(span.end for span in world.ledger.states["vips"].unconfirmed) == world.log.end(0)
    await world.live("late")
    await world.live("n5", change=EXIT)
    await world.clock.advance(HOUR)
    assert graph.rows_taken()["add", "late"] == 1
    graph.fails = lambda _: None
    await world.clock.advance(HOUR)
    assert world.members() == (EVERYBODY | {"late"}) - {f"m{number}" for number in range(5)} - {"n5"}
    assert is_at_the_end(world)


async def test_whoever_leaves_under_one_profile_and_enters_under_another_stays_in(worlds: Worlds) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    graph.fails = lambda call: TOO_SMALL if call.kind == "remove" else None
    offered(world, world.change("ann", EXIT), world.change("other", rows=[{"EXTERN_ID": "ann"}]))
    await world.clock.advance(HOUR)
    graph.fails = lambda _: None
    await world.clock.advance(HOUR)
    assert world.members() == {"ann", "bob"}
    assert [(call.kind, people(call)) for call in graph.taken[-2:]] == [("remove", ["ann"]), ("add", ["ann"])]
    assert is_at_the_end(world)


async def test_a_new_owner_sends_nothing_older_behind_what_went_ahead(worlds: Worlds) -> None:
    world = worlds(batch_rows=4)
    graph = await held_up(world)
    await world.live("n0", change=EXIT)
    await world.clock.advance(HOUR)
    graph.fails = lambda _: None
    graph.taken.clear()
    await world.restart()
    await world.clock.advance(HOUR)
    assert graph.rows_taken()["add", "n0"] == 0
    assert world.members() == EVERYBODY - {f"m{number}" for number in range(5)} - {"n0"}
    assert is_at_the_end(world)
