"""Destinations that are paused by people; with in-memory twins, no test here waits."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from app.domain.brake import BrakePolicy
from app.domain.pausing import NO_REASON
from schemas.audience import DeliveryMode, FacebookDestination
from schemas.sync import DestinationState, OffsetRange, SyncState
from tests.unit.pipeline.delivery_world import (
    ENTER,
    EXIT,
    PERIOD,
    TIMEOUT,
    audience,
    cut,
    people,
    refused,
)
from tests.unit.pipeline.paused_world import LIVE, PAUSED, PausedWorld, PausedWorlds, crowd

# -- by people -------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_while_paused_and_everything_when_resumed(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(audience("vips"), audience("others"))
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    await world.pause(reason="campaign over")
    assert (world.view().state, world.view().reason) == (PAUSED, "campaign over")
    assert (world.ledger.states["vips"].state, world.ledger.states["vips"].reason) == (
        PAUSED,
        "campaign over",
    )
    calls = len(world.graph.calls)
    await world.live("ann", change=EXIT)
    await world.live("cid", "dee")
    await world.live("dee", change=EXIT)
    await world.live("eve", key="others")
    await world.clock.advance(3_600)
    mine = [call for call in world.graph.calls[calls:] if call.audience == world.facebook_id()]
    assert mine == [], "not even its size is asked for"
    assert world.members("others") == {"eve"}
    assert world.view().pending == 0
    assert world.ledger.states["vips"].cursor == 2
    await world.resume()
    assert (world.view().state, world.view().reason) == (LIVE, None)
    assert world.ledger.states["vips"].reason is None, "also for those who look there"
    await world.live("fay")
    await world.pass_period()
    assert world.members() == {"bob", "cid", "fay"}
    assert world.delivery.idle()


@pytest.mark.parametrize("restarts", [False, True])
async def test_who_resumes_a_destination_excuses_what_was_refused_before(
    paused_worlds: PausedWorlds, restarts: bool
) -> None:
    world = paused_worlds(batch_rows=1)
    await world.start()
    world.graph.script("add", refused(100), times=None)
    await world.live(*[f"p{number}" for number in range(10)])
    assert (len(world.letters.letters), world.ledger.states["vips"].rejected_in_a_row) == (3, 3)
    await world.pause()
    await world.clock.advance(600)
    if restarts:
        world.desired["vips"] = world.desired["vips"].model_copy(update={"paused": False, "number": 2})
        await world.restart()
    else:
        await world.resume()
    await world.clock.advance(600)
    assert len(world.letters.letters) == 6, "three requests more, as from the beginning"
    assert world.ledger.states["vips"].rejected_in_a_row == 3


async def test_only_the_newest_change_of_each_is_sent_after_it(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.pause()
    for _ in range(5):
        await world.live("ann", change=ENTER)
        await world.live("ann", change=EXIT)
    await world.resume()
    await world.pass_period()
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")] == [
        ("remove", ["ann"])
    ]


async def test_what_waits_is_not_sent_when_it_is_paused(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.live("ann")
    await world.clock.advance(PERIOD - 1)
    await world.pause()
    await world.clock.advance(PERIOD)
    assert world.graph.calls_of("add") == []
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann"}


async def test_nothing_is_created_for_what_is_paused(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    world._want("vips", paused=True)
    await world.start()
    await world.clock.advance(3_600)
    assert (world.graph.calls, world.view().state, world.view().reason) == ([], PAUSED, NO_REASON)
    await world.resume()
    assert len(world.graph.audiences) == 1


async def test_a_request_under_way_is_the_last_one(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.live("ann")
    await world.live("bob", change=EXIT)
    hang = world.graph.script("remove", until=asyncio.Event())
    await world.pass_period()
    await world.pause()
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(PERIOD)
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["remove"]
    state = world.ledger.states["vips"]
    assert (state.state, state.cursor, state.unconfirmed) == (PAUSED, 0, (OffsetRange(first=0, end=2),))
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann"}


async def test_no_older_change_follows_one_that_went_out_before_the_pause(
    paused_worlds: PausedWorlds,
) -> None:
    """Ann's exit was sent, its batch not confirmed: her enter, far before it, must not go out afterwards."""
    world = paused_worlds(batch_rows=6, max_pending_rows=6)
    await world.start()
    await world.live("ann", "bob", "cid", "dee")
    await world.live("ann", change=EXIT)
    world.graph.script("add", cut())
    await world.pass_period()
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["remove", "add"]
    await world.pause()
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    sent = [who for call in world.graph.calls_of("add") for who in people(call)]
    assert "ann" not in sent
    assert world.members() == {"bob", "cid", "dee"}


async def test_a_new_owner_knows_before_it_sends_anything(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(batch_rows=1)
    await world.start()
    await world.live("ann")
    await world.pause(reason="r")
    world.change("bob")
    await world.restart()
    await world.clock.advance(3_600)
    assert world.members() == {"ann"}
    assert (world.view().state, world.view().reason) == (PAUSED, "r")
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == {"ann", "bob"}


async def test_who_thinks_again_while_it_is_written_is_heard_at_once(
    paused_worlds: PausedWorlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = paused_worlds()
    await world.start()
    written, record = asyncio.Event(), world.ledger.record

    async def slowly(state: SyncState) -> None:
        await written.wait()
        await record(state)

    monkeypatch.setattr(world.ledger, "record", slowly)
    await world.pause()
    await world.resume()
    written.set()
    await world.clock.settle()
    assert (world.view().state, world.ledger.states["vips"].state is PAUSED) == (LIVE, False)
    await world.clock.advance(200)  # its size has been asked for
    written.clear()
    await world.live("somebody", key="strangers")
    await world.clock.advance(2 * PERIOD)
    assert world.ledger.states["vips"].cursor == 0, "how far it has come is being written"
    await world.pause()
    written.set()
    await world.clock.settle()
    assert world.ledger.states["vips"].state is PAUSED


async def test_one_destination_of_an_audience_is_paused_alone(paused_worlds: PausedWorlds) -> None:
    two = audience("vips").model_copy(
        update={
            "destinations": (
                FacebookDestination(id="vips@act_1", ad_account_id="act_1"),
                FacebookDestination(id="vips@act_2", ad_account_id="act_2"),
            )
        }
    )
    world = paused_worlds(two)
    await world.start()
    await world.pause("vips@act_1")
    assert (world.view("vips@act_1").state, world.view("vips@act_2").state) == (PAUSED, LIVE)
    await world.pause("vips")
    assert world.view("vips@act_2").state is PAUSED
    await world.resume("vips@act_2")
    assert (world.view("vips@act_1").state, world.view("vips@act_2").state) == (PAUSED, LIVE)


async def test_a_dry_run_that_was_paused_still_has_sent_nothing(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(audience("vips", mode=DeliveryMode.DRY_RUN))
    await world.start()
    await world.live("ann")
    await world.pass_period()
    await world.pause()
    assert world.view().state is PAUSED
    world.definitions = (audience("vips"),)
    await world.restart()
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == {"ann"}


async def test_what_is_held_can_be_paused_and_is_tried_again_afterwards(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.live("ann")
    world.graph.script("add", refused(190))
    await world.pass_period()
    assert world.view().state is DestinationState.HELD
    await world.pause()
    assert world.view().state is PAUSED
    await world.resume()
    await world.clock.advance(400)
    assert world.members() == {"ann"}


# -- sent again ------------------------------------------------------------------------------------------------


def lose(world: PausedWorld) -> None:
    """Facebook's audience is not what was sent."""
    world.graph.audiences[world.facebook_id()].members.clear()
    world.graph.audiences[world.facebook_id()].members["stranger"] = {"EXTERN_ID": "stranger"}


async def test_a_resync_sends_every_member_again_and_removes_who_left(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(batch_rows=3, max_pending_rows=3)
    await world.start()
    await world.live(*crowd(10), "stranger")
    await world.live("p1", "p2", "stranger", change=EXIT)
    await world.clock.advance(2 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add", "remove"))
    await world.resync()
    await world.live("late")
    await world.clock.advance(5 * PERIOD)
    assert world.members() == set(crowd(10)) - {"p1", "p2"} | {"late"}
    added = [
        who
        for call in world.graph.calls_of("add", "remove")[sent:]
        if call.kind == "add"
        for who in people(call)
    ]
    assert sorted(added) == sorted(set(crowd(10)) - {"p1", "p2"} | {"late"}), "each once, nobody who has left"
    assert world.delivery.idle()
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.graph.calls_of("add", "remove")) > sent
    again = len(world.graph.calls_of("add", "remove"))
    await world.clock.advance(3_600)
    assert len(world.graph.calls_of("add", "remove")) == again, "once"


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_resync_that_is_cut_off_goes_on_in_order(
    paused_worlds: PausedWorlds, compacted: bool
) -> None:
    world = paused_worlds(batch_rows=2, max_pending_rows=2)
    await world.start()
    await world.live(*crowd(4), "ann", *crowd(4, first=4))
    await world.live("ann", change=EXIT)
    await world.clock.advance(5 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add"))
    if compacted:
        world.log.compact(0)
    world.graph.script("add")
    world.graph.script("add", until=asyncio.Event())
    await world.resync()
    await world.clock.advance(PERIOD)
    assert len(world.graph.calls_of("add")) - sent == 2, "one is confirmed, one under way"
    assert 0 < world.ledger.states["vips"].cursor < 10
    await world.restart()
    await world.clock.advance(TIMEOUT + 5 * PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add")[sent:] for who in people(call)]
    assert world.members() == {*crowd(8), "stranger"}
    assert world.ledger.states["vips"].cursor == 10


async def test_a_resync_of_what_is_paused_begins_when_it_is_resumed(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    lose(world)
    await world.pause()
    await world.resync()
    await world.clock.advance(3_600)
    assert (world.view().state, world.members()) == (PAUSED, {"stranger"})
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann", "stranger"}


async def test_a_resync_that_is_asked_for_while_one_goes_on_begins_anew(paused_worlds: PausedWorlds) -> None:
    world = paused_worlds(batch_rows=2, max_pending_rows=2)
    await world.start()
    await world.live("ann", *crowd(8))
    await world.live("ann", change=EXIT)
    await world.clock.advance(5 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add"))
    world.graph.script("add")
    hang = world.graph.script("add", until=asyncio.Event())
    await world.resync()
    await world.clock.advance(1)
    await world.resync()
    assert len(world.graph.calls_of("add")) - sent == 2
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(5 * PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add")[sent:] for who in people(call)]
    assert world.members() == {*crowd(8), "stranger"}


# -- all of it together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_paused_and_whoever_dies_the_members_are_right_in_the_end(
    paused_worlds: PausedWorlds, seed: int
) -> None:
    """Against the plain truth, who is a member by the log; and nothing goes out while it is paused."""
    dice = random.Random(seed)
    world = paused_worlds(batch_rows=4, max_pending_rows=8, brake=BrakePolicy(percent=20.0, members=3))
    truth: dict[str, bool] = {}
    await world.start()
    for _ in range(80):
        profile = f"p{dice.randrange(12)}"
        truth[profile] = not truth.get(profile, False)
        await world.happen(ENTER if truth[profile] else EXIT, profile)
        if dice.random() < 0.2:
            how: dict[str, Any] = dice.choice(
                [{"error": cut(), "applied": True}, {"error": cut()}, {"until": asyncio.Event()}]
            )
            world.graph.script(dice.choice(["add", "remove"]), **how)
        if dice.random() < 0.1:
            await world.resync()
        match dice.randrange(4):
            case 0:
                await world.pause()
            case 1:
                await world.resume()
            case 2:
                await world.resume(accept_shrink=True)
        paused = world.view().state is PAUSED and not world.graph.under_way
        sent = len(world.graph.calls)
        await world.clock.advance(dice.choice([0, 1, 10, 40, 200]))
        assert not paused or len(world.graph.calls) == sent
        if dice.random() < 0.15:
            await world.restart()
    world.graph.scripts.clear()
    await world.restart()
    await world.resume(accept_shrink=True)
    await world.clock.advance(3 * 3600)
    assert len(world.graph.audiences) == 1
    assert world.members() == {profile for profile, member in truth.items() if member}
    assert world.delivery.idle()
