"""What `audiences show` says of where an audience is delivered to."""

from __future__ import annotations

from typing import Any

from app.commands.audience_view import delivery_lines

VIEW: dict[str, Any] = {
    "id": "a",
    "state": "new",
    "reason": None,
    "next_retry_at": None,
    "ad_account_id": "act_1",
    "facebook_id": None,
    "last_sync_at": None,
    "facebook": {
        "lower_bound": None,
        "upper_bound": None,
        "operation": None,
        "delivery": None,
        "as_of": None,
    },
    "members": None,
    "explanation": None,
    "history": [],
    "hours": [],
}


def test_an_audience_without_a_destination_says_so() -> None:
    assert list(delivery_lines([])) == [("delivered to", "nowhere")]


def test_every_destination_has_its_lines() -> None:
    assert list(delivery_lines([VIEW, {**VIEW, "id": "b"}])) == [
        ("delivered to", "a, new"),
        ("  ad account", "act_1"),
        ("  at Facebook", "size unknown"),
        ("delivered to", "b, new"),
        ("  ad account", "act_1"),
        ("  at Facebook", "size unknown"),
    ]
