"""What was said and done of one Facebook audience is none of the next: connected, taken back, added, or after a dry run."""

from __future__ import annotations

import pytest

from app.adapters.memory_graph import MemoryAudience
from app.domain.delivery import UsageMeter
from app.domain.delivery_errors import Scope
from schemas.audience import AudienceDefinition, DeliveryMode, FacebookDestination
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, PERIOD, TIMEOUT, audience, people
from tests.unit.pipeline.replaced_world import HOUR, ReplacedWorld, ReplacedWorlds, full

THEIRS = "777"


def make_theirs(world: ReplacedWorld, account: str = "act_1", *members: str) -> None:
    there = {who: {"EXTERN_ID": who} for who in members}
    world.graph.audiences[THEIRS] = MemoryAudience(THEIRS, account, "Theirs", "", members=there)


async def define(world: ReplacedWorld, *definitions: AudienceDefinition, restarted: bool = False) -> None:
    world.definitions = definitions
    if restarted:
        await world.restart()
    else:
        await world.delivery.update(definitions, world.ledger.states)
    await world.clock.advance(2 * TIMEOUT + 10 * PERIOD)


async def replaced_with_rows_left_out(world: ReplacedWorld) -> None:
    await full(world, "u1", "u2", "u3")
    anonymous = world.change("anonymous", rows=[{"EMAIL": "e" * 64}])
    end = world.log.end(0)
    world.delivery.offer(0, [(end - 1, anonymous)], end)
    await world.clock.advance(3 * PERIOD)
    await world.want(replace=True)
    await world.clock.advance(10 * PERIOD)
    state = world.ledger.states["vips"]
    assert (state.resync_left_out, state.replace, world.view().state) == (True, None, DestinationState.LIVE)
    assert world.members() == {"u1", "u2", "u3", "e" * 64}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("elsewhere", ["audience", "account", "partition"])
async def test_after_a_replace_with_rows_left_out_the_next_audience_has_all_members(
    replaced_worlds: ReplacedWorlds, elsewhere: str, restarted: bool
) -> None:
    world = replaced_worlds()
    await replaced_with_rows_left_out(world)
    make_theirs(world)
    if elsewhere == "partition":
        state = world.ledger.states["vips"]
        world.ledger.states["vips"] = state.model_copy(update={"cursor": 5_000})
        world.graph.audiences[world.facebook_id()].members.clear()
        await world.restart()
        await world.clock.advance(10 * PERIOD)
    elif elsewhere == "audience":
        await define(world, audience("vips", audience_id=THEIRS), restarted=restarted)
        assert world.facebook_id() == THEIRS
    else:
        await define(world, audience("vips", "act_2"), restarted=restarted)
        assert world.graph.audiences[world.facebook_id()].ad_account_id == "act_2"
    assert world.members() == {"u1", "u2", "u3", "e" * 64}


@pytest.mark.parametrize("paused", [False, True])
async def test_an_old_wish_to_replace_everybody_is_none_of_a_destination_that_is_added(
    replaced_worlds: ReplacedWorlds, paused: bool
) -> None:
    world = replaced_worlds()
    await full(world, "u1", "u2")
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    if paused:
        await world.want(paused=True)
    make_theirs(world, "act_2", "partner")
    ids = {"vips@act_1": None, "vips@act_2": THEIRS}
    destinations = [
        FacebookDestination(id=id_, ad_account_id=id_[-5:], audience_id=theirs) for id_, theirs in ids.items()
    ]
    await define(world, audience("vips").model_copy(update={"destinations": destinations}))
    for number, who in enumerate(("u1", "u2")):
        rows: dict[str, list[dict[str, str | float]]] = {id_: [{"EXTERN_ID": who}] for id_ in ids}
        delta = MembershipDelta("vips", who, Change.UPDATED, 100 + number, rows, 0, 0, Cause.DEFINITION)
        world.log.append(0, delta)
        world.delivery.offer(0, [(world.log.end(0) - 1, delta)], world.log.end(0))
    await world.clock.advance(10 * PERIOD)
    if paused:
        await world.want(paused=False)
        await world.clock.advance(10 * PERIOD)
    assert world.graph.members(THEIRS) == {"partner", "u1", "u2"}
    assert {call.audience for call in world.replacing} == {world.facebook_id("vips@act_1")}
    # Of a wish from now on it is.
    await world.want(replace=True)
    await world.clock.advance(10 * PERIOD)
    assert world.graph.members(THEIRS) == {"u1", "u2"}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("own", [True, False])
async def test_a_definition_without_the_audience_id_takes_a_connected_audience_back(
    replaced_worlds: ReplacedWorlds, own: bool, restarted: bool
) -> None:
    world = replaced_worlds(audience("vips") if own else audience("vips", audience_id=THEIRS))
    make_theirs(world, "act_1", "partner")
    await world.start()
    await world.live("u1", "u2")
    await world.clock.advance(3 * PERIOD)
    first = world.facebook_id()
    if own:
        await define(world, audience("vips", audience_id=THEIRS), restarted=restarted)
    assert (world.facebook_id(), world.members()) == (THEIRS, {"partner", "u1", "u2"})
    await world.live("u2", change=EXIT)
    await world.live("u3")
    await world.clock.advance(3 * PERIOD)
    await define(world, audience("vips"), restarted=restarted)
    assert world.facebook_id() != THEIRS
    assert len(world.graph.audiences) == 2, "the first one is found, and one at most is created"
    if own:
        assert world.facebook_id() == first
    assert world.members() == {"u1", "u3"}
    assert world.graph.members(THEIRS) == {"partner", "u1", "u3"}, "left as it is"
    # Named by its own id it stays, and is sent nothing once more.
    calls = len(world.graph.calls_of("add", "remove", "create", "list"))
    await define(world, audience("vips", audience_id=world.facebook_id()), restarted=restarted)
    await define(world, audience("vips"), restarted=restarted)
    assert len(world.graph.calls_of("add", "remove", "create", "list")) == calls


async def test_nobody_who_had_left_is_added_for_a_moment_behind_a_dry_run(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds(batch_rows=2)
    await world.start()
    members = [f"m{number}" for number in range(12)]  # more than wait at a time
    await world.live("a", "b", *members)
    await world.clock.advance(10 * PERIOD)
    await world.live("a", change=EXIT)
    await world.clock.advance(3 * PERIOD)
    await define(world, audience("vips", mode=DeliveryMode.DRY_RUN))
    await world.live("e")
    await world.live("b", change=EXIT)
    await world.clock.advance(3 * PERIOD)
    world.graph.calls.clear()
    await define(world, audience("vips"))
    added = [who for call in world.graph.calls_of("add") for who in people(call)]
    assert sorted(added) == sorted([*members, "e"])
    assert world.members() == {*members, "e"}


async def test_what_a_dry_run_had_left_out_is_sent_behind_it(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await replaced_with_rows_left_out(world)
    await define(world, audience("vips", mode=DeliveryMode.DRY_RUN))
    await world.live("u4")
    await world.live("u1", change=EXIT)
    await world.clock.advance(3 * PERIOD)
    await define(world, audience("vips"))
    assert world.members() == {"u2", "u3", "u4", "e" * 64}


async def test_who_waits_for_a_session_to_end_heeds_the_limits(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    found.status = 414  # somebody else's session
    world.graph.usage = (UsageMeter(Scope.AD_ACCOUNT, 96.0, HOUR, "1"),)
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    world.graph.calls.clear()
    await world.clock.advance(3 * HOUR)
    assert 2 <= len(world.graph.calls_of("read")) <= 3, "once an hour"
    found.status, world.graph.usage = 200, ()
    await world.clock.advance(2 * HOUR)
    assert world.members() == {"a"}
