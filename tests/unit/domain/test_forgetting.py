"""What becomes of a profile that is forgotten, and of what comes too late."""

from __future__ import annotations

import msgspec
import pytest

from app.domain import forgetting
from app.domain.brake import is_counted
from app.domain.counters import Counters
from app.domain.engage_calls import EngageCalls
from app.domain.filling import as_past
from app.domain.forgetting import FORGOTTEN_KEY, forgotten_key
from app.domain.partition import AudiencePartition, Outcome
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from app.domain.state import CLOCK_KEY
from schemas.dead_letter import Reason
from schemas.membership import EVERY, Cause, Change
from schemas.profile import CALL, FORGET, MARKER, PAST, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.domain.plans import FACEBOOK, FAR_WALL, HOUR, START, call, plan_of

LANE = "lane-0"
AT = START + HOUR
EMAIL = "e" * 64


class World:
    """One partition, whose buyers are in two audiences, one of which removes nobody."""

    def __init__(self, told: tuple[str, ...] = ()) -> None:
        self.plan = plan_of(
            {"when": {"event": "A", "within": "30d"}, "facebook": FACEBOOK},
            {"when": {"event": "A"}, "facebook": {**FACEBOOK, "sync_mode": "upsert"}},
        )
        self.feeds = [FeedHit(feed.id) for feed in self.plan.events["A"].feeds]
        self.told = told
        self.log: dict[bytes, bytes] = {}
        self.place = 0
        self.start()

    def start(self) -> None:
        """From what the changelog has."""
        self.counters = Counters()
        calls = EngageCalls("shop", self.told, 0) if self.told else None
        self.partition = AudiencePartition(self.plan, 0, self.counters, calls=calls)
        for key, value in self.log.items():
            self.partition.load(key, value)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected([LANE])
        if not self.log:
            self.marker(START)

    def marker(self, at: int) -> None:
        self.partition.apply_marker(ProfileEvent(VERSION, MARKER, "", 0, 0, at, at, progress={LANE: at}))

    def buys(
        self, profile: str, received: int = START, timestamp: int | None = None, kind: int = CALL
    ) -> None:
        self.place += 1
        at = received if timestamp is None else timestamp
        event = ProfileEvent(
            VERSION, kind, LANE, self.place, 0, at, received, None, self.feeds, None, {"EMAIL": EMAIL}
        )
        self.partition.apply(profile, event)

    def forget(self, profile: str, at: int = AT) -> None:
        self.place += 1
        self.partition.apply(profile, ProfileEvent(VERSION, FORGET, LANE, self.place, 0, at, at))

    def drain(self) -> Outcome:
        outcome = self.partition.drain()
        for key in outcome.erased:
            self.log.pop(key, None)
        self.log.update(outcome.states)
        return outcome

    def confirm(self) -> None:
        removals = self.partition.forgotten.removals
        for key in list(removals):
            assert self.partition.confirm_removal(key, removals[key])

    @property
    def dropped(self) -> int:
        return self.counters.stages["evaluate"].dropped["forgotten"]


def test_the_person_leaves_every_destination_whatever_its_sync_mode() -> None:
    world = World()
    world.buys("ann")
    world.drain()
    world.forget("ann")
    outcome = world.drain()
    said = {delta.audience: delta for delta in outcome.deltas}
    assert said.keys() == {"audience_0", "audience_1"}
    row = {"EXTERN_ID": "ann", "EMAIL": EMAIL}
    for key, delta in said.items():
        assert (delta.change, delta.cause, delta.sequence) == (Change.EXITED, Cause.FORGOTTEN, 2)
        assert delta.rows == {key: [row]}
        assert not is_counted(delta, delta.detected_at)
    assert [world.partition.members(key) for key in said] == [0, 0]
    assert world.counters.audiences["audience_0"].exited == 1


def test_who_has_left_before_is_taken_out_once_more_but_counted_once() -> None:
    world = World()
    world.buys("ann")
    world.marker(START + 31 * 24 * HOUR)
    assert world.partition.members("audience_0") == 0
    world.forget("ann", START + 32 * 24 * HOUR)
    last = [delta for delta in world.drain().deltas if delta.cause == Cause.FORGOTTEN]
    assert {(delta.audience, delta.sequence) for delta in last} == {("audience_0", 3), ("audience_1", 2)}
    assert [world.partition.members(key) for key in ("audience_0", "audience_1")] == [0, 0]


def test_nothing_is_left_but_a_digest_once_the_removal_is_confirmed() -> None:
    world = World()
    world.buys("ann")
    world.drain()
    assert b"ann" in world.log
    world.forget("ann")
    world.drain()
    assert world.log.keys() == {CLOCK_KEY, b"\x00audiences", forgotten_key("ann")} & world.log.keys()
    assert b"ann" in world.log[forgotten_key("ann")], "the removal has to be found again"
    world.start()
    world.confirm()
    outcome = world.drain()
    assert sorted(outcome.left) == [("audience_0", "ann"), ("audience_1", "ann")]
    assert not outcome.deltas
    assert not [key for key, value in world.log.items() if b"ann" in key + value]
    assert not world.drain().left


def test_what_happened_or_was_received_before_is_dropped_also_after_a_restart() -> None:
    world = World()
    world.buys("ann")
    world.forget("ann")
    world.drain()
    world.confirm()
    world.drain()
    world.start()
    world.buys("ann", AT)
    world.buys("ann", AT + 2, AT)
    world.buys("ann", AT + 2, AT, kind=PAST)
    assert world.dropped == 3
    assert not world.drain().deltas
    world.buys("bob", AT)
    world.buys("ann", AT + 3)
    assert world.dropped == 3
    assert {delta.profile for delta in world.drain().deltas} == {"ann", "bob"}


def test_who_comes_back_is_remembered_and_enters_when_the_removal_is_confirmed() -> None:
    world = World()
    world.buys("ann")
    world.forget("ann")
    world.drain()
    world.buys("ann", AT + 1)
    world.marker(AT + 2)
    assert not world.drain().deltas
    world.start()
    world.marker(AT + 3)
    assert not world.drain().deltas, "the new entry would take the removal's place"
    world.confirm()
    world.marker(AT + 4)
    outcome = world.drain()
    assert {(one.audience, one.change, one.sequence) for one in outcome.deltas} == {
        ("audience_0", Change.ENTERED, 1),
        ("audience_1", Change.ENTERED, 1),
    }
    assert len(outcome.left) == 2, "the tombstones are written before the entries"


def test_a_request_that_is_repeated_or_older_changes_nothing() -> None:
    world = World()
    world.buys("ann")
    world.forget("ann")
    world.drain()
    world.confirm()
    world.buys("ann", AT + 1)
    world.marker(AT + 1)
    world.drain()
    world.forget("ann", AT)
    assert not world.drain().deltas
    assert world.partition.states.is_member("audience_0", "ann")
    world.forget("ann", AT + 2)
    assert len(world.drain().deltas) == 2


def test_a_request_for_somebody_unknown_leaves_a_digest_alone() -> None:
    world = World()
    world.forget("ann")
    assert not world.drain().deltas
    world.confirm()
    world.drain()
    world.buys("ann", AT)
    assert world.dropped == 1


def test_whom_the_person_took_over_leaves_destinations_that_hear_of_no_exits() -> None:
    """They had left before, and such a destination has them still."""
    world = World()
    upsert = {**FACEBOOK, "sync_mode": "upsert"}
    world.plan = plan_of(
        {"when": {"event": "A", "within": "1d"}, "include_anonymous": True, "facebook": upsert}
    )
    world.feeds = [FeedHit(feed.id) for feed in world.plan.events["A"].feeds]
    world.log.clear()
    world.start()
    world.buys("anonymous_id:a1")
    world.marker(START + 25 * HOUR)
    links = Linking(["anonymous_id:a1"])
    at = START + 26 * HOUR
    world.partition.apply("ann", ProfileEvent(VERSION, CALL, LANE, 8, 0, at, at, linking=links))
    assert [(delta.change, delta.rows) for delta in world.drain().deltas] == [
        (Change.ENTERED, {"audience_0": [{"EMAIL": EMAIL}]}),
        (Change.EXITED, {}),
    ]
    world.place = 9
    world.forget("ann", at + 1)
    (delta,) = world.drain().deltas
    assert (delta.profile, delta.change) == ("ann", Change.EXITED)
    assert delta.rows == {"audience_0": [{"EXTERN_ID": "ann", "EMAIL": EMAIL}]}


def test_of_an_audience_that_is_defined_no_longer_the_membership_goes_too() -> None:
    world = World()
    world.buys("ann")
    world.buys("bob")
    world.drain()
    both, world.plan = world.plan, plan_of({"when": {"event": "A", "within": "30d"}, "facebook": FACEBOOK})
    world.start()
    world.marker(START + 1)
    world.forget("ann")
    row = {"EXTERN_ID": "ann", "EMAIL": EMAIL}
    last = [(delta.audience, delta.change, delta.sequence, delta.rows) for delta in world.drain().deltas]
    assert last == [
        ("audience_0", Change.EXITED, 2, {"audience_0": [row]}),
        ("audience_1", Change.EXITED, 2, {EVERY: [row]}),
    ], "nobody knows to which destinations the other one comes back"
    world.confirm()
    assert sorted(world.drain().left) == [("audience_0", "ann"), ("audience_1", "ann")]
    world.plan = both
    world.start()
    world.marker(START + 2)
    assert world.partition.members("audience_1") == 1


def test_who_asks_for_a_forgotten_identifier_by_a_call_of_before_is_answered() -> None:
    world = World()
    world.forget("anonymous_id:a1")
    world.partition.apply(
        "bob",
        ProfileEvent(VERSION, CALL, LANE, 9, 0, START, START, linking=Linking(["anonymous_id:a1"])),
    )
    state = world.partition.states.find("bob")
    assert state is not None
    assert state.identity is not None
    assert not state.identity.asking, "it would wait for ever"
    assert state.identity.aliases.keys() == {"bob"}
    assert world.partition.states.find("anonymous_id:a1") is None


def test_engage_is_told_that_the_person_left() -> None:
    world = World(("track",))
    world.buys("ann")
    world.forget("ann")
    said = [(profile, one.event) for profile, one in world.drain().calls]
    assert sorted(said) == sorted([("ann", "Audience Entered")] * 2 + [("ann", "Audience Exited")] * 2)
    world.buys("bob", AT + 1)
    assert [profile for profile, _ in world.drain().calls] == ["bob", "bob"]


def test_those_forgotten_first_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(forgetting, "MOST_FORGOTTEN", 2)
    for name in ("ann", "bob", "cid"):
        world.forget(name)
        world.confirm()
        outcome = world.drain()
    assert forgotten_key("ann") in outcome.erased
    assert [key for key in world.log if key.startswith(FORGOTTEN_KEY)] == [
        forgotten_key("bob"),
        forgotten_key("cid"),
    ]
    world.start()
    world.buys("ann", AT)
    assert world.dropped == 0


# --- calls ---


def resolver() -> Resolver:
    return Resolver(World().plan, ResolveOptions())


def test_a_call_of_type_delete_asks_for_it() -> None:
    resolved = resolver().resolve(call(type="delete", event=...), None, FAR_WALL, LANE, 7)
    [(profile, event)] = resolved.records
    assert (profile, event.kind, event.received, event.offset) == ("user_1", FORGET, START + 1_000, 7)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=ProfileEvent) == event
    assert as_past(event, 2) is None, "history that is read again forgets nobody, and makes nobody known"


def test_a_delete_without_a_user_id_is_a_dead_letter() -> None:
    line = call(type="delete", userId=" ", anonymousId="a1")
    refused = resolver().resolve(line, None, FAR_WALL, LANE, 7).refused
    assert refused is not None
    assert refused.reason is Reason.NO_IDENTITY


def test_who_comes_back_is_news_to_resolve() -> None:
    made = Resolver(plan_of({"when": {"event": "B"}}), ResolveOptions())

    def linked() -> bool:
        line = call(anonymousId="a1")
        return bool(made.resolve(line, None, FAR_WALL, LANE, 1).records)

    assert [linked(), linked()] == [True, False]
    made.resolve(call(type="delete"), None, FAR_WALL, LANE, 2)
    assert linked()


def test_simulate_forgets_as_well() -> None:
    plan = plan_of({"when": {"event": "Order Completed"}})
    second = "2025-03-01T00:00:0{}.000Z".format
    lines = [
        call(receivedAt=second(1), timestamp=second(1)),
        call(type="delete", receivedAt=second(2), timestamp=second(2)),
        call(receivedAt=second(3), timestamp=second(1), messageId="late"),
        call(receivedAt=second(4), timestamp=second(4), messageId="new"),
    ]
    assert list(simulate(plan, lines)) == [
        Transition(START + 1_000, "audience_0", "user_1", True),
        Transition(START + 2_000, "audience_0", "user_1", False),
        Transition(START + 4_000, "audience_0", "user_1", True),
    ]
