"""Every operator against every kind of value, with the reason beside each row."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.operators import RELATIVE_OPERATORS, edges_after, predicate, relative_predicate
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
    ("starts_with", 1e300, "1e", True, "a number too large for all of its digits to be true"),
    ("starts_with", 1e15, "1000", True, "and one that is not"),
    ("starts_with", None, "a", False, "missing"),
    ("ends_with", "me@example.org", ".org", True, ""),
    ("ends_with", "org.example", ".org", False, ""),
    ("ends_with", "a.org.example", ".org", False, "in the middle"),
    ("ends_with", None, "a", False, "missing"),
    ("exists", "", True, True, "an empty text exists"),
    ("exists", False, True, True, "false exists"),
    ("exists", None, True, False, "missing"),
    ("exists", None, False, True, "missing is asked for"),
    ("exists", 0, False, False, "zero exists"),
    ("before", "2025-02-28T23:59:59.999Z", "2025-03-01T00:00:00Z", True, ""),
    ("before", "2025-03-01T00:00:00Z", "2025-03-01T00:00:00Z", False, "strict"),
    ("before", "2025-03-01T00:30:00+01:00", "2025-03-01T00:00:00Z", True, "in whatever zone"),
    ("before", "1969-01-01T00:00:00Z", "1970-01-01T00:00:00Z", True, "birthdays too"),
    ("before", "2025-02-01", "2025-03-01T00:00:00Z", False, "a date without a zone is no instant"),
    ("before", "2025-02-01T00:00:00", "2025-03-01T00:00:00Z", False, "nor is a time without one"),
    ("before", 0, "2025-03-01T00:00:00Z", False, "a number is no date"),
    ("before", True, "2025-03-01T00:00:00Z", False, "nor is a boolean"),
    ("before", LIST, "2025-03-01T00:00:00Z", False, "nor is a list"),
    ("before", "x" * 1_024, "2025-03-01T00:00:00Z", False, "nor is any text"),
    ("before", None, "2025-03-01T00:00:00Z", False, "missing"),
    ("before", "2025-02-01T00:00:00Z", "soon", False, "an operand that is no date compares with nothing"),
    ("after", "2025-03-01T00:00:00.001Z", "2025-03-01T00:00:00Z", True, ""),
    ("after", "2025-03-01T00:00:00Z", "2025-03-01T00:00:00Z", False, "strict"),
    ("after", None, "2025-03-01T00:00:00Z", False, "missing"),
    ("after", "2025-04-01T00:00:00Z", True, False, "an operand that is no date"),
]


@pytest.mark.parametrize(("operator", "value", "operand", "expected", "why"), ROWS)
def test_operator(operator: str, value: Any, operand: Any, expected: bool, why: str) -> None:
    assert predicate(Operator(operator), operand)(value) is expected, why


NOW = 1_740_787_200_000
TODAY = "2025-03-01T00:00:00Z"

RELATIVE_ROWS: list[tuple[str, Any, Any, bool, str]] = [
    ("within_last", TODAY, 1, True, "from the date itself on"),
    ("within_last", "2025-02-28T00:00:00Z", 86_400_001, True, "less than the span ago"),
    ("within_last", "2025-02-28T00:00:00Z", 86_400_000, False, "the span's end is outside"),
    ("within_last", "2025-03-01T00:00:00.001Z", 5, False, "still to come"),
    ("within_last", TODAY, 0, False, "nothing lasts no time"),
    ("before_last", "2025-02-28T00:00:00Z", 86_400_000, True, "the span's end and older"),
    ("before_last", "2025-02-28T00:00:00Z", 86_400_001, False, ""),
    ("before_last", TODAY, 0, True, "come by now"),
    ("within_next", TODAY, 5, False, "no longer to come"),
    ("within_next", "2025-03-01T00:00:00.001Z", 1, True, "the span's beginning is inside"),
    ("within_next", "2025-03-01T00:00:00.002Z", 1, False, "further away"),
    ("after_next", "2025-03-01T00:00:00.002Z", 1, True, "further away than the span"),
    ("after_next", "2025-03-01T00:00:00.001Z", 1, False, "not within it"),
    *((operator.value, None, 5, False, "missing") for operator in sorted(RELATIVE_OPERATORS)),
    *((operator.value, "2025-03-01", 5, False, "no zone") for operator in sorted(RELATIVE_OPERATORS)),
    *((operator.value, TODAY, "soon", False, "no duration") for operator in sorted(RELATIVE_OPERATORS)),
    *((operator.value, TODAY, True, False, "no duration") for operator in sorted(RELATIVE_OPERATORS)),
    ("within_last", TODAY, "1d", True, "a trait says how long in text"),
]


@pytest.mark.parametrize(("operator", "value", "operand", "expected", "why"), RELATIVE_ROWS)
def test_relative_operator(operator: str, value: Any, operand: Any, expected: bool, why: str) -> None:
    assert relative_predicate(Operator(operator), operand, NOW)(value) is expected, why


@pytest.mark.parametrize("operator", sorted(RELATIVE_OPERATORS))
def test_a_relative_operator_changes_its_mind_at_its_edges_and_nowhere_else(operator: Operator) -> None:
    date = NOW + 10
    said = [relative_predicate(operator, 4, now)("2025-03-01T00:00:00.010Z") for now in range(NOW, NOW + 20)]
    changes = [NOW + index + 1 for index in range(19) if said[index] != said[index + 1]]
    assert changes == [date + edge for edge in edges_after(operator, 4)]
    assert edges_after(operator, "soon") == ()


def test_every_operator_has_its_rows() -> None:
    assert {row[0] for row in (*ROWS, *RELATIVE_ROWS)} == set(Operator)
