"""Audiences of accounts: situations with their instants, who is sent, and what comes in another order than it was said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain import accounts as module
from app.domain.conditions import compile_audiences
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.explanation import Explainer
from app.domain.profile_report import report
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import simulate
from schemas.dead_letter import Reason
from schemas.membership import Cause, Change, MembershipDelta
from schemas.profile import CALL, GROUP, JOIN, Standing
from tests.unit.domain.accounts_of_users import LOGGED_IN, joins, logs_in, of_accounts, resolve, users
from tests.unit.domain.identity_lines import Worker, changes, identify, line, sha, transitions
from tests.unit.domain.plans import DAY, HOUR, START, plan_of

# --- situations ---


TWO_USERS = (
    joins(0, user="u1"),
    joins(0, user="u2"),
    logs_in(0.125, user="u1"),
    logs_in(5.125, user="u2"),
)


@pytest.mark.parametrize(
    ("quantifier", "expected"),
    [
        ("any", [(0.125, "g1", True), (35.125, "g1", False)]),
        ("all", [(5.125, "g1", True), (30.125, "g1", False)]),  # the first user lapses first
        ("none", [(0.0, "g1", True), (0.125, "g1", False), (35.125, "g1", True)]),
    ],
)
def test_any_all_and_none_of_two_users(quantifier: str, expected: list[tuple[float, str, bool]]) -> None:
    assert transitions(plan_of(of_accounts(users(quantifier))), *TWO_USERS) == expected


def test_all_events_of_a_user_count_for_every_account_of_theirs_whatever_account_they_name() -> None:
    calls = (
        logs_in(0, user="u1", context={"groupId": "g9"}),
        joins(1, "g1", user="u1"),
        joins(2, "g2", user="u1"),
    )
    assert transitions(plan_of(of_accounts(users("any"))), *calls) == [
        (1, "g1", True),
        (2, "g2", True),
        (30, "g1", False),
        (30, "g2", False),
    ]


def test_an_account_exists_from_its_first_group_call_and_not_from_an_event_that_names_it() -> None:
    calls = (logs_in(0, user="u2", context={"groupId": "g1"}), joins(1, user="u1"))
    assert transitions(plan_of(of_accounts(users("none"))), *calls) == [(1, "g1", True)]


def test_the_newest_trait_of_an_account_counts_and_a_null_removes_it() -> None:
    plan = plan_of(of_accounts({"trait": "plan", "equals": "business"}))
    calls = (
        joins(0, user="u1", traits={"plan": "business"}),
        joins(1, user="u2", traits={"employees": 3}),
        joins(2, user="u2", traits={"plan": "free"}, timestamp="2025-02-01T00:00:00Z"),
        joins(3, user="u2", traits={"plan": None}),
    )
    assert transitions(plan, *calls) == [(0, "g1", True), (3, "g1", False)]


def test_traits_of_people_are_none_of_their_account() -> None:
    plan = plan_of(
        of_accounts({"trait": "plan", "exists": True}), {"when": {"trait": "seats", "exists": True}}
    )
    calls = (identify(0, user="u1", traits={"plan": "x"}), joins(1, user="u1", traits={"seats": 1}))
    assert transitions(plan, *calls) == []


def test_a_date_of_an_account_moves_it_as_time_passes() -> None:
    plan = plan_of(of_accounts({"all": [{"trait": "renewal", "within_next": "7d"}, users("any")]}))
    calls = (joins(0, user="u1", traits={"renewal": "2025-03-21T00:00:00Z"}), logs_in(1, user="u1"))
    assert transitions(plan, *calls) == [(13, "g1", True), (20, "g1", False)]


def test_an_audience_of_accounts_asks_for_another_and_an_audience_of_people_for_it() -> None:
    plan = plan_of(
        of_accounts(users("any"), name="active"),
        of_accounts({"all": [{"audience": "active"}, {"trait": "plan", "equals": "pro"}]}, name="pro"),
        {"name": "people", "when": {"all": [{"audience": "pro"}, {"trait": "role", "equals": "admin"}]}},
    )
    calls = (
        joins(0, user="u1", traits={"plan": "pro"}),
        identify(0, user="u2", traits={"role": "admin"}),
        joins(0, user="u2"),
        logs_in(1, user="u1"),
    )
    found = list(simulate(plan, calls, START + 60 * DAY))
    assert [(item.at - START, *item[1:]) for item in found if not hasattr(item, "refusal")] == [
        (DAY, "active", "g1", True),
        (DAY, "people", "u2", True),
        (DAY, "pro", "g1", True),
        (31 * DAY, "active", "g1", False),
        (31 * DAY, "people", "u2", False),
        (31 * DAY, "pro", "g1", False),
    ]


def test_a_group_id_that_is_an_address_is_named_by_its_hash() -> None:
    plan = plan_of(of_accounts(users("none")))
    assert transitions(plan, joins(0, "sales@example.com", user="u1")) == [
        (0, sha("sales@example.com"), True)
    ]


# --- who is sent ---


def sent(deltas: list[MembershipDelta]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Of people, with what Facebook is told."""
    return [
        (delta.profile, delta.change.value, delta.rows["audience_0"])
        for delta in deltas
        if not delta.profile.startswith("group_id:")
    ]


def test_the_people_of_an_account_are_sent_and_nobody_is_told_of_the_account() -> None:
    worker = Worker(plan_of(of_accounts(users("any"))))
    assert worker.feed(joins(0, user="u1"), joins(0, user="u2")) == []
    deltas = worker.feed(logs_in(1, user="u1"))
    assert sorted(changes(deltas)) == [
        ("group_id:g1", "entered", 1),
        ("u1", "entered", 1),
        ("u2", "entered", 1),
    ]
    assert deltas[0].rows == {}
    assert {delta.cause for delta in deltas} == {Cause.ACCOUNT}
    assert sorted(sent(deltas), key=str) == [
        ("u1", "entered", [{"EXTERN_ID": "u1"}]),
        ("u2", "entered", [{"EXTERN_ID": "u2"}]),
    ]
    assert worker.partition.members("audience_0") == 2, "people"
    assert sent(worker.feed(joins(2, user="u3"))) == [("u3", "entered", [{"EXTERN_ID": "u3"}])]
    worker.move_clock(START + 40 * DAY)
    deltas = worker.partition.drain().deltas
    assert {(delta.profile, delta.change, delta.at) for delta in deltas} == {
        (profile, Change.EXITED, START + 31 * DAY) for profile in ("group_id:g1", "u1", "u2", "u3")
    }
    assert worker.partition.members("audience_0") == 0


def test_who_is_in_two_accounts_leaves_with_the_last_of_them() -> None:
    worker = Worker(plan_of(of_accounts({"trait": "plan", "equals": "pro"})))
    pro, free = {"plan": "pro"}, {"plan": "free"}
    deltas = worker.feed(joins(0, "g1", user="u1", traits=pro), joins(0, "g2", user="u1", traits=pro))
    assert [one[:2] for one in sent(deltas)] == [("u1", "entered")]
    assert sent(worker.feed(joins(1, "g1", user="u2", traits=free))) == []
    assert [one[:2] for one in sent(worker.feed(joins(2, "g2", user="u2", traits=free)))] == [
        ("u1", "exited")
    ]


def test_a_new_identifier_of_somebody_who_is_sent_is_sent() -> None:
    worker = Worker(plan_of(of_accounts(users("any"))))
    worker.feed(joins(0, user="u1"), joins(0, user="u2"), logs_in(0, user="u2"))
    deltas = worker.feed(identify(1, user="u1", email="ann@example.com"))
    assert sent(deltas) == [("u1", "updated", [{"EXTERN_ID": "u1", "EMAIL": sha("ann@example.com")}])]


def test_what_is_required_holds_for_who_is_sent_and_not_for_the_account() -> None:
    plan = plan_of(of_accounts(users("any"), require={"trait": "consent", "equals": True}))
    worker = Worker(plan)
    deltas = worker.feed(joins(0, user="u1"), joins(0, user="u2"), logs_in(0, user="u2"))
    assert changes(deltas) == [("group_id:g1", "entered", 1)]
    consents = identify(1, user="u1", traits={"consent": True})
    assert [one[:2] for one in sent(worker.feed(consents))] == [("u1", "entered")]


@pytest.mark.parametrize("anonymous", [False, True])
def test_an_anonymous_user_counts_and_is_sent_only_where_anonymous_people_are(anonymous: bool) -> None:
    worker = Worker(plan_of(of_accounts(users("any"), include_anonymous=anonymous)))
    deltas = worker.feed(joins(0, anon="a1"), logs_in(0, anon="a1"))
    expected = [("group_id:g1", "entered", 1), *([("anonymous_id:a1", "entered", 1)] if anonymous else [])]
    assert changes(deltas) == expected


def test_who_becomes_part_of_another_stays_in_the_account_as_that_one() -> None:
    """The account does not change, and nobody who stays is taken out at Facebook."""
    worker = Worker(plan_of(of_accounts(users("all"))))
    worker.feed(joins(0, anon="a1", email="ann@example.com"), logs_in(0, anon="a1"))
    deltas = worker.feed(identify(1, user="u1", anon="a1"))
    assert [delta for delta in deltas if delta.profile == "group_id:g1"] == []
    address = {"EMAIL": sha("ann@example.com")}
    assert sent(deltas) == [
        (f"email:{address['EMAIL']}", "exited", []),
        ("u1", "entered", [{"EXTERN_ID": "u1", **address}]),
    ]
    # Of two users, the other of whom has not logged in, all do not hold.
    assert ("group_id:g1", "exited", 2) in changes(worker.feed(joins(2, user="u2")))


# --- what group calls become ---


def test_a_group_call_says_to_its_user_and_its_account_what_is_news() -> None:
    resolver = Resolver(plan_of(of_accounts({"trait": "plan", "equals": "pro"})), ResolveOptions())
    raw = joins(0, user="u1", traits={"plan": "pro", "email": "sales@example.com"})
    (account, group), (user, joined) = resolve(resolver, raw).records
    assert (user, joined.kind, joined.index, joined.traits) == ("u1", JOIN, 2, None)
    assert joined.standing == Standing(account="group_id:g1")
    assert (account, group.kind, group.index, group.traits) == ("group_id:g1", GROUP, 1, {"plan": "pro"})
    assert (group.message_id, group.identifiers) == ("0", None)
    again = resolve(resolver, raw)
    assert [event.kind for _, event in again.records] == [GROUP], (
        "the account's traits may have changed since"
    )
    bare = resolve(resolver, joins(1, user="u1"))
    assert (bare.records, bare.dropped) == ((), "not_needed")
    other = resolve(resolver, joins(1, user="u2"))
    assert [(profile, event.kind) for profile, event in other.records] == [("u2", JOIN)]


def test_a_group_call_names_its_person_as_any_other() -> None:
    resolver = Resolver(plan_of(of_accounts(users("any"))), ResolveOptions())
    (user, call), *further = resolve(resolver, joins(0, user="u1", anon="a1")).records
    assert (user, call.kind, call.index) == ("u1", CALL, 0)
    assert call.linking is not None
    assert call.linking.links == ["anonymous_id:a1"]
    assert [profile for profile, _ in further] == ["group_id:g1", "u1"]


def test_who_has_been_forgotten_and_their_account_are_news_again() -> None:
    resolver = Resolver(plan_of(of_accounts({"trait": "plan", "equals": "pro"})), ResolveOptions())
    bare = joins(0, user="u1")
    first = resolve(resolver, bare).records
    assert [(profile, event.kind) for profile, event in first] == [("group_id:g1", GROUP), ("u1", JOIN)]
    assert resolve(resolver, bare).records == ()
    resolve(resolver, line(1, "delete", user="u1"))
    assert [(profile, event.kind) for profile, event in resolve(resolver, bare).records] == [
        ("group_id:g1", GROUP),
        ("u1", JOIN),
    ]


def test_without_audiences_of_accounts_group_calls_are_what_they_were() -> None:
    resolver = Resolver(plan_of({"when": LOGGED_IN}), ResolveOptions())
    assert resolve(resolver, joins(0, user="u1", traits={"plan": "pro"})).records == ()


def test_a_user_has_a_bounded_number_of_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 2)
    plan = plan_of(of_accounts(users("any")))
    calls = [joins(0, f"g{number}", user="u1") for number in range(4)]
    assert transitions(plan, *calls, joins(0, "g0", user="u1"), logs_in(1, user="u1"), until=2) == [
        (1, "g0", True),
        (1, "g1", True),
    ]


@pytest.mark.parametrize("group", [None, "", " ", "g" * 501])
def test_a_group_call_without_an_account_is_refused(group: str | None) -> None:
    resolver = Resolver(plan_of(of_accounts(users("any"))), ResolveOptions())
    refused = resolve(resolver, joins(0, group, user="u1")).refused  # type: ignore[arg-type]
    assert refused is not None
    assert refused.reason is Reason.INVALID_FIELD


def test_a_user_may_have_an_id_that_reads_as_an_account() -> None:
    resolver = Resolver(plan_of(of_accounts(users("any"))), ResolveOptions())
    records = resolve(resolver, joins(0, user="group_id:g1")).records
    assert [profile for profile, _ in records] == ["group_id:g1", "user_id:group_id:g1"]


# --- why ---


def explained(profile: str) -> Any:
    text = json.dumps(
        {
            "audiences": [
                {"name": "Active", **of_accounts({"all": [users("any"), {"trait": "plan", "equals": "pro"}]})}
            ]
        }
    )
    definitions: DefinitionSet = parse_definitions([Document("audiences.yaml", text)])
    plan = compile_audiences(definitions.audiences)
    worker = Worker(plan)
    worker.feed(joins(0, user="u1", traits={"plan": "pro"}), joins(0, user="u2"), logs_in(1, user="u2"))
    explainer = Explainer(definitions.audiences)
    state = worker.partition.copy_of(profile)
    assert state is not None
    assert plan.accounts is not None
    if profile.startswith("group_id:"):
        plan, explainer = plan.accounts.plan, explainer.of_accounts
    [audience] = report(profile, state, plan, explainer, START + DAY + HOUR, 0).audiences
    return audience


def test_a_person_is_told_which_of_their_accounts_is_in_it() -> None:
    audience = explained("u1")
    assert (audience.member, audience.condition.text) == (True, "in an account that is a member")
    assert [(seen.name, seen.value) for seen in audience.condition.seen] == [("account g1", True)]


def test_an_account_is_told_how_many_users_something_holds_of() -> None:
    audience = explained("group_id:g1")
    assert audience.member
    asked, trait = audience.condition.parts
    assert asked.text == "any user with (Logged In at least 1 time within 30d)"
    assert [(seen.name, seen.value) for seen in asked.seen] == [("users", 2), ("of whom it holds", 1)]
    assert [(seen.name, seen.value) for seen in trait.seen] == [("trait plan", "pro")]
