from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.audience import (
    AllOf,
    AnyOf,
    AudienceDefinition,
    Condition,
    CountBound,
    EventCondition,
    Not,
    Window,
)

EVENT: dict[str, Any] = {"kind": "event", "event": "E", "count": {"kind": "at_least", "number": 1}}
WHERE: dict[str, Any] = {"path": "a", "operator": "equals", "operand": 1}
AUDIENCE: dict[str, Any] = {"key": "a", "name": "A", "when": EVENT}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "a|b"}, "pattern"),  # would split a record key
        ({"key": "a@b"}, "pattern"),  # would read as a destination id
        ({"key": "a\n"}, "pattern"),
        ({"key": ""}, "pattern"),
        ({"key": "a" * 201}, "pattern"),
        ({"when": None}, "`when` belongs to computed audiences"),
        ({"source": "engage"}, "`when` belongs to computed audiences"),
        ({"source": "reverse_etl", "when": None}, "`rows` belongs to audiences of a warehouse"),
        ({"rows": {"topic": "t"}}, "`rows` belongs to audiences of a warehouse"),
        ({"source": "reverse_etl", "when": None, "rows": {}}, "by `topic` or by `where`, by one of them"),
        ({"source": "reverse_etl", "when": None, "rows": {"topic": "t", "where": [WHERE]}}, "by one of them"),
        (
            {"destinations": [{"id": "a", "sync_mode": "both"}]},
            "'mirror', 'upsert', 'add', 'update' or 'delete'",
        ),
        ({"destinations": [{"id": "a"}, {"id": "a"}]}, "two destinations have one id"),
        ({"wen": EVENT}, "Extra inputs"),
        ({"when": {**EVENT, "kind": "events"}}, "does not match any of the expected tags"),
        ({"when": {**EVENT, "count": {"kind": "at_least", "number": -1}}}, "greater than or equal to 0"),
        ({"when": {**EVENT, "window": {"far_ms": 5, "near_ms": 5}}}, "greater than its near age"),
        ({"when": {**EVENT, "window": {"far_ms": 5, "near_ms": -1}}}, "greater than or equal to 0"),
        ({"when": {"kind": "all", "conditions": []}}, "at least 1 item"),
        ({"when": {"kind": "any", "conditions": []}}, "at least 1 item"),
        ({"when": {"kind": "trait", "trait": "t", "comparisons": []}}, "at least 1 item"),
    ],
)
def test_invariants(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AudienceDefinition.model_validate({**AUDIENCE, **changes})


def test_unchanged_it_is_valid() -> None:
    assert AudienceDefinition.model_validate(AUDIENCE).when == EventCondition(
        event="E", count=CountBound(kind="at_least", number=1)
    )


def test_kinds_are_written_even_where_defaults_are_not() -> None:
    event = EventCondition(event="E", count=CountBound(kind="exactly", number=0), window=Window(far_ms=1))
    condition = AllOf(conditions=[Not(condition=event), AnyOf(conditions=[event])])
    written = condition.model_dump(exclude_defaults=True)
    assert written["kind"] == "all"
    assert [part["kind"] for part in written["conditions"]] == ["not", "any"]
    assert AllOf.model_validate(written) == condition


def test_deep_conditions_read_back() -> None:
    """Trying every kind at every level would not end: there are 2 to the power of 32 ways."""
    condition: Condition = EventCondition(event="E", count=CountBound(kind="at_least", number=1))
    for level in range(32):
        condition = AllOf(conditions=[condition]) if level % 2 else AnyOf(conditions=[condition])
    definition = AudienceDefinition(key="a", name="A", when=condition)
    assert (
        AudienceDefinition.model_validate(definition.model_dump(mode="json", exclude_defaults=True))
        == definition
    )


def test_json_schema_can_be_made() -> None:
    schema = TypeAdapter(AudienceDefinition).json_schema()
    assert {"key", "name", "when"} <= set(schema["$defs"].get("AudienceDefinition", schema)["properties"])
