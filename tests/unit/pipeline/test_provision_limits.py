"""An audience is created once, also where the ad account is near its limit of calls between looking and creating."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from app.domain.delivery import UsageMeter
from app.domain.delivery_errors import Scope
from app.ports import Heed, ListedAudience
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import PERIOD, TIMEOUT, World, Worlds, audience, creating, cut

HOUR = 3_600.0


def busy(percent: float, wait: float = 0.0) -> tuple[UsageMeter, ...]:
    return (UsageMeter(Scope.AD_ACCOUNT, percent, wait, "1"),)


async def looked(worlds: Worlds) -> World:
    """Nothing was found, and the ad account rests: what follows is the create call."""
    world = worlds()
    world.graph.usage = busy(94.0)
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert (world.graph.calls_of("create"), len(world.graph.calls_of("list"))) == ([], 2)
    return world


async def somebody_creates(world: World) -> str:
    made = await world.graph.create_audience("act_1", "Vips", "[audience-sync:test:vips]", "")
    world.graph.calls.clear()
    return made


@pytest.mark.parametrize(("percent", "wait"), [(76.0, 0.0), (80.0, 0.0), (96.0, 0.0), (96.0, 6 * HOUR)])
async def test_whoever_has_looked_creates_when_the_limits_let_them(
    worlds: Worlds, percent: float, wait: float
) -> None:
    world = worlds()
    world.graph.usage = busy(percent, wait)
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.live("ann")
    await world.clock.advance(20 * HOUR if wait else HOUR)
    assert len(world.graph.calls_of("create")) == 1
    assert len(world.graph.calls_of("list")) == 2, "before and after an earlier call may have been under way"
    assert world.members() == {"ann"}


async def test_what_was_seen_before_the_own_call_is_forgotten(worlds: Worlds) -> None:
    world = await looked(worlds)
    world.graph.script("create", cut(), applied=True)
    await world.clock.advance(HOUR)
    assert len(world.graph.calls_of("create")) == 1
    assert list(world.graph.audiences) == [world.facebook_id()]


async def test_another_worker_looks_for_itself(worlds: Worlds) -> None:
    world = await looked(worlds)
    made = await somebody_creates(world)
    await world.restart()
    await world.clock.advance(HOUR)
    assert (list(world.graph.audiences), world.facebook_id()) == ([made], made)


async def test_whoever_was_suspended_while_another_may_have_created_looks_again(worlds: Worlds) -> None:
    world = await looked(worlds)
    made = await somebody_creates(world)
    # The monotonic clock stands meanwhile, and the wall does not.
    world.clock._start_ms += round(TIMEOUT * 1_000)
    await world.clock.advance(HOUR)
    assert (list(world.graph.audiences), world.facebook_id()) == ([made], made)
    assert world.graph.calls_of("create") == []


async def test_what_was_seen_does_not_hold_for_ever(worlds: Worlds) -> None:
    world = await looked(worlds)
    made = await somebody_creates(world)
    # The group is not heard of for long, and nobody takes over.
    world.liveness.alive = False
    await world.clock.advance(2 * PERIOD)
    world.clock._now += 12 * HOUR
    world.liveness.alive = True
    await world.clock.advance(HOUR)
    assert (list(world.graph.audiences), world.facebook_id()) == ([made], made)


async def test_only_a_look_that_begins_when_no_call_can_be_under_way_decides(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    world.ledger.states["vips"] = creating(world)
    listed = world.graph.list_audiences

    async def slow(ad_account_id: str, *, heed: Heed) -> AsyncGenerator[ListedAudience, None]:
        found = [one async for one in listed(ad_account_id, heed=heed)]
        if not world.graph.audiences:
            # The answer is of now, and arrives when the predecessor's call has arrived, too.
            world.clock._now += TIMEOUT
            await somebody_creates(world)
        for one in found:
            yield one

    monkeypatch.setattr(world.graph, "list_audiences", slow)
    await world.start()
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.graph.audiences) == 1
    assert world.view().state is DestinationState.LIVE


async def test_what_was_connected_a_moment_ago_waits_for_an_earlier_call_of_its_own(worlds: Worlds) -> None:
    world = worlds(audience("vips"))
    theirs = await world.graph.create_audience("act_1", "theirs", "", "")
    world.graph.script("create", cut(), applied=False)
    await world.start()
    for mapping in ({"audience_id": theirs}, {}):
        world.definitions = (audience("vips", **mapping),)
        await world.delivery.update(world.definitions, world.ledger.states)
        await world.clock.settle()
    late = await somebody_creates(world)
    await world.clock.advance(2 * TIMEOUT)
    assert (world.facebook_id(), set(world.graph.audiences)) == (late, {theirs, late})
