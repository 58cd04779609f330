from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.domain.computed_traits import computed_value
from app.domain.counters import Counters
from app.domain.fold import MAX_OF_ONE_KIND, MAX_REMEMBERED
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import AUDIENCES_KEY, CLOCK_KEY, NEVER, decode_audiences, decode_state, wake_of
from schemas.membership import Cause, Change, MembershipDelta
from schemas.profile import CALL, MARKER, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, START, call, plan_of

LANE = "source-0"
EARLY = 5_000
ORDERED = {"when": {"event": "Order Completed", "within": "30d"}, "facebook": FACEBOOK}


class Engine:
    """A partition, and short words for what comes to it."""

    def __init__(
        self,
        *audiences: dict[str, Any],
        early: int = 0,
        lanes: tuple[str, ...] = (LANE,),
        started: bool = True,
        traits: dict[str, Any] | None = None,
    ) -> None:
        self.plan = plan_of(*(audiences or (ORDERED,)), traits=traits)
        self.early = early
        self.lanes = lanes
        self.counters = Counters()
        self.offset = 0
        self.applied_at = 0
        self.log: dict[bytes, bytes] = {}
        self.partition = self._new()
        if started:
            self.marker(START)

    def _new(self) -> AudiencePartition:
        made = AudiencePartition(self.plan, self.early, self.counters, self.applied_at)
        for key, value in self.log.items():
            made.load(key, value)
        made.finish_recovery()
        made.set_wall(FAR_WALL)
        made.set_expected(self.lanes)
        return made

    def restart(self, *audiences: dict[str, Any], traits: dict[str, Any] | None = None) -> None:
        """From the log alone, perhaps by other definitions."""
        if audiences:
            self.plan = plan_of(*audiences, traits=traits)
        self.counters = Counters()
        self.partition = self._new()

    def marker(self, instant: int, lane: str = LANE) -> None:
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, lane, 0, 0, instant, instant, progress={lane: instant})
        )

    def call(self, received: int, profile: str = "user_1", **fields: Any) -> None:
        self.offset += 1
        fields.setdefault("timestamp", received)
        fields.setdefault("lane", LANE)
        event = ProfileEvent(
            version=VERSION, kind=CALL, offset=self.offset, index=0, received=received, **fields
        )
        self.partition.apply(profile, event)

    def order(self, received: int, profile: str = "user_1", **fields: Any) -> None:
        feeds = [FeedHit(feed.id, [1] * len(feed.kept)) for feed in self.plan.events["Order Completed"].feeds]
        fields.setdefault("message_id", f"m{self.offset}")
        self.call(received, profile, hits=feeds, **fields)

    def deltas(self) -> list[MembershipDelta]:
        outcome = self.partition.drain()
        self.log.update(outcome.states)
        return outcome.deltas


def short(deltas: list[MembershipDelta]) -> list[tuple[str, str, int]]:
    return [(delta.profile, delta.change.value, delta.at) for delta in deltas]


def test_a_delta_says_what_when_why_and_what_to_send() -> None:
    engine = Engine()
    engine.partition.set_wall(FAR_WALL, START)
    engine.order(START + 10)
    engine.marker(START + 31 * DAY)
    row: list[dict[str, str | float]] = [{"EXTERN_ID": "user_1"}]
    assert engine.deltas() == [
        MembershipDelta(
            "audience_0",
            "user_1",
            Change.ENTERED,
            1,
            {"audience_0": row},
            START + 10,
            START + 10,
            Cause.EVENT,
        ),
        MembershipDelta(
            "audience_0",
            "user_1",
            Change.EXITED,
            2,
            {"audience_0": row},
            START + 10 + 30 * DAY,
            START + 31 * DAY,
            Cause.TIME,
        ),
    ]
    assert engine.partition.members("audience_0") == 0
    counted = engine.counters.audiences["audience_0"]
    assert (counted.members, counted.entered, counted.exited) == (0, 1, 1)
    assert engine.counters.stages["evaluate"].records_in == 1
    assert engine.counters.stages["expire"].records_out == 1


def test_time_driven_changes_fire_in_order_before_the_record_that_moves_the_clock() -> None:
    engine = Engine()
    engine.order(START, "b")
    engine.order(START + HOUR, "a")
    engine.order(START + 30 * DAY, "b")
    engine.order(START + 40 * DAY, "c")
    assert short(engine.deltas()) == [
        ("b", "entered", START),
        ("a", "entered", START + HOUR),
        ("b", "exited", START + 30 * DAY),
        ("b", "entered", START + 30 * DAY),
        ("a", "exited", START + HOUR + 30 * DAY),
        ("c", "entered", START + 40 * DAY),
    ]


def test_a_redelivery_changes_nothing_and_is_counted() -> None:
    engine = Engine({"when": {"event": "Order Completed", "count": {"exactly": 1}}})
    engine.order(START, message_id=None)
    engine.offset -= 1
    engine.order(START + DAY, message_id=None)
    assert [delta.change for delta in engine.deltas()] == [Change.ENTERED]
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_the_same_message_from_another_place_is_a_duplicate() -> None:
    engine = Engine({"when": {"event": "Order Completed", "count": {"exactly": 1}}})
    engine.order(START, message_id="m")
    engine.order(START + 1, message_id="m")
    engine.order(START + 1, "user_2", message_id="m")
    assert short(engine.deltas()) == [("user_1", "entered", START), ("user_2", "entered", START + 1)]
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_room_for_message_ids_is_bounded_and_its_lack_is_counted() -> None:
    engine = Engine()
    for number in range(MAX_REMEMBERED + 3):
        engine.order(START + number, message_id=f"id {number}")
    assert engine.counters.forgotten_ids == 3
    engine.order(START + HOUR, message_id="id 0")
    engine.order(START + HOUR, message_id=f"id {MAX_REMEMBERED}")
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_what_comes_before_the_clock_starts_is_evaluated_when_it_does() -> None:
    engine = Engine(lanes=("x", LANE), started=False)
    engine.order(START, lane="x")
    engine.call(START + 5, "user_2", lane="x", traits={"plan": "x"})
    assert engine.deltas() == []
    engine.restart()
    engine.marker(START + 10 * DAY, "x")
    assert engine.deltas() == []
    engine.marker(START + 12 * DAY)
    deltas = engine.deltas()
    assert short(deltas) == [("user_1", "entered", START + 10 * DAY)]
    engine.marker(START + 60 * DAY, "x")
    engine.marker(START + 60 * DAY)
    assert short(engine.deltas()) == [("user_1", "exited", START + 30 * DAY)]


def test_an_event_counts_up_to_five_seconds_early_and_keeps_its_instant() -> None:
    engine = Engine(early=EARLY)
    engine.order(START, timestamp=START + EARLY)
    assert short(engine.deltas()) == [("user_1", "entered", START + EARLY)]
    engine.order(START, "user_2", timestamp=START + EARLY + 1)
    assert engine.deltas() == []
    engine.marker(START + 1)
    (delta,) = engine.deltas()
    assert (delta.profile, delta.at, delta.detected_at) == ("user_2", START + EARLY + 1, START + 1)
    engine.marker(START + EARLY + 30 * DAY - 1)
    assert engine.deltas() == []
    engine.marker(START + EARLY + 30 * DAY)
    assert short(engine.deltas()) == [("user_1", "exited", START + EARLY + 30 * DAY)]


def test_an_event_that_counts_for_ever_is_early_too() -> None:
    engine = Engine({"when": {"event": "Order Completed"}}, early=EARLY)
    engine.order(START, timestamp=START + EARLY + 1)
    assert engine.deltas() == []
    engine.marker(START + 1)
    assert short(engine.deltas()) == [("user_1", "entered", START + EARLY + 1)]


@pytest.mark.parametrize(
    ("wall", "steady", "found"),
    [
        (START + 31 * DAY, None, START + 30 * DAY),
        (START + 31 * DAY, START + 300_000, START + 31 * DAY),
        (START + 31 * DAY, START + 300_000 + 1, START + 30 * DAY),
        (START + 31 * DAY, START - DAY, START + 31 * DAY),
    ],
    ids=["catches up", "a wall that jumped", "behind before it jumped", "slept"],
)
def test_a_clock_that_catches_up_finds_what_time_does_at_its_own_instant(
    wall: int, steady: int | None, found: int
) -> None:
    engine = Engine()
    engine.order(START)
    engine.deltas()
    engine.partition.set_wall(wall, steady)
    engine.marker(START + 31 * DAY)
    (delta,) = engine.deltas()
    assert (delta.change, delta.at, delta.cause) == (Change.EXITED, START + 30 * DAY, Cause.TIME)
    assert delta.detected_at == found


def test_what_other_definitions_do_says_so() -> None:
    engine = Engine()
    engine.order(START)
    engine.marker(START + DAY)
    engine.deltas()
    engine.restart({**ORDERED, "when": {"event": "Order Completed", "within": "1h"}})
    engine.marker(START + 2 * DAY)
    (delta,) = engine.deltas()
    assert (delta.change, delta.cause) == (Change.EXITED, Cause.DEFINITION)
    assert delta.detected_at == START + 2 * DAY, "also by a partition that was away"


def test_the_wall_holds_time_driven_changes_back() -> None:
    engine = Engine(started=False)
    engine.partition = AudiencePartition(engine.plan, 0, engine.counters)
    engine.partition.finish_recovery()
    engine.partition.set_expected([LANE])
    engine.partition.set_wall(START)
    engine.order(START)
    engine.marker(START + 40 * DAY)
    assert short(engine.deltas()) == [("user_1", "entered", START)]
    assert engine.partition.next_due is not None
    assert engine.partition.next_due <= START + 30 * DAY
    engine.partition.set_wall(START + 30 * DAY - 1)
    engine.marker(START + 40 * DAY)
    assert engine.deltas() == []
    engine.partition.set_wall(START + 30 * DAY)
    engine.marker(START + 40 * DAY)
    assert short(engine.deltas()) == [("user_1", "exited", START + 30 * DAY)]


@pytest.mark.parametrize("restarting", [False, True])
def test_a_long_step_of_the_clock_fires_in_pieces_as_in_one(restarting: bool) -> None:
    """Each half entry and exit at its own instant, whatever happens between two pieces."""
    waiting = {"when": {"event": "Order Completed", "between": ["20d", "10d"]}, "facebook": FACEBOOK}
    whole, pieces = Engine(waiting), Engine(waiting)
    for engine in (whole, pieces):
        for number in range(20):
            engine.order(START + number * HOUR, f"user_{number}")
        assert engine.deltas() == []
    whole.marker(START + 60 * DAY)
    marker = ProfileEvent(VERSION, MARKER, LANE, 0, 0, START, START, progress={LANE: START + 60 * DAY})
    deltas: list[MembershipDelta] = []
    steps = 0
    while not pieces.partition.foresee(marker, 3):
        outcome = pieces.partition.drain()
        assert len(outcome.deltas) == 3
        assert len(outcome.states) <= 4
        deltas += outcome.deltas
        pieces.log.update(outcome.states)
        steps += 1
        if restarting:
            pieces.restart()
    deltas += pieces.deltas()
    assert steps == 13
    assert deltas == whole.deltas()
    assert len(deltas) == 40


# --- recovery ---


def test_a_restart_goes_on_where_it_was() -> None:
    engine = Engine()
    engine.order(START)
    engine.order(START + HOUR, "user_2")
    engine.deltas()
    engine.restart()
    assert engine.counters.audiences["audience_0"].members == 2
    assert engine.partition.members("audience_0") == 2
    engine.offset -= 1
    engine.order(START + HOUR, "user_2", message_id="other")
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 1}
    engine.marker(START + 40 * DAY)
    deltas = engine.deltas()
    assert short(deltas) == [
        ("user_1", "exited", START + 30 * DAY),
        ("user_2", "exited", START + 30 * DAY + HOUR),
    ]
    assert [delta.sequence for delta in deltas] == [2, 2]


def test_a_deleted_state_is_gone() -> None:
    engine = Engine()
    engine.order(START)
    engine.deltas()
    made = AudiencePartition(engine.plan, 0, Counters())
    for key, value in engine.log.items():
        made.load(key, value)
    made.load(b"user_1", None)
    made.finish_recovery()
    assert made.states.resting == {}
    assert made.next_due is None


def test_released_members_are_no_longer_counted() -> None:
    engine = Engine()
    engine.order(START)
    engine.partition.release()
    assert engine.counters.audiences["audience_0"].members == 0


def test_every_drain_has_the_partitions_own_record_and_each_state_once() -> None:
    engine = Engine()
    engine.order(START)
    engine.order(START + 1)
    states = [key for key, _ in engine.partition.drain().states]
    # What is remembered of the audiences is written when it has changed.
    assert states == [b"user_1", CLOCK_KEY, AUDIENCES_KEY]
    engine.order(START + 2)
    assert [key for key, _ in engine.partition.drain().states] == [b"user_1", CLOCK_KEY]
    assert engine.partition.drain().states == []


def test_other_definitions_are_applied_to_every_state_at_a_restart() -> None:
    engine = Engine()
    engine.order(START)
    engine.order(START + 20 * DAY, "user_2")
    engine.deltas()
    engine.restart({**ORDERED, "when": {"event": "Order Completed", "within": "10d"}})
    engine.marker(START + 20 * DAY + 5)
    assert short(engine.deltas()) == [("user_1", "exited", START + 20 * DAY)]
    engine.marker(START + 60 * DAY)
    assert short(engine.deltas()) == [("user_2", "exited", START + 30 * DAY)]
    assert engine.partition.members("audience_0") == 0


def test_a_renamed_audience_changes_nothing() -> None:
    engine = Engine({**ORDERED, "key": "k", "name": "One"})
    engine.order(START)
    engine.deltas()
    engine.restart({**ORDERED, "key": "k", "name": "Two"})
    engine.marker(START + 1)
    outcome = engine.partition.drain()
    assert outcome.deltas == []
    assert [key for key, _ in outcome.states] == [CLOCK_KEY]


def test_a_removed_audience_leaves_no_trace_in_new_deltas() -> None:
    engine = Engine(ORDERED, {"when": {"event": "Other"}})
    engine.order(START)
    engine.deltas()
    engine.restart({"name": "another", "when": {"event": "Something"}})
    engine.marker(START + 90 * DAY)
    assert engine.deltas() == []


def test_an_audience_without_history_begins_where_it_is_first_applied_and_goes_on_after_a_restart() -> None:
    fresh = {**ORDERED, "name": "fresh", "include_history": False}
    engine = Engine(ORDERED)
    engine.order(START)
    engine.order(START, "user_2")
    assert [delta.audience for delta in engine.deltas()] == ["audience_0"] * 2
    engine.applied_at = START + HOUR
    engine.restart(ORDERED, fresh)
    engine.order(START + HOUR - 1, "user_2")
    engine.marker(START + HOUR)
    assert engine.deltas() == []
    engine.applied_at = START + DAY
    engine.restart()
    engine.order(START + HOUR, "user_2")
    deltas = engine.deltas()
    assert [(delta.audience, *short([delta])[0]) for delta in deltas] == [
        ("fresh", "user_2", "entered", START + HOUR)
    ]
    assert decode_audiences(engine.log[AUDIENCES_KEY]).applied == {"fresh": START + HOUR}


def test_a_new_audience_takes_its_members_in_when_it_is_first_applied() -> None:
    """By their traits and by what they have not done: neither is history."""
    engine = Engine({"when": {"trait": "plan", "equals": "x"}})
    engine.call(START, traits={"plan": "x"})
    engine.deltas()
    engine.applied_at = START + HOUR
    new = {"name": "new", "include_history": False, "when": {"trait": "plan", "equals": "x"}}
    engine.restart({"when": {"trait": "plan", "equals": "x"}}, new)
    engine.marker(START + DAY)
    assert [(delta.audience, delta.at) for delta in engine.deltas()] == [("new", START + HOUR)]


# --- what is sent ---


def identify(engine: Engine, received: int, profile: str = "user_1", **identifiers: Any) -> None:
    engine.call(received, profile, identifiers=identifiers)


def rows(delta: MembershipDelta) -> list[dict[str, Any]]:
    return delta.rows["audience_0"]


def test_a_new_identifier_of_a_member_is_an_update_with_everything_ever_sent() -> None:
    engine = Engine()
    identify(engine, START, EMAIL="e1", FN="ann")
    engine.order(START + 1)
    identify(engine, START + 2, EMAIL="e2", CT="lyon")
    identify(engine, START + 3, EMAIL="e2", CT="lyon")
    engine.marker(START + 31 * DAY)
    entered, updated, exited = engine.deltas()
    assert rows(entered) == [{"EXTERN_ID": "user_1", "EMAIL": "e1", "FN": "ann"}]
    assert (updated.change, updated.sequence, updated.at) == (Change.UPDATED, 2, START + 2)
    both = [
        {"EXTERN_ID": "user_1", "EMAIL": "e2", "FN": "ann", "CT": "lyon"},
        {"EXTERN_ID": "user_1", "EMAIL": "e1"},
    ]
    assert rows(updated) == both
    assert (exited.change, exited.sequence, rows(exited)) == (Change.EXITED, 3, both)


def test_entering_by_the_call_that_brings_the_identifier_is_one_delta() -> None:
    engine = Engine({"when": {"trait": "plan", "equals": "x"}, "facebook": FACEBOOK})
    engine.call(START, traits={"plan": "x"}, identifiers={"EMAIL": "e"})
    (delta,) = engine.deltas()
    assert (delta.change, rows(delta)) == (Change.ENTERED, [{"EXTERN_ID": "user_1", "EMAIL": "e"}])


def test_a_member_without_identifier_is_counted_and_delivered_when_one_arrives() -> None:
    engine = Engine({**ORDERED, "include_anonymous": True})
    device = "anonymous_id:a1"
    engine.order(START, device)
    identify(engine, START + 1, device, FN="ann")
    identify(engine, START + 2, device, PHONE="p")
    entered, updated = engine.deltas()
    assert (entered.change, rows(entered)) == (Change.ENTERED, [])
    assert (updated.change, rows(updated)) == (Change.UPDATED, [{"PHONE": "p", "FN": "ann"}])
    assert engine.counters.stages["evaluate"].dropped == {"no_identifier": 1}


def test_an_audience_without_destination_is_computed_and_never_updated() -> None:
    engine = Engine({**ORDERED, "facebook": []})
    engine.order(START)
    identify(engine, START + 1, EMAIL="e")
    (delta,) = engine.deltas()
    assert delta.rows == {}
    assert engine.counters.stages["evaluate"].dropped == {}


def test_several_destinations_have_the_rows_each() -> None:
    accounts = [{"ad_account_id": "act_1"}, {"ad_account_id": "act_2"}]
    engine = Engine({**ORDERED, "facebook": accounts})
    engine.order(START)
    (delta,) = engine.deltas()
    row = [{"EXTERN_ID": "user_1"}]
    assert delta.rows == {"audience_0@act_1": row, "audience_0@act_2": row}


def test_older_identifiers_are_bounded() -> None:
    engine = Engine()
    for number in range(MAX_OF_ONE_KIND + 2):
        identify(engine, START + number, EMAIL=f"e{number}")
    engine.order(START + HOUR)
    (delta,) = engine.deltas()
    assert [row["EMAIL"] for row in rows(delta)] == ["e4", "e0", "e1", "e2", "e3"]


def test_a_profile_that_becomes_eligible_enters_with_its_past() -> None:
    engine = Engine()
    device = "anonymous_id:a1"
    engine.order(START, device)
    assert engine.deltas() == []
    identify(engine, START + DAY, device, MADID="m")
    (delta,) = engine.deltas()
    assert (delta.at, rows(delta)) == (START + DAY, [{"MADID": "m"}])
    engine.marker(START + 40 * DAY)
    assert short(engine.deltas()) == [(device, "exited", START + 30 * DAY)]


# --- claims ---


def test_claims_decide_for_an_engage_audience_the_newest_first() -> None:
    engine = Engine({"key": "vips", "source": "engage", "require": {"trait": "consent", "equals": True}})
    engine.call(START, claims={"vips": True})
    assert engine.deltas() == [], "require must hold as well"
    engine.call(START + 1, traits={"consent": True})
    engine.call(START + 2, claims={"vips": False}, timestamp=START - 1)
    engine.call(START + 3, claims={"vips": True})
    engine.call(START + 4, claims={"vips": False})
    deltas = engine.deltas()
    assert short(deltas) == [("user_1", "entered", START + 1), ("user_1", "exited", START + 4)]
    assert [delta.cause for delta in deltas] == [Cause.EVENT, Cause.CLAIM]


def test_a_call_by_other_definitions_does_no_harm() -> None:
    engine = Engine()
    engine.call(
        START,
        hits=[FeedHit("gone", [1])],
        traits={"gone": 1},
        claims={"gone": True, "audience_0": True},
        message_id="m",
    )
    assert engine.deltas() == []
    engine.order(START + 1)
    assert len(engine.deltas()) == 1


# --- references ---


def test_an_audience_follows_another_without_a_step_aside() -> None:
    """In the same instant, and never by way of what is true only until the other has been looked at."""
    other = {"name": "other", "when": {"event": "Order Completed", "count": {"exactly": 1}}}
    engine = Engine(
        {"when": {"any": [{"audience": "other"}, {"event": "Order Completed", "count": {"at_least": 2}}]}},
        other,
        {"name": "follower", "when": {"not": {"audience": "audience_0"}}},
    )
    engine.call(START, traits={"unused": 1})
    engine.order(START)
    engine.order(START + 1)
    assert [(delta.audience, delta.change.value, delta.at - START) for delta in engine.deltas()] == [
        ("follower", "entered", 0),
        ("other", "entered", 0),
        ("audience_0", "entered", 0),
        ("follower", "exited", 0),
        ("other", "exited", 1),
    ]


# --- computed traits ---


def test_the_value_of_a_computed_trait_is_kept_and_made_anew_by_other_definitions() -> None:
    def counted(within: str) -> dict[str, Any]:
        return {"orders": {"event": "Order Completed", "count": True, "within": within}}

    asked = {"when": {"trait": "orders", "at_least": 2}}
    engine = Engine(asked, traits=counted("30d"))
    engine.order(START)
    engine.order(START + DAY)
    assert short(engine.deltas()) == [("user_1", "entered", START + DAY)]
    state = decode_state(engine.log[b"user_1"])
    assert computed_value(state, engine.plan.computed["orders"]) == 2
    engine.restart(asked, traits=counted("20d"))
    engine.marker(START + 20 * DAY)
    assert short(engine.deltas()) == [("user_1", "exited", START + 20 * DAY)]
    engine.restart(asked, traits={"other": {"event": "Something", "count": True}})
    engine.marker(START + 21 * DAY)
    engine.deltas()
    assert decode_state(engine.log[b"user_1"]).computed == {}


def test_what_other_definitions_make_of_a_state_is_kept_though_nobody_enters_or_leaves() -> None:
    """Or the next restart, by the same definitions, would find a state that does not fit them."""
    engine = Engine({"when": {"event": "Order Completed", "where": {"p": {"trait": "t"}}}})
    engine.call(START, hits=[FeedHit(next(iter(engine.plan.feeds)), ["x"])])
    engine.deltas()
    assert decode_state(engine.log[b"user_1"]).wake == NEVER
    asked = {"when": {"trait": "n", "at_least": 5}}
    engine.restart(asked, traits={"n": {"event": "Order Completed", "count": True}})
    engine.marker(START + 1)
    engine.deltas()
    engine.restart()
    engine.order(START + 2)
    assert engine.deltas() == []
    assert decode_state(engine.log[b"user_1"]).computed == {"n": 1}


def test_values_as_they_are_for_others() -> None:
    functions = ("last", "first", "unique_list", "unique_list_count", "most_frequent")
    traits = {name: {"event": "Order Completed", name: "p"} for name in functions}
    engine = Engine(traits=traits)
    resolver = Resolver(engine.plan, ResolveOptions())
    for number, value in enumerate(["a", 5, "5", {"k": [1]}]):
        line = call(messageId=str(number), properties={"p": value})
        for profile, event in resolver.resolve(line, START, 2**50, LANE, number).records:
            engine.partition.apply(profile, event)
    engine.deltas()
    state = decode_state(engine.log[b"user_1"])
    assert {name: computed_value(state, trait) for name, trait in engine.plan.computed.items()} == {
        "last": '{"k":[1]}',
        "first": "a",
        "unique_list": ["5", "a", '{"k":[1]}'],
        "unique_list_count": 3,
        "most_frequent": "5",
    }


# --- memory ---


@pytest.mark.parametrize(
    ("when", "instants"),
    [
        ({"within": "30d"}, 1),
        ({"within": "30d", "count": {"at_least": 5}}, 5),
        ({"within": "30d", "count": {"at_most": 5}}, 6),
        ({"within": "30d", "count": {"exactly": 5}}, 6),
        ({}, 0),
        ({"sum": {"property": "p", "at_least": 5}}, 0),
        ({"between": ["30d", "10d"]}, 242),
        ({"within": "1d", "sum": {"property": "p", "at_least": 5}}, 24),
    ],
)
def test_a_profile_keeps_only_what_its_definitions_need(when: dict[str, Any], instants: int) -> None:
    """An order an hour for fifty days; between keeps those that are too young, and one that is not."""
    engine = Engine({"when": {"event": "Order Completed", **when}})
    for hour in range(1_200):
        engine.order(START + hour * HOUR)
    engine.deltas()
    state = decode_state(engine.log[b"user_1"])
    (feed,) = state.feeds.values()
    assert len(feed.instants) == instants - (1 if "between" in when else 0)
    assert len(engine.log[b"user_1"]) < 1_000 + 12 * instants


def test_a_state_that_outgrows_its_room_loses_its_oldest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one person's calls, each as long as a call may be, could end every worker that owns them."""
    monkeypatch.setattr("app.domain.profile_states.MAX_STATE_BYTES", 20_000)
    engine = Engine(
        {"when": {"event": "Order Completed", "where": {"p": {"trait": "t"}}}},
        {"when": {"event": "Order Completed"}},
    )
    text = "x" * 1_000
    for number in range(50):
        feeds = [FeedHit(feed.id, [text] if feed.kept else []) for feed in engine.plan.feeds.values()]
        engine.call(START + number, hits=feeds)
    engine.deltas()
    assert len(engine.log[b"user_1"]) <= 20_000
    kept = max(decode_state(engine.log[b"user_1"]).feeds.values(), key=lambda feed: len(feed.values))
    assert kept.instants == list(range(START + 50 - len(kept.instants), START + 50))
    assert engine.counters.forgotten_events == 50 - len(kept.instants)
    engine.restart()
    engine.call(START + 60, traits={"t": text})
    assert [delta.audience for delta in engine.deltas()] == ["audience_0"]


def test_five_counted_events_in_three_audiences_take_few_bytes() -> None:
    engine = Engine(
        {**ORDERED, "name": "Order Completed Last 30 Days"},
        {"name": "Big Spenders", "when": {**ORDERED["when"], "sum": {"property": "p", "at_least": 3}}},
        {"name": "Lapsed", "when": {"not": ORDERED["when"]}},
    )
    for number in range(5):
        engine.order(START + number * DAY)
    engine.deltas()
    assert len(engine.log[b"user_1"]) < 350


def test_wake_is_read_without_the_rest() -> None:
    engine = Engine()
    engine.order(START)
    engine.deltas()
    encoded = engine.log[b"user_1"]
    assert wake_of(encoded) == decode_state(encoded).wake == START + 30 * DAY
    never = Engine({"when": {"event": "Order Completed"}})
    never.order(START)
    never.deltas()
    assert wake_of(never.log[b"user_1"]) == NEVER


def test_a_state_of_a_later_version_with_more_fields_can_be_read() -> None:
    engine = Engine()
    engine.order(START)
    engine.deltas()
    fields = msgspec.msgpack.decode(engine.log[b"user_1"])
    engine.log[b"user_1"] = msgspec.msgpack.encode([*fields, "something new"])
    engine.restart()
    engine.marker(START + 40 * DAY)
    assert short(engine.deltas()) == [("user_1", "exited", START + 30 * DAY)]


def test_several_emails_and_phones_of_one_call_are_one_row_each() -> None:
    engine = Engine()
    identify(engine, START, EMAIL=["e1", "e2"], PHONE=["p1", "p2"], FN="ann")
    engine.order(START + 1)
    identify(engine, START + 2, EMAIL=["e2", "e1"])
    identify(engine, START + 3, EMAIL=["e3"])
    entered, updated = engine.deltas()
    assert rows(entered) == [
        {"EXTERN_ID": "user_1", "EMAIL": "e2", "PHONE": "p2", "FN": "ann"},
        {"EXTERN_ID": "user_1", "EMAIL": "e1"},
        {"EXTERN_ID": "user_1", "PHONE": "p1"},
    ]
    assert updated.change is Change.UPDATED
    assert sorted(row.get("EMAIL", "") for row in rows(updated)) == ["", "e1", "e2", "e3"]


# --- who is who ---

DEVICE = "anonymous_id:a1"


def linked(engine: Engine, received: int) -> None:
    engine.call(received, linking=Linking([DEVICE]))


def test_a_profile_that_has_ended_stays_a_forwarder_under_other_definitions() -> None:
    engine = Engine({**ORDERED, "include_anonymous": True})
    engine.order(START, DEVICE)
    linked(engine, START + 1)
    engine.deltas()
    engine.restart({"when": {"not": ORDERED["when"]}, "include_anonymous": True, "facebook": FACEBOOK})
    engine.marker(START + 40 * DAY)
    engine.order(START + 41 * DAY, DEVICE)
    assert {profile for profile, _, _ in short(engine.deltas())} == {"user_1"}
    assert engine.partition.states.person(DEVICE) == "user_1"
    assert decode_state(engine.log[DEVICE.encode()]).feeds == {}


def test_profiles_that_become_one_before_the_clock_starts_are_evaluated_when_it_does() -> None:
    engine = Engine(
        {"when": {"event": "Order Completed", "count": {"exactly": 2}}}, started=False, lanes=("x", LANE)
    )
    engine.order(START, DEVICE)
    engine.order(START + 1)
    linked(engine, START + 2)
    assert engine.deltas() == []
    engine.restart()
    engine.marker(START + 3)
    engine.marker(START + 3, "x")
    assert short(engine.deltas()) == [("user_1", "entered", START + 3)]


def test_a_link_that_is_known_says_nothing_to_anybody() -> None:
    engine = Engine()
    linked(engine, START)
    engine.deltas()
    linked(engine, START + 1)
    states = [key for key, _ in engine.partition.drain().states]
    assert states == [b"user_1", CLOCK_KEY]


def test_a_call_to_a_profile_that_has_ended_changes_its_owner_alone() -> None:
    engine = Engine()
    linked(engine, START)
    engine.deltas()
    engine.order(START + 1, DEVICE)
    outcome = engine.partition.drain()
    assert [key for key, _ in outcome.states] == [b"user_1", CLOCK_KEY]
    assert short(outcome.deltas) == [("user_1", "entered", START + 1)]
