"""Comparisons with what a reference leads to, with the reason beside each row."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.comparing import options_of
from app.domain.comparing import test_of as compared_with
from app.domain.values import Composite
from schemas.audience import Operator

NOW = 1_740_787_200_000
TODAY = "2025-03-01T00:00:00Z"

ROWS: list[tuple[str, Any, list[Any], bool, str]] = [
    ("equals", "a", ["b", "a"], True, "one of them is enough"),
    ("not_equals", "a", ["a", "b"], True, "each on its own, also where it denies"),
    ("at_least", 2, [3, 2], True, ""),
    ("any_of", "a", ["b", "a"], True, "a list takes all of them"),
    ("none_of", "a", ["b", "a"], False, "and denies all of them"),
    ("none_of", "c", ["b", "a"], True, ""),
    ("at_least", 2, [4, "3"], False, "texts of numbers are numbers"),
    ("greater_than", 3, [3, "2", "x"], True, "what is no number is left out"),
    ("greater_than", 2, [3, "2", "x"], False, ""),
    ("less_than", 3, [2, "4"], True, ""),
    ("less_than", 4, [2, "4"], False, ""),
    ("at_most", 4, [2, "4"], True, ""),
    ("at_most", 5, [2, "4"], False, ""),
    ("at_most", 5, ["x", "y"], False, "no number at all"),
    ("equals", 5, ["5.0", "x"], True, "texts of numbers are numbers"),
    ("contains", "abc", ["x", "b"], True, ""),
    ("contains", "abc", ["x", "y"], False, ""),
    ("before", TODAY, ["2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z"], True, "some date is later"),
    ("within_last", TODAY, ["soon", "1h"], True, "a text that is a duration"),
    ("within_last", TODAY, [3_600_000], False, "a number is none"),
    *((operator.value, "a", [], False, "nothing to compare with") for operator in Operator),
]


@pytest.mark.parametrize(("operator", "value", "options", "expected", "why"), ROWS)
def test_with_options(operator: str, value: Any, options: list[Any], expected: bool, why: str) -> None:
    assert compared_with(Operator(operator), options, NOW)(value) is expected, why


def test_lists_and_objects_are_nothing_to_compare_with() -> None:
    assert options_of(Composite("[1]"), several=False) == []
    assert options_of([1, None, Composite("{}"), "a", True], several=True) == [1, "a", True]
    assert options_of(None, several=True) == options_of(None, several=False) == []
