"""Delivery with in-memory twins and a clock that is moved by hand: no test here waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replaced

from app.domain.data_use import NOTHING_SAID, DataUse
from schemas.audience import DeliveryMode, SyncMode
from schemas.data_use import DataProcessing
from schemas.membership import EVERY, Cause, MembershipDelta
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import ENTER, EXIT, PERIOD, Worlds, audience, cut, people

LIMITED = DataProcessing(options=["LDU"])
SETTINGS = DataUse(True, LIMITED)


# -- the ordinary way ------------------------------------------------------------------------------------------


async def test_members_reach_their_audience_one_period_after_the_first_change(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.clock.advance(PERIOD - 1)
    assert world.graph.calls_of("add") == []
    await world.clock.advance(1)
    assert world.members() == {"ann", "bob"}
    await world.live("ann", change=EXIT)
    await world.pass_period()
    assert world.members() == {"bob"}
    assert world.delivery.idle()


async def test_the_audience_is_created_at_once_with_name_and_marker(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    (created,) = world.graph.audiences.values()
    assert (created.name, created.ad_account_id) == ("Vips", "act_1")
    assert created.description == "for tests [audience-sync:test:vips]"
    assert world.view().state is DestinationState.LIVE


async def test_a_full_batch_leaves_at_once(worlds: Worlds) -> None:
    world = worlds(batch_rows=3)
    await world.start()
    await world.live("a", "b", "c")
    assert world.members() == {"a", "b", "c"}


async def test_removals_and_additions_go_one_after_the_other_removals_first(worlds: Worlds) -> None:
    # A person who leaves as one profile and enters as another, with the same e-mail, is a member in the end.
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    enter = world.change("ann-merged", ENTER, rows=[{"EXTERN_ID": "ann"}])
    leave = world.change("ann", EXIT)
    end = world.log.end(0)
    world.delivery.offer(0, [(end - 2, enter), (end - 1, leave)], end)
    await world.pass_period()
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["add", "remove", "add"]
    assert world.graph.most_under_way == 1
    assert world.members() == {"ann"}


@pytest.mark.parametrize(
    ("own", "sent"), [({}, SETTINGS), ({"customer_consent": False}, DataUse(False, LIMITED))]
)
async def test_what_may_be_done_with_people_goes_with_those_who_are_added(
    worlds: Worlds, own: dict[str, Any], sent: DataUse
) -> None:
    world = worlds(audience("vips", **own), data_use=SETTINGS)
    await world.start()
    await world.live("ann")
    await world.pass_period()
    await world.live("ann", change=EXIT)
    await world.pass_period()
    calls = world.graph.calls_of("add", "remove")
    assert [(call.kind, call.use) for call in calls] == [("add", sent), ("remove", NOTHING_SAID)]


async def test_an_exit_is_sent_although_its_enter_never_left(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.live("ann", change=EXIT)
    await world.pass_period()
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")] == [
        ("remove", ["ann"])
    ]


async def test_rows_without_external_id_go_in_a_request_of_their_own(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    rows = [
        {"EXTERN_ID": "a", "EMAIL": "e1"},
        {"EMAIL": "e2"},
        {"EXTERN_ID": "", "EMAIL": "e3"},
        {"EXTERN_ID": ""},
    ]
    delta = world.change("ann", rows=rows)
    world.delivery.offer(0, [(0, delta)], 1)
    await world.pass_period()
    assert [list(call.rows) for call in world.graph.calls_of("add")] == [
        [{"EMAIL": "e2"}, {"EMAIL": "e3"}],
        [{"EXTERN_ID": "a", "EMAIL": "e1"}],
    ]


async def test_a_change_that_the_sync_mode_leaves_out_takes_no_entry_back(worlds: Worlds) -> None:
    world = worlds(audience("vips", sync_mode=SyncMode.UPSERT))
    await world.start()
    await world.live("ann")
    left = replaced(world.change("ann", EXIT), rows={})
    world.delivery.offer(0, [(1, left)], 2)
    await world.pass_period()
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")] == [("add", ["ann"])]
    assert world.ledger.states["vips"].cursor == 2
    assert world.delivery.idle()


async def test_deltas_without_rows_send_nothing_and_move_the_cursor(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.delivery.offer(0, [(0, world.change("ann", rows=[]))], 1)
    await world.pass_period()
    assert world.graph.calls_of("add", "remove") == []
    assert world.ledger.states["vips"].cursor == 1
    assert world.ledger.states["vips"].last_sync_at is None


async def test_unknown_audiences_and_unowned_partitions_are_passed_over(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    stranger = world.change("ann", key="strangers")
    world.delivery.offer(0, [(0, stranger)], 1)
    world.delivery.offer(5, [(0, stranger)], 1)
    await world.pass_period()
    assert world.graph.calls_of("add") == []
    assert world.delivery.idle()


async def test_counters_and_view(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.clock.advance(10)
    view = world.view()
    assert (view.pending, view.oldest_pending_at) == (2, world.clock.now_ms() - 10_000)
    assert not world.delivery.idle()
    await world.pass_period()
    view = world.view()
    assert (view.sent, view.rejected, view.pending, view.oldest_pending_at) == (2, 0, 0, None)
    # Sent 20 s before now.
    assert (view.facebook_id, view.last_sync_at) == (world.facebook_id(), world.clock.now_ms() - 10_000)
    stages = world.counters.stages
    assert (stages["batch"].records_in, stages["batch"].records_out) == (2, 2)
    assert (stages["deliver"].records_in, stages["deliver"].records_out) == (2, 2)


async def test_the_size_is_read_after_a_sync(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.clock.advance(PERIOD + 60)
    assert (world.view().lower_bound, world.view().upper_bound) == (1000, 1000)


async def test_the_size_is_read_soon_after_every_sync(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.clock.advance(world.options.status_after_sync_seconds)
    before = len(world.graph.calls_of("read"))
    await world.live("ann")
    await world.clock.advance(PERIOD + world.options.status_after_sync_seconds)
    assert len(world.graph.calls_of("read")) == before + 1


# -- order -----------------------------------------------------------------------------------------------------


async def test_two_changes_of_a_profile_are_never_under_way_together(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    await world.live("ann", change=EXIT)
    await world.clock.advance(10 * PERIOD)
    assert world.graph.calls_of("remove") == []
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    assert world.graph.most_under_way == 1
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["add", "remove"]


async def test_after_a_lost_answer_the_same_rows_are_answered_before_anything_newer_is_sent(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", cut(), applied=True)
    await world.live("ann")
    await world.pass_period()
    await world.live("ann", change=EXIT)
    await world.clock.advance(2 * PERIOD)
    assert [(c.kind, people(c)) for c in world.graph.calls_of("add", "remove")] == [
        ("add", ["ann"]),
        ("add", ["ann"]),
        ("remove", ["ann"]),
    ]
    assert world.members() == set()


# -- behind ----------------------------------------------------------------------------------------------------


async def test_a_new_destination_reads_the_log_from_its_beginning(worlds: Worlds) -> None:
    world = worlds(batch_rows=4)
    for number in range(10):
        world.change(f"p{number}")
    world.change("p3", EXIT)
    await world.start()
    await world.pass_period()
    assert world.members() == {f"p{number}" for number in range(10)} - {"p3"}
    assert world.delivery.idle()


async def test_while_it_waits_behind_it_is_shown_as_catching_up(worlds: Worlds) -> None:
    world = worlds(batch_rows=2)
    for number in range(20):
        world.change(f"p{number}")
    hang = world.graph.script("add", until=asyncio.Event())
    await world.start()
    assert world.view().state is DestinationState.CATCHING_UP
    assert not world.delivery.idle()
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    await world.pass_period()
    assert world.view().state is DestinationState.LIVE


async def test_a_cursor_beyond_the_end_of_the_partition_belongs_to_another_partition(worlds: Worlds) -> None:
    # The topic was made anew: what it holds was never sent.
    world = worlds()
    await world.start()
    world.change("ann")
    world.ledger.states["vips"] = world.ledger.states["vips"].model_copy(update={"cursor": 5000})
    await world.restart()
    await world.pass_period()
    assert world.members() == {"ann"}


# -- dry run ---------------------------------------------------------------------------------------------------


async def test_a_dry_run_does_everything_but_send(worlds: Worlds) -> None:
    world = worlds(audience("vips", mode=DeliveryMode.DRY_RUN))
    await world.start()
    await world.live("ann")
    await world.pass_period()
    assert world.graph.calls == []
    assert world.view().state is DestinationState.DRY_RUN
    assert (world.ledger.states["vips"].cursor, world.view().sent) == (1, 0)
    assert world.delivery.idle()


async def test_after_a_dry_run_everybody_is_sent(worlds: Worlds) -> None:
    world = worlds(dry_run=True)
    await world.start()
    await world.live("ann")
    await world.pass_period()
    assert world.graph.calls == []
    world.options = replace(world.options, dry_run=False)
    await world.restart()
    await world.pass_period()
    assert world.members() == {"ann"}


# -- other definitions -----------------------------------------------------------------------------------------


async def test_a_new_audience_is_delivered_from_its_first_change_on(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.change("early", key="buyers")
    await world.live("ann")
    await world.live("bob", key="buyers")
    world.definitions = (audience("vips"), audience("buyers"))
    await world.delivery.update(world.definitions, world.ledger.states)
    await world.clock.settle()
    await world.live("cid", key="buyers")
    await world.pass_period()
    assert world.members("buyers") == {"early", "bob", "cid"}
    assert world.members("vips") == {"ann"}
    await world.restart()
    assert set(world.delivery.destinations()) == {"vips", "buyers"}


async def test_a_removed_audience_is_left_as_it_is_and_taken_up_again_where_it_was(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    facebook_id = world.facebook_id()
    await world.delivery.update((), {})
    assert world.delivery.destinations() == {}
    world.change("ann", EXIT)
    await world.live("bob")
    await world.pass_period()
    assert world.graph.members(facebook_id) == {"ann"}
    await world.delivery.update(world.definitions, world.ledger.states)
    await world.live()
    await world.pass_period()
    assert world.graph.members(facebook_id) == {"bob"}
    assert len(world.graph.audiences) == 1


@pytest.mark.parametrize("live", [True, False])
async def test_who_is_forgotten_while_an_audience_is_absent_is_out_when_it_is_back(
    worlds: Worlds, live: bool
) -> None:
    """Evaluate knew no destinations of it. The record comes while it is read from the log, or just now."""
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    assert world.members() == {"ann", "bob"}
    await world.delivery.update((), {})
    rows: dict[str, list[dict[str, str | float]]] = {EVERY: [{"EXTERN_ID": "ann"}]}
    removal = MembershipDelta("vips", "ann", EXIT, 9, rows, 0, 0, Cause.FORGOTTEN)
    if not live:
        world.log.append(0, removal)
        await world.live("cid", key="other")
    await world.delivery.update(world.definitions, world.ledger.states)
    if live:
        end = world.log.append(0, removal) + 1
        world.delivery.offer(0, [(end - 1, removal)], end)
    await world.pass_period()
    assert world.members() == {"bob"}
    assert world.ledger.states["vips"].cursor == world.log.end(0)


async def test_another_name_changes_nothing_at_facebook_and_loses_no_change(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    renamed = audience("vips").model_copy(update={"name": "Other"})
    await world.delivery.update((renamed,), {})
    await world.live("bob")
    await world.pass_period()
    assert world.members() == {"ann", "bob"}
    assert [found.name for found in world.graph.audiences.values()] == ["Vips"]


async def test_what_is_not_changed_goes_on_with_what_it_holds(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    (before,) = world.delivery._owned[0].destinations["vips"]
    await world.delivery.update((*world.definitions, audience("buyers")), world.ledger.states)
    assert world.delivery._owned[0].destinations["vips"] == [before]
    assert world.view().pending == 1
