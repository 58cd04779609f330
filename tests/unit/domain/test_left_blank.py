"""What is counted of fields that say nothing, by column and reason."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.resolution import ResolveOptions, Resolver
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of

ENGAGED = {"key": "vips", "source": "engage"}
MAPPED = {
    "key": "mapped",
    "when": {"event": "E"},
    "facebook": {
        "ad_account_id": "act_1",
        "fields": {"email": ["$.traits.work", "$.traits.home"], "page_id": "$.traits.page"},
    },
}
PERSONAS = {"personas": {"computation_class": "audience", "computation_key": "vips"}}

CALLS: list[tuple[dict[str, Any], dict[tuple[str, str], int], str]] = [
    ({"type": "identify", "traits": {"email": "/"}}, {("EMAIL", "placeholder"): 1}, "a stroke"),
    (
        {"type": "identify", "traits": {"phone": " - ", "phone_number": "N/A"}},
        {("PHONE", "placeholder"): 2},
        "each",
    ),
    ({"type": "identify", "traits": {"gender": "NULL"}}, {("GEN", "placeholder"): 1}, "whatever the case"),
    ({"type": "identify", "traits": {"email": "", "phone": "  ", "city": None}}, {}, "blank stays blank"),
    (
        {"type": "identify", "traits": {"email": "jane@x.co", "address": {"city": "-"}}},
        {("CT", "placeholder"): 1},
        "inside",
    ),
    ({"type": "identify", "traits": {"email": "jane"}}, {("EMAIL", "unusable"): 1}, "no address"),
    (
        {"type": "identify", "traits": {"email": ["jane", "a@b.co", "/"]}},
        {("EMAIL", "unusable"): 1},
        "of several",
    ),
    (
        {"type": "identify", "traits": {"email": ["-", "/"]}},
        {("EMAIL", "placeholder"): 2},
        "a list of nothing",
    ),
    (
        {"type": "identify", "traits": {"birthday": "-"}},
        {(part, "placeholder"): 1 for part in ("DOBY", "DOBM", "DOBD")},
        "all that a date fills",
    ),
    (
        {"type": "track", "event": "E", "context": {"traits": {"email": "x", "phone": "/"}}},
        {("EMAIL", "unusable"): 1, ("PHONE", "placeholder"): 1},
        "of the context",
    ),
    ({"type": "track", "event": "E", "properties": {"email": "/"}}, {}, "of what was done nothing is taken"),
    (
        {"type": "track", "event": "x", "context": PERSONAS, "properties": {"vips": True, "city": "n/a"}},
        {("CT", "placeholder"): 1},
        "of Engage",
    ),
]


@pytest.mark.parametrize(("fields", "counted", "why"), CALLS, ids=[row[2] for row in CALLS])
def test_fields_that_say_nothing_are_counted(
    fields: dict[str, Any], counted: dict[tuple[str, str], int], why: str
) -> None:
    resolver = Resolver(plan_of({"when": {"event": "E"}}, ENGAGED), ResolveOptions())
    assert resolver.resolve(call(**fields), START, FAR_WALL, "lane", 1).refused is None
    assert resolver.take_left_blank() == counted, why
    assert resolver.take_left_blank() == {}, "each once"


def test_mapped_fields_are_counted_too() -> None:
    resolver = Resolver(plan_of(MAPPED), ResolveOptions())
    traits = {"work": "-", "home": "nobody", "page": "x1"}
    resolver.resolve(call(type="identify", traits=traits), START, FAR_WALL, "lane", 1)
    assert resolver.take_left_blank() == {
        ("EMAIL", "placeholder"): 1,
        ("EMAIL", "unusable"): 1,
        ("PAGE_ID", "unusable"): 1,
    }
