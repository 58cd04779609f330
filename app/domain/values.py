"""Values of calls: taking them out by path, and reading them as the operators do."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.instants import parse_instant
from app.domain.paths import ARRAY_ITEMS, ArrayItems, parse_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Extract = Callable[[Any], Any]

# Under which the JSON of a list or an object is kept (app.domain.keeping).
COMPOSITE: Final = "json"

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_LONGEST_NUMBER: Final = 64
_EXACT_FLOAT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Composite:
    """A list or an object where one value was asked for: it exists, and has nothing but its JSON text."""

    text: str


def listed(value: Any) -> list[Any] | None:
    """The items of a list that was kept as one value, in full; None: it is no such one."""
    if type(value) is not Composite or not value.text.startswith("["):
        return None
    try:
        items = json.loads(value.text)
    except ValueError:
        return None  # it was cut off
    return items if type(items) is list else None


def goes_into_items(path: str) -> bool:
    """Whether the path leads to several values, the items of an array."""
    return ARRAY_ITEMS in parse_path(path)


def extractor(path: str) -> Extract:
    """A function from an object to its value at `path`; None: missing.

    For a path into an array's items, the list of their values, None among them where an item has none; None when
    there is no item.
    """
    parts = parse_path(path)
    if len(parts) == 1:
        return _single(str(parts[0]))
    return _items(parts) if ARRAY_ITEMS in parts else _nested([str(part) for part in parts])


def _single(name: str) -> Extract:
    def extract(source: Any) -> Any:
        return source.get(name) if type(source) is dict else None

    return extract


def _nested(names: Sequence[str]) -> Extract:
    def extract(source: Any) -> Any:
        for name in names:
            if type(source) is not dict:
                return None
            source = source.get(name)
        return source

    return extract


def _items(parts: Sequence[str | ArrayItems]) -> Callable[[Any], list[Any] | None]:
    def extract(source: Any) -> list[Any] | None:
        found = [source]
        for part in parts:
            if isinstance(part, ArrayItems):
                found = [item for value in found if type(value) is list for item in value]
            else:
                found = [value.get(part) if type(value) is dict else None for value in found]
        return found or None

    return extract


def number_of(value: Any) -> int | float | None:
    """Numbers and numeric texts as a finite number; booleans are none."""
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is float:
        return float(value) if math.isfinite(value) else None
    if kind is str and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        number = int(value) if _INTEGER.fullmatch(value) else float(value)
        return number if math.isfinite(number) else None
    return None


def instant_of(value: Any) -> int | None:
    """The instant, in epoch milliseconds, that an ISO 8601 text with a zone names; anything else names none."""
    return parse_instant(value) if type(value) is str else None


def text_of(value: Any) -> str | None:
    """The text that string operators look at; a whole number has no point, a list or an object its JSON."""
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return None
    if kind is bool:
        return "true" if value else "false"
    if kind is float and value.is_integer() and abs(value) < _EXACT_FLOAT:
        return str(int(value))
    if kind is Composite:
        return str(value.text)
    if kind is list or kind is dict:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return repr(value)


def restored(value: Any) -> Any:
    """A kept value as the operators take it."""
    kind = type(value)
    if kind is dict:
        return Composite(value.get(COMPOSITE, ""))
    if kind is list:
        return [restored(item) for item in value]
    return value
