"""Replacing everybody where that is refused, or cannot be: the members get there another way; no test here waits."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.delivery import UsageMeter
from app.domain.delivery_errors import Scope
from app.ports import UsersAnswer
from schemas.audience import DeliveryMode, FieldSource
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, PERIOD, audience, refused
from tests.unit.pipeline.replaced_world import HOUR, ReplacedWorlds, full


@pytest.mark.parametrize(
    "error", [refused(2650), refused(2650, 1_870_144), refused(100), refused(2650, 1_870_147)]
)
async def test_where_facebook_does_not_replace_people_are_sent_one_by_one(
    replaced_worlds: ReplacedWorlds, error: Exception
) -> None:
    world = replaced_worlds()
    await full(world, "a", "b", "gone")
    await world.live("gone", change=EXIT)
    await world.clock.advance(PERIOD)
    del world.graph.audiences[world.facebook_id()].members["a"]
    world.settle_in("gone")
    world.graph.script("replace", error)
    await world.want(replace=True)
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a", "b", "stranger", "another"}
    assert len(world.replacing) == 1
    assert world.ledger.states["vips"].replace is None


async def test_a_batch_that_is_refused_ends_the_session_for_us(replaced_worlds: ReplacedWorlds) -> None:
    """Facebook has an open session until its 90 minutes are over, and takes no changes before."""
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", refused(100))
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    assert world.view().reason is not None
    world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() == {"a", "b", "c"}


async def test_nobody_is_added_before_a_session_that_is_given_up_is_over(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", refused(100))
    await world.want(replace=True)
    before = len(world.graph.calls_of("add", "remove"))
    await world.clock.advance(HOUR)
    await world.restart()
    await world.clock.advance(HOUR / 4)
    assert len(world.graph.calls_of("add", "remove")) == before, "not even tried"
    world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert len(world.sessions) == 1, "no other session"
    assert world.members() == {"a", "b", "c"}


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_list_that_facebook_did_not_fully_update_is_sent_the_ordinary_way(
    replaced_worlds: ReplacedWorlds, batches: int
) -> None:
    world = replaced_worlds(batch_rows=3 // batches)
    await full(world, "a", "b", "c")
    for _ in range(batches - 1):
        world.graph.script("replace")
    world.graph.script("replace", refused(2650, 1870148), times=None)
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert len(world.replacing) == batches, "nothing more is sent into that session"
    if batches > 1:
        world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() >= {"a", "b", "c"}
    assert (world.view().state, world.ledger.states["vips"].replace) == (DestinationState.LIVE, None)


@pytest.mark.parametrize("status", [410, 411, 415, 421])
async def test_only_an_audience_in_order_is_replaced(replaced_worlds: ReplacedWorlds, status: int) -> None:
    world = replaced_worlds()
    await full(world, "a")
    world.graph.audiences[world.facebook_id()].status = status
    await world.want(replace=True)
    await world.clock.advance(2 * PERIOD)
    assert (world.replacing, world.members()) == ([], {"a", "stranger", "another"})


async def test_an_ad_account_rests_for_what_is_read_while_a_session_is_waited_for(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds()
    await full(world, "a")
    world.graph.audiences[world.facebook_id()].status = 414
    world.graph.usage = (UsageMeter(Scope.AD_ACCOUNT, 97, 3_000),)
    await world.want(replace=True)
    await world.clock.advance(1)
    reads = len(world.graph.calls_of("read"))
    await world.clock.advance(1_000)
    assert len(world.graph.calls_of("read")) == reads


async def test_somebody_elses_session_is_waited_out(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    found.status = 414
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    assert world.replacing == []
    found.status = 200
    refusal = world.graph.script("replace", refused(2650, 1_870_145), until=asyncio.Event())
    await world.clock.advance(20)
    assert (len(world.replacing), refusal.until is not None) == (1, True)
    found.status = 414  # they were quicker
    if refusal.until is not None:
        refusal.until.set()
    await world.clock.advance(HOUR)
    assert len(world.replacing) == 1, "that session is not ours"
    found.status = 200
    await world.clock.advance(2 * PERIOD)
    assert (len(world.sessions), world.members()) == (2, {"a"})


async def test_the_swap_is_waited_for(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    found.status = 414
    assert hang.until is not None
    hang.until.set()
    await world.live("b")
    await world.clock.advance(HOUR)
    assert (world.members(), world.ledger.states["vips"].replace is None) == ({"a"}, False)
    found.status = 200
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a", "b"}


async def test_a_replace_that_fails_at_the_end_is_sent_the_ordinary_way(
    replaced_worlds: ReplacedWorlds,
) -> None:
    world = replaced_worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    found.status, found.members = 415, {}
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a"}
    assert world.graph.calls_of("add")[-1].kind == "add"
    assert len(world.sessions) == 1


async def test_no_batch_is_sent_when_ninety_minutes_are_nearly_over(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    slow = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1.5 * HOUR - 120)
    assert slow.until is not None
    slow.until.set()
    await world.clock.advance(60)
    assert [number for number, _, _ in world.batches] == [1, 2]
    world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() == {"a", "b", "c"}, "the rest came the ordinary way"


async def test_rows_without_an_external_id_follow_the_session(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds(batch_rows=2)
    await full(world, "a", "b", "gone")
    for who, rows in (("mail", [{"EMAIL": "m"}]), ("two", [{"EXTERN_ID": "two"}, {"EMAIL": "t"}])):
        world.change(who, rows=rows)
    world.delivery.offer(0, [], world.log.end(0))
    await world.live("gone", change=EXIT)
    await world.restart()
    await world.clock.advance(2 * PERIOD)
    before = len(world.graph.calls_of("add", "remove"))
    await world.want(replace=True)
    await world.clock.advance(3 * PERIOD)
    assert world.batches == [(1, ["a", "b"], False), (2, ["two"], True)]
    assert world.members() == {"a", "b", "m", "two", "t"}
    since = world.graph.calls_of("add", "remove")[before:]
    assert {row.get("EMAIL") for call in since for row in call.rows} == {None, "m", "t"}
    assert not [row for call in since for row in call.rows if row.get("EXTERN_ID") in ("a", "b", "gone")]
    assert world.delivery.idle()


async def test_nobody_has_an_external_id(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await world.start()
    for who in ("m", "n"):
        world.change(who, rows=[{"EMAIL": who}])
    await world.restart()
    await world.pass_period()
    world.settle_in("stranger")
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert world.members() == {"m", "n"}
    assert len(world.replacing) == 1


async def test_an_empty_audience_cannot_be_replaced(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a")
    await world.live("a", change=EXIT)
    await world.clock.advance(PERIOD)
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert (world.replacing, world.members()) == ([], {"stranger", "another"})
    assert world.delivery.idle()


async def test_value_based_audiences_scoped_ids_and_dry_runs_are_never_replaced(
    replaced_worlds: ReplacedWorlds,
) -> None:
    fields = {"value": [FieldSource(path="$.traits.value")]}
    valued = audience("vips", value_based=True, fields=fields)
    scoped = audience("vips", fields={"page_id": [FieldSource(path="$.traits.page")]})
    for world in (
        replaced_worlds(valued),
        replaced_worlds(scoped),
        replaced_worlds(audience("vips", mode=DeliveryMode.DRY_RUN)),
    ):
        await world.start()
        await world.live("a")
        await world.clock.advance(PERIOD)
        await world.want(replace=True)
        await world.clock.advance(2 * PERIOD)
        assert world.replacing == []
        assert world.ledger.states["vips"].resynced_at == world.desired["vips"].resync_at


async def test_refused_rows_are_letters(replaced_worlds: ReplacedWorlds) -> None:
    world = replaced_worlds()
    await full(world, "a", "b")
    row = '["b","","","","","","","","","","","","","",""]'
    world.graph.answers = [UsersAnswer(2, 1, {row: "empty external ID"})]
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert [letter.profile for letter in world.letters.letters.values()] == ["b"]
