"""Who decides, from which rows and by which mode, changes in the midst of calls: only net changes are made, and the end is
that of a run which had the new definitions from the start, here and at Facebook.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.filling import held_back
from app.domain.plan_changes import generations_after
from app.domain.state import decode_state
from schemas.membership import Change, MembershipDelta
from tests.unit.domain.plans import DAY, HOUR, START
from tests.unit.domain.switching_world import LANES, USERS, Step, World, compiled, definitions, finish

ROWS = "source: reverse_etl, rows: {where: {$.context.protocols.sourceId: %s}}"
OLD = f"""
audiences:
  - {{name: To computed, source: engage}}
  - {{name: To engage, when: {{event: A}}}}
  - {{name: To rows, source: engage}}
  - {{name: Other rows, {ROWS % "src_1"}}}
  - {{name: Adds, {ROWS % "src_1"}, facebook: {{sync_mode: add}}}}
  - {{name: Removes, {ROWS % "src_2"}, facebook: {{sync_mode: delete}}}}
  - {{name: Never left, when: {{event: A, within: 5d}}, facebook: {{sync_mode: upsert}}}}
  - {{name: Stays, source: engage}}
"""
NEW = f"""
audiences:
  - {{name: To computed, when: {{event: B, within: 20d}}}}
  - {{name: To engage, source: engage}}
  - {{name: To rows, {ROWS % "src_2"}}}
  - {{name: Other rows, {ROWS % "src_2"}}}
  - {{name: Adds, {ROWS % "src_1"}}}
  - {{name: Removes, {ROWS % "src_2"}}}
  - {{name: Never left, when: {{event: A, within: 5d}}}}
  - {{name: Stays, source: engage, require: {{event: A}}}}
  - {{name: Asks, when: {{all: [{{audience: to_engage}}, {{not: {{audience: adds}}}}]}}}}
"""
ENGAGE = ("to_computed", "to_engage", "to_rows", "stays")
CALLS = ("A", "B", *ENGAGE, "src_1", "src_2")


class Deciders(World):
    """Steps are events, calls of Engage for an audience, or rows of a source; `revenue` says which way."""

    def body(self, step: Step, lane: str) -> dict[str, Any]:
        body = super().body(step, lane)
        if step.event in ENGAGE:
            personas = {"computation_class": "audience", "computation_key": step.event}
            said = {step.event: step.revenue > 0}
            return body | {"event": "Audience Entered", "context": {"personas": personas}, "properties": said}
        if step.event in ("src_1", "src_2"):
            row = {0: "deleted", 10: "new", 45: "updated"}[step.revenue]
            context = {"protocols": {"sourceId": step.event}}
            return body | {"event": row, "context": context}
        return body


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([1_000, HOUR, DAY, 5 * DAY]),
        st.sampled_from([0, 1]),
        st.sampled_from(USERS),
        st.sampled_from([*CALLS, None]),
        st.sampled_from([0, 10, 45]),
        st.sampled_from([False, False, False, False, True]),
    ),
    max_size=12,
)


def members(deltas: list[MembershipDelta]) -> dict[str, set[str]]:
    """By the newest delta of each; sequences grow by one."""
    found: dict[str, set[str]] = {}
    sequences: Counter[tuple[str, str]] = Counter()
    for delta in deltas:
        key = (delta.audience, delta.profile)
        assert delta.sequence == sequences[key] + 1
        sequences[key] += 1
        people = found.setdefault(delta.audience, set())
        if delta.change is Change.EXITED:
            people.discard(delta.profile)
        else:
            assert (delta.change is Change.ENTERED) is (delta.profile not in people)
            people.add(delta.profile)
    return {key: people for key, people in found.items() if people}


def at_facebook(deltas: list[MembershipDelta]) -> dict[str, set[str]]:
    """Whom each destination has, when it is sent every row that is meant for it."""
    found: dict[str, set[str]] = {}
    for delta in deltas:
        for destination in delta.rows:
            people = found.setdefault(destination, set())
            (people.discard if delta.change is Change.EXITED else people.add)(delta.profile)
    return {key: people for key, people in found.items() if people}


def changed_world(most: int) -> tuple[Deciders, frozenset[str]]:
    before, after = definitions(OLD), definitions(NEW)
    generations = generations_after(before, after, {}, 2, START)
    assert set(generations) == {"to_computed", "to_engage", "to_rows", "other_rows", "adds", "removes"}
    plan = compile_audiences(after.audiences, after.traits, generations)
    held = held_back(after, before.audiences, generations, plan)
    assert held == {*generations, "asks"}
    return Deciders({1: compiled(OLD), 2: plan}, most=most), held


@settings(deadline=None)
@given(
    st.lists(steps, min_size=5, max_size=5),
    st.sampled_from([1, 3, 1_000]),
    st.booleans(),
)
def test_ends_as_if_the_new_deciders_had_been_there_from_the_start(
    phases: list[list[Step]], most: int, crash: bool
) -> None:
    world, held = changed_world(most)
    before, between, waiting, reading, after = phases
    for step in before:
        world.run(step)
    world.publish(2, held)
    world.carry("lane-1", 2)
    for step in between:
        world.run(step)
    world.carry("lane-0", 2)
    world.markers()
    world.commit()
    at_switch, were = len(world.deltas), members(world.deltas)
    for step in waiting:
        world.run(step)
    world.read_again("lane-0", 2)
    if crash:
        world.recover()
    for step in reading:
        world.run(step)
    world.commit()
    assert {delta.audience for delta in world.deltas[at_switch:]} & held == set()
    before_the_end = len(world.deltas)
    world.read_again("lane-1", 2)
    world.commit()
    is_ = members(world.deltas)
    net: Counter[tuple[str, str]] = Counter()
    for delta in world.deltas[before_the_end:]:
        if delta.audience in held and delta.change is not Change.UPDATED:
            net[delta.audience, delta.profile] += 1
            entered = delta.profile in is_.get(delta.audience, ())
            assert entered is not (delta.profile in were.get(delta.audience, ())) or delta.sequence == 1
    assert set(net.values()) <= {1}
    for step in after:
        world.run(step)
    finish(world)
    reference = Deciders({2: compiled(NEW)}, first=2)
    for step in (*before, *between, *waiting, *reading, *after):
        reference.run(step)
    finish(reference)
    found = members(world.deltas)
    assert found == members(reference.deltas)
    assert at_facebook(world.deltas) == found
    counted = {key: counted.members for key, counted in world.counters.audiences.items() if counted.members}
    assert counted == {key: len(people) for key, people in found.items()}
    for key, state in world.changelog.items():
        if not key.startswith(b"\x00"):
            assert {name.partition("#")[2] for name in decode_state(state).claims if name != "stays"} <= {"2"}


def switch(world: World, number: int) -> None:
    world.publish(number)
    for lane in LANES:
        world.carry(lane, number)
    finish(world)


def test_a_mirror_takes_out_who_left_while_nobody_was_taken_out() -> None:
    text = "audiences: [{name: Up, when: {event: A, within: 5d}, facebook: {sync_mode: %s}}]"
    world = World({1: compiled(text % "upsert"), 2: compiled(text % "mirror")})
    for user in USERS[:2]:
        world.run(Step(0, 0, user, "A"))
    world.now += 6 * DAY
    world.run(Step(0, 1, "user_2", "A"))
    finish(world)
    assert at_facebook(world.deltas) == {"up": {"user_1", "user_2"}}
    count = len(world.deltas)
    switch(world, 2)
    again = world.deltas[count:]
    assert [(delta.profile, delta.change, list(delta.rows)) for delta in again] == [
        ("user_1", Change.EXITED, ["up"])
    ]
    assert at_facebook(world.deltas) == {"up": {"user_2"}}
    assert world.counters.audiences["up"].members == 1
    world.recover()
    finish(world)
    assert len(world.deltas) == count + 1, "said once"


def test_a_connected_audience_hears_of_those_who_were_claimed_to_be_out_before() -> None:
    text = "audiences: [{name: Stays, source: engage%s}]"
    world = Deciders({1: compiled(text % ""), 2: compiled(text % ", facebook: {audience_id: '7'}")})
    world.run(Step(0, 0, "user_1", "stays", 0))
    world.run(Step(0, 0, "user_2", "stays", 10))
    finish(world)
    assert [delta.profile for delta in world.deltas] == ["user_2"]
    switch(world, 2)
    assert [(delta.profile, delta.change, delta.sequence) for delta in world.deltas[1:]] == [
        ("user_1", Change.EXITED, 1)
    ]
    assert world.counters.audiences["stays"].members == 1


@pytest.mark.parametrize("mode", ["mirror", "upsert"])
def test_the_same_mode_says_nothing_again(mode: str) -> None:
    text = "audiences: [{name: %s, key: up, when: {event: A, within: 5d}, facebook: {sync_mode: %s}}]"
    world = World({1: compiled(text % ("Up", mode)), 2: compiled(text % ("Other name", mode))})
    world.run(Step(0, 0, "user_1", "A"))
    world.now += 6 * DAY
    finish(world)
    count = len(world.deltas)
    switch(world, 2)
    assert len(world.deltas) == count


def test_without_history_past_calls_count_from_the_beginning_on() -> None:
    """An audience that began when it was first applied, and asks for other events later, hears of those since then."""
    text = "{name: Later, when: {event: %s}, include_history: false}"
    old = "audiences: [{name: Month, when: {event: A, within: 30d}}%s]"
    first, second, third = (
        definitions(old % ""),
        definitions(old % f", {text % 'B'}"),
        definitions(old % f", {text % 'C'}"),
    )
    assert generations_after(first, second, {}, 2, START) == {}
    generations = generations_after(second, third, {}, 3, START)
    assert generations == {"later": 3}
    plans = {
        1: compile_audiences(first.audiences),
        2: compile_audiences(second.audiences),
        3: compile_audiences(third.audiences, (), generations),
    }
    world = World(plans)
    world.run(Step(HOUR, 0, "user_1", "C"))
    switch(world, 2)
    world.run(Step(HOUR, 0, "user_2", "C"))
    world.publish(3, held_back(third, second.audiences, generations, plans[3]))
    for lane in LANES:
        world.carry(lane, 3)
    finish(world)
    world.run(Step(HOUR, 0, "user_3", "C"))
    for lane in LANES:
        world.read_again(lane, 3)
    finish(world)
    assert world.members() == {"later": {"user_2", "user_3"}}


def test_without_history_past_claims_count_from_the_beginning_on() -> None:
    text = "{name: Stays, include_history: false, %s}"
    old = "audiences: [{name: Month, when: {event: A, within: 30d}}%s]"
    computed, engage = text % "when: {event: B}", text % "source: engage"
    first, second, third = (definitions(old % more) for more in ("", f", {computed}", f", {engage}"))
    generations = generations_after(second, third, {}, 3, START)
    assert generations == {"stays": 3}
    plans = {
        1: compile_audiences(first.audiences),
        2: compile_audiences(second.audiences),
        3: compile_audiences(third.audiences, (), generations),
    }
    world = Deciders(plans)
    world.run(Step(HOUR, 0, "user_1", "stays", 10))
    switch(world, 2)
    world.run(Step(HOUR, 0, "user_2", "stays", 10))
    world.publish(3, held_back(third, second.audiences, generations, plans[3]))
    for lane in LANES:
        world.carry(lane, 3)
    world.markers()
    for lane in LANES:
        world.read_again(lane, 3)
    finish(world)
    assert world.members() == {"stays": {"user_2"}}


def test_another_source_whose_past_is_kept_makes_net_changes_at_once() -> None:
    month = "{name: Month, when: {event: A, within: 30d}}"
    old = f"audiences: [{month}, {{name: Stays, source: engage}}]"
    new = f"audiences: [{month}, {{name: Stays, when: {{event: A, within: 10d}}}}]"
    assert generations_after(definitions(old), definitions(new), {}, 2, START) == {}
    world = Deciders({1: compiled(old), 2: compiled(new), 3: compiled(old)})
    for user in USERS[:2]:
        world.run(Step(0, 0, user, "stays", 10))
    for user in USERS[1:]:
        world.run(Step(0, 0, user, "A"))
    finish(world)
    count = len(world.deltas)
    switch(world, 2)
    assert {(d.audience, d.profile, d.change) for d in world.deltas[count:]} == {
        ("stays", "user_1", Change.EXITED),
        ("stays", "user_3", Change.ENTERED),
    }
    assert world.members()["stays"] == {"user_2", "user_3"}
