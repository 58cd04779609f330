"""What a partition keeps of each profile, what that takes, and what becomes of it as profiles become one."""

from typing import Any

import msgspec
import pytest

from app.domain.computed_traits import computed_value
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import CLOCK_KEY, NEVER, decode_state, wake_of
from schemas.profile import FeedHit, Linking
from tests.unit.domain.partition_engine import LANE, ORDERED, Engine, short
from tests.unit.domain.plans import DAY, FACEBOOK, HOUR, START, call

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
