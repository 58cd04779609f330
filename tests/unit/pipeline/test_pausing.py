"""Destinations that are paused, by people and by the safety brake; with in-memory twins, no test here waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.adapters.memory import MemoryMembershipLog
from app.domain.brake import BrakePolicy
from app.domain.pausing import NO_REASON
from schemas.audience import DeliveryMode, FacebookDestination
from schemas.control import DesiredRecord
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import DestinationState, OffsetRange, SyncState
from tests.unit.pipeline.delivery_world import (
    ENTER,
    EXIT,
    PERIOD,
    TIMEOUT,
    World,
    audience,
    cut,
    people,
    refused,
)

PAUSED, LIVE = DestinationState.PAUSED, DestinationState.LIVE


class PausedWorld(World):
    """People's commands, and deltas that were written at an instant of the wall."""

    def __init__(self, *definitions: Any, **options: Any) -> None:
        self.desired: dict[str, DesiredRecord] = {}
        super().__init__(*definitions, **options)

    def worker(self, graph: Any = None) -> Any:
        made = super().worker(graph)
        # Read before anything is assigned, as `Follower.refresh` does.
        made.desire(dict(self.desired))
        return made

    async def pause(self, target: str = "vips", reason: str | None = None) -> None:
        self._want(target, paused=True, reason=reason)
        await self.clock.settle()

    async def resume(self, target: str = "vips", *, accept_shrink: bool = False) -> None:
        accepted_at = self.clock.now_ms() if accept_shrink else 0
        self._want(target, paused=False, accepted_at=accepted_at)
        await self.clock.settle()

    async def resync(self, target: str = "vips") -> None:
        known = self.desired.get(target) or DesiredRecord(target=target, number=0, paused=False, written_at=0)
        self.desired[target] = known.model_copy(update={"resync_at": self.clock.now_ms()})
        self.delivery.desire(dict(self.desired))
        await self.clock.settle()

    def _want(self, target: str, **fields: Any) -> None:
        number = len(self.desired) and max(record.number for record in self.desired.values())
        resync_at = self.desired[target].resync_at if target in self.desired else 0
        self.desired[target] = DesiredRecord(
            target=target, number=number + 1, written_at=0, resync_at=resync_at, **fields
        )
        self.delivery.desire(dict(self.desired))

    def write(self, profile: str, change: Change, cause: Cause = Cause.EVENT, key: str = "vips") -> None:
        """By a partition whose clock is at the wall; not yet offered."""
        self._sequence += 1
        now = self.clock.now_ms()
        rows: dict[str, list[dict[str, str | float]]] = {key: [{"EXTERN_ID": profile}]}
        delta = MembershipDelta(key, profile, change, self._sequence + 1, rows, now, now, cause)
        self.log.append(0, delta, now)

    async def happen(self, change: Change, *profiles: str, cause: Cause = Cause.EVENT) -> None:
        """Live changes that count for the brake."""
        for profile in profiles:
            self.write(profile, change, cause)
            end = self.log.end(0)
            delta = self.log._records[0][end - 1]
            self.delivery.offer(0, [(end - 1, delta)], end, [self.clock.now_ms()])
        await self.clock.settle()


Worlds = Callable[..., PausedWorld]


@pytest.fixture
async def worlds() -> AsyncIterator[Worlds]:
    made: list[PausedWorld] = []

    def make(*definitions: Any, **options: Any) -> PausedWorld:
        made.append(PausedWorld(*definitions, **options))
        return made[-1]

    yield make
    for world in made:
        await world.delivery.stop()
        assert world.failures == []


def crowd(count: int, first: int = 0) -> list[str]:
    return [f"p{number}" for number in range(first, first + count)]


# -- by people -------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_while_paused_and_everything_when_resumed(worlds: Worlds) -> None:
    world = worlds(audience("vips"), audience("others"))
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    await world.pause(reason="campaign over")
    assert (world.view().state, world.view().reason) == (PAUSED, "campaign over")
    assert (world.ledger.states["vips"].state, world.ledger.states["vips"].reason) == (
        PAUSED,
        "campaign over",
    )
    calls = len(world.graph.calls)
    await world.live("ann", change=EXIT)
    await world.live("cid", "dee")
    await world.live("dee", change=EXIT)
    await world.live("eve", key="others")
    await world.clock.advance(3_600)
    mine = [call for call in world.graph.calls[calls:] if call.audience == world.facebook_id()]
    assert mine == [], "not even its size is asked for"
    assert world.members("others") == {"eve"}
    assert world.view().pending == 0
    assert world.ledger.states["vips"].cursor == 2
    await world.resume()
    assert (world.view().state, world.view().reason) == (LIVE, None)
    assert world.ledger.states["vips"].reason is None, "also for those who look there"
    await world.live("fay")
    await world.pass_period()
    assert world.members() == {"bob", "cid", "fay"}
    assert world.delivery.idle()


async def test_only_the_newest_change_of_each_is_sent_after_it(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.pause()
    for _ in range(5):
        await world.live("ann", change=ENTER)
        await world.live("ann", change=EXIT)
    await world.resume()
    await world.pass_period()
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")] == [
        ("remove", ["ann"])
    ]


async def test_what_waits_is_not_sent_when_it_is_paused(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.clock.advance(PERIOD - 1)
    await world.pause()
    await world.clock.advance(PERIOD)
    assert world.graph.calls_of("add") == []
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann"}


async def test_nothing_is_created_for_what_is_paused(worlds: Worlds) -> None:
    world = worlds()
    world._want("vips", paused=True)
    await world.start()
    await world.clock.advance(3_600)
    assert (world.graph.calls, world.view().state, world.view().reason) == ([], PAUSED, NO_REASON)
    await world.resume()
    assert len(world.graph.audiences) == 1


async def test_a_request_under_way_is_the_last_one(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.live("bob", change=EXIT)
    hang = world.graph.script("remove", until=asyncio.Event())
    await world.pass_period()
    await world.pause()
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(PERIOD)
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["remove"]
    state = world.ledger.states["vips"]
    assert (state.state, state.cursor, state.unconfirmed) == (PAUSED, 0, (OffsetRange(first=0, end=2),))
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann"}


async def test_no_older_change_follows_one_that_went_out_before_the_pause(worlds: Worlds) -> None:
    """Ann's exit was sent, its batch not confirmed: her enter, far before it, must not go out afterwards."""
    world = worlds(batch_rows=6, max_pending_rows=6)
    await world.start()
    await world.live("ann", "bob", "cid", "dee")
    await world.live("ann", change=EXIT)
    world.graph.script("add", cut())
    await world.pass_period()
    assert [call.kind for call in world.graph.calls_of("add", "remove")] == ["remove", "add"]
    await world.pause()
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    sent = [who for call in world.graph.calls_of("add") for who in people(call)]
    assert "ann" not in sent
    assert world.members() == {"bob", "cid", "dee"}


async def test_a_new_owner_knows_before_it_sends_anything(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    await world.live("ann")
    await world.pause(reason="r")
    world.change("bob")
    await world.restart()
    await world.clock.advance(3_600)
    assert world.members() == {"ann"}
    assert (world.view().state, world.view().reason) == (PAUSED, "r")
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == {"ann", "bob"}


async def test_who_thinks_again_while_it_is_written_is_heard_at_once(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    await world.start()
    written, record = asyncio.Event(), world.ledger.record

    async def slowly(state: SyncState) -> None:
        await written.wait()
        await record(state)

    monkeypatch.setattr(world.ledger, "record", slowly)
    await world.pause()
    await world.resume()
    written.set()
    await world.clock.settle()
    assert (world.view().state, world.ledger.states["vips"].state is PAUSED) == (LIVE, False)
    await world.clock.advance(200)  # its size has been asked for
    written.clear()
    await world.live("somebody", key="strangers")
    await world.clock.advance(2 * PERIOD)
    assert world.ledger.states["vips"].cursor == 0, "how far it has come is being written"
    await world.pause()
    written.set()
    await world.clock.settle()
    assert world.ledger.states["vips"].state is PAUSED


async def test_one_destination_of_an_audience_is_paused_alone(worlds: Worlds) -> None:
    two = audience("vips").model_copy(
        update={
            "destinations": (
                FacebookDestination(id="vips@act_1", ad_account_id="act_1"),
                FacebookDestination(id="vips@act_2", ad_account_id="act_2"),
            )
        }
    )
    world = worlds(two)
    await world.start()
    await world.pause("vips@act_1")
    assert (world.view("vips@act_1").state, world.view("vips@act_2").state) == (PAUSED, LIVE)
    await world.pause("vips")
    assert world.view("vips@act_2").state is PAUSED
    await world.resume("vips@act_2")
    assert (world.view("vips@act_1").state, world.view("vips@act_2").state) == (PAUSED, LIVE)


async def test_a_dry_run_that_was_paused_still_has_sent_nothing(worlds: Worlds) -> None:
    world = worlds(audience("vips", mode=DeliveryMode.DRY_RUN))
    await world.start()
    await world.live("ann")
    await world.pass_period()
    await world.pause()
    assert world.view().state is PAUSED
    world.definitions = (audience("vips"),)
    await world.restart()
    await world.resume()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == {"ann"}


async def test_what_is_held_can_be_paused_and_is_tried_again_afterwards(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    world.graph.script("add", refused(190))
    await world.pass_period()
    assert world.view().state is DestinationState.HELD
    await world.pause()
    assert world.view().state is PAUSED
    await world.resume()
    await world.clock.advance(400)
    assert world.members() == {"ann"}


# -- by the brake ----------------------------------------------------------------------------------------------

SMALL = BrakePolicy(percent=20.0, members=5)


async def trip(world: PausedWorld) -> None:
    """Of 20 people, 12 leave."""
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    await world.happen(EXIT, *crowd(12))


async def test_too_many_removals_are_not_sent(worlds: Worlds) -> None:
    world = worlds(brake=SMALL)
    await trip(world)
    await world.clock.advance(3_600)
    assert world.members() == set(crowd(20))
    view = world.view()
    assert view.state is PAUSED
    assert "12 of 20 members" in (view.reason or "")
    assert "audience-sync audiences resume vips --accept-shrink" in (view.reason or "")
    await world.resume()
    await world.clock.advance(3_600)
    assert world.view().state is PAUSED, "a plain resume does not release it"
    await world.resume(accept_shrink=True)
    await world.pass_period()
    assert world.members() == set(crowd(8, first=12))


async def test_small_batches_are_stopped_before_the_excess(worlds: Worlds) -> None:
    world = worlds(batch_rows=1, brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    for profile in crowd(12):
        await world.happen(EXIT, profile)
    await world.clock.advance(3_600)
    assert len(world.members()) == 20 - 5, "20 % are 4, and up to 5 may always leave"


async def test_the_shrink_goes_on_when_it_was_accepted(worlds: Worlds) -> None:
    world = worlds(brake=SMALL)
    await trip(world)
    await world.resume(accept_shrink=True)
    await world.happen(EXIT, *crowd(8, first=12))
    await world.pass_period()
    assert world.members() == set()
    assert world.view().state is LIVE


@pytest.mark.parametrize("written", [True, False], ids=["in the ledger", "not in the ledger"])
async def test_a_crash_does_not_release_the_brake(worlds: Worlds, written: bool) -> None:
    world = worlds(brake=SMALL)
    await trip(world)
    if not written:
        # It died before it wrote that it had tripped, and the exits were in the log.
        before = [state for state in world.ledger.history if state.state is not PAUSED]
        world.ledger.states["vips"] = before[-1]
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.members() == set(crowd(20))
    assert "12 of 20 members" in (world.view().reason or "")


async def test_what_the_brake_has_seen_is_written_while_it_is_paused(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.pause()
    await world.happen(ENTER, *crowd(20))
    await world.clock.advance(2 * PERIOD)
    state = world.ledger.states["vips"]
    assert state.brake is not None
    assert (state.cursor, state.brake.position, state.brake.members) == (0, 20, 20)


async def test_a_partition_that_was_made_anew_is_counted_anew(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.clock.advance(2 * PERIOD)
    world.log = MemoryMembershipLog()
    world.write("ann", ENTER)
    await world.restart()
    await world.clock.advance(2 * PERIOD)
    brake = world.ledger.states["vips"].brake
    assert brake is not None
    assert (brake.position, brake.members) == (1, 1)


async def test_what_happened_while_nobody_looked_counts_by_when_it_was_written(
    worlds: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    world = worlds(brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    for profile in crowd(12):
        world.write(profile, EXIT)
    await world.clock.advance(3_600 * 5)
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert (world.view().state, world.members()) == (PAUSED, set(crowd(20)))
    assert "destination vips is paused: safety brake" in caplog.text


async def test_removals_that_are_spread_over_hours_go_out(worlds: Worlds) -> None:
    world = worlds(brake=SMALL)
    await world.start()
    await world.happen(ENTER, *crowd(20))
    await world.pass_period()
    for number in range(20):
        await world.happen(EXIT, f"p{number}")
        await world.clock.advance(3_600 / 4)
        if number % 7 == 3:
            await world.restart()
            await world.clock.advance(TIMEOUT)
    await world.clock.advance(PERIOD)
    assert (world.view().state, world.members()) == (LIVE, set())


async def test_a_pause_by_people_stays_when_the_brake_is_released(worlds: Worlds) -> None:
    world = worlds(brake=SMALL)
    await trip(world)
    await world.pause(reason="by hand")
    assert (world.view().reason or "").endswith(" | by hand")
    world._want("vips", paused=True, reason="by hand", accepted_at=world.clock.now_ms())
    await world.clock.settle()
    assert (world.view().state, world.view().reason) == (PAUSED, "by hand")


async def test_it_holds_while_the_destination_is_behind(worlds: Worlds) -> None:
    world = worlds(batch_rows=2, max_pending_rows=2, brake=SMALL)
    await world.start()
    world.graph.script("add", refused(80003, 2446079), times=None)
    await world.happen(ENTER, *crowd(20))
    await world.happen(EXIT, *crowd(12))
    await world.pass_period()
    world.graph.scripts.clear()
    await world.clock.advance(3_600)
    assert world.view().state is PAUSED
    assert world.graph.calls_of("remove") == []


async def test_a_destination_that_is_new_counts_who_is_there_already(worlds: Worlds) -> None:
    world = worlds(brake=SMALL)
    for profile in crowd(40):
        world.write(profile, ENTER)
    for profile in crowd(20):
        world.write(profile, EXIT)
    await world.start()
    await world.pass_period()
    assert (world.view().state, world.members()) == (LIVE, set(crowd(20, first=20))), (
        "nobody was there to remove"
    )
    brake = world.ledger.states["vips"].brake
    assert brake is not None
    assert brake.members == 20


async def test_a_dry_run_shows_what_the_brake_would_do(worlds: Worlds) -> None:
    world = worlds(brake=SMALL, dry_run=True)
    await trip(world)
    assert (world.view().state, world.graph.calls) == (PAUSED, [])


# -- sent again ------------------------------------------------------------------------------------------------


def lose(world: PausedWorld) -> None:
    """Facebook's audience is not what was sent."""
    world.graph.audiences[world.facebook_id()].members.clear()
    world.graph.audiences[world.facebook_id()].members["stranger"] = {"EXTERN_ID": "stranger"}


async def test_a_resync_sends_every_member_again_and_removes_who_left(worlds: Worlds) -> None:
    world = worlds(batch_rows=3, max_pending_rows=3)
    await world.start()
    await world.live(*crowd(10), "stranger")
    await world.live("p1", "p2", "stranger", change=EXIT)
    await world.clock.advance(2 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add", "remove"))
    await world.resync()
    await world.live("late")
    await world.clock.advance(5 * PERIOD)
    assert world.members() == set(crowd(10)) - {"p1", "p2"} | {"late"}
    added = [
        who
        for call in world.graph.calls_of("add", "remove")[sent:]
        if call.kind == "add"
        for who in people(call)
    ]
    assert sorted(added) == sorted(set(crowd(10)) - {"p1", "p2"} | {"late"}), "each once, nobody who has left"
    assert world.delivery.idle()
    await world.restart()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.graph.calls_of("add", "remove")) > sent
    again = len(world.graph.calls_of("add", "remove"))
    await world.clock.advance(3_600)
    assert len(world.graph.calls_of("add", "remove")) == again, "once"


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_resync_that_is_cut_off_goes_on_in_order(worlds: Worlds, compacted: bool) -> None:
    world = worlds(batch_rows=2, max_pending_rows=2)
    await world.start()
    await world.live(*crowd(4), "ann", *crowd(4, first=4))
    await world.live("ann", change=EXIT)
    await world.clock.advance(5 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add"))
    if compacted:
        world.log.compact(0)
    world.graph.script("add")
    world.graph.script("add", until=asyncio.Event())
    await world.resync()
    await world.clock.advance(PERIOD)
    assert len(world.graph.calls_of("add")) - sent == 2, "one is confirmed, one under way"
    assert 0 < world.ledger.states["vips"].cursor < 10
    await world.restart()
    await world.clock.advance(TIMEOUT + 5 * PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add")[sent:] for who in people(call)]
    assert world.members() == {*crowd(8), "stranger"}
    assert world.ledger.states["vips"].cursor == 10


async def test_a_resync_of_what_is_paused_begins_when_it_is_resumed(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    lose(world)
    await world.pause()
    await world.resync()
    await world.clock.advance(3_600)
    assert (world.view().state, world.members()) == (PAUSED, {"stranger"})
    await world.resume()
    await world.pass_period()
    assert world.members() == {"ann", "stranger"}


async def test_a_resync_that_is_asked_for_while_one_goes_on_begins_anew(worlds: Worlds) -> None:
    world = worlds(batch_rows=2, max_pending_rows=2)
    await world.start()
    await world.live("ann", *crowd(8))
    await world.live("ann", change=EXIT)
    await world.clock.advance(5 * PERIOD)
    lose(world)
    sent = len(world.graph.calls_of("add"))
    world.graph.script("add")
    hang = world.graph.script("add", until=asyncio.Event())
    await world.resync()
    await world.clock.advance(1)
    await world.resync()
    assert len(world.graph.calls_of("add")) - sent == 2
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(5 * PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add")[sent:] for who in people(call)]
    assert world.members() == {*crowd(8), "stranger"}


# -- all of it together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_paused_and_whoever_dies_the_members_are_right_in_the_end(
    worlds: Worlds, seed: int
) -> None:
    """Against the plain truth, who is a member by the log; and nothing goes out while it is paused."""
    dice = random.Random(seed)
    world = worlds(batch_rows=4, max_pending_rows=8, brake=BrakePolicy(percent=20.0, members=3))
    truth: dict[str, bool] = {}
    await world.start()
    for _ in range(80):
        profile = f"p{dice.randrange(12)}"
        truth[profile] = not truth.get(profile, False)
        await world.happen(ENTER if truth[profile] else EXIT, profile)
        if dice.random() < 0.2:
            how: dict[str, Any] = dice.choice(
                [{"error": cut(), "applied": True}, {"error": cut()}, {"until": asyncio.Event()}]
            )
            world.graph.script(dice.choice(["add", "remove"]), **how)
        if dice.random() < 0.1:
            await world.resync()
        match dice.randrange(4):
            case 0:
                await world.pause()
            case 1:
                await world.resume()
            case 2:
                await world.resume(accept_shrink=True)
        paused = world.view().state is PAUSED and not world.graph.under_way
        sent = len(world.graph.calls)
        await world.clock.advance(dice.choice([0, 1, 10, 40, 200]))
        assert not paused or len(world.graph.calls) == sent
        if dice.random() < 0.15:
            await world.restart()
    world.graph.scripts.clear()
    await world.restart()
    await world.resume(accept_shrink=True)
    await world.clock.advance(3 * 3600)
    assert len(world.graph.audiences) == 1
    assert world.members() == {profile for profile, member in truth.items() if member}
    assert world.delivery.idle()
