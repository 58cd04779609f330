"""Delivery and its ledger: what workers that die leave behind, and those that are no longer asked; no test here waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.errors import FatalError
from schemas.sync import OffsetRange
from tests.unit.pipeline.delivery_world import (
    ENTER,
    EXIT,
    PERIOD,
    TIMEOUT,
    Worlds,
    audience,
    creating,
    cut,
    people,
    refused,
)

# -- the ledger and crashes ------------------------------------------------------------------------------------


async def test_the_ledger_says_what_may_have_been_sent_before_it_is(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event())
    await world.live("ann", "bob")
    await world.pass_period()
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed) == (0, (OffsetRange(first=0, end=2),))
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed) == (2, ())


async def test_after_a_crash_between_answer_and_cursor_the_newest_is_sent_again_after_a_timeout(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())  # applied, but the answer never comes
    await world.live("ann", "bob")
    await world.pass_period()
    assert world.members() == {"ann", "bob"}
    world.change("ann", EXIT)  # nobody sees it come in
    await world.restart()
    sent = len(world.graph.calls_of("add", "remove"))
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.graph.calls_of("add", "remove")) == sent
    await world.clock.advance(1 + PERIOD)
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")[sent:]] == [
        ("remove", ["ann"]),
        ("add", ["bob"]),
    ]
    assert world.members() == {"bob"}
    assert world.ledger.states["vips"].unconfirmed == ()


async def test_without_anything_under_way_a_new_owner_does_not_wait(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    await world.restart()
    await world.live("ann")
    assert world.members() == {"ann"}


async def test_a_crash_before_anything_was_sent_loses_nothing(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.restart()
    await world.pass_period()
    assert world.members() == {"ann"}


@pytest.mark.parametrize("compacted", [False, True])
async def test_an_older_change_is_never_sent_after_a_newer_one(worlds: Worlds, compacted: bool) -> None:
    """The predecessor may have sent ann's exit: her enter, far before it, must not go out any more."""
    world = worlds(batch_rows=2, max_pending_rows=2)
    for profile, change in (("ann", ENTER), ("bob", ENTER), ("cid", ENTER), ("dee", ENTER), ("ann", EXIT)):
        world.change(profile, change)
    if compacted:
        world.log.compact(0)
    theirs = await world.graph.create_audience("act_1", "Vips", "", "")
    world.ledger.states["vips"] = creating(world).model_copy(
        update={"creating": False, "facebook_id": theirs, "unconfirmed": (OffsetRange(first=0, end=5),)}
    )
    await world.start()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add") for who in people(call)]
    assert world.members() == {"bob", "cid", "dee"}


async def test_a_zombie_sends_nothing_once_another_worker_owns_its_destinations(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    world.ledger.fenced = True
    await world.pass_period()
    assert world.graph.calls_of("add") == []
    (failure,) = world.failures
    assert isinstance(failure, FatalError)
    world.failures.clear()


async def test_nothing_is_sent_while_the_group_has_not_been_heard_of(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    world.liveness.alive = False
    await world.clock.advance(300)
    assert world.graph.calls_of("add", "read") == []
    world.liveness.alive = True
    await world.clock.advance(1)
    assert world.members() == {"ann"}


async def test_an_unexpected_error_ends_the_process(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", RuntimeError("a bug"))
    await world.live("ann")
    await world.pass_period()
    assert [str(failure) for failure in world.failures] == ["a bug"]
    world.failures.clear()


async def test_revoke_lets_a_request_under_way_be_confirmed(worlds: Worlds) -> None:
    world = worlds()
    world.options = replace(world.options, revoke_grace_seconds=30.0)
    world.delivery = world.worker()
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    revoking = asyncio.ensure_future(world.delivery.revoke(0))
    await world.clock.settle()
    assert not revoking.done()
    assert hang.until is not None
    hang.until.set()
    await revoking
    assert world.ledger.states["vips"].cursor == 1
    assert world.delivery.destinations() == {}


async def test_revoke_abandons_a_request_that_hangs(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    assert world.view().pending == 1
    await world.delivery.revoke(0)
    assert world.graph.under_way == []
    assert world.ledger.states["vips"].unconfirmed == (OffsetRange(first=0, end=1),)
    assert world.counters.destinations["vips"].pending == 0


async def test_a_partition_that_is_assigned_again_starts_anew(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    await world.start()
    assert world.graph.under_way == []
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.delivery.idle()


async def test_quiet_destinations_write_their_progress_now_and_then(worlds: Worlds) -> None:
    world = worlds(audience("vips"), audience("busy"))
    await world.start()
    for number in range(50):
        await world.live(f"p{number}", key="busy")
    await world.clock.advance(2 * PERIOD)
    assert world.ledger.states["vips"].cursor == 50
    assert len([state for state in world.ledger.history if state.destination == "vips"]) < 6


# -- everything at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_and_whoever_dies_the_members_are_right_in_the_end(
    worlds: Worlds, seed: int
) -> None:
    """Random changes, refusals, lost answers and crashes against the plain truth: who is a member by the log."""
    dice = random.Random(seed)
    world = worlds(batch_rows=4, max_pending_rows=8)
    truth: dict[str, bool] = {}
    await world.start()
    faults: list[Callable[[], Mapping[str, Any]]] = [
        lambda: {"error": cut(), "applied": dice.random() < 0.5},
        lambda: {"error": refused(2)},
        lambda: {"error": refused(80003, 2446079)},
        lambda: {"error": refused(190)},
        lambda: {"until": asyncio.Event()},
    ]
    for _ in range(60):
        profile = f"p{dice.randrange(12)}"
        truth[profile] = not truth.get(profile, False)
        await world.live(profile, change=ENTER if truth[profile] else EXIT)
        if dice.random() < 0.3:
            world.graph.script(dice.choice(["add", "remove", "create", "list"]), **dice.choice(faults)())
        await world.clock.advance(dice.choice([0, 1, 10, 40, 200]))
        if dice.random() < 0.15:
            await world.restart()
    world.graph.scripts.clear()
    await world.restart()
    await world.clock.advance(3 * 3600)
    assert len(world.graph.audiences) == 1
    assert world.members() == {profile for profile, member in truth.items() if member}
    assert world.delivery.idle()
    assert world.letters.letters == {}
