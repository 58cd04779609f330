"""Every operator against every kind of value, with the reason beside each row."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.operators import DATE_OPERATORS, predicate
from app.domain.values import Composite
from schemas.audience import Operator

LIST = Composite('["red","blue"]')

ROWS: list[tuple[str, Any, Any, bool, str]] = [
    ("equals", "FR", "FR", True, "the same text"),
    ("equals", "fr", "FR", False, "case counts"),
    ("equals", 5, 5.0, True, "one number, two spellings"),
    ("equals", "5.0", 5, True, "a numeric text against a number"),
    ("equals", 5, "5.0", True, "and the other way round"),
    ("equals", "5.0", "5", False, "two texts are compared as texts: a postal code keeps its zeros"),
    ("equals", True, True, True, "booleans"),
    ("equals", "true", True, True, "a boolean as text"),
    ("equals", True, "true", True, "and the other way round"),
    ("equals", "True", True, False, "but only in JSON's spelling"),
    ("equals", 1, True, False, "one is not true"),
    ("equals", False, 0, False, "nor false zero"),
    ("equals", "", "", True, "an empty text is a value"),
    ("equals", None, "x", False, "missing"),
    ("equals", LIST, '["red","blue"]', False, "a list equals nothing"),
    ("equals", 9_007_199_254_740_993, "9007199254740993", True, "whole numbers are exact"),
    ("equals", 9_007_199_254_740_993, "9007199254740992", False, "to the last digit"),
    ("not_equals", "DE", "FR", True, "another text"),
    ("not_equals", "FR", "FR", False, "the same"),
    ("not_equals", None, "FR", False, "missing is not different"),
    ("not_equals", LIST, "x", True, "a list exists and is no text"),
    ("greater_than", 5.01, 5, True, ""),
    ("greater_than", 5, 5, False, "strict"),
    ("greater_than", "5.5", 5, True, "a numeric text"),
    ("greater_than", "1e3", 999, True, "with an exponent"),
    ("greater_than", " 9", 5, False, "blanks make it no number"),
    ("greater_than", "nan", 5, False, "no number by name"),
    ("greater_than", "inf", 5, False, "nor without end"),
    ("greater_than", "1e999", 5, False, "nor what overflows"),
    ("greater_than", "0x10", 5, False, "nor other notations"),
    ("greater_than", "١٢", 5, False, "nor other digits"),
    ("greater_than", True, 0, False, "a boolean is no number"),
    ("greater_than", LIST, 0, False, "nor is a list"),
    ("greater_than", None, -1, False, "missing"),
    ("greater_than", 10**400, 5, True, "however large"),
    ("less_than", 4.99, 5, True, ""),
    ("less_than", 5, 5, False, "strict"),
    ("less_than", None, 5, False, "missing"),
    ("at_least", 5, 5, True, "not strict"),
    ("at_least", "4", 5, False, ""),
    ("at_least", None, 0, False, "missing"),
    ("at_most", 5, "5", True, "not strict"),
    ("at_most", 6, 5, False, ""),
    ("at_most", None, 5, False, "missing"),
    ("at_most", 1, "many", False, "an operand that is no number compares with nothing"),
    ("any_of", "b", ["a", "b"], True, ""),
    ("any_of", "B", ["a", "b"], False, "case counts"),
    ("any_of", 2, ["1", "2"], True, "as equals compares"),
    ("any_of", "2", [1, 2], True, "both ways"),
    ("any_of", None, ["a"], False, "missing"),
    ("none_of", "c", ["a", "b"], True, ""),
    ("none_of", "a", ["a", "b"], False, ""),
    ("none_of", None, ["a"], False, "missing is not outside"),
    ("contains", "a@test.com", "@test", True, ""),
    ("contains", "a@TEST.com", "@test", False, "case counts"),
    ("contains", 12345, "234", True, "a number's digits"),
    ("contains", 5.0, ".", False, "a whole number has no point"),
    ("contains", True, "ru", True, "a boolean's text"),
    ("contains", LIST, "red", True, "a list is its JSON text"),
    ("contains", None, "a", False, "missing"),
    ("not_contains", "abc", "x", True, ""),
    ("not_contains", "abc", "b", False, ""),
    ("not_contains", None, "x", True, "the one operator that is true of the missing"),
    ("contains_any_of", "abc", ["x", "bc"], True, ""),
    ("contains_any_of", "abc", ["x", "y"], False, ""),
    ("contains_any_of", None, ["x"], False, "missing"),
    ("starts_with", "summer-sale", "summer", True, ""),
    ("starts_with", "a summer", "summer", False, ""),
    ("starts_with", None, "a", False, "missing"),
    ("ends_with", "me@example.org", ".org", True, ""),
    ("ends_with", "org.example", ".org", False, ""),
    ("ends_with", None, "a", False, "missing"),
    ("exists", "", True, True, "an empty text exists"),
    ("exists", False, True, True, "false exists"),
    ("exists", None, True, False, "missing"),
    ("exists", None, False, True, "missing is asked for"),
    ("exists", 0, False, False, "zero exists"),
]


@pytest.mark.parametrize(("operator", "value", "operand", "expected", "why"), ROWS)
def test_operator(operator: str, value: Any, operand: Any, expected: bool, why: str) -> None:
    assert predicate(Operator(operator), operand)(value) is expected, why


def test_every_operator_has_its_rows() -> None:
    assert {row[0] for row in ROWS} | set(DATE_OPERATORS) == set(Operator)
