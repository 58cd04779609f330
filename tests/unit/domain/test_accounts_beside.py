"""Audiences of accounts beside all else that deltas and calls go through: the brake, Engage calls, mapped fields, replay,
many audiences, and callers that say the same again.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.domain.brake import Brake, BrakePolicy, is_counted
from app.domain.compact import audience_id
from app.domain.counters import Counters
from app.domain.engage_calls import EngageCalls
from app.domain.merging import fold_profile
from app.domain.partition import AudiencePartition, Outcome
from app.domain.person_state import Inherited
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import ProfileState
from schemas.dead_letter import Reason
from schemas.membership import Cause, Change, MembershipDelta
from schemas.profile import (
    ENTRY,
    GROUP,
    JOIN,
    MARKER,
    REPEAT,
    STANDING,
    VERSION,
    ProfileEvent,
    Repeat,
    Standing,
)
from schemas.sync import BrakeState
from tests.unit.domain.accounts_of_users import Account, joins, logs_in, of_accounts, users
from tests.unit.domain.identity_lines import Worker, changes, identify, line, sha
from tests.unit.domain.person_of_accounts import ANY, DESTINATION, Person
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START, plan_of


def causes(deltas: list[MembershipDelta]) -> list[tuple[str, str, Cause]]:
    return [(delta.profile, delta.change.value, delta.cause) for delta in deltas]


# --- the brake ---


def test_time_alone_is_the_cause_for_an_account_and_its_people_when_it_is_for_one_of_its_users() -> None:
    worker = Worker(plan_of(ANY))
    entered = worker.feed(joins(0, user="u1"), joins(0, user="u2"), logs_in(1, user="u2"))
    assert causes(entered) == [
        ("group_id:g1", "entered", Cause.ACCOUNT),
        ("u1", "entered", Cause.ACCOUNT),
        ("u2", "entered", Cause.ACCOUNT),
    ]
    worker.move_clock(START + 40 * DAY)
    left = worker.partition.drain().deltas
    assert causes(left) == [
        ("group_id:g1", "exited", Cause.TIME),
        ("u1", "exited", Cause.TIME),
        ("u2", "exited", Cause.TIME),
    ]
    assert {delta.at for delta in left} == {START + 31 * DAY}


def test_people_whose_account_leaves_by_what_somebody_did_are_counted_by_the_brake() -> None:
    worker = Worker(plan_of(of_accounts(users("none"))))
    worker.feed(joins(0, user="u1"))
    left = worker.feed(logs_in(1, user="u1"))
    assert causes(left) == [
        ("group_id:g1", "exited", Cause.ACCOUNT),
        ("u1", "exited", Cause.ACCOUNT),
    ]
    assert is_counted(left[1], START + DAY)


@pytest.mark.parametrize("by_time", [False, True])
def test_what_another_partition_found_while_it_caught_up_was_found_then(by_time: bool) -> None:
    """The account's clock is at the wall; its user's partition comes through the past, at an hour behind START."""
    account = Account(users("any"), clock=START + DAY)
    found = START + HOUR
    for offset, holds in enumerate((True, False), 1):
        said = Standing(user="u1", holds={account.asked: holds}, by_time=by_time)
        account.apply(ProfileEvent(VERSION, STANDING, "profiles/1", offset, 0, found, found, standing=said))
    outcome = account.partition.drain()
    entered, left = outcome.deltas
    assert (entered.detected_at, left.detected_at, left.at) == (found, found, found)
    assert left.cause is (Cause.TIME if by_time else Cause.ACCOUNT)
    profile, entry = outcome.records[-1]
    assert (profile, entry.kind, entry.received) == ("u1", ENTRY, found)
    assert entry.standing is not None
    assert entry.standing.by_time is by_time
    person = Person()
    person.join("g1")
    person.clock(START + DAY)
    person.enter("g1", 1, [DESTINATION], found)
    person.partition.apply(profile, msgspec.structs.replace(entry, offset=99))
    removed = person.partition.drain().deltas[-1]
    assert (removed.change, removed.detected_at, removed.cause) == (Change.EXITED, found, left.cause)
    assert not is_counted(removed, START + DAY)


def test_accounts_are_no_members_for_the_brake() -> None:
    worker = Worker(plan_of(ANY))
    deltas = worker.feed(joins(0, user="u1"), joins(0, user="u2"), logs_in(1, user="u2"))
    worker.move_clock(START + 40 * DAY)
    deltas += worker.partition.drain().deltas
    one = Brake(DESTINATION, BrakePolicy(), BrakeState(position=0, members=0))
    new = Brake(DESTINATION, BrakePolicy(), None)
    members = []
    for offset, delta in enumerate(deltas):
        one.see(offset, delta, delta.at)
        new.see(offset, delta, delta.at)
        assert one.members == new.members
        members.append(one.members)
    assert members == [0, 1, 2, 2, 1, 0]
    assert one.position == new.position == len(deltas)


# --- Engage calls ---


def test_calls_are_of_the_people_and_never_of_an_account() -> None:
    plan = plan_of(ANY)
    calls = EngageCalls("shop", ["identify", "track"], 0)
    partition = AudiencePartition(plan, 0, Counters(), calls=calls)
    partition.finish_recovery()
    partition.set_wall(FAR_WALL)
    partition.set_expected(["lane"])
    partition.apply_marker(ProfileEvent(VERSION, MARKER, "", 0, 0, START, START, progress={"lane": START}))
    resolver = Resolver(plan, ResolveOptions())
    for offset, raw in enumerate([joins(0, user="u1"), logs_in(0, user="u1")]):
        for profile, event in resolver.resolve(raw, None, FAR_WALL, "lane", offset).records:
            partition.apply(profile, event)
    outcome = partition.drain()
    assert [delta.profile for delta in outcome.deltas] == ["group_id:g1", "u1"]
    assert [(profile, call.type, call.user_id) for profile, call in outcome.calls] == [
        ("u1", "identify", "u1"),
        ("u1", "track", "u1"),
    ]
    assert b"group_id" not in msgspec.json.encode(outcome.calls)


def test_what_an_account_says_late_is_still_the_last_that_is_said() -> None:
    """Two accounts in two partitions; the second is in the audience from before the first has left it."""
    person = Person()
    person.join("g1")
    person.join("g2")
    person.clock(START + DAY)
    person.enter("g1", 1, [DESTINATION], START + 200)
    person.enter("g1", 2, [], START + 300)
    person.buys(1)
    person.enter("g2", 1, [DESTINATION], START + 250)
    assert person.said() == [
        ({DESTINATION: True}, "2025-03-01T00:00:00.200Z"),
        ({DESTINATION: False}, "2025-03-01T00:00:00.300Z"),
        ({"buyers": True}, "2025-03-02T00:00:00Z"),
        ({DESTINATION: True}, "2025-03-01T00:00:00.301Z"),
    ]


def test_what_an_account_says_is_never_ahead_of_the_clock_of_its_user() -> None:
    """Who ends in a merge is told to be out by the clock of their own partition."""
    person = Person(early=5_000)
    person.join("g1")
    person.enter("g1", 1, [DESTINATION], START + DAY)
    [delta] = person.partition.drain().deltas
    assert (delta.profile, delta.at) == ("u1", START + 5_000)


def test_what_is_remembered_of_calls_ends_as_accounts_go_on_speaking() -> None:
    person = Person()
    person.join("g1")
    person.clock(START + 9 * DAY)
    person.enter("g1", 1, [DESTINATION], START + 1)
    person.buys(2)
    assert person.remembered() == {DESTINATION: START + 1, "buyers": START + 9 * DAY}
    person.enter("g1", 2, [DESTINATION, "other"], START + 2)
    assert person.remembered() == {"other": START + 2, "buyers": START + 9 * DAY}


# --- mapped fields ---


def test_fields_are_those_of_the_people_who_are_sent() -> None:
    facebook = {
        "ad_account_id": "act_1",
        "value_based": True,
        "fields": {"email": "$.traits.work", "value": {"trait": "worth"}},
    }
    worth = {"worth": {"event": "Bought", "sum": "price"}}
    worker = Worker(plan_of(of_accounts(users("any"), facebook=facebook), traits=worth))
    entered = worker.feed(
        identify(0, user="u1", traits={"work": "ann@work.example", "email": "ann@home.example"}),
        joins(0, user="u1", traits={"work": "sales@example.com"}),
        logs_in(1, user="u1"),
    )
    assert [(delta.profile, delta.rows) for delta in entered] == [
        ("group_id:g1", {}),
        (
            "u1",
            {DESTINATION: [{"EXTERN_ID": "u1", "EMAIL": sha("ann@work.example"), "LOOKALIKE_VALUE": 0}]},
        ),
    ]
    bought = json.loads(logs_in(2, user="u1"))
    raw = json.dumps({**bought, "event": "Bought", "properties": {"price": 7.5}}).encode()
    [again] = worker.feed(raw)
    assert (again.profile, again.change) == ("u1", Change.UPDATED)
    assert again.rows[DESTINATION][0]["LOOKALIKE_VALUE"] == 7.5


# --- replay ---


def repeat(profile: str, expected: int) -> ProfileEvent:
    asked = Repeat(DESTINATION, expected, 7, expected, {DESTINATION: (1, START)})
    return ProfileEvent(VERSION, REPEAT, "replay/x", 1, expected, START, START, repeat=asked)


def test_the_person_of_an_account_is_said_again_and_the_account_is_not() -> None:
    worker = Worker(plan_of(ANY))
    worker.feed(joins(0, user="u1"), logs_in(1, user="u1"))
    worker.partition.apply_repeat("group_id:g1", repeat("group_id:g1", 1))
    assert worker.partition.drain().deltas == []
    worker.partition.apply_repeat("u1", msgspec.structs.replace(repeat("u1", 1), offset=2))
    [delta] = worker.partition.drain().deltas
    assert (delta.profile, delta.change, delta.sequence) == ("u1", Change.UPDATED, 2)
    assert delta.rows == {DESTINATION: [{"EXTERN_ID": "u1"}]}


# --- many audiences ---


def test_who_is_known_by_name_only_later_is_sent_then_among_many_audiences() -> None:
    """Of many audiences only those are asked that can have the person: by an account of theirs, too."""
    others = [{"when": {"event": f"E{number}"}} for number in range(20)]
    people = {"name": "People", "when": {"audience": "audience_0"}}
    worker = Worker(plan_of(ANY, *others, people))
    before = worker.feed(
        joins(0, user="u1"),
        joins(0, anon="a1"),
        logs_in(1, user="u1"),
    )
    assert {delta.profile for delta in before} == {"group_id:g1", "u1"}
    found = worker.feed(line_with_device(2))
    assert {(delta.profile, delta.audience, delta.change) for delta in found} == {
        ("anonymous_id:a1", "audience_0", Change.ENTERED),
        ("anonymous_id:a1", "people", Change.ENTERED),
    }


def line_with_device(day: float) -> bytes:
    call = json.loads(identify(day, anon="a1"))
    device = {
        "type": "ios",
        "advertisingId": "de9086d4-a6d6-4dcf-9e22-9c3c5a7429e7",
        "adTrackingEnabled": True,
    }
    return json.dumps({**call, "context": {"device": device}}).encode()


def test_what_accounts_ask_of_their_users_is_told_from_memberships_of_what_is_no_longer_there() -> None:
    worker = Worker(plan_of(ANY))
    worker.feed(joins(0, user="u1"), logs_in(1, user="u1"))
    state = worker.partition.states.find("u1")
    assert state is not None
    assert worker.partition.plan.accounts is not None
    [asked] = worker.partition.plan.accounts.asked
    assert sorted(state.memberships) == sorted([audience_id(asked), audience_id(DESTINATION)])
    assert [short for short in state.memberships if short.startswith("/")] == [audience_id(asked)]


def test_who_leaves_in_a_merge_takes_no_answer_to_accounts_along() -> None:
    """The one who goes on gives their own, and the one who ends says nothing behind their end."""
    plan = plan_of({**ANY, "include_anonymous": True})
    worker = Worker(plan)
    worker.feed(joins(0, anon="a1"), logs_in(1, anon="a1"))
    ending, successor = worker.partition.copy_of("anonymous_id:a1"), ProfileState()
    assert ending is not None
    fold_profile(successor, ending, plan, START + 2 * DAY)
    assert successor.identity is not None
    (inherited,) = map(Inherited.read, successor.identity.inherited)
    assert inherited.audience == audience_id(DESTINATION)
    worker = Worker(plan)
    deltas = worker.feed(joins(0, anon="a1"), logs_in(1, anon="a1"), joins(2, user="u1", anon="a1"))
    assert changes(deltas) == [
        ("group_id:g1", "entered", 1),
        ("anonymous_id:a1", "entered", 1),
        ("anonymous_id:a1", "exited", 2),
        ("u1", "entered", 1),
    ]
    account = worker.partition.states.find("group_id:g1")
    assert account is not None
    assert account.ties is not None
    assert (list(account.ties.users), account.ties.ended, account.ties.replaced) == (["u1"], [], [])


# --- callers ---


def resolved(resolver: Resolver, raw: bytes) -> list[tuple[str, int]]:
    outcome = resolver.resolve(raw, None, FAR_WALL, "lane", 1)
    assert outcome.refused is None
    return [(profile, event.kind) for profile, event in outcome.records]


def test_a_group_call_whose_context_says_the_same_again_is_one_all_the_same() -> None:
    resolver = Resolver(plan_of(of_accounts({"trait": "plan", "equals": "pro"})), ResolveOptions())
    context = {"traits": {"email": "ann@example.com"}}
    resolved(resolver, joins(0, "g1", user="u1", context=context))
    assert resolved(resolver, joins(1, "g2", user="u1", context=context, traits={"plan": "pro"})) == [
        ("group_id:g2", GROUP),
        ("u1", JOIN),
    ]


@pytest.mark.parametrize("context", [{}, {"traits": {"email": "ann@example.com"}}])
def test_a_group_call_that_is_refused_for_its_traits_leaves_nothing_known(context: dict[str, Any]) -> None:
    plan = plan_of(of_accounts({"trait": "plan", "equals": "pro"}))
    resolver, fresh = (Resolver(plan, ResolveOptions()) for _ in range(2))
    good = joins(0, user="u1", anon="a1", context=context, traits={"plan": 1})
    refused = resolver.resolve(
        good.replace(b'"plan": 1', b'"plan": 1e999'), None, FAR_WALL, "lane", 1
    ).refused
    assert refused is not None
    assert refused.reason is Reason.INVALID_JSON
    assert resolved(resolver, good) == resolved(fresh, good) != []


def test_an_outcome_of_accounts_is_empty_without_audiences_of_accounts() -> None:
    """Records that a worker of an earlier version has written are no reason to stop."""
    account = Account(users("any"), runs_by=plan_of({"when": {"event": "A"}}))
    outcome: Outcome = account.hear(STANDING, "u1", holds=False)
    assert (outcome.deltas, outcome.records) == ([], [])


# --- somebody who is forgotten ---


def test_an_account_forgets_a_user_who_is_forgotten_and_is_asked_again_without_them() -> None:
    worker = Worker(plan_of(ANY))
    worker.feed(
        joins(0, anon="a1"), joins(0, user="u2"), logs_in(1, anon="a1"), identify(2, user="u1", anon="a1")
    )
    assert worker.partition.states.is_member(DESTINATION, "u2")
    left = worker.feed(line(3, "delete", user="u1"))
    assert causes(left) == [
        ("u1", "exited", Cause.FORGOTTEN),
        ("group_id:g1", "exited", Cause.ACCOUNT),
        ("u2", "exited", Cause.ACCOUNT),
    ]
    ties = worker.partition.states.find("group_id:g1").ties  # type: ignore[union-attr]
    assert ties is not None
    assert (set(ties.users), ties.ended, ties.replaced) == ({"u2"}, [], [])
    assert ties.id_bytes == len("u2")
    late = worker.feed(joins(2, user="u1"))
    assert late == []
    assert worker.partition.states.find("u1") is None
