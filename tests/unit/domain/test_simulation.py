from __future__ import annotations

from typing import Any

import pytest

from app.domain.plan import Plan
from app.domain.simulation import BadLine, Transition, simulate
from schemas.dead_letter import Reason
from tests.unit.domain.plans import DAY, HOUR, START, call, plan_of

ORDERED = plan_of({"when": {"event": "Order Completed", "within": "30d"}, "include_anonymous": True})


def instant(milliseconds: int) -> str:
    """Within the first four weeks of the tests' time."""
    rest = milliseconds - START
    return (
        f"2025-03-{rest // DAY + 1:02}T{rest // HOUR % 24:02}:{rest // 60_000 % 60:02}"
        f":{rest // 1_000 % 60:02}.{rest % 1_000:03}Z"
    )


def order(received: int, **fields: Any) -> bytes:
    at = instant(received)
    return call(**{"receivedAt": at, "timestamp": at, "messageId": f"{received} {fields}", **fields})


def transitions(plan: Plan, lines: list[bytes], until: int | None = None) -> list[tuple[int, str, str, bool]]:
    found = [item for item in simulate(plan, lines, until) if isinstance(item, Transition)]
    return [(item.at - START, item.audience, item.profile, item.member) for item in found]


def test_order_is_by_instant_then_audience_then_profile() -> None:
    plan = plan_of(
        {"name": "b", "when": {"event": "Order Completed"}},
        {"name": "a", "when": {"event": "Order Completed"}},
    )
    lines = [order(START + 1, userId="z"), order(START + 1, userId="y"), order(START + 2, userId="x")]
    assert transitions(plan, lines) == [
        (1, "a", "y", True),
        (1, "a", "z", True),
        (1, "b", "y", True),
        (1, "b", "z", True),
        (2, "a", "x", True),
        (2, "b", "x", True),
    ]


def test_the_clock_never_goes_back() -> None:
    late = order(START + 5, userId="late")
    lines = [order(START + HOUR), late, order(START + 2 * HOUR, userId="next")]
    assert transitions(ORDERED, lines) == [
        (HOUR, "audience_0", "late", True),
        (HOUR, "audience_0", "user_1", True),
        (2 * HOUR, "audience_0", "next", True),
    ]


def test_until_stops_the_clock_and_the_lines_after_it() -> None:
    lines = [order(START), order(START + DAY, userId="at"), order(START + DAY + 1, userId="after")]
    lines.append(order(START + 5, userId="late"))
    found = transitions(ORDERED, lines, START + DAY)
    assert [profile for _, _, profile, _ in found] == ["user_1", "at"]
    assert transitions(ORDERED, lines[:1], START + 30 * DAY - 1) == [(0, "audience_0", "user_1", True)]
    left = (30 * DAY, "audience_0", "user_1", False)
    assert transitions(ORDERED, lines[:1], START + 30 * DAY)[1:] == [left]


def test_without_until_the_last_line_is_the_end_whatever_it_is() -> None:
    plan = plan_of({"when": {"event": "Order Completed", "within": "1d"}})
    for last in (
        order(START + DAY, type="alias"),
        order(START + DAY, userId=5),
        order(START + DAY, event="x"),
    ):
        assert transitions(plan, [order(START), last]) == [
            (0, "audience_0", "user_1", True),
            (DAY, "audience_0", "user_1", False),
        ]


def test_bad_lines_are_named_by_number_and_left_out() -> None:
    lines = [
        b"",
        b"nonsense",
        order(START),
        b"  \t",
        call(userId=""),
        call(timestamp=..., receivedAt=...),
        b"\xff",
    ]
    found = list(simulate(ORDERED, lines))
    assert [(item.number, item.refusal.reason) for item in found if isinstance(item, BadLine)] == [
        (2, Reason.INVALID_JSON),
        (5, Reason.NO_IDENTITY),
        (6, Reason.INVALID_TIMESTAMP),
        (7, Reason.INVALID_UTF8),
    ]
    assert len(found) == 5


def test_a_profile_goes_by_the_name_it_has_at_the_end_of_the_instant() -> None:
    device = {"userId": None, "anonymousId": "a1"}
    lines = [
        order(START, **device),
        order(START, type="identify", traits={"email": "jane@example.com"}, userId=None, anonymousId="a2"),
        order(START, userId=None, anonymousId="a2"),
        order(START + 1, userId="user_id:odd"),
        order(START + DAY, type="identify", traits={"email": "joe@example.com"}, **device),
    ]
    # sha256 of jane@example.com and of joe@example.com
    jane = "email:8c87b489ce35cf2e2f39f80e282cb2e804932a56a213983eeeb428407d43b52d"
    joe = "email:2481f36dfc515ca76451aaadf1399026942a01ee50c6d0a61988b43cef039bc2"
    found = transitions(ORDERED, lines, START + 31 * DAY)
    assert found == [
        (0, "audience_0", "a1", True),
        (0, "audience_0", jane, True),
        (1, "audience_0", "user_id:odd", True),
        (30 * DAY, "audience_0", joe, False),
        (30 * DAY, "audience_0", jane, False),
        (30 * DAY + 1, "audience_0", "user_id:odd", False),
    ]


def test_a_file_of_any_time_can_be_simulated() -> None:
    early = call(timestamp="1970-01-01T00:00:00Z", receivedAt="1970-01-01T00:00:00Z")
    late = call(timestamp="9999-12-31T00:00:00Z", receivedAt="9999-12-31T00:00:00Z", messageId="m2")
    found = list(simulate(ORDERED, [early, late]))
    assert [item.member for item in found if isinstance(item, Transition)] == [True, False, True]


def test_many_profiles_at_one_instant() -> None:
    lines = [order(START, userId=f"u{number}") for number in range(10_050)]
    found = transitions(ORDERED, lines, START + 40 * DAY)
    assert len(found) == 2 * len(lines)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("operator", "of_tags"),
    [("any_of", [True, False]), ("none_of", [False, True]), ("contains_any_of", [True, True])],
)
def test_a_trait_that_is_a_list_is_one_for_the_operators_that_take_one(
    operator: str, of_tags: list[bool]
) -> None:
    """As `tags.$` is, which no other operator does without; a list without items is a missing value."""
    plan = plan_of({"when": {"event": "Order Completed", "where": {"coupon": {operator: {"trait": "tags"}}}}})

    def entered(tags: Any, coupons: list[str]) -> list[bool]:
        profiles = [f"user_{number}" for number in range(len(coupons))]
        lines = [order(START, userId=name, type="identify", traits={"tags": tags}) for name in profiles]
        lines += [
            order(START, userId=name, properties={"coupon": coupon})
            for name, coupon in zip(profiles, coupons, strict=True)
        ]
        members = {profile for _, _, profile, _ in transitions(plan, lines)}
        return [name in members for name in profiles]

    assert entered(["a", "b"], ["b", "xa"]) == of_tags
    assert entered("b", ["b", "xb"]) == of_tags  # one value is a list of one
    assert entered([], ["b", ""]) == [False, False]
    assert entered(None, ["b"]) == [False]


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ({"same_as": "items.$.sku"}, {"both": True, "other": False}),
        ({"not_equals": {"same_as": "items.$.sku"}}, {"both": True, "other": True}),  # some other one
        ({"none_of": {"same_as": "items.$.sku"}}, {"both": False, "other": True}),
    ],
)
def test_what_follows_is_compared_with_the_items_of_what_it_follows(
    comparison: dict[str, Any], expected: dict[str, bool]
) -> None:
    then = {"event": "Order Completed", "where": {"sku": comparison}}
    plan = plan_of({"when": {"event": "Cart Viewed", "then": then}})
    cart = {"items": [{"sku": "a"}, {"sku": "b"}, {}]}
    lines = [order(START, userId=name, event="Cart Viewed", properties=cart) for name in ("both", "other")]
    lines += [order(START, userId="empty", event="Cart Viewed", properties={"items": []})]
    lines += [
        order(START + 1, userId=name, properties={"sku": sku})
        for name, sku in (("both", "b"), ("other", "c"), ("empty", "c"))
    ]
    members = {profile for _, _, profile, _ in transitions(plan, lines)}
    assert members == {name for name, member in expected.items() if member}
