"""Facebook's limits, and destinations that leave each other in peace; no test here waits."""

from __future__ import annotations

import asyncio

import pytest

from app.adapters.memory_graph import MemoryAudience
from app.domain.delivery import UsageMeter
from app.domain.delivery_errors import Scope
from app.ports import UsersAnswer
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, TIMEOUT, Worlds, audience, creating, cut, people, refused

LIMIT = UsageMeter(Scope.AD_ACCOUNT, 120, 600)


async def test_a_throttled_ad_account_waits_as_a_whole_and_no_other_does(worlds: Worlds) -> None:
    world = worlds(audience("a1"), audience("a2"), audience("b", account="act_2"))
    await world.start()
    world.graph.script("add", refused(80003, 2446079, usage=(LIMIT,)), account="act_1")
    await world.live("ann", key="a1")
    await world.pass_period()
    await world.live("bob", key="a2")
    await world.live("cid", key="b")
    await world.pass_period()
    assert world.members("b") == {"cid"}
    assert (world.members("a1"), world.members("a2")) == (set(), set())
    assert [world.view(key).state for key in ("a1", "a2")] == [DestinationState.HELD] * 2
    assert all("80003" in (world.view(key).reason or "") for key in ("a1", "a2"))
    await world.clock.advance(600)
    assert (world.members("a1"), world.members("a2")) == ({"ann"}, {"bob"})
    assert [world.view(key).state for key in ("a1", "a2")] == [DestinationState.LIVE] * 2


async def test_a_limit_of_the_app_stops_everybody(worlds: Worlds) -> None:
    world = worlds(audience("a"), audience("b", account="act_2"))
    await world.start()
    world.graph.script("add", refused(4))
    await world.live("ann", key="a")
    await world.pass_period()
    await world.live("bob", key="b")
    await world.pass_period()
    assert world.members("b") == set()
    await world.clock.advance(300)
    assert (world.members("a"), world.members("b")) == ({"ann"}, {"bob"})


async def test_after_a_limit_one_tries_first(worlds: Worlds) -> None:
    world = worlds(*(audience(f"a{number}") for number in range(4)))
    await world.start()
    world.graph.script("add", refused(80003, 2446079, usage=(LIMIT,)))
    await world.live("ann", key="a0")
    await world.pass_period()
    for number in range(1, 4):
        await world.live("ann", key=f"a{number}")
    probe = world.graph.script("add", until=asyncio.Event())
    calls = len(world.graph.calls_of("add"))
    await world.clock.advance(700)
    assert len(world.graph.calls_of("add")) == calls + 1
    assert probe.until is not None
    probe.until.set()
    await world.clock.advance(5)
    assert all(world.members(f"a{number}") == {"ann"} for number in range(4))


async def test_whoever_tries_after_a_limit_and_gets_no_answer_does_not_block_the_others(
    worlds: Worlds,
) -> None:
    world = worlds(audience("a"), audience("b"))
    await world.start()
    world.graph.script("add", refused(80003, 2446079, usage=(LIMIT,)))
    await world.live("ann", key="a")
    await world.pass_period()
    await world.live("ann", key="b")
    world.graph.script("add", cut(), times=None, audience=world.facebook_id("a"))
    await world.clock.advance(700)
    assert world.members("b") == {"ann"}


async def test_waits_double_only_while_a_limit_is_hit_again_and_again(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    world.graph.script("add", refused(4), times=2)
    await world.live("ann")
    await world.clock.advance(300 + 600 - 1)
    assert world.members() == set()
    await world.clock.advance(1)
    assert world.members() == {"ann"}
    world.graph.script("add", refused(4))
    await world.live("bob")
    await world.clock.advance(300)
    assert world.members() == {"ann", "bob"}


async def test_a_batch_that_waits_for_a_limit_keeps_filling(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", refused(80003, 2446079, usage=(LIMIT,)))
    await world.live("ann")
    await world.pass_period()
    await world.live("bob")
    await world.live("ann", change=EXIT)
    await world.clock.advance(600)
    assert [(c.kind, people(c)) for c in world.graph.calls_of("add", "remove")[1:]] == [
        ("remove", ["ann"]),
        ("add", ["bob"]),
    ]


async def test_near_its_limit_an_ad_account_rests(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    nearly = UsersAnswer(1, 0, {}, usage=(UsageMeter(Scope.AD_ACCOUNT, 97, 100),))
    world.graph.answers.append(nearly)
    await world.live("ann", "bob")
    assert len(world.graph.calls_of("add")) == 1
    view = world.view()
    assert (view.state, view.reason) == (DestinationState.HELD, "act_1 is near its limit of calls")
    await world.clock.advance(100)
    assert world.members() == {"ann", "bob"}


@pytest.mark.parametrize(("scope", "waits"), [(Scope.APP, True), (Scope.AD_ACCOUNT, False)])
async def test_near_the_limit_of_the_app_every_ad_account_rests(
    worlds: Worlds, scope: Scope, waits: bool
) -> None:
    world = worlds(audience("one", account="act_1"), audience("two", account="act_2"), batch_rows=1)
    await world.start()
    world.graph.answers.append(UsersAnswer(1, 0, {}, usage=(UsageMeter(scope, 97, 100),)))
    await world.live("ann", key="one")
    await world.live("bob", key="two")
    assert world.members("two") == (set() if waits else {"bob"})
    await world.clock.advance(1_000)
    assert world.members("two") == {"bob"}


@pytest.mark.parametrize("kind", ["create", "list", "read"])
async def test_an_ad_account_rests_whatever_call_says_that_it_is_near_its_limit(
    worlds: Worlds, kind: str
) -> None:
    keys = ("a1", "a2")
    world = worlds(*(audience(key, audience_id="77" if kind == "read" else None) for key in keys))
    world.graph.audiences["77"] = MemoryAudience("77", "act_1", "theirs", "")
    if kind == "list":
        for key in keys:
            note = {"destination": key, "audience": key, "marker": f"[audience-sync:test:{key}]"}
            world.ledger.states[key] = creating(world).model_copy(update=note)
    world.graph.usage = (UsageMeter(Scope.AD_ACCOUNT, 97, 100),)
    await world.start()
    assert len(world.graph.calls_of(kind)) == 1
    world.graph.usage = ()
    await world.clock.advance(100 + TIMEOUT)
    assert len(world.graph.calls_of(kind)) > 1


async def test_a_destination_that_is_refused_does_not_delay_its_neighbour(worlds: Worlds) -> None:
    world = worlds(audience("bad"), audience("good"))
    await world.start()
    world.graph.script("add", refused(190), audience=world.facebook_id("bad"), times=None)
    await world.live("ann", key="bad")
    await world.live("ann", key="good")
    await world.pass_period()
    assert world.members("good") == {"ann"}
    assert [world.view(key).state for key in ("bad", "good")] == [
        DestinationState.HELD,
        DestinationState.LIVE,
    ]


async def test_calls_of_one_ad_account_that_hang_leave_room_for_others(worlds: Worlds) -> None:
    world = worlds(*(audience(f"a{number}") for number in range(6)), audience("b", account="act_2"))
    await world.start()
    world.graph.script("add", account="act_1", until=asyncio.Event(), times=None)
    for number in range(6):
        await world.live("ann", key=f"a{number}")
    await world.live("ann", key="b")
    await world.pass_period()
    assert len(world.graph.under_way) == 2
    assert world.members("b") == {"ann"}


async def test_no_more_requests_are_under_way_than_allowed(worlds: Worlds) -> None:
    definitions = [audience(f"a{number}", account=f"act_{number}") for number in range(8)]
    world = worlds(*definitions, in_flight=3)
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event(), times=None)
    for number in range(8):
        await world.live("ann", key=f"a{number}")
    await world.pass_period()
    assert len(world.graph.under_way) == 3
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    await world.clock.advance(1)
    assert all(world.members(f"a{number}") == {"ann"} for number in range(8))
