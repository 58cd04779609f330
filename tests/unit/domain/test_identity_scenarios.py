"""Situations in which the identifiers of one person come together, as `simulate` shows them."""

from __future__ import annotations

import pytest

from schemas.membership import Cause, Change
from tests.unit.domain.identity_lines import (
    NEVER,
    ORDERED,
    TWICE,
    VIEWED,
    Worker,
    changes,
    identify,
    line,
    order,
    page,
    sha,
    transitions,
)
from tests.unit.domain.plans import DAY, FACEBOOK, START, plan_of

DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"

# --- Segment's own examples ---


def test_an_anonymous_history_counts_once_its_person_is_known() -> None:
    """S38: without anonymous people, somebody enters when they become eligible."""
    pages = [page(day, anon="a1") for day in (0, 0.01, 0.02)]
    assert transitions(plan_of(VIEWED), *pages, identify(2, user="u1", anon="a1")) == [(2, "u1", True)]


def test_an_anonymous_member_goes_on_as_the_known_one() -> None:
    """S39: the membership passes on without a line, and what Facebook is to know of the user id is sent."""
    pages = [page(day, anon="a1") for day in (0, 0.01, 0.02)]
    plan = plan_of({**VIEWED, "include_anonymous": True})
    assert transitions(plan, *pages, identify(2, user="u1", anon="a1")) == [(0.02, "a1", True)]
    worker = Worker(plan)
    assert changes(worker.feed(*pages)) == [("anonymous_id:a1", "entered", 1)]
    left, entered = worker.feed(identify(2, user="u1", anon="a1"))
    assert changes([left, entered]) == [("anonymous_id:a1", "exited", 2), ("u1", "entered", 1)]
    assert (left.rows, left.cause) == ({"audience_0": []}, Cause.MERGE)
    assert entered.rows == {"audience_0": [{"EXTERN_ID": "u1"}]}
    assert (entered.at, entered.cause) == (START + 2 * DAY, Cause.MERGE)
    assert worker.partition.members("audience_0") == 1


def test_two_histories_count_together() -> None:
    """S40: one order each, two together."""
    lines = [order(0, user="u1"), order(1, anon="a2"), page(3, user="u1", anon="a2")]
    assert transitions(plan_of(TWICE), *lines) == [(3, "u1", True)]


def test_a_second_user_id_takes_nothing_of_the_first() -> None:
    """S41: on a shared device, the one who was first keeps it."""
    lines = [order(0, user="u1", anon="a1"), order(5, user="u2", anon="a1"), order(6, anon="a1")]
    assert transitions(plan_of(ORDERED), *lines) == [(0, "u1", True), (5, "u2", True)]
    assert transitions(plan_of(TWICE), *lines) == [(6, "u1", True)]


def test_a_members_new_email_is_sent_and_an_exit_has_all_of_them() -> None:
    """S42 and S43."""
    worker = Worker(plan_of({"when": {"event": "Order Completed", "within": "9d"}, "facebook": FACEBOOK}))
    worker.feed(identify(0, user="u1", email="e1@example.com"), order(0, user="u1"))
    (updated,) = worker.feed(identify(4, user="u1", email="e2@example.com"))
    emails = {sha("e1@example.com"), sha("e2@example.com")}
    assert updated.change is Change.UPDATED
    assert {row["EMAIL"] for row in updated.rows["audience_0"]} == emails
    worker.move_clock(START + 9 * DAY)
    (left,) = worker.feed()
    assert (left.change, {row["EMAIL"] for row in left.rows["audience_0"]}) == (Change.EXITED, emails)


# --- who is who ---


def test_an_email_finds_its_profile_and_gives_way_to_a_user_id() -> None:
    name = f"email:{sha('jane@example.com')}"
    lines = [
        order(0, anon="a1"),
        identify(1, anon="a1", email="Jane@Example.com "),
        order(2, anon="a2", email="jane@example.com"),
        identify(3, user="u1", email="jane@example.com"),
        order(4, anon="a2"),
    ]
    assert transitions(plan_of(ORDERED), *lines) == [(1, name, True)]
    three = plan_of({"when": {"event": "Order Completed", "count": {"at_least": 3}}})
    assert transitions(three, *lines) == [(4, "u1", True)]


def test_a_call_may_name_an_email_or_an_advertising_id_alone() -> None:
    plan = plan_of(ORDERED)
    lines = [order(0, email="jane@example.com"), order(1, madid="AB-1"), order(2, anon="a", madid="ab-1")]
    assert transitions(plan, *lines) == [
        (0, f"email:{sha('jane@example.com')}", True),
        (1, "madid:ab-1", True),
    ]
    assert transitions(plan_of(TWICE), *lines) == [(2, "a", True)]


@pytest.mark.parametrize("first", ["b", "a"])
def test_without_user_id_and_email_the_earliest_anonymous_id_is_the_name(first: str) -> None:
    other = "a" if first == "b" else "b"
    plan = plan_of({**TWICE, "include_anonymous": True})
    lines = [
        order(0, anon=first),
        order(1, anon=other),
        page(2, anon=first, madid="m"),
        page(3, anon=other, madid="m"),
    ]
    assert transitions(plan, *lines) == [(3, first, True)]


def test_a_merge_that_ends_a_membership_is_a_line_of_the_survivor() -> None:
    """The anonymous one had never ordered; the person has."""
    plan = plan_of({**NEVER, "include_anonymous": True})
    lines = [page(0, anon="a1"), order(1, user="u1"), identify(2, user="u1", anon="a1", madid=DEVICE)]
    assert transitions(plan, *lines) == [(0, "a1", True), (2, "u1", False)]
    worker = Worker(plan)
    worker.feed(page(0, anon="a1", madid=DEVICE), order(1, user="u1"))
    deltas = worker.feed(identify(2, user="u1", anon="a1"))
    assert changes(deltas) == [
        ("anonymous_id:a1", "exited", 2),
        ("u1", "entered", 1),
        ("u1", "exited", 2),
    ]
    assert deltas[-1].rows == {"audience_0": [{"EXTERN_ID": "u1", "MADID": DEVICE}]}, (
        "what was sent is removed"
    )
    assert worker.partition.members("audience_0") == 0


def test_a_survivor_who_is_a_member_already_sends_the_new_identifiers() -> None:
    plan = plan_of({**ORDERED, "include_anonymous": True})
    worker = Worker(plan)
    worker.feed(order(0, anon="a1", madid=DEVICE), order(1, user="u1"))
    left, updated = worker.feed(identify(2, user="u1", anon="a1"))
    assert changes([left, updated]) == [("anonymous_id:a1", "exited", 2), ("u1", "updated", 2)]
    assert updated.rows == {"audience_0": [{"EXTERN_ID": "u1", "MADID": DEVICE}]}
    assert transitions(plan, order(0, anon="a1"), order(1, user="u1"), identify(2, user="u1", anon="a1")) == [
        (0, "a1", True),
        (1, "u1", True),
    ]


def test_the_time_of_the_merged_history_is_its_own() -> None:
    plan = plan_of({"when": {"event": "Order Completed", "within": "10d"}})
    lines = [order(0, anon="a1"), order(3, user="u1"), identify(4, user="u1", anon="a1"), order(5, anon="a1")]
    assert transitions(plan, *lines) == [(3, "u1", True), (15, "u1", False)]
    assert transitions(plan, lines[0], identify(4, user="u1", anon="a1")) == [
        (4, "u1", True),
        (10, "u1", False),
    ]


def test_newest_traits_count_whoever_had_them() -> None:
    plan = plan_of({"when": {"trait": "plan", "equals": "pro"}})
    lines = [
        identify(0, user="u1", traits={"plan": "free"}),
        identify(1, anon="a1", traits={"plan": "pro"}),
        page(2, user="u1", anon="a1"),
    ]
    assert transitions(plan, *lines) == [(2, "u1", True)]


def test_what_is_made_of_events_is_made_of_all_of_them() -> None:
    """A computed trait, a funnel and the membership of another audience, each over what two profiles did."""
    orders = {"orders": {"event": "Order Completed", "count": True}}
    lines = [page(0, anon="a1"), order(1, anon="a1"), order(2, user="u1"), page(3, user="u1", anon="a1")]
    counted = plan_of({"when": {"trait": "orders", "at_least": 2}}, traits=orders)
    assert transitions(counted, *lines) == [(3, "u1", True)]
    followed = plan_of(
        {"when": {"event": "Page Viewed", "then": {"event": "Order Completed", "count": {"exactly": 2}}}}
    )
    assert transitions(followed, *lines) == [(3, "u1", True)]
    both = plan_of({"name": "twice", **TWICE}, {"name": "other", "when": {"not": {"audience": "twice"}}})
    assert transitions(both, *lines) == [(2, "u1", True), (3, "u1", False), (3, "u1", True)]


def test_of_events_of_one_instant_the_message_id_says_which_is_the_last() -> None:
    plan = plan_of(
        {"when": {"trait": "latest", "equals": "the known one's"}},
        traits={"latest": {"event": "Order Completed", "last": "p"}},
    )
    lines = [
        order(0, anon="a1", messageId="a", properties={"p": "the anonymous one's"}),
        order(0, user="u1", messageId="b", properties={"p": "the known one's"}),
        page(1, user="u1", anon="a1"),
    ]
    assert transitions(plan, *lines) == [(0, "u1", True)]


def test_a_message_that_was_counted_before_a_merge_counts_once() -> None:
    lines = [order(0, anon="a1"), page(0.1, user="u1", anon="a1"), order(0, anon="a1")]
    assert transitions(plan_of(ORDERED), *lines) == [(0.1, "u1", True)]
    assert transitions(plan_of(TWICE), *lines) == []


def test_a_sixth_identifier_of_a_kind_is_dropped_from_its_call() -> None:
    linked = [page(day / 10, user="u1", anon=f"a{day}") for day in range(6)]
    plan = plan_of({"when": {"event": "Order Completed"}, "include_anonymous": True})
    assert transitions(plan, *linked, order(2, anon="a4"), order(3, anon="a5")) == [
        (2, "u1", True),
        (3, "a5", True),
    ]


def test_what_is_behind_a_refused_identifier_is_refused_as_well() -> None:
    """The e-mail is another user's; the anonymous id ranks below it and goes first."""
    plan = plan_of(ORDERED)
    lines = [
        identify(0, user="u1", email="jane@example.com"),
        identify(1, user="u2", email="jane@example.com", anon="a1"),
        order(2, anon="a1"),
    ]
    assert transitions(plan, *lines) == []
    assert transitions(plan, *lines, page(3, user="u2", anon="a1")) == [(3, "u2", True)]


def test_a_device_that_belongs_to_somebody_brings_its_new_anonymous_id_along() -> None:
    """Who is linked ranks above who asks: the profile takes the matter over."""
    plan = plan_of(TWICE)
    lines = [
        order(0, user="u1", madid=DEVICE),
        order(1, anon="a2", madid=DEVICE),
    ]
    assert transitions(plan, *lines) == [(1, "u1", True)]


def test_an_advertising_id_that_finds_no_room_is_sent_all_the_same_and_makes_its_profile_count() -> None:
    calls = [page(day, anon=f"a{day}", madid=DEVICE) for day in range(7)]
    assert transitions(plan_of(NEVER), *calls) == [(0, "a0", True), (5, "a5", True), (6, "a6", True)]


def test_alias_links_nothing() -> None:
    plan = plan_of(ORDERED)
    alias = line(1, "alias", user="u1", anon="a1", previousId="a1")
    assert transitions(plan, order(0, anon="a1"), alias) == []


def test_a_user_id_that_looks_like_another_kind_is_a_user_id() -> None:
    plan = plan_of(ORDERED)
    assert transitions(plan, order(0, user="email:x"), order(1, user="madid:y")) == [
        (0, "email:x", True),
        (1, "madid:y", True),
    ]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_refused_email_drops_the_device_behind_it_however_often_it_comes(times: int) -> None:
    """Also when the e-mail is no news any more: it still comes before the device."""
    calls = [
        order(0, user="user_1"),
        order(1, user="user_2", email="two@example.com"),
        page(2, madid=DEVICE),
        *(
            order(
                3 + number,
                user="user_1",
                email="two@example.com",
                madid=DEVICE,
            )
            for number in range(times)
        ),
    ]
    found = transitions(plan_of(NEVER), *calls)
    assert found == [(2, f"madid:{DEVICE}", True)]
