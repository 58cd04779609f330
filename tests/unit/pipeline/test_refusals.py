"""What Facebook refuses, for a while or for good, and the letters that come of it; no test here waits."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.delivery import AnswerKind, GraphRefusal, Refusal
from app.ports import UsersAnswer
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination
from schemas.dead_letter import Reason
from schemas.membership import Cause, MembershipDelta
from schemas.sync import DestinationState, SyncState
from tests.unit.pipeline.delivery_world import ENTER, EXIT, PERIOD, TIMEOUT, Worlds, cut, people, refused

# -- what Facebook refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [refused(2), refused(99999, http_status=503), GraphRefusal(Refusal(AnswerKind.NO_JSON, 500)), cut()],
    ids=["code 2", "503", "html", "cut"],
)
async def test_passing_trouble_is_tried_again_with_the_same_rows(worlds: Worlds, error: Exception) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", error, times=4)
    await world.live("ann")
    await world.pass_period()
    await world.clock.advance(8)  # four waits of two seconds: no jitter here
    assert [people(call) for call in world.graph.calls_of("add")] == [["ann"]] * 5
    assert world.members() == {"ann"}
    assert world.letters.letters == {}


async def test_a_lasting_outage_is_held_keeps_everything_and_is_probed(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    outage = world.graph.script("add", cut(), times=None)
    await world.live("ann")
    await world.pass_period()
    await world.clock.advance(60)
    view = world.view()
    assert (view.state, view.reason, view.pending) == (DestinationState.HELD, "the connection broke", 1)
    assert world.ledger.states["vips"].state == "held"
    tries = len(world.graph.calls_of("add"))
    await world.clock.advance(600)
    assert len(world.graph.calls_of("add")) - tries == 2
    await world.live("bob")
    outage.times = 0
    await world.clock.advance(300)
    assert world.members() == {"ann", "bob"}
    assert (world.view().state, world.view().reason) == (DestinationState.LIVE, None)
    assert world.ledger.states["vips"].state is DestinationState.LIVE


@pytest.mark.parametrize(
    ("error", "state", "probe", "why"),
    [
        (refused(190, 463), DestinationState.HELD, 300, "a token can be replaced at Meta's side too"),
        (refused(200, 1870034), DestinationState.HELD, 300, "terms are accepted in a browser"),
        (refused(100, 33), DestinationState.GONE, 3600, "a right may be given back"),
    ],
)
async def test_what_needs_a_person_holds_the_destination_and_is_probed(
    worlds: Worlds, error: Exception, state: DestinationState, probe: float, why: str
) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", error, times=2)
    await world.live("ann")
    await world.pass_period()
    assert world.view().state is state
    assert world.ledger.states["vips"].state is state
    await world.live("bob")
    await world.clock.advance(probe - 1)
    assert len(world.graph.calls_of("add")) == 1
    await world.clock.advance(probe + 2)
    assert world.members() == {"ann", "bob"}
    assert world.view().state is DestinationState.LIVE
    assert world.letters.letters == {}


async def test_a_held_destination_forgets_nothing_when_the_worker_restarts(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    token = world.graph.script("add", refused(190), times=None)
    await world.live("ann", "bob")
    await world.pass_period()
    token.times = 0
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == {"ann", "bob"}


async def test_held_for_long_memory_stays_bounded_and_all_arrives_in_the_end(worlds: Worlds) -> None:
    world = worlds(batch_rows=5, max_pending_rows=10)
    await world.start()
    token = world.graph.script("add", refused(190), times=None)
    everybody = {f"p{number}" for number in range(100)}
    for profile in sorted(everybody):
        await world.live(profile)
    await world.clock.advance(600)
    assert world.view().pending <= 15
    assert not world.delivery.idle()
    token.times = 0
    await world.clock.advance(600)
    assert world.members() == everybody
    assert world.delivery.idle()
    assert world.view().state is DestinationState.LIVE


async def test_a_refused_removal_waits_while_additions_go_out(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    small = world.graph.script("remove", refused(200, 1870047), times=None)
    await world.live("ann", change=EXIT)
    await world.live("cid")
    await world.pass_period()
    assert world.members() == {"ann", "bob", "cid"}
    assert world.view().state is DestinationState.HELD
    assert world.letters.letters == {}
    small.times = 0
    await world.clock.advance(300)
    assert world.members() == {"bob", "cid"}
    assert world.view().state is DestinationState.LIVE


# -- dead letters ----------------------------------------------------------------------------------------------


async def test_a_row_that_facebook_names_becomes_a_letter_and_the_others_are_members(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.answers.append(UsersAnswer(2, 1, {'["bob"]': "empty external ID"}, trace="T9"))
    await world.live("ann", "bob")
    await world.pass_period()
    (letter,) = world.letters.letters.values()
    assert (letter.reason, letter.profile, letter.destination) == (Reason.REJECTED_ROW, "bob", "vips")
    assert (letter.origin.topic, letter.origin.offset, letter.origin.key) == (
        "audience.memberships",
        1,
        "vips|bob",
    )
    assert letter.facebook is not None
    assert (letter.facebook.message, letter.facebook.trace) == ("empty external ID", "T9")
    assert letter.record == {"change": "entered", "row": {"EXTERN_ID": "bob"}}
    assert (world.view().sent, world.view().rejected) == (1, 1)
    assert world.counters.dead_letters == {"rejected_row": 1}
    assert world.counters.stages["deliver"].dead == 1
    assert world.ledger.states["vips"].cursor == 2


async def test_refused_rows_that_are_not_named_are_counted(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.answers.append(UsersAnswer(3, 2, {'["gone"]': "?", "no json": "?"}))
    await world.live("a", "b", "c")
    await world.pass_period()
    assert (world.view().sent, world.view().rejected) == (1, 2)


async def test_a_request_refused_for_good_becomes_one_letter_per_row_and_delivery_goes_on(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    # The whole, and each half.
    world.graph.script("add", refused(100), times=3)
    await world.live("ann", "bob")
    await world.pass_period()
    letters = sorted(world.letters.letters.values(), key=lambda letter: letter.profile or "")
    assert [(letter.reason, letter.profile) for letter in letters] == [
        (Reason.REJECTED_REQUEST, "ann"),
        (Reason.REJECTED_REQUEST, "bob"),
    ]
    assert letters[0].facebook is not None
    assert letters[0].facebook.model_dump() == {
        "code": 100,
        "subcode": None,
        "message": "(#100) words",
        "trace": "T1",
    }
    await world.live("cid")
    await world.pass_period()
    assert world.members() == {"cid"}
    assert (world.view().sent, world.view().rejected, world.view().state) == (1, 2, DestinationState.LIVE)


async def test_rows_for_which_a_request_is_refused_are_found_and_the_others_arrive(
    worlds: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    world = worlds()
    await world.start()
    names = [f"p{number}" for number in range(9)]
    for poison in ("p2", "p7"):
        world.graph.script("add", refused(100, 2_654), times=None, person=poison)
    await world.live(*names)
    await world.pass_period()
    assert world.members() == set(names) - {"p2", "p7"}
    assert [people(call) for call in world.graph.calls_of("add")] == [
        names,
        names[:4],
        names[:2],
        names[2:4],
        ["p2"],
        ["p3"],
        names[4:],
        names[4:6],
        names[6:],
        ["p6"],
        names[7:],
        ["p7"],
        ["p8"],
    ]
    letters = {letter.profile: letter for letter in world.letters.letters.values()}
    assert letters.keys() == {"p2", "p7"}
    for letter in letters.values():
        assert (letter.reason, letter.attempts) == (Reason.REJECTED_ROW, 1)
        assert letter.facebook is not None
        assert (letter.facebook.code, letter.facebook.subcode) == (100, 2_654)
        assert letter.record == {"change": "entered", "row": {"EXTERN_ID": letter.profile}}
    assert (world.view().sent, world.view().rejected, world.view().state) == (7, 2, DestinationState.LIVE)
    (said,) = [record.getMessage() for record in caplog.records if "dead letters" in record.getMessage()]
    assert said.startswith("destination vips: 2 rows to dead letters: Facebook refused (100/2654")


async def test_halves_of_a_refused_request_are_sent_on_after_an_outage(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", refused(100), times=None, person="p1")
    # Behind the poison's: it meets the second half.
    world.graph.script("add", cut(), person="p3")
    await world.live("p0", "p1", "p2", "p3")
    await world.pass_period()
    await world.clock.advance(300)
    assert world.members() == {"p0", "p2", "p3"}
    assert [people(call) for call in world.graph.calls_of("add")] == [
        ["p0", "p1", "p2", "p3"],
        ["p0", "p1"],
        ["p0"],
        ["p1"],
        ["p2", "p3"],
        ["p2", "p3"],
    ]
    assert [letter.profile for letter in world.letters.letters.values()] == ["p1"]
    assert (world.view().sent, world.view().rejected) == (3, 1)


async def test_a_run_of_refused_requests_holds_instead_of_draining_the_topic(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    bad = world.graph.script("add", refused(100), times=None)
    await world.live(*[f"p{number}" for number in range(10)])
    assert len(world.letters.letters) == 3
    assert world.view().state is DestinationState.HELD
    bad.times = 0
    await world.clock.advance(300)
    assert world.members() == {f"p{number}" for number in range(3, 10)}


async def test_a_run_of_refused_requests_goes_on_behind_a_restart(worlds: Worlds) -> None:
    """However often the worker begins anew: letters of three requests, and then one request a probe."""
    world = worlds(batch_rows=1)
    await world.start()
    bad = world.graph.script("add", refused(100), times=None)
    for number in range(10):
        await world.live(f"p{number}")
        await world.restart()
        await world.clock.advance(TIMEOUT)
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.letters.letters) == 3
    assert world.view().state is DestinationState.HELD
    assert world.ledger.states["vips"].rejected_in_a_row == 3
    tried = len(world.graph.calls_of("add"))
    await world.clock.advance(600)
    assert [people(call) for call in world.graph.calls_of("add")[tried:]] == [["p3"]] * 2
    bad.times = 0
    await world.clock.advance(300)
    assert world.members() == {f"p{number}" for number in range(3, 10)}
    assert world.ledger.states["vips"].rejected_in_a_row == 0


async def test_a_restart_between_refused_requests_counts_each_of_them_once(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    for number in range(2):
        world.graph.script("add", refused(100))
        await world.live(f"bad{number}")
        assert world.ledger.states["vips"].rejected_in_a_row == number + 1
        await world.restart()
        await world.clock.advance(TIMEOUT)
    await world.live("good")
    assert world.ledger.states["vips"].rejected_in_a_row == 0
    await world.restart()
    world.graph.script("add", refused(100), times=None)
    await world.live(*[f"p{number}" for number in range(5)])
    await world.clock.advance(TIMEOUT)
    assert len(world.letters.letters) == 2 + 3


async def test_what_is_wrong_with_the_audience_is_tried_as_a_whole_behind_a_restart(worlds: Worlds) -> None:
    """Once told from what is wrong with rows, by halves, it need not be again."""
    world = worlds()
    await world.start()
    bad = world.graph.script("add", refused(2_650), times=None)
    await world.live("ann", "bob")
    await world.pass_period()
    assert [people(call) for call in world.graph.calls_of("add")] == [["ann", "bob"], ["ann"], ["bob"]]
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert [people(call) for call in world.graph.calls_of("add")[3:]] == [["ann", "bob"]]
    assert world.view().state is DestinationState.HELD
    assert world.letters.letters == {}
    bad.times = 0
    await world.clock.advance(300)
    assert world.members() == {"ann", "bob"}


async def test_refused_requests_between_accepted_ones_are_no_run(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    for number in range(6):
        world.graph.script("add", refused(100))
        await world.live(f"bad{number}", f"good{number}")
    assert len(world.letters.letters) == 6
    assert world.members() == {f"good{number}" for number in range(6)}


async def test_a_letter_comes_once_however_often_the_row_is_refused(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", refused(100))
    # The letters are written; the worker dies before the cursor is.
    record = world.ledger.record
    await world.live("ann")
    await world.clock.advance(PERIOD - 1)

    async def dies_on_confirmation(state: SyncState) -> None:
        if state.cursor:
            await asyncio.Event().wait()
        await record(state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.ledger, "record", dies_on_confirmation)
        await world.clock.advance(1)
        assert len(world.letters.letters) == 1
    world.graph.script("add", refused(100))
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.letters.letters) == 1
    assert world.ledger.states["vips"].cursor == 1


async def test_one_delta_refused_in_two_ad_accounts_is_two_letters(worlds: Worlds) -> None:
    two = AudienceDefinition(
        key="vips",
        name="Vips",
        source=AudienceSource.ENGAGE,
        destinations=[
            FacebookDestination(id="vips@act_1", ad_account_id="act_1"),
            FacebookDestination(id="vips@act_2", ad_account_id="act_2"),
        ],
    )
    world = worlds(two)
    await world.start()
    world.graph.script("add", refused(100), times=2)
    rows: dict[str, list[dict[str, str | float]]] = {
        "vips@act_1": [{"EXTERN_ID": "ann"}],
        "vips@act_2": [{"EXTERN_ID": "ann"}],
    }
    delta = MembershipDelta("vips", "ann", ENTER, 1, rows, 0, 0, Cause.EVENT)
    world.delivery.offer(0, [(0, delta)], 1)
    await world.pass_period()
    assert {letter.destination for letter in world.letters.letters.values()} == {"vips@act_1", "vips@act_2"}
