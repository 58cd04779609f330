"""The language's page: its examples are read, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.domain.definitions import Document, parse_definitions
from app.domain.definitions_conditions import _EVENT_KEYS, _KINDS, MAX_CONDITION_DEPTH
from app.domain.definitions_keys import AUDIENCE_KEYS
from app.domain.definitions_operators import OPERATORS
from app.domain.definitions_traits import TRAIT_KEYS
from app.domain.fold import MAX_OF_ONE_KIND
from app.domain.person import _FIELDS
from app.domain.reverse_etl import ADDING_ROWS, DELETED, REMOVING

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
    # Of every computed trait in use there is one, which is no fault.
    assert [line for line in read.warnings if "in identify calls is ignored" not in line] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```") / 2 >= 8


def test_everything_is_named() -> None:
    names = {*AUDIENCE_KEYS, *TRAIT_KEYS, *_KINDS, *_EVENT_KEYS, *OPERATORS}
    assert sorted(name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)) == []
    assert f"at most {MAX_CONDITION_DEPTH} deep" in PAGE


def rows_of_table(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, its head left out."""
    table = PAGE.partition(f"{title}\n")[2].partition("|---")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_names_of_identifiers_are_those_that_are_read() -> None:
    listed = {
        (tuple(quoted(columns)), tuple(quoted(names)), tuple(quoted(inside)))
        for columns, names, inside in rows_of_table("## Identifiers")
    }
    read = {
        (tuple(column.value for column in field.columns), field.places, field.in_address) for field in _FIELDS
    }
    assert listed - read == {(("MADID",), ("context.device.advertisingId",), ())}
    assert read - listed == set()
    assert f"up to {MAX_OF_ONE_KIND} of\n  each" in PAGE


def test_the_table_of_sync_modes() -> None:
    assert [
        (quoted(mode)[0], set(quoted(adds)), set(quoted(removes)))
        for mode, adds, removes in rows_of_table("### Sync modes")
    ] == [
        (mode.value, set(rows), {DELETED} if mode in REMOVING else set())
        for mode, rows in ADDING_ROWS.items()
    ]
