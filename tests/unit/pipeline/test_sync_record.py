"""What the ledger tells people of a destination; no test here waits."""

from __future__ import annotations

from app.ports import UsersAnswer
from schemas.control import DesiredRecord
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import EXIT, PERIOD, Worlds, cut, refused


async def test_the_next_retry_is_recorded_and_shown_until_it_succeeds(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    script = world.graph.script("add", refused(190), times=None)
    await world.live("ann")
    await world.pass_period()
    probe = world.options.person_probe_seconds
    due = world.clock.now_ms() + round(probe * 1_000)
    assert world.view().next_retry_at == world.ledger.states["vips"].next_retry_at == due
    await world.clock.advance(probe)
    assert (
        world.view().next_retry_at == world.ledger.states["vips"].next_retry_at == due + round(probe * 1_000)
    )
    script.times = 0
    await world.clock.advance(probe + PERIOD)
    assert world.members() == {"ann"}
    assert world.ledger.states["vips"].next_retry_at is None
    assert world.view().next_retry_at is None


async def test_a_retry_within_seconds_is_shown_too_and_a_paused_destination_has_none(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", cut(), times=None)
    await world.live("ann")
    await world.pass_period()
    due = world.view().next_retry_at
    assert (due or 0) > world.clock.now_ms()
    world.delivery.desire({"vips": DesiredRecord(target="vips", number=1, paused=True, written_at=0)})
    await world.clock.settle()
    assert world.view().next_retry_at is None


async def test_states_and_rows_are_remembered_and_survive_a_restart(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.answers = [UsersAnswer(3, 1, {'["cat"]': "bad"})]
    await world.live("ann", "bob", "cat")
    await world.pass_period()
    await world.restart()
    script = world.graph.script("remove", refused(190), times=None)
    await world.live("ann", change=EXIT)
    await world.pass_period()
    script.times = 0
    await world.clock.advance(world.options.person_probe_seconds + PERIOD)
    known = world.ledger.states["vips"]
    live = DestinationState.LIVE
    assert [(one.state, one.facebook_id) for one in known.history] == [
        (DestinationState.NEW, None),
        (live, world.facebook_id()),
        (DestinationState.HELD, world.facebook_id()),
        (live, world.facebook_id()),
    ]
    assert (known.history[2].reason or "").startswith("Facebook refused (190")
    assert [(one.added, one.removed, one.rejected) for one in known.hours] == [(2, 1, 1)]


async def test_facebook_s_words_for_the_audience_are_recorded(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    await world.clock.advance(60)
    known, view = world.ledger.states["vips"], world.view()
    assert (known.operation, view.operation) == ("200 Normal", "200 Normal")
    assert view.delivery == known.delivery == "200 This audience is ready for use."
    assert known.status_at is not None
    assert view.ad_account_id == "act_1"
