"""Replacing everybody in a Facebook audience; with in-memory twins and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.domain.data_use import DataUse
from schemas.audience import DeliveryMode
from schemas.membership import Change
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, PERIOD, TIMEOUT, audience, cut, refused
from tests.unit.pipeline.replaced_world import HOUR, ReplacedWorlds, full


async def test_strangers_are_gone_and_members_are_there(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=2)
    await full(world, "a", "b", "c", "d", "e", "gone")
    await world.live("gone", change=EXIT)
    await world.clock.advance(PERIOD)
    before = len(world.graph.calls_of("add", "remove"))
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert world.batches == [(1, ["a", "b"], False), (2, ["c", "d"], False), (3, ["e"], True)]
    assert len(world.sessions) == 1
    assert world.members() == {"a", "b", "c", "d", "e"}
    assert len(world.graph.calls_of("add", "remove")) == before, "nothing else was sent"
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed, state.replace) == (world.log.end(0), (), None)
    await world.restart()
    await world.clock.advance(HOUR)
    assert len(world.replacing) == 3, "once"


async def test_what_may_be_done_with_people_goes_with_those_who_are_put_in_the_place_of_all(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds(batch_rows=2, data_use=DataUse(True))
    await full(world, "a", "b", "c")
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert [call.use for call in world.replacing] == [DataUse(True), DataUse(True)]


async def test_whoever_comes_and_goes_meanwhile_does_so_afterwards(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=2)
    await full(world, "a", "b", "c", "d")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.live("e")
    await world.live("a", change=EXIT)
    await world.clock.advance(PERIOD)
    assert world.members() == {"a", "b", "c", "d", "stranger", "another"}
    assert (world.view().state, world.view().reason) == (
        DestinationState.CATCHING_UP,
        "everybody in the Facebook audience is being replaced",
    )
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"b", "c", "d", "e"}
    assert [who for _, sent, _ in world.batches for who in sent] == ["a", "b", "c", "d"]
    assert world.delivery.idle()
    assert world.graph.most_under_way == 1


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_a_worker_that_dies_in_any_batch_loses_and_keeps_nobody(
    replaced_worlds: ReplacedWorlds, batch: int, applied: bool
) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    if batch > 1:
        world.graph.script("replace", times=batch - 1)
    world.graph.script("replace", cut(), applied=applied, until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    assert len(world.replacing) == batch
    await world.restart()
    await world.live("d")
    await world.live("a", change=EXIT)
    await world.clock.advance(3 * HOUR)
    assert world.members() == {"b", "c", "d"}
    assert world.delivery.idle()
    state = world.ledger.states["vips"]
    assert (state.replace, state.cursor) == (None, world.log.end(0))


async def test_another_worker_goes_on_with_the_session_under_numbers_of_its_own(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    await world.restart()
    assert len(world.replacing) == 2, "what is under way has its time first"
    await world.clock.advance(TIMEOUT + 1)
    assert len(world.sessions) == 1
    assert world.batches[2:] == [(3, ["a"], False), (4, ["b"], False), (5, ["c"], True)]
    assert world.members() == {"a", "b", "c"}


@pytest.mark.parametrize("applied", [True, False])
async def test_the_first_batch_is_never_sent_again(replaced_worlds: ReplacedWorlds, applied: bool) -> None:
    world = replaced_worlds(batch_rows=2)
    await full(world, "a", "b", "c")
    world.graph.script("replace", cut(), applied=applied)
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.replacing) == 1, "it may be under way still"
    await world.clock.advance(PERIOD)
    assert len(world.sessions) == (1 if applied else 2)
    first = (
        [(2, ["a", "b"], False), (3, ["c"], True)] if applied else [(1, ["a", "b"], False), (2, ["c"], True)]
    )
    assert world.batches[1:] == first
    assert world.members() == {"a", "b", "c"}


async def test_a_later_batch_is_sent_again(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", refused(2))
    world.graph.script("replace", cut(), applied=True)
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT)
    assert world.batches[1:4] == [(2, ["b"], False), (3, ["b"], False), (4, ["b"], False)]
    assert (len(world.sessions), world.members()) == (1, {"a", "b", "c"})


async def test_a_last_answer_that_is_lost_is_no_reason_to_begin_again(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b")
    added = len(world.graph.calls_of("add"))
    world.graph.script("replace")
    world.graph.script("replace", cut(), applied=True)
    world.graph.script("replace", refused(2650, 1_870_159))
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT)
    assert [number for number, _, _ in world.batches] == [1, 2, 3]
    assert len(world.graph.calls_of("add")) == added, "nobody is sent twice"
    assert world.members() == {"a", "b"}


async def test_a_session_ends_with_a_dry_run(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b")
    world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.delivery.update((audience("vips", mode=DeliveryMode.DRY_RUN),), world.ledger.states)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.replacing) == 1
    assert world.view().state is DestinationState.DRY_RUN


async def test_a_first_batch_that_failed_may_be_at_work_still(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a")
    world.graph.script("replace", refused(2, http_status=504))
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.replacing) == 1
    await world.clock.advance(PERIOD)
    assert (len(world.sessions), world.members()) == (2, {"a"})


async def test_what_is_paused_stops_between_two_batches(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.want(paused=True)
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(60)
    assert len(world.replacing) == 1
    await world.want(paused=False)
    await world.clock.advance(2 * PERIOD)
    assert (len(world.sessions), world.members()) == (1, {"a", "b", "c"})


async def test_a_wish_that_comes_meanwhile_is_heard_afterwards(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    await world.want(replace=True)
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert [number for number, _, _ in world.batches] == [1, 2, 1, 2]
    assert (len(world.sessions), world.members()) == (2, {"a", "b"})


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_happens_it_ends_with_the_members(replaced_worlds: ReplacedWorlds, seed: int) -> None:
    """Faults, deaths, changes, pauses and sessions that run out, at random; the log alone is the truth."""
    chance = random.Random(seed)
    world = replaced_worlds(batch_rows=chance.choice((1, 2, 5)))
    await world.start()
    names = [f"p{number}" for number in range(8)]
    inside: set[str] = set()

    async def change() -> None:
        who = chance.choice(names)
        await world.live(who, change=EXIT if who in inside else Change.ENTERED)
        inside.symmetric_difference_update({who})

    for _ in range(12):
        await change()
    await world.clock.advance(2 * PERIOD)
    world.settle_in("stranger")
    await world.want(replace=True)
    for _ in range(12):
        kind = chance.choice(("replace", "replace", "read", "add"))
        error = chance.choice((cut(), refused(2), refused(80_003, 2_446_079)))
        world.graph.script(
            kind, error, applied=chance.random() < 0.5 and not isinstance(error, type(refused(2)))
        )
        await change()
        await world.clock.advance(chance.choice((1, 20, 200)))
        if chance.random() < 0.3:
            await world.restart()
        if chance.random() < 0.1:
            await world.want(replace=True)
    world.graph.scripts.clear()
    for _ in range(4):
        await world.clock.advance(1.5 * HOUR)
        world.graph.close(world.facebook_id())
    await world.clock.advance(1.5 * HOUR)
    assert world.members() - {"stranger"} == inside
    assert world.ledger.states["vips"].replace is None
    assert world.delivery.idle()
