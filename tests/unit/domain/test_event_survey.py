"""Names, paths, types and shares, and never a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.event_survey import (
    MASKED,
    MAX_DEPTH,
    MAX_EVENTS,
    MAX_PATHS,
    EventSurvey,
    as_document,
    masked,
)


def surveyed(*calls: Any) -> EventSurvey:
    survey = EventSurvey()
    for call in calls:
        survey.add(call if isinstance(call, bytes | None) else json.dumps(call).encode())
    return survey


def track(event: Any = "Order Completed", **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "properties": properties}


def paths(survey: EventSurvey, event: str = "Order Completed") -> dict[str, list[str]]:
    return {path: sorted(kinds) for path, kinds in survey.events[event].types.items()}


def test_paths_have_types_and_shares() -> None:
    survey = surveyed(
        track(revenue=5, currency="EUR", coupon=None),
        track(revenue="5.5", at="2026-01-01T00:00:00Z", gift=True),
        {"type": "identify", "traits": {"plan": "pro"}, "context": {"ip": "1.2.3.4"}},
        {"type": "page", "name": "Home", "properties": {"url": "x"}},
        {"type": "screen"},
        b"no json",
        None,
        {"type": "other"},
        {"type": "track", "event": 5},
    )
    document = as_document(survey)
    assert (document["records"], document["unreadable"]) == (9, 3)
    assert document["types"] == {"track": 3, "identify": 1, "page": 1, "screen": 1}
    orders, page, screen = document["events"]
    assert (orders["event"], orders["count"]) == ("Order Completed", 2)
    assert orders["properties"] == [
        {"path": "at", "share": 0.5, "types": ["date"]},
        {"path": "coupon", "share": 0.5, "types": ["null"]},
        {"path": "currency", "share": 0.5, "types": ["text"]},
        {"path": "gift", "share": 0.5, "types": ["boolean"]},
        {"path": "revenue", "share": 1.0, "types": ["number", "numeric text"]},
    ]
    assert [one["path"] for one in page["properties"]] == ["page_name", "url"]
    assert screen["event"] == "Screen Viewed"
    assert document["traits"]["properties"] == [{"path": "plan", "share": 1.0, "types": ["text"]}]
    assert document["context"]["count"] == 6


def test_objects_and_arrays_are_gone_into() -> None:
    survey = surveyed(track(cart={"total": 5, "a.b": 1}, products=[{"sku": "x"}, {"sku": 1}, "y"], tags=[]))
    assert paths(survey) == {
        "cart": ["object"],
        "cart.total": ["number"],
        r"cart.a\.b": ["number"],
        "products": ["list"],
        "products.$": ["object", "text"],
        "products.$.sku": ["number", "text"],
        "tags": ["list"],
    }
    assert not survey.events["Order Completed"].beyond


@pytest.mark.parametrize(
    "name",
    [
        "ann@example.com",
        "user 4711123",
        "+49 30 123-45-67",
        "b7e0d8372a47f54bbefeb251ab9ac1e9",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "a\nb",
        "x" * 101,
        "",
    ],
)
def test_names_that_look_like_identifiers_are_masked(name: str) -> None:
    assert masked(name) == MASKED
    survey = surveyed(track(name or "E", **{name: 1, "fine": {name: 2}}))
    assert name == "" or name not in json.dumps(as_document(survey), ensure_ascii=False)
    assert MASKED in survey.events[masked(name or "E")].types


@pytest.mark.parametrize("name", ["Order Completed", "revenue_2026", "utm_source", "Straße", "step 12 of 15"])
def test_ordinary_names_are_not(name: str) -> None:
    assert masked(name) == name


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_is_ever_shown(value: Any) -> None:
    secret = "zq7canary"
    shown = json.dumps(as_document(surveyed(track(a=value, b=secret, c=[secret], d={"e": secret}))))
    assert secret not in shown


@given(st.binary())
def test_any_bytes_are_counted(raw: bytes) -> None:
    assert surveyed(raw).records == 1


def test_what_is_told_apart_is_bounded() -> None:
    survey = surveyed(*(track(f"E{number}e") for number in range(MAX_EVENTS + 5)))
    assert (len(survey.events), survey.beyond) == (MAX_EVENTS, True)
    survey = surveyed(track(**{f"p{number}p": 1 for number in range(MAX_PATHS + 5)}))
    assert (len(survey.events["Order Completed"].types), survey.events["Order Completed"].beyond) == (
        MAX_PATHS,
        True,
    )
    deep: Any = 1
    for _ in range(MAX_DEPTH + 3):
        deep = {"d": deep}
    survey = surveyed(track(deep=deep))
    assert max(path.count(".") for path in paths(survey)) == MAX_DEPTH - 1
    assert survey.events["Order Completed"].beyond
