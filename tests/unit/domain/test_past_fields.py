"""Mappings that change in the midst of calls: what is sent in the end is what a run sends that had them from the start.

Nobody hears of the same rows twice, whatever is read again, and however often.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.fields import CallFields
from app.domain.filling import as_past, held_back, of_the_past
from app.domain.fold import MAX_OF_ONE_KIND
from app.domain.past_fields import filled_fields, take_past
from app.domain.person_state import IdentifierState
from app.domain.plan_changes import generations_after
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import ProfileState, decode_state, encode_state
from schemas.membership import Change, MembershipDelta
from schemas.profile import MERGE, VERSION, Linking, ProfileEvent
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START
from tests.unit.domain.switching_world import (
    LANES,
    USERS,
    Step,
    World,
    compiled,
    definitions,
    finish,
    read_but_for_one_lane,
)

OLD = """
audiences:
  - {name: Month, when: {event: A, within: 30d}, facebook: {fields: {email: $.traits.mail}}}
  - {name: Short, when: {event: A, within: 10d}}
  - {name: Plain, when: {event: A, within: 30d}}
"""
# "Month" takes everything from elsewhere, "Short" is mapped for the first time, "Plain" is as it was, "Fresh" is new and
# asks for nothing else that is not kept, "Long" does.
NEW = """
audiences:
  - name: Month
    when: {event: A, within: 30d}
    facebook:
      fields:
        email: [$.traits.work, $.properties.mail]
        name: {last: $.traits.last}
        city: [$.properties.city, {const: Berlin}]
  - {name: Short, when: {event: A, within: 10d}, facebook: {fields: {phone: $.properties.phone}}}
  - {name: Plain, when: {event: A, within: 30d}}
  - {name: Fresh, when: {event: A, within: 20d}, facebook: {fields: {email: $.traits.work, external_id: $.properties.card}}}
  - {name: Long, when: {event: B, within: 60d}, facebook: {fields: {email: $.properties.mail}}}
"""
FILLED = {"fields.month", "fields.short", "fields.fresh", "fields.long", "long"}


class Mapped(World):
    """Steps are orders and identify calls; `anonymous` orders are of whom a `login` makes known. What waits for version 2
    and what is filled of mapped fields stand in `held` and `filled`.
    """

    held: frozenset[str]
    filled: CallFields | None

    def body(self, step: Step, lane: str) -> dict[str, Any]:
        body = super().body(step, lane)
        place = step.revenue
        if step.event in ("A", "B", "anonymous"):
            said: dict[str, Any] = {
                "phone": f"+4930123456{place}",
                "mail": f"Order{place}@shop.co",
                "city": None if place else "Paris",
                "card": f"card-{place}",
            }
            body |= {"properties": said if place != 45 else {"city": "Rome"}}
        if step.event in ("identify", "login"):
            last = {"last": None} if place == 10 else {"last": f"Last{place}"}
            traits = {"work": f"Work{place}@firm.co", "mail": f"m{place}@firm.co", **last}
            body |= {"type": "identify", "traits": traits}
        if step.event == "login":
            body["anonymousId"] = f"browser-{step.user}"
        if step.event == "anonymous":
            del body["userId"]
            body["event"] = "A"
            body["anonymousId"] = f"browser-{step.user}"
        return body


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, HOUR, DAY, 5 * DAY]),
        st.sampled_from([0, 1]),
        st.sampled_from(USERS),
        st.sampled_from(["A", "A", "B", "identify", "identify", "anonymous", "login", None]),
        st.sampled_from([0, 10, 45]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=15,
)


def world_of(old: str, new: str, filled: set[str], most: int = 1_000) -> Mapped:
    before, after = definitions(old), definitions(new)
    generations = generations_after(before, after, {}, 2, START)
    assert set(generations) == filled
    plan = compile_audiences(after.audiences, after.traits, generations)
    world = Mapped({1: compiled(old), 2: plan}, most=most)
    world.filled = filled_fields(plan, generations)
    world.held = held_back(after, before.audiences, generations, plan)
    return world


def publish(world: Mapped) -> None:
    world.publish(2, world.held, world.filled)


def rows_of(world: World) -> dict[tuple[str, str, str], list[str]]:
    """What each destination has heard last of each member, in no order."""
    last: dict[tuple[str, str], MembershipDelta] = {}
    for delta in world.deltas:
        last[delta.audience, delta.profile] = delta
    return {
        (audience, profile, destination): sorted(json.dumps(row, sort_keys=True) for row in rows)
        for (audience, profile), delta in last.items()
        if delta.change is not Change.EXITED
        for destination, rows in delta.rows.items()
    }


def assert_nothing_twice(deltas: list[MembershipDelta], since: int) -> None:
    """Of a member no rows are sent that were the last ones."""
    sent: dict[tuple[str, str], MembershipDelta] = {}
    for number, delta in enumerate(deltas):
        known = sent.get((delta.audience, delta.profile))
        if number >= since and delta.change is Change.UPDATED:
            assert known is not None
            assert delta.rows != known.rows
        sent[delta.audience, delta.profile] = delta


@settings(deadline=None)
@given(
    st.lists(steps, min_size=5, max_size=5),
    st.sampled_from([1, 3, 1_000]),
    st.sampled_from([0, 1, 4]),
    st.booleans(),
)
def test_a_changed_mapping_ends_as_if_it_had_been_there_from_the_start(
    phases: list[list[Step]], most: int, died_at: int, crash: bool
) -> None:
    world = world_of(OLD, NEW, FILLED, most)
    assert world.held == {"fresh", "long"}
    *until_then, after = phases
    at_switch = read_but_for_one_lane(world, until_then, lambda: publish(world), died_at, crash=crash)
    world.markers()
    world.commit()
    at_end = len(world.deltas)
    world.read_again("lane-1", 2)
    world.commit()
    world.markers()
    world.commit()
    if crash:
        world.recover()
    assert not world.partition.is_filling
    told = [(delta.audience, delta.profile) for delta in world.deltas[at_end:]]
    assert len(told) == len(set(told)), "each change once, when all has been read"
    world.read_again("lane-1", 2)  # a frozen reader that wakes up
    for step in after:
        world.run(step)
    finish(world)
    reference = Mapped({2: compiled(NEW)}, first=2)
    for step in chain(*phases):
        reference.run(step)
    finish(reference)
    assert world.members() == reference.members()
    assert rows_of(world) == rows_of(reference)
    assert_nothing_twice(world.deltas, at_switch)
    states = [decode_state(value) for key, value in world.changelog.items() if not key.startswith(b"\x00")]
    assert not [column for state in states for column in state.identifiers if column.endswith("@past")]


def gone_over(old: str, new: str, filled: set[str], *calls: Step) -> Mapped:
    """A world that has seen these calls and then gone over to the new definitions."""
    world = world_of(old, new, filled)
    for step in calls:
        world.run(step)
    publish(world)
    for lane in LANES:
        world.carry(lane, 2)
    world.markers()
    world.commit()
    return world


ONE = "audiences: [{name: Month, when: {event: A, within: 30d}}]"
CARD = "audiences: [{name: Month, when: {event: A, within: 30d}, facebook: {fields: {email: $.properties.mail}}}]"


def test_only_whose_rows_change_hears_of_the_past_and_leaves_with_all_of_it() -> None:
    """The address of user_2 comes again after the switch; user_1's is known from the past alone."""
    world = gone_over(ONE, CARD, {"fields.month"}, Step(0, 0, "user_1", "A"), Step(0, 1, "user_2", "A", 10))
    world.run(Step(HOUR, 0, "user_2", "A", 10))
    before = len(world.deltas)
    world.read_again("lane-0", 2)
    world.commit()
    assert len(world.deltas) == before, "not before all has been read"
    world.read_again("lane-1", 2)
    world.markers()
    world.commit()
    (delta,) = world.deltas[before:]
    assert (delta.audience, delta.profile, delta.change) == ("month", "user_1", Change.UPDATED)
    (rows,) = delta.rows.values()
    assert [set(row) for row in rows] == [{"EXTERN_ID", "EMAIL"}]
    world.now += 40 * DAY
    finish(world)
    left = {delta.profile: delta for delta in world.deltas if delta.change is Change.EXITED}
    assert left["user_1"].rows == delta.rows


def test_who_becomes_one_meanwhile_is_told_nothing_of_the_past_before_its_end() -> None:
    world = gone_over(
        ONE, CARD, {"fields.month"}, Step(0, 0, "user_1", "anonymous"), Step(0, 1, "user_1", "A", 45)
    )
    before = len(world.deltas)
    world.read_again("lane-0", 2)
    world.run(Step(HOUR, 0, "user_1", "login"))
    world.run(Step(0, 0, "user_1", None))
    world.commit()
    assert not [row for delta in world.deltas[before:] for row in delta.rows["month"] if "EMAIL" in row]
    before = len(world.deltas)
    world.read_again("lane-1", 2)
    world.markers()
    world.commit()
    (delta,) = world.deltas[before:]
    assert "EMAIL" in delta.rows["month"][0]


def test_what_was_sent_keeps_its_place_where_the_past_has_too_many() -> None:
    def known(values: list[str], timestamp: int) -> tuple[IdentifierState, list[str | float]]:
        return IdentifierState(values[0], timestamp), list(values[1:])

    state = ProfileState()
    state.identifiers["EMAIL@s"], state.further["EMAIL@s"] = known(["new", "older"], 9)
    state.identifiers["EMAIL@s@past"], state.further["EMAIL@s@past"] = known(["a", "b", "older", "c", "d"], 5)
    assert take_past(state)
    values = [state.identifiers["EMAIL@s"].value, *state.further["EMAIL@s"]]
    assert values[0] == "new"
    assert {"new", "older", "a"} < set(values)
    assert len(set(values)) == len(values) == MAX_OF_ONE_KIND
    assert list(state.identifiers) == ["EMAIL@s"]
    assert not take_past(state)


@pytest.mark.parametrize(("now", "past", "wins"), [(9, 5, "now"), (5, 9, "past"), (7, 7, "past")])
def test_of_one_value_the_newest_counts(now: int, past: int, wins: str) -> None:
    """Of two at one time the greater, as for any two calls."""
    state = ProfileState()
    state.identifiers["LN@s"] = IdentifierState("now", now)
    state.identifiers["LN@s@past"] = IdentifierState("past", past)
    take_past(state)
    assert state.identifiers == {"LN@s": IdentifierState(wins, max(now, past))}


def test_a_profile_that_comes_from_where_the_past_is_still_read_is_taken_in_whole() -> None:
    """Partitions do not end at once: what the other one has set aside would be known to nobody."""
    world = gone_over(ONE, CARD, {"fields.month"}, Step(0, 0, "user_1", "A", 45))
    for lane in LANES:
        world.read_again(lane, 2)
    world.run(Step(HOUR, 0, "user_1", "A", 45))
    (slot,) = world.plans[2].call_fields.slots  # type: ignore[union-attr] # the mapping's
    state = ProfileState()
    state.identifiers[f"EMAIL@{slot.id}@past"] = IdentifierState("f" * 64, START)
    linking = Linking([], "anonymous_id:b", {"anonymous_id:b": START}, encode_state(state))
    merge = ProfileEvent(VERSION, MERGE, "profiles/1", 1, 0, START, START, linking=linking)
    before = len(world.deltas)
    world._arrive("user_1", merge)
    finish(world)
    rows = [row for delta in world.deltas[before:] for row in delta.rows["month"]]
    assert rows == [{"EXTERN_ID": "user_1", "EMAIL": "f" * 64}]


ROWS = """
audiences:
  - name: Leads
    source: reverse_etl
    rows: {where: {$.context.protocols.sourceId: src}, id: $.properties.lead}
  - {name: Chosen, source: engage}
"""


def test_rows_and_engage_calls_say_whom_they_are_about_and_claim_nothing_again() -> None:
    after = ROWS.replace(
        "source: engage}", "source: engage, facebook: {fields: {city: $.properties.town}}}"
    ).replace("lead}\n", "lead}\n    facebook: {fields: {city: $.properties.town}}\n")
    defined = definitions(after)
    generations = generations_after(definitions(ROWS), defined, {}, 2, START)
    assert set(generations) == {"fields.leads", "fields.chosen"}
    plan = compile_audiences(defined.audiences, (), generations)
    assert held_back(defined, definitions(ROWS).audiences, generations, plan) == frozenset()
    past = of_the_past(plan, frozenset(), 2, filled_fields(plan, generations))
    resolver = Resolver(past, ResolveOptions())
    base = {
        "type": "track",
        "userId": "u",
        "timestamp": "2026-01-01T00:00:00Z",
        "receivedAt": "2026-01-01T00:00:00Z",
    }
    row = {**base, "event": "new", "messageId": "1", "context": {"protocols": {"sourceId": "src"}}}
    personas = {"computation_class": "audience", "computation_key": "chosen"}
    call = {**base, "event": "Audience Entered", "messageId": "2", "context": {"personas": personas}}
    found = {}
    for body, properties in (
        (row, {"lead": "lead-1", "town": "Rome"}),
        (call, {"chosen": True, "town": "Oslo"}),
        (call, {"chosen": True}),
    ):
        raw = json.dumps({**body, "properties": properties}).encode()
        for profile, event in resolver.resolve(raw, None, FAR_WALL, "past/2/lane", 1).records:
            assert event.claims, "as it was the first time"
            again = as_past(event, 2)
            if again is not None:
                assert again.claims is None
                assert not again.hits
                found[profile] = again.identifiers
    assert set(found) == {"lead-1", "u"}
    assert all(
        set(fields or {}) == {f"CT@{slot.id}@past" for slot in plan.call_fields.slots}  # type: ignore[union-attr]
        for fields in found.values()
    )
