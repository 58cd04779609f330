"""Reads single parameters, which arrive as JSON values or as the text of a form or a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.sandbox.errors import GraphError, invalid_parameter

Parameters = Mapping[str, Any]

_TRUE = {"true", "1"}
_FALSE = {"false", "0"}


def opened(value: Any) -> Any:
    """JSON text as what it says; anything else, and text that is no JSON, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def text(parameters: Parameters, name: str) -> str | None:
    value = parameters.get(name)
    if value is None or isinstance(value, str):
        return value
    raise expected(name, "a string")


def boolean(parameters: Parameters, name: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    if str(value).lower() in _TRUE | _FALSE:
        return str(value).lower() in _TRUE
    raise expected(name, "a boolean")


def integer(parameters: Parameters, name: str, low: int, high: int) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    number = _whole(value)
    if number is None or not low <= number <= high:
        raise expected(name, f"a whole number from {low} to {high}")
    return number


def choice(parameters: Parameters, name: str, choices: frozenset[str]) -> str | None:
    value = text(parameters, name)
    if value is not None and value not in choices:
        raise expected(name, "one of " + ", ".join(sorted(choices)))
    return value


def texts(parameters: Parameters, name: str) -> list[str] | None:
    """A list of strings: a JSON array, its text, or names with commas between them."""
    value = opened(parameters.get(name))
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return [part for part in value if part]
    raise expected(name, "a list of strings")


def mapping(parameters: Parameters, name: str) -> dict[str, Any] | None:
    value = opened(parameters.get(name))
    if value is None or isinstance(value, dict):
        return value
    raise expected(name, "a JSON object")


def expected(name: str, what: str) -> GraphError:
    return invalid_parameter(f"Param {name} must be {what}", blame=name)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None
