"""Definitions that change in the midst of calls: the end is that of a run which had the new ones from the start.

Several lanes go over at different moments, states are committed in pieces, and the partition is recovered anywhere.
"""

from __future__ import annotations

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.filling import held_back
from app.domain.plan_changes import generations_after
from app.domain.state import CLOCK_KEY, decode_record, decode_state
from schemas.membership import Change
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import DAY, HOUR, START
from tests.unit.domain.switching_world import (
    LANES,
    NEW,
    OLD,
    PLANS,
    USERS,
    Step,
    World,
    compiled,
    definitions,
    finish,
    read_but_for_one_lane,
)

steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, HOUR, DAY, 5 * DAY, 11 * DAY]),
        st.sampled_from([0, 1]),
        st.sampled_from(USERS),
        st.sampled_from(["A", "A", "A", "B", "C", "D", "identify", None]),
        st.sampled_from([0, 10, 45]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=25,
)


def test_the_change_under_test_needs_no_more_of_the_past() -> None:
    assert generations_after(definitions(OLD), definitions(NEW), {}, 2, START) == {}


@settings(deadline=None)
@given(steps, steps, steps, st.sampled_from([1, 3, 1_000]), st.booleans())
def test_ends_as_if_the_new_definitions_had_been_there_from_the_start(
    before: list[Step], between: list[Step], after: list[Step], most: int, crash: bool
) -> None:
    world, reference = World(PLANS, most=most), World({2: PLANS[2]}, first=2)
    for step in before:
        world.run(step)
    world.publish(2)
    world.carry("lane-1", 2)
    for step in between:
        world.run(step)
    world.carry("lane-0", 2)
    world.markers()
    if crash:
        world.recover()
        world.markers()
    assert world.partition.definitions == 2
    for step in after:
        world.run(step)
    finish(world)
    for step in (*before, *between, *after):
        reference.run(step)
    finish(reference)
    kept = {key: people for key, people in world.members().items() if key in PLANS[2].audiences}
    assert kept == reference.members()
    counted = {key: counted.members for key, counted in world.counters.audiences.items() if counted.members}
    assert counted == {key: len(people) for key, people in kept.items()}
    assert no_unused_state(world)


def no_unused_state(world: World) -> bool:
    states = [decode_state(value) for key, value in world.changelog.items() if not key.startswith(b"\x00")]
    plan = world.plans[2]
    return all(
        state.feeds.keys() <= plan.needs.keys()
        and state.traits.keys() <= plan.of_trait.keys()
        and state.computed.keys() <= plan.computed.keys()
        for state in states
    )


# --- when it switches ---


def test_switches_when_the_last_lane_carries_the_version_and_not_before() -> None:
    world = World(PLANS)
    world.publish(2)
    world.markers()
    assert world.partition.definitions == 1
    world.carry("lane-0", 2)
    world.markers()
    assert world.partition.definitions == 1
    world.carry("lane-1", 2)
    world.markers()
    assert world.partition.definitions == 2
    world.commit()
    assert decode_record(world.changelog[CLOCK_KEY]).definitions == 2


def test_waits_for_a_version_that_this_worker_has_not_read_of() -> None:
    world = World(PLANS)
    for lane in LANES:
        world.at[lane] = 2
    world.markers()
    assert world.partition.definitions == 1
    world.publish(2)
    world.markers()
    assert world.partition.definitions == 2


def test_a_late_marker_of_a_frozen_worker_takes_nothing_back() -> None:
    world = World(PLANS)
    world.publish(2)
    for lane in LANES:
        world.carry(lane, 2)
    world.markers()
    world.at = dict.fromkeys(LANES, 1)
    world.markers()
    assert world.partition.definitions == 2


def test_a_crash_in_the_midst_of_the_switch_leaves_nobody_out() -> None:
    """Everybody is looked at, though the record of the partition says that it runs by the new version already."""
    plans = {1: compiled("audiences: [{name: Month, when: {event: A, within: 30d}}]")}
    plans[2] = compiled("audiences: [{name: Other, when: {event: A, within: 30d}}]")
    world = World(plans, most=1)
    for user in USERS:
        world.run(Step(0, 0, user, "A"))
    world.publish(2)
    for lane in LANES:
        world.carry(lane, 2)
    marker = ProfileEvent(
        VERSION, MARKER, "", 0, 0, START, START, progress=dict.fromkeys(LANES, START), definitions=2
    )
    assert not world.partition.foresee(marker, 1)
    world.commit()
    assert len(world.members()["other"]) == 1
    world.recover()
    assert world.partition.definitions == 2
    finish(world)
    assert world.members() == {"month": set(USERS), "other": set(USERS)}


# --- what is told ---


def test_a_new_destination_hears_of_the_members_there_are() -> None:
    text = "audiences: [{name: Month, when: {event: A, within: 30d}, facebook: [%s]}]"
    one, two = "{ad_account_id: act_1}", "{ad_account_id: act_1}, {ad_account_id: act_2}"
    world = World({1: compiled(text % one), 2: compiled(text % two)})
    world.run(Step(0, 0, "user_1", "A"))
    world.publish(2)
    for lane in LANES:
        world.carry(lane, 2)
    finish(world)
    entered, told = world.deltas
    assert (entered.change, told.change) == (Change.ENTERED, Change.UPDATED)
    assert told.rows.keys() == {"month@act_1", "month@act_2"}
    finish(world)
    assert len(world.deltas) == 2, "said once"


def test_an_audience_that_comes_back_makes_net_changes() -> None:
    month = "{name: Month, when: {event: A, within: 30d}}"
    other = "{name: Other, when: {event: A, within: 30d}}"
    both, less = f"audiences: [{month}, {other}]", f"audiences: [{other}]"
    world = World({1: compiled(both), 2: compiled(less), 3: compiled(both)})
    world.run(Step(0, 0, "user_1", "A"))
    world.run(Step(0, 0, "user_2", "A"))
    for number in (2, 3):
        world.publish(number)
        for lane in LANES:
            world.carry(lane, number)
        finish(world)
        if number == 2:
            assert "month" not in world.counters.audiences
            world.now += 20 * DAY
            world.run(Step(0, 1, "user_2", "A"))
            world.now += 15 * DAY
    finish(world)
    assert world.members() == {"month": {"user_2"}, "other": {"user_2"}}
    month_deltas = [(d.profile, d.change) for d in world.deltas if d.audience == "month"]
    assert ("user_1", Change.EXITED) in month_deltas
    assert month_deltas[1] == ("user_2", Change.ENTERED)
    assert Change.EXITED not in [change for profile, change in month_deltas if profile == "user_2"]


def test_without_history_only_what_comes_after_counts() -> None:
    old = "{name: Month, when: {event: A, within: 30d}}"
    new = "{name: Later, when: {event: B, count: {at_least: 2}}, include_history: false}"
    world = World({1: compiled(f"audiences: [{old}]"), 2: compiled(f"audiences: [{old}, {new}]")})
    world.run(Step(HOUR, 0, "user_1", "B"))
    world.publish(2)
    world.carry("lane-0", 2)
    world.run(Step(HOUR, 0, "user_1", "B"))
    world.carry("lane-1", 2)
    finish(world)
    world.run(Step(HOUR, 1, "user_1", "B"))
    finish(world)
    assert "later" not in world.members()
    world.recover()
    world.run(Step(HOUR, 0, "user_1", "B"))
    finish(world)
    assert world.members()["later"] == {"user_1"}


def test_what_nobody_asks_for_any_more_leaves_the_states() -> None:
    """Written even where nobody's membership changes: the next call meets a state that fits the plan."""
    month = "{name: Month, when: {event: A, within: 30d}}"
    text = f"audiences: [{month}, {{name: C, when: {{event: C}}}}, {{name: T, when: {{trait: country, equals: DE}}}}]"
    world = World({1: compiled(text), 2: compiled(f"audiences: [{month}]")})
    world.run(Step(0, 0, "user_1", "C"))
    world.run(Step(0, 0, "user_2", "identify", revenue=1))
    world.publish(2)
    for lane in LANES:
        world.carry(lane, 2)
    finish(world)
    states = [decode_state(value) for key, value in world.changelog.items() if not key.startswith(b"\x00")]
    assert [(state.feeds, state.traits) for state in states] == [({}, {})] * 2
    world.run(Step(HOUR, 0, "user_1", "A"))
    world.recover()
    world.run(Step(HOUR, 0, "user_1", "A"))
    finish(world)
    assert world.members()["month"] == {"user_1"}


def test_who_came_since_the_last_timer_does_not_leave_and_come_back() -> None:
    """Nothing was due in between, and of the events only the newest is kept."""
    german = "{name: German, when: {trait: country, equals: DE}}"
    month = f"audiences: [{{name: Month, when: {{event: A, within: %dd}}}}, {german}]"
    world = World({1: compiled(month % 30), 2: compiled(month % 20)})
    world.run(Step(0, 0, "user_1", "A"))
    world.run(Step(HOUR, 0, "user_2", "identify"))
    world.run(Step(0, 1, "user_1", "A"))
    world.publish(2)
    for lane in LANES:
        world.carry(lane, 2)
    finish(world)
    assert [delta.change for delta in world.deltas] == [Change.ENTERED]


# --- filled from history ---


# All of these ask for what OLD does not keep: longer, other, ever, everybody, and those who ask for their membership.
# "Rich" and "Asks back" are as they were or use what was there, and what they read is not.
FILLED = """
audiences:
  - {name: Month, when: {event: A, within: 50d}}
  - {name: Spender, when: {event: A, within: 60d, sum: {property: revenue, at_least: 50}}}
  - {name: Ever c, when: {event: C, count: {exactly: 1}}}
  - {name: Ever d, when: {event: D}}
  - {name: Never b, when: {event: B, count: {exactly: 0}}}
  - {name: Funnel, when: {event: A, then: {event: C, count: {at_least: 1}, within: 30d}}}
  - {name: French, when: {all: [{trait: country, equals: FR}, {trait: plan, exists: false}]}}
  - {name: Not month, when: {all: [{event: B}, {not: {audience: month}}]}}
  - {name: Rich, when: {trait: spent, at_least: 50}}
  - {name: Favourite, when: {trait: last_d, at_least: 10}}
  - {name: More than usual, when: {event: A, count: {at_least: 1}, within: 60d, where: {revenue: {greater_than: {trait: least_c}}}}}
  - {name: Seldom, when: {trait: as_last_d, at_most: 1}}
traits:
  spent: {event: A, sum: revenue}
  last_d: {event: D, last: revenue}
  least_c: {event: C, min: revenue, within: 40d}
  as_last_d: {event: A, count: true, within: 20d, where: {revenue: {trait: last_d}}}
"""


def test_an_audience_that_comes_back_within_a_day_is_filled_again() -> None:
    """What was read again for it the first time is news to it the second time."""
    without, with_it = (
        definitions(OLD),
        definitions(OLD.replace("traits:", "  - {name: Ever d, when: {event: D}}\ntraits:")),
    )
    plans, held = {1: PLANS[1]}, {1: frozenset[str]()}
    generations: dict[str, int] = {}
    for number, (before, after) in enumerate(
        [(without, with_it), (with_it, without), (without, with_it)], start=2
    ):
        generations = generations_after(before, after, generations, number, START)
        plans[number] = compile_audiences(after.audiences, after.traits, generations)
        held[number] = held_back(after, before.audiences, generations, plans[number])
    world = World(plans)
    world.run(Step(0, 0, "user_1", "D"))
    for number in (2, 3, 4):
        world.publish(number, held[number])
        for lane in LANES:
            world.carry(lane, number)
        finish(world)
        if held[number]:
            for lane in LANES:
                world.read_again(lane, number)
        finish(world)
    found = [delta.change for delta in world.deltas if delta.audience == "ever_d"]
    assert found == [Change.ENTERED, Change.UPDATED], (
        "the member stays one, and a new destination hears of it"
    )


def filled_world(most: int) -> tuple[World, frozenset[str]]:
    before, after = definitions(OLD), definitions(FILLED)
    generations = generations_after(before, after, {}, 2, START)
    assert set(generations) >= {"month", "ever_c", "never_b", "funnel", "french"}
    assert {key for key in generations if key.startswith("traits.")} == {
        f"traits.{trait.key}" for trait in after.traits
    }
    assert "rich" not in generations, "it is as it was, and only what it reads is filled"
    plan = compile_audiences(after.audiences, after.traits, generations)
    held = held_back(after, before.audiences, generations, plan)
    assert held == {*(key for key in generations if "." not in key), "not_month", "rich", "favourite"}
    return World({1: PLANS[1], 2: plan}, most=most), held


@settings(deadline=None)
@given(
    st.lists(steps, min_size=5, max_size=5),
    st.sampled_from([1, 3, 1_000]),
    st.sampled_from([0, 1, 4]),
    st.booleans(),
)
def test_a_filled_audience_ends_as_if_it_had_been_there_from_the_start(
    phases: list[list[Step]], most: int, died_at: int, crash: bool
) -> None:
    world, held = filled_world(most)
    *until_then, after = phases
    at_switch = read_but_for_one_lane(world, until_then, lambda: world.publish(2, held), died_at, crash=crash)
    assert [delta for delta in world.deltas[at_switch:] if delta.audience in held] == []
    world.read_again("lane-1", 2)
    world.commit()
    if crash:
        world.recover()
    assert not world.partition.is_filling
    assert not [lane for lane in world.partition.clock.positions() if lane.startswith("past/")]
    world.read_again("lane-1", 2)  # a frozen reader that wakes up
    for step in after:
        world.run(step)
    finish(world)
    reference = World({2: compiled(FILLED)}, first=2)
    for step in chain(*phases):
        reference.run(step)
    finish(reference)
    kept = {key: people for key, people in world.members().items() if key in world.plans[2].audiences}
    assert kept == reference.members()
    assert no_unused_state(world)
    counted = {key: counted.members for key, counted in world.counters.audiences.items() if counted.members}
    assert counted == {key: len(people) for key, people in kept.items()}


def test_what_was_dropped_just_before_the_switch_is_news_when_it_is_read_again() -> None:
    """Nothing of it stands in profile.events: the marker alone says how far the lane was read without it."""
    world, held = filled_world(most=1_000)
    world.run(Step(0, 0, "user_1", "D"))
    world.publish(2, held)
    for lane in LANES:
        world.carry(lane, 2)
    world.markers()
    world.run(Step(0, 0, "user_2", "D"))
    for lane in LANES:
        world.read_again(lane, 2)
    finish(world)
    assert world.members()["ever_d"] == {"user_1", "user_2"}
