"""Values and operators as the oracles read them, which share no code with the application."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR
RELATIVE = ("within_last", "before_last", "within_next", "after_next")


def hours(text: str) -> int:
    assert text.endswith("h")
    return int(text[:-1]) * HOUR


def duration(value: Any) -> int | None:
    return hours(value) if isinstance(value, str) and re.fullmatch("[0-9]+h", value) else None


def date(value: Any) -> int | None:
    """The instant that a text of the one form that the tests write is."""
    try:
        moment = datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        return None
    return round(moment.timestamp() * 1_000)


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else str(value)


def number(value: Any) -> Fraction | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return Fraction(value) if isinstance(value, int | float) else Fraction(str(value))
    except ValueError:
        return None


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


TEXTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda whole, part: part in whole,
    "contains_any_of": lambda whole, part: part in whole,
    "starts_with": lambda whole, part: whole[: len(part)] == part,
    "ends_with": lambda whole, part: (
        whole[len(whole) - len(part) :] == part if len(part) <= len(whole) else False
    ),
}


def found_at(data: Any, path: str) -> list[Any]:
    """What stands there: one value, or as many as there are items on the way; one None if there are none."""
    found = [data]
    for part in path.split("."):
        if part == "$":
            found = [item for one in found if isinstance(one, list) for item in one]
        else:
            found = [one.get(part) if isinstance(one, dict) else None for one in found]
    if "$" in path:
        found = [one for one in found if one is not None]
    return found or [None]


def satisfied(operator: str, value: Any, operand: Any, now: int) -> bool:
    """One operator, for scalars of the kinds that the tests generate."""
    if operand is None:
        return False
    left, right = number(value), None if isinstance(operand, list) else number(operand)
    if operator == "exists":
        return (value is not None) is operand
    if operator == "not_contains":
        return value is None or str(operand) not in text(value)
    if value is None:
        return False
    if operator == "equals":
        if isinstance(value, bool) or isinstance(operand, bool):
            return str(value).lower() == str(operand).lower()
        both_text = isinstance(value, str) and isinstance(operand, str)
        return bool(value == operand) if both_text or left is None or right is None else left == right
    if operator == "not_equals":
        return not satisfied("equals", value, operand, now)
    if operator == "any_of":
        return any(satisfied("equals", value, option, now) for option in operand)
    if operator == "none_of":
        return not satisfied("any_of", value, operand, now)
    if operator in TEXTS:
        return any(TEXTS[operator](text(value), text(one)) for one in listed(operand))
    if operator in ("before", "after", *RELATIVE):
        return dated(operator, date(value), operand, now)
    if left is None or right is None:
        return False
    return {
        "greater_than": left > right,
        "less_than": left < right,
        "at_least": left >= right,
        "at_most": left <= right,
    }[operator]


def dated(operator: str, value: int | None, operand: Any, now: int) -> bool:
    limit = duration(operand) if operator in RELATIVE else date(operand)
    if value is None or limit is None:
        return False
    return {
        "before": value < limit,
        "after": value > limit,
        "within_last": value <= now < value + limit,
        "before_last": now >= value + limit,
        "within_next": value - limit <= now < value,
        "after_next": now < value - limit,
    }[operator]
