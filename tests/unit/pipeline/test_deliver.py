"""Delivery with in-memory twins and a clock that is moved by hand: no test here waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replaced

from app.adapters.memory import (
    ManualClock,
    MemoryDeadLetters,
    MemoryLiveness,
    MemoryMembershipLog,
    MemorySyncLedger,
)
from app.adapters.memory_graph import MemoryGraph
from app.domain.counters import Counters
from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.delivery import AnswerKind, GraphRefusal, NotSentError, Refusal, UsageMeter
from app.domain.delivery_errors import Scope
from app.errors import FatalError, UnreachableError
from app.pipeline.deliver import Delivery, DeliveryOptions, DestinationView
from app.ports import UsersAnswer
from schemas.audience import AudienceDefinition, AudienceSource, DeliveryMode, FacebookDestination, SyncMode
from schemas.control import DesiredRecord
from schemas.data_use import DataProcessing
from schemas.dead_letter import Reason
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import DestinationState, OffsetRange, SyncState

LIMITED = DataProcessing(options=["LDU"])
SETTINGS = DataUse(True, LIMITED)
ENTER, EXIT, UPDATE = Change.ENTERED, Change.EXITED, Change.UPDATED
TIMEOUT = 90.0
PERIOD = 30.0


def audience(key: str, account: str | None = "act_1", **mapping: Any) -> AudienceDefinition:
    destination = FacebookDestination(id=key, ad_account_id=account, **mapping)
    return AudienceDefinition(
        key=key,
        name=key.title(),
        description="for tests",
        source=AudienceSource.ENGAGE,
        destinations=[destination],
    )


def no_jitter() -> float:
    return 0.0


class World:
    """Kafka's side and Facebook's side, which outlive a worker, and the worker that runs now."""

    def __init__(self, *definitions: AudienceDefinition, **options: Any) -> None:
        self.definitions = definitions or (audience("vips"),)
        self.options = DeliveryOptions(installation="test", revoke_grace_seconds=0.01, **options)
        self.clock = ManualClock()
        self.graph = MemoryGraph()
        self.ledger = MemorySyncLedger()
        self.letters = MemoryDeadLetters()
        self.log = MemoryMembershipLog()
        self.liveness = MemoryLiveness()
        self.counters = Counters()
        self.failures: list[BaseException] = []
        self._sequence = 0
        self.delivery = self.worker()

    def worker(self, graph: MemoryGraph | None = None) -> Delivery:
        return Delivery(
            definitions=self.definitions,
            graph=graph or self.graph,
            ledger=self.ledger,
            letters=self.letters,
            log=self.log,
            clock=self.clock,
            liveness=self.liveness,
            counters=self.counters,
            options=self.options,
            partition_of=lambda _: 0,
            memberships_topic="audience.memberships",
            on_failure=self.failures.append,
            draw=no_jitter,
        )

    async def start(self) -> None:
        await self.delivery.assign(0, self.ledger.states, self.log.end(0))
        await self.clock.settle()

    async def restart(self) -> None:
        """The worker dies without a word, with what it had in memory; another one takes over."""
        dead, self.delivery = self.delivery, self.worker()
        for owned in dead._owned.values():
            for task in owned.tasks:
                task.cancel()
        await self.clock.settle()
        await self.start()

    def change(
        self,
        profile: str,
        change: Change = ENTER,
        key: str = "vips",
        rows: list[dict[str, Any]] | None = None,
    ) -> MembershipDelta:
        """A delta in the log, not yet offered."""
        self._sequence += 1
        sent: list[dict[str, Any]] = [{"EXTERN_ID": profile}] if rows is None else rows
        delta = MembershipDelta(key, profile, change, self._sequence, {key: sent}, 0, 0, Cause.EVENT)
        self.log.append(0, delta)
        return delta

    async def live(self, *profiles: str, change: Change = ENTER, key: str = "vips") -> None:
        """Changes that come in now, on the live stream."""
        for profile in profiles:
            delta = self.change(profile, change, key)
            end = self.log.end(0)
            self.delivery.offer(0, [(end - 1, delta)], end)
        await self.clock.settle()

    async def pass_period(self) -> None:
        await self.clock.advance(PERIOD)

    def view(self, key: str = "vips") -> DestinationView:
        return self.delivery.destinations()[key]

    def facebook_id(self, key: str = "vips") -> str:
        return self.ledger.states[key].facebook_id or ""

    def members(self, key: str = "vips") -> set[str]:
        return self.graph.members(self.facebook_id(key))


@pytest.fixture
async def worlds() -> AsyncIterator[Callable[..., World]]:
    """Makes worlds, and afterwards ends their workers and raises what failed unseen."""
    made: list[World] = []

    def make(*definitions: AudienceDefinition, **options: Any) -> World:
        made.append(World(*definitions, **options))
        return made[-1]

    yield make
    for world in made:
        await world.delivery.stop()
        assert world.failures == []


Worlds = Callable[..., World]


def refused(code: int, subcode: int | None = None, **how: Any) -> GraphRefusal:
    return GraphRefusal(Refusal(code=code, subcode=subcode, message=f"(#{code}) words", trace="T1", **how))


def cut() -> UnreachableError:
    return UnreachableError("the connection broke")


def people(call: Any) -> list[str]:
    return [row["EXTERN_ID"] for row in call.rows]


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


# -- the ledger and crashes ------------------------------------------------------------------------------------


async def test_the_ledger_says_what_may_have_been_sent_before_it_is(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event())
    await world.live("ann", "bob")
    await world.pass_period()
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed) == (0, (OffsetRange(first=0, end=2),))
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed) == (2, ())


async def test_after_a_crash_between_answer_and_cursor_the_newest_is_sent_again_after_a_timeout(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())  # applied, but the answer never comes
    await world.live("ann", "bob")
    await world.pass_period()
    assert world.members() == {"ann", "bob"}
    world.change("ann", EXIT)  # nobody sees it come in
    await world.restart()
    sent = len(world.graph.calls_of("add", "remove"))
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.graph.calls_of("add", "remove")) == sent
    await world.clock.advance(1 + PERIOD)
    assert [(call.kind, people(call)) for call in world.graph.calls_of("add", "remove")[sent:]] == [
        ("remove", ["ann"]),
        ("add", ["bob"]),
    ]
    assert world.members() == {"bob"}
    assert world.ledger.states["vips"].unconfirmed == ()


async def test_without_anything_under_way_a_new_owner_does_not_wait(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await world.start()
    await world.restart()
    await world.live("ann")
    assert world.members() == {"ann"}


async def test_a_crash_before_anything_was_sent_loses_nothing(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.restart()
    await world.pass_period()
    assert world.members() == {"ann"}


@pytest.mark.parametrize("compacted", [False, True])
async def test_an_older_change_is_never_sent_after_a_newer_one(worlds: Worlds, compacted: bool) -> None:
    """The predecessor may have sent ann's exit: her enter, far before it, must not go out any more."""
    world = worlds(batch_rows=2, max_pending_rows=2)
    for profile, change in (("ann", ENTER), ("bob", ENTER), ("cid", ENTER), ("dee", ENTER), ("ann", EXIT)):
        world.change(profile, change)
    if compacted:
        world.log.compact(0)
    theirs = await world.graph.create_audience("act_1", "Vips", "", "")
    world.ledger.states["vips"] = creating(world).model_copy(
        update={"creating": False, "facebook_id": theirs, "unconfirmed": (OffsetRange(first=0, end=5),)}
    )
    await world.start()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert "ann" not in [who for call in world.graph.calls_of("add") for who in people(call)]
    assert world.members() == {"bob", "cid", "dee"}


async def test_a_zombie_sends_nothing_once_another_worker_owns_its_destinations(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    world.ledger.fenced = True
    await world.pass_period()
    assert world.graph.calls_of("add") == []
    (failure,) = world.failures
    assert isinstance(failure, FatalError)
    world.failures.clear()


async def test_nothing_is_sent_while_the_group_has_not_been_heard_of(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    world.liveness.alive = False
    await world.clock.advance(300)
    assert world.graph.calls_of("add", "read") == []
    world.liveness.alive = True
    await world.clock.advance(1)
    assert world.members() == {"ann"}


async def test_an_unexpected_error_ends_the_process(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", RuntimeError("a bug"))
    await world.live("ann")
    await world.pass_period()
    assert [str(failure) for failure in world.failures] == ["a bug"]
    world.failures.clear()


async def test_revoke_lets_a_request_under_way_be_confirmed(worlds: Worlds) -> None:
    world = worlds()
    world.options = replace(world.options, revoke_grace_seconds=30.0)
    world.delivery = world.worker()
    await world.start()
    hang = world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    revoking = asyncio.ensure_future(world.delivery.revoke(0))
    await world.clock.settle()
    assert not revoking.done()
    assert hang.until is not None
    hang.until.set()
    await revoking
    assert world.ledger.states["vips"].cursor == 1
    assert world.delivery.destinations() == {}


async def test_revoke_abandons_a_request_that_hangs(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    assert world.view().pending == 1
    await world.delivery.revoke(0)
    assert world.graph.under_way == []
    assert world.ledger.states["vips"].unconfirmed == (OffsetRange(first=0, end=1),)
    assert world.counters.destinations["vips"].pending == 0


async def test_a_partition_that_is_assigned_again_starts_anew(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    world.graph.script("add", until=asyncio.Event())
    await world.live("ann")
    await world.pass_period()
    await world.start()
    assert world.graph.under_way == []
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.delivery.idle()


async def test_quiet_destinations_write_their_progress_now_and_then(worlds: Worlds) -> None:
    world = worlds(audience("vips"), audience("busy"))
    await world.start()
    for number in range(50):
        await world.live(f"p{number}", key="busy")
    await world.clock.advance(2 * PERIOD)
    assert world.ledger.states["vips"].cursor == 50
    assert len([state for state in world.ledger.history if state.destination == "vips"]) < 6


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


# -- provisioning ----------------------------------------------------------------------------------------------


def creating(world: World) -> SyncState:
    """As the ledger is left by a worker that died right after it wrote that it creates."""
    marker = "[audience-sync:test:vips]"
    return SyncState(
        destination="vips",
        audience="vips",
        marker=marker,
        creating=True,
        ad_account_id="act_1",
        updated_at=world.clock.now_ms(),
    )


async def test_the_ledger_knows_before_an_audience_is_created(worlds: Worlds) -> None:
    world = worlds()
    hang = world.graph.script("create", until=asyncio.Event())
    await world.start()
    state = world.ledger.states["vips"]
    assert (state.creating, state.facebook_id, state.state) == (True, None, DestinationState.NEW)
    assert hang.until is not None
    hang.until.set()
    await world.clock.settle()
    state = world.ledger.states["vips"]
    assert (state.creating, state.facebook_id) == (False, *world.graph.audiences)


async def test_a_crash_after_the_note_and_before_the_create_call_gives_one_audience(worlds: Worlds) -> None:
    world = worlds()
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.clock.advance(TIMEOUT - 1)
    assert world.graph.calls_of("create") == []  # the predecessor's call may still arrive
    await world.clock.advance(1)
    assert len(world.graph.audiences) == 1


async def test_a_crash_after_the_create_call_and_before_its_answer_is_recorded_gives_one_audience(
    worlds: Worlds,
) -> None:
    world = worlds(audience("vips"), audience("vips_2"))
    world.graph.script("create", until=asyncio.Event())  # made, but nobody hears of it
    await world.start()
    assert len(world.graph.audiences) == 2
    await world.restart()
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.graph.audiences) == 2
    first = next(a for a in world.graph.audiences.values() if "test:vips]" in a.description)
    assert world.facebook_id() == first.id


async def test_a_predecessor_s_create_call_that_arrives_late_is_found(worlds: Worlds) -> None:
    world = worlds()
    world.ledger.states["vips"] = creating(world)
    await world.start()
    await world.clock.advance(TIMEOUT / 2)
    late = await world.graph.create_audience("act_1", "Vips", "[audience-sync:test:vips]", "")
    await world.clock.advance(TIMEOUT)
    assert list(world.graph.audiences) == [late]
    assert world.facebook_id() == late


async def test_an_own_create_call_that_was_cut_and_arrives_late_is_found(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=False)
    await world.start()
    await world.clock.advance(TIMEOUT / 2)
    late = await world.graph.create_audience("act_1", "Vips", "[audience-sync:test:vips]", "")
    await world.clock.advance(TIMEOUT)
    assert list(world.graph.audiences) == [late]


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_answer_to_the_create_call_gives_one_audience(worlds: Worlds, applied: bool) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=applied)
    await world.start()
    await world.clock.advance(2 * TIMEOUT)
    assert len(world.graph.audiences) == 1
    assert world.view().state is DestinationState.LIVE


async def test_a_lost_create_call_that_was_applied_is_found_without_waiting_out_the_timeout(
    worlds: Worlds,
) -> None:
    world = worlds()
    world.graph.script("create", cut(), applied=True)
    await world.start()
    await world.clock.advance(5)
    assert world.facebook_id() in world.graph.audiences


async def test_a_create_call_that_was_never_sent_is_repeated_soon(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", NotSentError("no connection"), times=2)
    await world.start()
    await world.clock.advance(10)
    assert world.view().state is DestinationState.LIVE


async def test_a_gateway_s_answer_says_nothing_of_the_server_behind_it(worlds: Worlds) -> None:
    world = worlds()
    gateway = GraphRefusal(Refusal(AnswerKind.NO_JSON, 504))
    world.graph.script("create", gateway)
    await world.start()
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.graph.calls_of("create")) == 1
    await world.clock.advance(2)
    assert len(world.graph.calls_of("create")) == 2


async def test_a_restart_uses_the_audience_it_has(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.restart()
    await world.clock.advance(TIMEOUT)
    assert len(world.graph.calls_of("create")) == 1


async def test_a_definition_with_an_audience_id_is_connected_to_it(worlds: Worlds) -> None:
    world = worlds()
    theirs = await world.graph.create_audience("act_1", "theirs", "", "")
    world.graph.calls.clear()
    world.definitions = (audience("vips", audience_id=theirs),)
    world.delivery = world.worker()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    assert world.graph.calls_of("create") == []
    assert world.graph.members(theirs) == {"ann"}


async def test_another_audience_id_is_filled_from_the_beginning(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    theirs = await world.graph.create_audience("act_1", "theirs", "", "")
    world.definitions = (audience("vips", audience_id=theirs),)
    await world.restart()
    await world.pass_period()
    assert world.graph.members(theirs) == {"ann"}


async def test_an_ad_account_that_changes_there_and_back_finds_its_first_audience_again(
    worlds: Worlds,
) -> None:
    world = worlds()
    await world.start()
    first = world.facebook_id()
    world.definitions = (audience("vips", account="act_2"),)
    await world.restart()
    assert world.graph.audiences[world.facebook_id()].ad_account_id == "act_2"
    world.definitions = (audience("vips"),)
    await world.restart()
    assert world.facebook_id() == first


async def test_without_an_ad_account_the_destination_is_held_with_the_fix(worlds: Worlds) -> None:
    world = worlds(audience("vips", account=None))
    await world.start()
    view = world.view()
    assert view.state is DestinationState.HELD
    assert view.reason is not None
    assert "facebook.ad_account_id" in view.reason
    assert world.graph.calls == []


async def test_the_ad_account_of_the_options_is_used_and_completed(worlds: Worlds) -> None:
    world = worlds(audience("vips", account=None), ad_account_id="77")
    await world.start()
    assert world.graph.audiences[world.facebook_id()].ad_account_id == "act_77"


async def test_refused_creation_is_held_and_recovers_by_itself(worlds: Worlds) -> None:
    world = worlds()
    world.graph.script("create", refused(200, 1870090))
    await world.start()
    view = world.view()
    assert view.state is DestinationState.HELD
    assert "tos/?act=1" in (view.reason or "")
    await world.clock.advance(300)
    assert world.view().state is DestinationState.LIVE
    assert len(world.graph.audiences) == 1


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


# -- isolation and limits --------------------------------------------------------------------------------------

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


# -- everything at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_and_whoever_dies_the_members_are_right_in_the_end(
    worlds: Worlds, seed: int
) -> None:
    """Random changes, refusals, lost answers and crashes against the plain truth: who is a member by the log."""
    dice = random.Random(seed)
    world = worlds(batch_rows=4, max_pending_rows=8)
    truth: dict[str, bool] = {}
    await world.start()
    faults: list[Callable[[], Mapping[str, Any]]] = [
        lambda: {"error": cut(), "applied": dice.random() < 0.5},
        lambda: {"error": refused(2)},
        lambda: {"error": refused(80003, 2446079)},
        lambda: {"error": refused(190)},
        lambda: {"until": asyncio.Event()},
    ]
    for _ in range(60):
        profile = f"p{dice.randrange(12)}"
        truth[profile] = not truth.get(profile, False)
        await world.live(profile, change=ENTER if truth[profile] else EXIT)
        if dice.random() < 0.3:
            world.graph.script(dice.choice(["add", "remove", "create", "list"]), **dice.choice(faults)())
        await world.clock.advance(dice.choice([0, 1, 10, 40, 200]))
        if dice.random() < 0.15:
            await world.restart()
    world.graph.scripts.clear()
    await world.restart()
    await world.clock.advance(3 * 3600)
    assert len(world.graph.audiences) == 1
    assert world.members() == {profile for profile, member in truth.items() if member}
    assert world.delivery.idle()
    assert world.letters.letters == {}


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


# -- what people look at ---------------------------------------------------------------------------------------


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


def anew(world: World) -> dict[str, DesiredRecord]:
    at = world.clock.now_ms()
    return {"vips": DesiredRecord(target="vips", number=0, paused=False, recreate_at=at, written_at=at)}


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_audience_that_was_deleted_is_made_anew_on_demand_and_has_all_members(
    worlds: Worlds, restarted: bool
) -> None:
    world = worlds()
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    first = world.facebook_id()
    del world.graph.audiences[first]
    await world.live("ann", change=EXIT)
    await world.live("cat")
    await world.pass_period()
    assert world.view().state is DestinationState.GONE
    assert len(world.graph.audiences) == 0, "nobody has asked for another one"
    if restarted:
        await world.restart()
    wish = anew(world)
    world.delivery.desire(wish)
    await world.clock.settle()
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id() != first
    assert list(world.graph.audiences) == [world.facebook_id()]
    assert world.members() == {"bob", "cat"}
    assert world.view().state is DestinationState.LIVE
    assert world.ledger.states["vips"].recreated_at == wish["vips"].recreate_at
    await world.restart()
    world.delivery.desire(wish)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.graph.calls_of("create")) == 2, "once for each wish"


async def test_one_that_was_only_out_of_sight_is_found_again_in_place_of_a_second_one(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    world.graph.script("add", refused(100, 33), times=1)
    await world.live("bob")
    await world.pass_period()
    assert world.view().state is DestinationState.GONE
    first = world.facebook_id()
    world.delivery.desire(anew(world))
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id() == first
    assert (world.members(), len(world.graph.audiences)) == ({"ann", "bob"}, 1)


async def test_nobody_gets_another_audience_while_there_is_one(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    await world.live("ann")
    await world.pass_period()
    first, calls = world.facebook_id(), len(world.graph.calls_of("add"))
    world.delivery.desire(anew(world))
    await world.clock.advance(PERIOD)
    assert (world.facebook_id(), len(world.graph.calls_of("add"))) == (first, calls)
    assert world.ledger.states["vips"].recreated_at > 0
    connected = worlds(audience("vips", audience_id="123"))
    await connected.start()
    assert connected.view().state is DestinationState.GONE
    connected.delivery.desire(anew(connected))
    await connected.clock.advance(PERIOD)
    assert connected.graph.audiences == {}


# -- one ad account and several of them ------------------------------------------------------------------------


def in_accounts(*accounts: str) -> AudienceDefinition:
    """The audience vips as definitions of one ad account, or of several, read it."""
    ids = [("vips" if len(accounts) == 1 else f"vips@{account}", account) for account in accounts]
    destinations = [FacebookDestination(id=id_, ad_account_id=account) for id_, account in ids]
    return audience("vips").model_copy(update={"destinations": destinations})


async def go_over_to(world: World, *accounts: str) -> None:
    world.definitions = (in_accounts(*accounts),)
    await world.delivery.update(world.definitions, world.ledger.states)
    await world.clock.settle()


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_ad_account_keeps_its_audience_as_others_come_and_go(
    worlds: Worlds, restarted: bool
) -> None:
    world = worlds(in_accounts("act_1"))
    await world.start()
    await world.live("ann", "bob")
    await world.pass_period()
    first = world.facebook_id()
    # Of the old id, and not sent before there are two.
    await world.live("ann", change=EXIT)
    await world.live("cat")
    await go_over_to(world, "act_1", "act_2")
    if restarted:
        await world.restart()
    await world.live("dan")
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id("vips@act_1") == first
    assert world.members("vips@act_1") == {"bob", "cat", "dan"}
    assert len(world.graph.calls_of("create")) == 2
    calls = [people(call) for call in world.graph.calls_of("add", "remove") if call.audience == first]
    assert calls == [["ann", "bob"], ["ann"], ["cat", "dan"]], "nothing that had arrived is sent again"
    second = world.facebook_id("vips@act_2")
    assert second != first

    await go_over_to(world, "act_2")
    if restarted:
        await world.restart()
    delta = world.change("eve")
    log_end = world.log.end(0)
    world.delivery.offer(0, [(log_end - 1, delta)], log_end)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert world.facebook_id("vips") == second
    assert "eve" in world.members("vips")
    assert world.graph.members(first) == {"bob", "cat", "dan"}, "what is left out stays as it is"
    await go_over_to(world, "act_1", "act_2")
    await world.clock.advance(TIMEOUT + PERIOD)
    assert (world.facebook_id("vips@act_1"), world.facebook_id("vips@act_2")) == (first, second)
    assert len(world.graph.calls_of("create")) == 2


async def test_a_lost_create_call_of_one_account_is_found_as_one_of_several(worlds: Worlds) -> None:
    world = worlds(in_accounts("act_1"))
    world.graph.script("create", cut(), applied=True)
    await world.start()
    await go_over_to(world, "act_1", "act_2")
    await world.restart()
    await world.clock.advance(TIMEOUT * 2)
    accounts = sorted(one.ad_account_id for one in world.graph.audiences.values())
    assert accounts == ["act_1", "act_2"]
