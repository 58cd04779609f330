"""The language's page: its examples are read, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.domain.definitions import Document, parse_definitions
from app.domain.definitions_conditions import _EVENT_KEYS, _KINDS, MAX_CONDITION_DEPTH
from app.domain.definitions_keys import AUDIENCE_KEYS, NOT_SUPPORTED
from app.domain.definitions_operators import OPERATORS

PAGE = (Path(__file__).parents[3] / "docs" / "audience-language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def as_file(example: str) -> str:
    """A file as it is; a list of conditions as the conditions of audiences, one each."""
    if not example.startswith("- "):
        return example
    conditions = re.split(r"^- ", example, flags=re.MULTILINE)[1:]
    lines = ["audiences:"]
    for number, condition in enumerate(conditions):
        indented = condition.strip().replace("\n  ", "\n      ")
        lines.append(f"  - name: Condition {number}\n    when:\n      {indented}")
    return "\n".join(lines)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_read_without_warnings(example: str) -> None:
    read = parse_definitions([Document("audiences.yaml", as_file(example))])
    assert read.audiences
    assert read.warnings == ()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```") / 2 >= 8


def test_everything_is_named() -> None:
    parts = [name for names in NOT_SUPPORTED.values() for name in names]
    names = {*AUDIENCE_KEYS, *_KINDS, *_EVENT_KEYS, *OPERATORS, *parts}
    assert sorted(name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)) == []
    assert f"at most {MAX_CONDITION_DEPTH} deep" in PAGE
