"""None"""

from dataclasses import replace

import pytest

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.room import MESSAGE_IDS
from app.domain.state import AUDIENCES_KEY, CLOCK_KEY, decode_audiences
from schemas.membership import Cause, Change, MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.partition_engine import EARLY, LANE, ORDERED, Engine, short
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, START


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
    for number in range(MESSAGE_IDS + 3):
        engine.order(START + number, message_id=f"id {number}")
    assert engine.counters.forgotten_ids == 3
    engine.order(START + HOUR, message_id="id 0")
    engine.order(START + HOUR, message_id=f"id {MESSAGE_IDS}")
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_there_is_room_for_as_many_message_ids_as_the_plan_says() -> None:
    engine = Engine()
    engine.plan = replace(engine.plan, message_ids=2)
    engine.restart()
    engine.marker(START)
    for number, id_ in enumerate(["a", "b", "a", "c", "b", "a"]):
        engine.order(START + number, message_id=id_)
    # The third and the fifth are known; `a` had to make room for `c`, and `b` then for `a`.
    assert engine.counters.stages["evaluate"].dropped == {"duplicate": 2}
    assert engine.counters.forgotten_ids == 2


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
