"""docs/parity.md has every feature of the checklist, each judged by a known word, and names what there is."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.markdown_pages import ROOT, quoted, read, table

PAGE = read("docs/parity.md")
ROWS = table(PAGE, "## Features")
WORDS = {"same", "more", "other", "not needed", "missing"}
# Of the checklist.
FEATURES = 69


def test_every_feature_is_there_once_in_order() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, FEATURES + 1)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_feature_is_judged_and_what_is_named_exists(row: list[str]) -> None:
    _, feature, segment, _, word, how, where, test = row
    assert feature
    assert segment
    assert word in WORDS
    assert how or word == "same"
    assert (ROOT / where.strip("`")).is_file()
    path, *names = quoted(test)
    source = (ROOT / path).read_text(encoding="utf-8")
    assert path.startswith("tests/")
    found = re.findall(r"^(?:async )?def (test_\w+)\(", source, re.MULTILINE)
    assert found
    assert set(names) <= set(found)


def test_every_word_is_explained() -> None:
    explained = PAGE.partition("## Features")[0]
    assert {row[4] for row in ROWS} <= {word for word in WORDS if f"`{word}`" in explained}
