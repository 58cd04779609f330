"""Definitions as they are written, and parts of what they become."""

from __future__ import annotations

from typing import Any

from app.domain.definitions import DefinitionSet, Document, parse_definitions
from schemas.audience import (
    AudienceDefinition,
    Comparison,
    Condition,
    CountBound,
    EventCondition,
    Operator,
)

ONCE = CountBound(kind="at_least", number=1)


def parse(*texts: str) -> DefinitionSet:
    return parse_definitions([Document(f"{index}.yaml", text) for index, text in enumerate(texts)])


def audience(text: str) -> AudienceDefinition:
    """The one audience of `text`, which is written without the list around it, beside one that it may refer to."""
    other = "  - {name: Another, key: b_1, source: engage}\n"
    definitions = parse("audiences:\n  - " + text.replace("\n", "\n    ") + "\n" + other)
    assert len(definitions.audiences) == 2
    return definitions.audiences[0]


def condition(text: str) -> Condition:
    when = audience(f"name: A\nwhen: {text}").when
    assert when is not None
    return when


def compared(path: str, operator: Operator, operand: Any) -> Comparison:
    return Comparison(path=path, operator=operator, operand=operand)


def event(**parts: Any) -> EventCondition:
    return EventCondition.model_validate({"event": "E", "count": ONCE, **parts})
