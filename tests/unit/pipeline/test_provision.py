"""Where the audience of a destination comes from: created once, found, connected or made anew; no test here waits."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.delivery import AnswerKind, GraphRefusal, NotSentError, Refusal
from schemas.audience import AudienceDefinition, FacebookDestination
from schemas.control import DesiredRecord
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import (
    EXIT,
    PERIOD,
    TIMEOUT,
    World,
    Worlds,
    audience,
    creating,
    cut,
    people,
    refused,
)

# -- provisioning ----------------------------------------------------------------------------------------------


async def test_the_ledger_knows_before_an_audience_is_created(worlds: Worlds) -> None:
    world = worlds()
    hang = world.graph.script("create", until=asyncio.Event())
    await world.start()
    state = world.ledger.states["vips"]
    assert (state.creating, state.facebook_id, state.state) == (True, None, DestinationState.NEW)
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    state = world.ledger.states["vips"]
    assert (state.creating, state.facebook_id) == (False, *world.graph.audiences)


async def test_a_crash_after_the_note_and_before_the_create_call_gives_one_audience(worlds: Worlds) -> None:
    world = worlds()
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.clock.advance(TIMEOUT - 1)
    assert world.graph.calls_of("create") == []  # the predecessor's call may still arrive
    await world.clock.advance(1)
    assert len(world.graph.audiences) == 1


async def test_a_crash_after_the_create_call_and_before_its_answer_is_recorded_gives_one_audience(
    worlds: Worlds,
) -> None:
    world = worlds(audience("vips"), audience("vips_2"))
    world.graph.script("create", until=asyncio.Event())  # made, but nobody hears of it
    await world.start()
    assert len(world.graph.audiences) == 2
    await world.restart()
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.graph.audiences) == 2
    first = next(a for a in world.graph.audiences.values() if "test:vips]" in a.description)
    assert world.facebook_id() == first.id


async def test_a_predecessor_s_create_call_that_arrives_late_is_found(worlds: Worlds) -> None:
    world = worlds()
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.clock.advance(TIMEOUT / 2)
    late = await world.graph.create_audience("act_1", "Vips", "[audience-sync:test:vips]", "")
    await world.clock.advance(TIMEOUT)
    assert list(world.graph.audiences) == [late]
    assert world.facebook_id() == late


async def test_an_own_create_call_that_was_cut_and_arrives_late_is_found(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=False)
    await world.start()
    await world.clock.advance(TIMEOUT / 2)
    late = await world.graph.create_audience("act_1", "Vips", "[audience-sync:test:vips]", "")
    await world.clock.advance(TIMEOUT)
    assert list(world.graph.audiences) == [late]


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_answer_to_the_create_call_gives_one_audience(worlds: Worlds, applied: bool) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=applied)
    await world.start()
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.graph.audiences) == 1
    assert world.view().state is DestinationState.LIVE


async def test_a_lost_create_call_that_was_applied_is_found_without_waiting_out_the_timeout(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=True)
    await world.start()
    await world.clock.advance(5)
    assert world.facebook_id() in world.graph.audiences


async def test_a_create_call_that_was_never_sent_is_repeated_soon(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", NotSentError("no connection"), times=2)
    await world.start()
    await world.clock.advance(10)
    assert world.view().state is DestinationState.LIVE


async def test_a_gateway_s_answer_says_nothing_of_the_server_behind_it(worlds: Worlds) -> None:
    world = worlds()
    gateway = GraphRefusal(Refusal(AnswerKind.NO_JSON, 504))
    world.graph.script("create", gateway)
    await world.start()
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.graph.calls_of("create")) == 1
    await world.clock.advance(2)
    assert len(world.graph.calls_of("create")) == 2


async def test_a_restart_uses_the_audience_it_has(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.restart()
    await world.clock.advance(TIMEOUT)
    assert len(world.graph.calls_of("create")) == 1


async def test_a_definition_with_an_audience_id_is_connected_to_it(worlds: Worlds) -> None:
    world = worlds()
    theirs = await world.graph.create_audience("act_1", "theirs", "", "")
    world.graph.calls.clear()
    world.definitions = (audience("vips", audience_id=theirs),)
    world.delivery = world.worker()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    assert world.graph.calls_of("create") == []
    assert world.graph.members(theirs) == {"ann"}


async def test_another_audience_id_is_filled_from_the_beginning(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    theirs = await world.graph.create_audience("act_1", "theirs", "", "")
    world.definitions = (audience("vips", audience_id=theirs),)
    await world.restart()
    await world.pass_period()
    assert world.graph.members(theirs) == {"ann"}


async def test_an_ad_account_that_changes_there_and_back_finds_its_first_audience_again(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    first = world.facebook_id()
    world.definitions = (audience("vips", account="act_2"),)
    await world.restart()
    assert world.graph.audiences[world.facebook_id()].ad_account_id == "act_2"
    world.definitions = (audience("vips"),)
    await world.restart()
    assert world.facebook_id() == first


async def test_without_an_ad_account_the_destination_is_held_with_the_fix(worlds: Worlds) -> None:
    world = worlds(audience("vips", account=None))
    await world.start()
    view = world.view()
    assert view.state is DestinationState.HELD
    assert view.reason is not None
    assert "facebook.ad_account_id" in view.reason
    assert world.graph.calls == []


async def test_the_ad_account_of_the_options_is_used_and_completed(worlds: Worlds) -> None:
    world = worlds(audience("vips", account=None), ad_account_id="77")
    await world.start()
    assert world.graph.audiences[world.facebook_id()].ad_account_id == "act_77"


async def test_refused_creation_is_held_and_recovers_by_itself(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", refused(200, 1870090))
    await world.start()
    view = world.view()
    assert view.state is DestinationState.HELD
    assert "tos/?act=1" in (view.reason or "")
    await world.clock.advance(300)
    assert world.view().state is DestinationState.LIVE
    assert len(world.graph.audiences) == 1


# -- made anew -----------------------------------------------------------------------------------------------


def anew(world: World) -> dict[str, DesiredRecord]:
    at = world.clock.now_ms()
    return {"vips": DesiredRecord(target="vips", number=0, paused=False, recreate_at=at, written_at=at)}


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_audience_that_was_deleted_is_made_anew_on_demand_and_has_all_members(
    worlds: Worlds, restarted: bool
) -> None:
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    first = world.facebook_id()
    del world.graph.audiences[first]
    await world.live("ann", change=EXIT)
    await world.live("cat")
    await world.pass_period()
    assert world.view().state is DestinationState.GONE
    assert len(world.graph.audiences) == 0, "nobody has asked for another one"
    if restarted:
        await world.restart()
    wish = anew(world)
    world.delivery.desire(wish)
    await world.clock.settle()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id() != first
    assert list(world.graph.audiences) == [world.facebook_id()]
    assert world.members() == {"bob", "cat"}
    assert world.view().state is DestinationState.LIVE
    assert world.ledger.states["vips"].recreated_at == wish["vips"].recreate_at
    await world.restart()
    world.delivery.desire(wish)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.graph.calls_of("create")) == 2, "once for each wish"


async def test_one_that_was_only_out_of_sight_is_found_again_in_place_of_a_second_one(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    world.graph.script("add", refused(100, 33), times=1)
    await world.live("bob")
    await world.pass_period()
    assert world.view().state is DestinationState.GONE
    first = world.facebook_id()
    world.delivery.desire(anew(world))
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id() == first
    assert (world.members(), len(world.graph.audiences)) == ({"ann", "bob"}, 1)


async def test_nobody_gets_another_audience_while_there_is_one(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    first, calls = world.facebook_id(), len(world.graph.calls_of("add"))
    world.delivery.desire(anew(world))
    await world.clock.advance(PERIOD)
    assert (world.facebook_id(), len(world.graph.calls_of("add"))) == (first, calls)
    assert world.ledger.states["vips"].recreated_at > 0
    connected = worlds(audience("vips", audience_id="123"))
    await connected.start()
    assert connected.view().state is DestinationState.GONE
    connected.delivery.desire(anew(connected))
    await connected.clock.advance(PERIOD)
    assert connected.graph.audiences == {}


# -- one ad account and several of them ------------------------------------------------------------------------


def in_accounts(*accounts: str) -> AudienceDefinition:
    """The audience vips as definitions of one ad account, or of several, read it."""
    ids = [("vips" if len(accounts) == 1 else f"vips@{account}", account) for account in accounts]
    destinations = [FacebookDestination(id=id_, ad_account_id=account) for id_, account in ids]
    return audience("vips").model_copy(update={"destinations": destinations})


async def go_over_to(world: World, *accounts: str) -> None:
    world.definitions = (in_accounts(*accounts),)
    await world.delivery.update(world.definitions, world.ledger.states)
    await world.clock.settle()


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_ad_account_keeps_its_audience_as_others_come_and_go(
    worlds: Worlds, restarted: bool
) -> None:
    world = worlds(in_accounts("act_1"))
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    first = world.facebook_id()
    # Of the old id, and not sent before there are two.
    await world.live("ann", change=EXIT)
    await world.live("cat")
    await go_over_to(world, "act_1", "act_2")
    if restarted:
        await world.restart()
    await world.live("dan")
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id("vips@act_1") == first
    assert world.members("vips@act_1") == {"bob", "cat", "dan"}
    assert len(world.graph.calls_of("create")) == 2
    calls = [people(call) for call in world.graph.calls_of("add", "remove") if call.audience == first]
    assert calls == [["ann", "bob"], ["ann"], ["cat", "dan"]], "nothing that had arrived is sent again"
    second = world.facebook_id("vips@act_2")
    assert second != first

    await go_over_to(world, "act_2")
    if restarted:
        await world.restart()
    delta = world.change("eve")
    log_end = world.log.end(0)
    world.delivery.offer(0, [(log_end - 1, delta)], log_end)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id("vips") == second
    assert "eve" in world.members("vips")
    assert world.graph.members(first) == {"bob", "cat", "dan"}, "what is left out stays as it is"
    await go_over_to(world, "act_1", "act_2")
    await world.clock.advance(TIMEOUT + PERIOD)
    assert (world.facebook_id("vips@act_1"), world.facebook_id("vips@act_2")) == (first, second)
    assert len(world.graph.calls_of("create")) == 2


async def test_a_lost_create_call_of_one_account_is_found_as_one_of_several(worlds: Worlds) -> None:
    world = worlds(in_accounts("act_1"))
    world.graph.script("create", cut(), applied=True)
    await world.start()
    await go_over_to(world, "act_1", "act_2")
    await world.restart()
    await world.clock.advance(TIMEOUT * 2)
    accounts = sorted(one.ad_account_id for one in world.graph.audiences.values())
    assert accounts == ["act_1", "act_2"]
