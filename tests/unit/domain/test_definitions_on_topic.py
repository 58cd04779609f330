"""Definitions against what the source topic keeps and has brought."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.definitions_on_topic import beyond_retention, hashed_external_ids, never_seen
from app.domain.event_survey import EventSurvey, as_document

DAY = 86_400_000


def parsed(when: dict[str, Any], audience: dict[str, Any] | None = None, **more: Any) -> DefinitionSet:
    document = {"audiences": [{"name": "A", "when": when, **(audience or {})}], **more}
    return parse_definitions([Document("a.yaml", json.dumps(document))])


@pytest.mark.parametrize(
    ("when", "audience", "said"),
    [
        ({"event": "E", "within": "30d"}, {}, "events of the last 30d, and the source topic keeps 7d"),
        ({"event": "E", "between": ["9d", "1d"]}, {}, "events of the last 9d"),
        ({"event": "E"}, {}, "all events ever"),
        ({"not": {"any": [{"event": "E", "within": "1d"}, {"event": "F"}]}}, {}, "all events ever"),
        ({"event": "E", "within": "7d"}, {}, None),
        ({"event": "E"}, {"lookback": "7d"}, None),
        ({"event": "E"}, {"include_history": False}, None),
        ({"trait": "t", "equals": 1}, {}, None),
        ({"trait": "t", "equals": 1}, {"require": {"event": "E"}}, "all events ever"),
    ],
)
def test_windows_beyond_what_the_topic_keeps(
    when: dict[str, Any], audience: dict[str, Any], said: str | None
) -> None:
    found = beyond_retention(parsed(when, audience), 7 * DAY)
    assert len(found) == (said is not None)
    if said is not None:
        assert found[0].startswith("audience a: asks for ")
        assert said in found[0]


def test_computed_traits_beyond_what_the_topic_keeps() -> None:
    traits = {
        "orders": {"event": "E", "count": True, "within": "30d"},
        "few": {"event": "E", "count": True, "within": "1d"},
    }
    found = beyond_retention(parsed({"trait": "orders", "at_least": 1}, traits=traits), 7 * DAY)
    assert [line.partition(":")[0] for line in found] == ["trait orders"]


SURVEY = EventSurvey()
for call in (
    {
        "type": "track",
        "event": "Order Completed",
        "properties": {"revenue": 5, "cart": {"total": 5}, "items": [{"sku": 1}]},
    },
    {"type": "identify", "traits": {"plan": "pro"}, "context": {"campaign": {"source": "x"}}},
):
    SURVEY.add(json.dumps(call).encode())


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"event": "Order Completed", "where": {"revenue": 5, "cart.total": 5, "items.$.sku": 1}}, []),
        (
            {"event": "Order Complete"},
            ["the event `Order Complete` was not seen; did you mean `Order Completed`?"],
        ),
        (
            {"event": "Order Completed", "where": {"revenu": 5}},
            ["`revenu` was not seen in `Order Completed`; did you mean `revenue`?"],
        ),
        (
            {"event": "Order Completed", "sum": {"property": "total", "at_least": {"trait": "goal"}}},
            ["`total` was not seen in `Order Completed`", "the trait `goal` was not seen"],
        ),
        (
            {"event": "Order Completed", "context": {"campaign.source": "x", "campaign.name": "y"}},
            ["the context `campaign.name` was not seen"],
        ),
        (
            {"event": "Order Completed", "then": {"event": "Refund", "where": {"id": {"same_as": "order"}}}},
            ["the event `Refund` was not seen", "`order` was not seen in `Order Completed`"],
        ),
        (
            {"not": {"trait": "plans", "exists": True}},
            ["the trait `plans` was not seen; did you mean `plan`?"],
        ),
        ({"trait": "orders", "at_least": 1}, []),  # computed
        # What is masked or deeper than is looked at may be there.
        ({"event": "Order Completed", "where": {"order_1234567": 5, "a.b.c.d.e.f.g": 1}}, []),
        ({"event": "Order 1234567"}, []),
        # One line, however often it is asked.
        ({"any": [{"event": "X"}, {"event": "X", "count": {"at_least": 2}}]}, ["the event `X` was not seen"]),
    ],
)
def test_names_that_were_not_seen(when: dict[str, Any], said: list[str]) -> None:
    traits = {"orders": {"event": "Order Completed", "count": True}}
    found = never_seen(parsed(when, traits=traits), SURVEY)
    assert len(found) == len(said), found
    for line, words in zip(found, said, strict=True):
        assert line.startswith("audience a: ")
        assert words in line


def test_computed_traits_ask_for_events_too() -> None:
    traits = {"total": {"event": "Order Completed", "sum": "totl"}}
    found = never_seen(parsed({"event": "Order Completed"}, traits=traits), SURVEY)
    assert found == ["trait total: `totl` was not seen in `Order Completed`"]


@pytest.mark.parametrize(
    ("user_id", "facebook", "warned"),
    [
        ("ann@example.com", {}, True),
        ("+14155550100", {}, True),
        ("user_1", {}, False),
        (7, {}, False),
        ("ann@example.com", {"external_id": "sha256"}, False),
        ("ann@example.com", {"fields": {"external_id": "$.traits.crm_id"}}, False),
        ("ann@example.com", [], False),
    ],
)
def test_user_ids_that_look_like_addresses_are_warned_of_where_they_would_go_out_in_the_clear(
    user_id: Any, facebook: Any, warned: bool
) -> None:
    survey = EventSurvey()
    for _ in range(2):
        survey.add(json.dumps({"type": "track", "event": "E", "userId": user_id}).encode())
    found = hashed_external_ids(parsed({"event": "E"}, {"facebook": facebook}), survey)
    line = (
        "2 calls have a user id that is an e-mail address or a phone number: as an external id it is sent hashed, as no "
        "clear text (a)"
    )
    assert found == ([line] if warned else [])
    assert as_document(survey)["personal_user_ids"] == (
        2 if "@" in str(user_id) or "+" in str(user_id) else 0
    )
