"""Audiences of accounts that are added, edited and taken away while calls come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.filling import held_back
from app.domain.plan_changes import generations_after
from app.errors import InvalidInputError
from schemas.membership import Change
from tests.unit.domain.plans import DAY, HOUR, START
from tests.unit.domain.switching_world import LANES, USERS, Step, World, compiled, definitions, finish

MONTH = "{name: Month, when: {event: A, within: 30d}}"


def of_accounts(name: str, when: str, more: str = "") -> str:
    return f"{{name: {name}, entity: account, when: {when}{more}}}"


def text(*audiences: str) -> str:
    return f"audiences: [{', '.join(audiences)}]"


OLD = text(
    MONTH,
    of_accounts("Any", "{users: {any: {event: A, within: 30d}}}"),
    of_accounts("All", "{users: {all: {event: A, within: 60d}}}"),
    of_accounts("Gone", "{users: {none: {event: A, within: 20d}}}"),
)
# The condition of `all` is another one, which nobody has answered yet; nothing of it needs more of the past.
NEW = text(
    MONTH,
    of_accounts("Any", "{users: {any: {event: A, within: 30d}}}"),
    of_accounts("All", "{users: {all: {event: A, within: 40d}}}"),
    of_accounts("Large", "{all: [{audience: any}, {users: {none: {audience: month}}}]}"),
    "{name: People, when: {all: [{audience: any}, {not: {event: A, within: 10d}}]}}",
)
# None of these is known of before.
FIRST = text(
    MONTH,
    of_accounts("Any", "{all: [{trait: seats, at_least: 1}, {users: {any: {event: C, within: 30d}}}]}"),
    of_accounts("Quiet", "{users: {none: {event: A, within: 30d}}}"),
    of_accounts("Asks", "{not: {audience: any}}"),
    of_accounts("Abroad", "{users: {any: {trait: country, equals: FR}}}"),
)

patiently = settings(deadline=None)

steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, HOUR, 5 * DAY, 11 * DAY]),
        st.sampled_from([0, 1]),
        st.sampled_from(USERS),
        st.sampled_from(["A", "A", "C", "group", "group", "identify", None]),
        st.sampled_from([0, 10, 45]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=6,
)


def switch(world: World, number: int, held: frozenset[str] = frozenset()) -> None:
    world.publish(number, held)
    for lane in LANES:
        world.carry(lane, number)
    world.markers()
    world.commit()


def assert_same(world: World, reference: World) -> None:
    known = world.plans[2].audiences
    kept = {key: members for key, members in world.members().items() if key in known}
    assert kept == reference.members()
    counted = {key: one.members for key, one in world.counters.audiences.items() if one.members}
    people = {key: {one for one in found if not one.startswith("group_id:")} for key, found in kept.items()}
    assert counted == {key: len(found) for key, found in people.items() if found}


def test_the_change_under_test_needs_no_more_of_the_past() -> None:
    assert generations_after(definitions(OLD), definitions(NEW), {}, 2, START) == {}


@patiently
@given(steps, steps, steps, st.sampled_from([1, 3, 1_000]), st.booleans())
def test_ends_as_if_the_new_definitions_had_been_there_from_the_start(
    before: list[Step], between: list[Step], after: list[Step], most: int, crash: bool
) -> None:
    plans = {1: compiled(OLD), 2: compiled(NEW)}
    world, reference = World(plans, most=most), World({2: plans[2]}, first=2)
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
    for step in after:
        world.run(step)
    finish(world)
    for step in (*before, *between, *after):
        reference.run(step)
    finish(reference)
    assert_same(world, reference)


@patiently
@given(
    st.lists(steps, min_size=4, max_size=4),
    st.sampled_from([1, 3, 1_000]),
    st.sampled_from([0, 1, 4]),
    st.booleans(),
)
def test_the_first_audiences_of_accounts_are_filled_from_history(
    phases: list[list[Step]], most: int, died_at: int, crash: bool
) -> None:
    before, after = definitions(text(MONTH)), definitions(FIRST)
    generations = generations_after(before, after, {}, 2, START)
    assert generations == {"any": 2, "quiet": 2, "asks": 2, "abroad": 2}
    plan = compile_audiences(after.audiences, after.traits, generations)
    held = held_back(after, before.audiences, generations, plan)
    world = World({1: compiled(text(MONTH)), 2: plan}, most=most)
    first, between, reading, last = phases
    for step in first:
        world.run(step)
    world.publish(2, held)
    world.carry("lane-1", 2)
    # So that each lane's last call before the switch is one that both versions need.
    between = [*between, Step(0, 0, "user_3", "A"), Step(0, 1, "user_3", "A")]
    for step in between:
        world.run(step)
    world.carry("lane-0", 2)
    world.markers()
    world.read_again("lane-0", 2, died_at)
    world.commit()
    world.read_again("lane-0", 2)
    for step in reading:
        world.run(step)
    world.commit()
    assert [delta for delta in world.deltas if delta.audience != "month"] == []
    world.read_again("lane-1", 2)
    world.commit()
    if crash:
        world.recover()
    for step in last:
        world.run(step)
    finish(world)
    reference = World({2: compiled(FIRST)}, first=2)
    for step in (*first, *between, *reading, *last):
        reference.run(step)
    finish(reference)
    assert_same(world, reference)


def test_an_edit_that_changes_nothing_for_an_account_says_nothing() -> None:
    """The account is looked at before its users have answered what is new, and stays what it was until then."""
    old, new = (
        text(of_accounts("None", f"{{users: {{none: {{event: A, within: {days}d}}}}}}")) for days in (30, 20)
    )
    world = World({1: compiled(old), 2: compiled(new)})
    for user in USERS:
        world.run(Step(0, 0, user, "group"))
        world.run(Step(0, 0, user, "A"))
    said = len(world.deltas)
    switch(world, 2)
    finish(world)
    assert world.deltas[said:] == []


def test_a_new_destination_hears_of_the_people_of_the_accounts_that_are_in_it() -> None:
    """Three people of one account, and one of another that is not in it; then the account leaves."""
    one, two = "{ad_account_id: act_1}", "{ad_account_id: act_1}, {ad_account_id: act_2}"
    when = "{users: {any: {event: A, within: 30d}}}"
    plans = {
        number: compiled(text(of_accounts("Any", when, f", facebook: [{accounts}]")))
        for number, accounts in ((1, one), (2, two))
    }
    world = World(plans)
    for user in USERS:
        world.run(Step(0, 0, user, "group", 1))
    world.run(Step(0, 0, "user_4", "group", 2))
    world.run(Step(0, 0, "user_1", "A"))
    said = len(world.deltas)
    switch(world, 2)
    finish(world)
    told = world.deltas[said:]
    assert {(delta.profile, delta.change) for delta in told} == {(user, Change.UPDATED) for user in USERS}
    assert all(delta.rows.keys() == {"any@act_1", "any@act_2"} for delta in told)
    said = len(world.deltas)
    world.now += 31 * DAY
    finish(world)
    assert {(delta.profile, delta.change) for delta in world.deltas[said:]} == {
        (profile, Change.EXITED) for profile in ("group_id:g1", *USERS)
    }
    assert all(row == {"EXTERN_ID": delta.profile} for delta in world.deltas[said:] for rows in delta.rows.values() for row in rows)  # fmt: skip


def test_an_audience_of_people_never_becomes_one_of_accounts() -> None:
    after = definitions(text(of_accounts("Month", "{users: {any: {event: A}}}")))
    with pytest.raises(InvalidInputError) as caught:
        generations_after(definitions(text(MONTH)), after, {}, 2, START)
    assert "audience month: changing `entity` is not supported" in str(caught.value)


ANY_LATELY = "{users: {any: {event: A, within: 30d}}}"


@pytest.mark.parametrize(
    ("before", "after", "filled"),
    [
        (MONTH, of_accounts("New", ANY_LATELY), {"new": 2}),
        # Who belongs to which account is needed all the same.
        (MONTH, of_accounts("New", ANY_LATELY, ", include_history: false"), {"new": 2}),
        (
            of_accounts("Old", "{trait: plan, equals: a}"),
            of_accounts("New", "{trait: seats, equals: 1}", ", include_history: false"),
            {"new": 2},
        ),
        # What its users did before counts for nothing.
        (of_accounts("Old", "{trait: plan, equals: a}"), of_accounts("New", ANY_LATELY), {"new": 2}),
        (
            of_accounts("Old", "{trait: plan, equals: a}"),
            of_accounts("New", ANY_LATELY, ", include_history: false"),
            {},
        ),
        # A trait of people, and one that is kept already.
        (of_accounts("Old", ANY_LATELY), of_accounts("New", "{users: {all: {trait: role, equals: x}}}"), {"new": 2}),
        (of_accounts("Old", "{trait: plan, equals: a}"), of_accounts("New", "{trait: plan, equals: b}"), {}),
    ],
)  # fmt: skip
def test_what_is_filled_from_history(before: str, after: str, filled: dict[str, int]) -> None:
    assert generations_after(definitions(text(before)), definitions(text(after)), {}, 2, START) == filled


def test_whoever_asks_for_what_is_filled_waits_through_accounts_too() -> None:
    """`c` is filled, and `any`, which asks it of users; `large` asks for `any`, and people for `large`."""
    before = definitions(text(MONTH, of_accounts("Old", ANY_LATELY)))
    after = definitions(
        text(
            MONTH,
            of_accounts("Old", ANY_LATELY),
            "{name: C, when: {event: C, within: 3d}}",
            of_accounts("Any", "{users: {any: {audience: c}}}"),
            of_accounts("Large", "{audience: any}"),
            "{name: People, when: {audience: large}}",
            "{name: Others, when: {audience: old}}",
        )
    )
    generations = generations_after(before, after, {}, 2, START)
    assert generations == {"c": 2, "any": 2}
    plan = compile_audiences(after.audiences, after.traits, generations)
    assert held_back(after, before.audiences, generations, plan) == {"c", "any", "large", "people"}


def test_traits_that_no_audience_asks_of_accounts_any_more_are_forgotten() -> None:
    old = text(MONTH, of_accounts("Seats", "{trait: seats, at_least: 1}"))
    new = text(MONTH, of_accounts("Seats", "{users: {any: {event: A, within: 30d}}}"))
    world = World({1: compiled(old), 2: compiled(new)})
    world.run(Step(0, 0, "user_1", "group", 10))
    assert b"seats" in world.changelog[b"group_id:g1"]
    switch(world, 2)
    finish(world)
    assert b"seats" not in world.changelog[b"group_id:g1"]
