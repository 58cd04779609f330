"""What becomes of a batch while limits are near, and while Facebook has no answer to a row or to anything. With in-memory
twins and a clock that is moved by hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from app.domain.bisection import STRIKES
from app.domain.delivery import AnswerKind, GraphRefusal, NotSentError, Refusal, UsageMeter
from app.domain.delivery_errors import Scope
from schemas.dead_letter import Reason
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import ENTER, EXIT, Worlds, cut, people, refused
from tests.unit.pipeline.replaced_world import ReplacedWorld
from tests.unit.pipeline.told_graph import HOUR, is_at_the_end, offered, told

HELD, LIVE = DestinationState.HELD, DestinationState.LIVE
NO_JSON = GraphRefusal(Refusal(AnswerKind.NO_JSON, 502))
BROKEN = [
    refused(1, http_status=500),
    refused(1),
    refused(5000),
    refused(424242, http_status=503),
    NO_JSON,
    cut(),
]
BROKEN_IDS = ["1, 500", "1", "5000", "unknown, 503", "no JSON", "cut"]


# -- while a limit is near -------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [76.0, 78.0, 85.0, 94.9, 97.0])
async def test_a_batch_of_several_requests_comes_to_its_end_near_a_limit(
    worlds: Worlds, percent: float
) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    graph.percent = lambda: percent
    graph.taken.clear()
    email = "e" * 64
    offered(
        world, world.change("ann", EXIT), world.change("cid"), world.change("dan", rows=[{"EMAIL": email}])
    )
    await world.clock.advance(HOUR)
    assert graph.rows_taken() == {("remove", "ann"): 1, ("add", "cid"): 1, ("add", email): 1}
    assert is_at_the_end(world)


@pytest.mark.parametrize("percent", [78.0, 97.0])
async def test_rows_that_are_refused_are_found_near_a_limit(worlds: Worlds, percent: float) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    graph.percent = lambda: percent
    near = UsageMeter(Scope.AD_ACCOUNT, percent, 0.0, "1")
    graph.poison = {"p5": refused(100, usage=(near,))}
    await world.live(*[f"p{number}" for number in range(8)])
    await world.clock.advance(HOUR)
    assert graph.rows_taken() == {("add", f"p{number}"): 1 for number in range(8) if number != 5}
    assert [letter.profile for letter in world.letters.letters.values()] == ["p5"]
    assert is_at_the_end(world)


async def test_what_changes_again_while_a_batch_rests_is_left_out_of_it(worlds: Worlds) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    graph.percent = lambda: 97.0
    offered(world, world.change("ann", EXIT), world.change("cid"), world.change("dan"))
    await world.pass_period()
    assert (world.members(), world.view().state) == ({"bob"}, HELD)
    await world.live("cid", change=EXIT)
    await world.live("ann")
    await world.clock.advance(HOUR)
    assert world.members() == {"ann", "bob", "dan"}
    assert graph.rows_taken()["add", "cid"] == 0, "nobody who left is added for a moment"
    assert is_at_the_end(world)


async def test_a_batch_that_rests_is_given_up_for_a_pause_and_for_another_worker(
    replaced_worlds: Callable[..., ReplacedWorld],
) -> None:
    for interrupts in ("pause", "restart"):
        world = replaced_worlds()
        graph = told(world)
        await world.start()
        await world.live("ann", "bob")
        await world.pass_period()
        graph.percent = lambda: 90.0
        offered(world, world.change("ann", EXIT), world.change("cid"))
        await world.pass_period()
        assert world.members() == {"bob"}
        if interrupts == "pause":
            await world.want(paused=True)
            await world.clock.advance(HOUR)
            assert world.members() == {"bob"}
            await world.want(paused=False)
        else:
            await world.restart()
        await world.clock.advance(HOUR)
        assert world.members() == {"bob", "cid"}
        assert is_at_the_end(world)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_used_up_every_change_is_taken_once_and_the_cursor_comes_to_the_end(
    worlds: Worlds, seed: int
) -> None:
    dice = random.Random(seed)
    world = worlds(batch_rows=6)
    graph = told(world)
    await world.start()
    graph.percent = lambda: dice.choice([10.0, 76.0, 78.0, 90.0, 97.0])
    newest: dict[str, Any] = {}
    for _ in range(60):
        profile = f"p{dice.randrange(25)}"
        change = dice.choice([ENTER, ENTER, EXIT])
        key = "EXTERN_ID" if int(profile[1:]) % 3 else "EMAIL"
        offered(world, world.change(profile, change, rows=[{key: profile}]))
        newest[profile] = change
        await world.clock.advance(dice.choice([0, 0, 5, 40]))
    await world.clock.advance(6 * HOUR)
    assert world.members() == {profile for profile, change in newest.items() if change is ENTER}
    assert sum(graph.rows_taken().values()) <= 60
    assert is_at_the_end(world)
    assert world.letters.letters == {}


# -- a row to which Facebook has no answer -----------------------------------------------------------------------


@pytest.mark.parametrize("error", BROKEN, ids=BROKEN_IDS)
@pytest.mark.parametrize("place", [0, 5, 7])
async def test_a_row_that_always_fails_is_found_and_all_others_arrive(
    worlds: Worlds, error: Exception, place: int
) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    graph.poison = {f"p{place}": error}
    names = [f"p{number}" for number in range(8)]
    await world.live(*names)
    await world.clock.advance(3 * HOUR)
    (letter,) = world.letters.letters.values()
    assert (letter.profile, letter.reason, letter.attempts) == (f"p{place}", Reason.REJECTED_ROW, STRIKES)
    assert str(error) in letter.detail
    assert letter.record == {"change": "entered", "row": {"EXTERN_ID": f"p{place}"}}
    assert letter.facebook is not None
    told_of = letter.facebook.model_dump()
    if isinstance(error, GraphRefusal):
        refusal = error.refusal
        assert told_of == {
            "code": refusal.code,
            "subcode": refusal.subcode,
            "message": refusal.message,
            "trace": refusal.trace,
        }
    else:
        assert told_of == {"code": None, "subcode": None, "message": str(error), "trace": None}
    others = {("add", name) for name in names if name != f"p{place}"}
    taken = graph.rows_taken()
    assert taken.keys() == others
    again = [count for count in taken.values() if count > 1]
    assert sum(again) - len(again) <= STRIKES - 1, "the control, between two tries of the row alone"
    assert (world.view().sent, world.view().rejected) == (7, 1)
    assert is_at_the_end(world)
    await world.live("later")
    await world.pass_period()
    assert "later" in world.members()


@pytest.mark.parametrize("seed", range(8))
async def test_whichever_rows_fail_all_others_arrive_in_order_and_the_cursor_comes_to_the_end(
    worlds: Worlds, seed: int
) -> None:
    dice = random.Random(seed)
    world = worlds(batch_rows=16, max_pending_rows=200)
    graph = told(world)
    await world.start()
    names = [f"p{number}" for number in range(40)]
    graph.percent = lambda: dice.choice([10.0, 10.0, 80.0, 96.0])
    graph.poison = {name: dice.choice([*BROKEN, refused(100)]) for name in dice.sample(names, 4)}
    graph.fails = lambda _: dice.choice(BROKEN) if dice.random() < 0.1 else None
    left: set[str] = set()
    for name in names:
        await world.live(name)
        if dice.random() < 0.2:
            await world.live(name, change=EXIT)
            left.add(name)
        await world.clock.advance(dice.choice([0, 0, 10]))
    # Whoever comes now has no part in what the rows of before fail for.
    for number in range(12):
        await world.live(f"q{number}")
        await world.clock.advance(HOUR)
        if number % 3 == 2:
            await world.live(f"q{number}", change=EXIT)
            left.add(f"q{number}")
    await world.clock.advance(2 * HOUR)
    everybody = {*names, *(f"q{number}" for number in range(12))}
    assert world.members() == everybody - left - graph.poison.keys()
    lettered = {letter.profile for letter in world.letters.letters.values()}
    assert lettered <= graph.poison.keys(), "a failure now and then is no reason"
    assert graph.poison.keys() - left <= lettered
    if all((letter.record or {})["change"] == "entered" for letter in world.letters.letters.values()):
        # Else additions went ahead of a removal that was held up, and once more behind it.
        again = sum(count - 1 for count in graph.rows_taken().values())
        assert again <= (STRIKES - 1) * len(graph.poison), "controls alone"
    assert is_at_the_end(world)


async def test_a_removal_that_fails_alone_holds_up_no_additions(worlds: Worlds) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    graph.fails = lambda call: BROKEN[0] if call.kind == "remove" and people(call) == ["ann"] else None
    graph.taken.clear()
    offered(world, world.change("ann", EXIT), world.change("cid"))
    await world.clock.advance(HOUR)
    await world.live("dan")
    await world.clock.advance(6 * HOUR)
    assert world.members() == {"ann", "bob", "cid", "dan"}
    assert graph.rows_taken() == {("add", "cid"): 1, ("add", "dan"): 1}
    assert (world.view().state, world.letters.letters) == (HELD, {})
    await world.live("bob", change=EXIT)
    await world.clock.advance(HOUR)
    assert world.members() == {"cid", "dan"} | ({"ann"} if world.letters.letters else set())
    assert is_at_the_end(world)


async def test_a_row_that_fails_alone_waits_for_others_and_is_told_from_them(worlds: Worlds) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    await world.live("ann")
    await world.pass_period()
    graph.poison = {"bad": BROKEN[0]}
    graph.taken.clear()
    offered(world, world.change("ann", EXIT), world.change("bad"))
    await world.clock.advance(6 * HOUR)
    assert (world.view().state, world.letters.letters) == (HELD, {}), "it may be anything"
    assert graph.rows_taken() == {("remove", "ann"): 1}, "once, however often the addition fails"
    await world.live("bob")
    await world.clock.advance(HOUR)
    assert world.members() == {"bob"}
    assert [letter.profile for letter in world.letters.letters.values()] == ["bad"]
    assert is_at_the_end(world)


# -- an outage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", BROKEN, ids=BROKEN_IDS)
@pytest.mark.parametrize("begins", [0, 3, 8, 9, 10, 11])
async def test_while_everything_fails_nothing_is_given_up(
    worlds: Worlds, error: Exception, begins: int
) -> None:
    # It begins while a row that fails alone is looked for, at any step of that.
    world = worlds()
    graph = told(world)
    await world.start()
    names = [f"p{number}" for number in range(8)]
    graph.poison = {"p7": error}
    outage = True
    graph.fails = lambda _: error if outage and len(graph.calls_of("add")) >= begins else None
    await world.live(*names)
    await world.clock.advance(8 * HOUR)
    assert (world.view().state, world.letters.letters) == (HELD, {})
    outage = False
    graph.poison = {}
    await world.clock.advance(HOUR)
    assert world.members() == set(names)
    assert world.letters.letters == {}
    assert is_at_the_end(world)


@pytest.mark.parametrize("error", BROKEN, ids=BROKEN_IDS)
async def test_after_an_outage_everything_goes_out_in_few_requests(worlds: Worlds, error: Exception) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    graph.fails = lambda _: error
    offered(world, *[world.change(f"p{number}") for number in range(2_000)])
    await world.clock.advance(5 * HOUR)
    graph.fails = lambda _: None
    await world.clock.advance(900)
    assert len(world.members()) == 2_000
    assert len(graph.taken) <= 45, "halves of halves, not single rows"
    offered(world, *[world.change(f"q{number}") for number in range(2_000)])
    await world.pass_period()
    assert len(graph.taken[-1].rows) == 2_000, "whole again"


@pytest.mark.parametrize(
    "error",
    [NotSentError("no connection"), refused(2), refused(2650, 1_870_145), refused(3_910_001)],
    ids=["not sent", "unavailable", "being replaced", "account in trouble"],
)
async def test_what_is_not_for_what_was_sent_makes_no_smaller_requests(
    worlds: Worlds, error: Exception
) -> None:
    world = worlds()
    graph = told(world)
    await world.start()
    graph.fails = lambda _: error
    offered(world, *[world.change(f"p{number}") for number in range(100)])
    await world.clock.advance(24 * HOUR)
    assert {len(call.rows) for call in graph.calls_of("add")} == {100}
    graph.fails = lambda _: None
    await world.clock.advance(HOUR)
    assert [len(call.rows) for call in graph.taken] == [100]
    assert world.view().state is LIVE
