"""What delivery does about trouble that is not one row's: circuit breakers, smaller requests, unknown errors, and what a
person has to mend. With in-memory twins and a clock that is moved by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from app.adapters.memory_graph import MemoryGraph
from app.domain.data_use import NOTHING_SAID, DataUse
from app.ports import UsersAnswer
from schemas.dead_letter import Reason
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import (
    World,
    Worlds,
    audience,
    cut,
    people,
    refused,
)

PROBE = 300
HELD, LIVE, GONE = DestinationState.HELD, DestinationState.LIVE, DestinationState.GONE


def tries(world: World, account: str) -> int:
    return len([call for call in world.graph.calls_of("add") if call.account == account])


# -- an ad account that has trouble ----------------------------------------------------------------------------


async def test_an_account_whose_calls_fail_is_left_alone_but_for_one_that_tries(worlds: Worlds) -> None:
    keys = [f"a{number}" for number in range(6)]
    world = worlds(*(audience(key) for key in keys), audience("b", account="act_2"))
    await world.start()
    outage = world.graph.script("add", cut(), account="act_1", times=None)
    for key in (*keys, "b"):
        await world.live("ann", key=key)
    await world.pass_period()
    await world.clock.advance(100)
    before = tries(world, "act_1")
    assert 9 <= before <= 12, "five in a row, those under way, and four that tried after seconds"
    assert [world.view(key).state for key in keys] == [HELD] * 6
    assert all("broke" in (world.view(key).reason or "") for key in keys)
    await world.clock.advance(10 * PROBE)
    assert 8 <= tries(world, "act_1") - before <= 11, "one in five minutes, whoever it is"
    assert world.members("b") == {"ann"}
    await world.live("bob", key="b")
    await world.pass_period()
    assert world.members("b") == {"ann", "bob"}
    outage.times = 0
    await world.clock.advance(2 * PROBE)
    assert all(world.members(key) == {"ann"} for key in keys)
    assert [world.view(key).state for key in keys] == [LIVE] * 6
    assert world.letters.letters == {}


async def test_who_waits_for_another_one_s_try_writes_nothing_meanwhile(worlds: Worlds) -> None:
    keys = ["a", "b", "c"]
    world = worlds(*(audience(key) for key in keys))
    await world.start()
    outage = world.graph.script("add", cut(), times=None)
    for key in keys:
        await world.live("ann", key=key)
    await world.pass_period()
    await world.clock.advance(100)
    outage.until = answered = asyncio.Event()
    await world.clock.advance(PROBE)
    assert [call.kind for call in world.graph.under_way] == ["add"], "one tries, and gets no answer for long"
    before = len(world.ledger.history)
    await world.clock.advance(60)
    # Who waits says where it stands now and then, not each second.
    assert len(world.ledger.history) - before <= 3 * len(keys)
    answered.set()
    await world.clock.settle()


async def test_an_account_is_not_left_alone_for_minutes_because_of_a_second(worlds: Worlds) -> None:
    keys = [f"a{number}" for number in range(8)]
    world = worlds(*(audience(key) for key in keys))
    await world.start()
    outage = world.graph.script("add", cut(), times=None)
    for key in keys:
        await world.live("ann", key=key)
    await world.pass_period()
    await world.clock.advance(1)
    assert all(world.view(key).reason for key in keys), "said of everybody"
    outage.times = 0
    await world.clock.advance(10)
    assert all(world.members(key) == {"ann"} for key in keys)
    assert [world.view(key).state for key in keys] == [LIVE] * 8


async def test_one_that_fails_alone_does_not_close_its_account_for_others(worlds: Worlds) -> None:
    world = worlds(audience("bad"), audience("good"))
    await world.start()
    world.graph.script("add", cut(), audience=world.facebook_id("bad"), times=None)
    await world.live("ann", key="bad")
    await world.pass_period()
    await world.clock.advance(PROBE)
    assert world.view("bad").state is HELD
    await world.live("ann", key="good")
    await world.pass_period()
    assert world.members("good") == {"ann"}


async def test_whoever_has_tried_and_failed_lets_others_go_first(worlds: Worlds) -> None:
    world = worlds(audience("bad"), audience("worse"), audience("good"))
    await world.start()
    for key in ("bad", "worse"):
        world.graph.script("add", cut(), audience=world.facebook_id(key), times=None)
        await world.live("ann", key=key)
    await world.pass_period()
    await world.clock.advance(100)
    await world.live("ann", key="good")
    await world.pass_period()
    assert world.members("good") == set(), "the two have closed the account"
    await world.clock.advance(3 * PROBE)
    assert world.members("good") == {"ann"}
    assert [world.view(key).state for key in ("bad", "worse", "good")] == [HELD, HELD, LIVE]


async def test_an_answered_call_ends_a_run_of_failures(worlds: Worlds) -> None:
    world = worlds(audience("a"), audience("b"), audience("c"))
    await world.start()
    for number in range(4):
        for key in ("a", "b"):
            world.graph.script("add", cut(), audience=world.facebook_id(key), times=2)
        for key in "cab":
            await world.live(f"p{number}", key=key)
        await world.pass_period()
        await world.clock.advance(20)
        members = {f"p{each}" for each in range(number + 1)}
        assert all(world.members(key) == members for key in "abc"), "four failures in a row are not five"


async def test_an_account_that_facebook_says_has_trouble_waits_as_a_whole(worlds: Worlds) -> None:
    world = worlds(audience("a"), audience("b"), audience("c", account="act_2"))
    await world.start()
    world.graph.script("add", refused(3910001))
    await world.live("ann", key="a")
    await world.pass_period()
    await world.live("ann", key="b")
    await world.live("ann", key="c")
    await world.pass_period()
    assert (world.members("b"), world.members("c")) == (set(), {"ann"})
    assert "3910001" in (world.view("b").reason or "")
    await world.clock.advance(900)
    assert (world.members("a"), world.members("b")) == ({"ann"}, {"ann"})


# -- what may be too much --------------------------------------------------------------------------------------


class SmallGraph(MemoryGraph):
    """Has no answer to more rows than `most`."""

    most = 2

    async def add_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer:
        if len(data) > self.most:
            self.script("add", refused(1, http_status=500))
        return await super().add_users(audience_id, schema, data, beside, use)


async def test_what_fails_again_and_again_goes_out_in_smaller_requests(worlds: Worlds) -> None:
    world = worlds()
    world.graph = SmallGraph()
    world.delivery = world.worker()
    await world.start()
    names = [f"p{number}" for number in range(9)]
    await world.live(*names)
    await world.pass_period()
    await world.clock.advance(100)
    assert {len(call.rows) for call in world.graph.calls_of("add")} == {9}
    assert world.view().state is HELD
    await world.clock.advance(3 * PROBE)
    assert world.members() == set(names)
    sizes = [len(call.rows) for call in world.graph.calls_of("add")]
    # Where one half is too much the other is tried; what is known to be too much then is halved at once.
    assert sizes == [9] * 5 + [4, 5] + [2, 2, 3, 2, 1, 2]
    taken = [people(call) for call in world.graph.calls_of("add") if len(call.rows) <= SmallGraph.most]
    assert sorted(name for each in taken for name in each) == names
    # Small ones are for what failed; the next batch goes out whole.
    SmallGraph.most = 100
    try:
        await world.live("q0", "q1", "q2")
        await world.pass_period()
    finally:
        SmallGraph.most = 2
    assert len(world.graph.calls_of("add")[-1].rows) == 3
    assert world.letters.letters == {}


# -- what nobody has described ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "counted", "state"),
    [
        (refused(424242, 7), "424242/7", LIVE),
        (refused(424242, is_transient=True), "424242/0", LIVE),
        (refused(424242, http_status=503), "424242/0", LIVE),
    ],
)
async def test_unknown_errors_are_counted(
    worlds: Worlds, error: Exception, counted: str, state: DestinationState
) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", error)
    await world.live("ann")
    await world.pass_period()
    await world.clock.advance(10)
    assert world.counters.unknown_errors == {counted: 1}
    assert world.view().state is state


async def test_known_errors_are_not_counted(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    for error in (refused(2), refused(100), cut()):
        world.graph.script("add", error)
        await world.live("ann")
        await world.pass_period()
    await world.clock.advance(100)
    assert world.counters.unknown_errors == {}


async def test_unknown_errors_take_bounded_memory() -> None:
    world = World()
    first = [world.counters.count_unknown_error(f"{code}/0") for code in range(300)]
    assert first == [True] * 101 + [False] * 199
    assert len(world.counters.unknown_errors) == 101
    assert world.counters.unknown_errors["other"] == 200


# -- what a person has to mend ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [refused(2650), refused(2650, 1870144), refused(2654)])
async def test_what_is_wrong_with_the_audience_is_no_row_s_fault(worlds: Worlds, error: Exception) -> None:
    world = worlds()
    await world.start()
    wrong = world.graph.script("add", error, times=None)
    names = ["ann", "bob", "cid"]
    await world.live(*names)
    await world.pass_period()
    view = world.view()
    assert (view.state, view.pending, world.letters.letters) == (HELD, 3, {})
    assert " | " in (view.reason or ""), "what to do"
    calls = len(world.graph.calls_of("add"))
    await world.clock.advance(3 * PROBE)
    assert len(world.graph.calls_of("add")) - calls == 3, "the whole, once in five minutes"
    wrong.times = 0
    await world.clock.advance(PROBE)
    assert world.members() == set(names)
    assert world.view().state is LIVE


async def test_rows_that_an_audience_does_not_take_are_found_all_the_same(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", refused(2650), times=None, person="bob")
    await world.live("ann", "bob", "cid")
    await world.pass_period()
    assert world.members() == {"ann", "cid"}
    [letter] = world.letters.letters.values()
    assert (letter.profile, letter.reason) == ("bob", Reason.REJECTED_ROW)


@pytest.mark.parametrize(
    ("listing", "state", "says"),
    [
        (None, GONE, "was deleted"),
        (refused(100, 33), HELD, "assign ad account 1"),
        (refused(200), HELD, "assign ad account 1"),
        (cut(), GONE, "was deleted"),
        (refused(2), GONE, "was deleted"),
    ],
    ids=["readable", "not there either", "no permission", "no answer", "some trouble"],
)
async def test_the_ad_account_tells_a_deleted_audience_from_a_lost_right(
    worlds: Worlds, listing: Exception | None, state: DestinationState, says: str
) -> None:
    world = worlds()
    await world.start()
    gone = world.graph.script("add", refused(100, 33), times=None)
    lists = world.graph.script("list", listing, times=None)
    await world.live("ann")
    await world.pass_period()
    assert world.view().state is state
    assert says in (world.view().reason or "")
    assert (world.view().pending, world.letters.letters) == (1, {})
    gone.times = lists.times = 0
    await world.clock.advance(3600)
    assert world.members() == {"ann"}
