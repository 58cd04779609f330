"""An index of events by the values of some of their properties, to find those with the same values as another event.

Values are the same as the operator `equals` takes them: two texts when they are equal, a text and a number when the
text is that number, a text and a boolean when the text is its JSON.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from app.domain.values import goes_into_items, number_of, restored
from schemas.audience import Operator, ParentReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.audience import Comparison

    Key = tuple[str, Any]

_BOOLEANS: Final = {"true": True, "false": False}


def is_indexed(comparison: Comparison) -> bool:
    """Whether an index finds the events that pass this comparison with a funnel's parent."""
    operand = comparison.operand
    return (
        comparison.operator is Operator.EQUALS
        and isinstance(operand, ParentReference)
        and not goes_into_items(operand.same_as)
    )


class SameValues:
    """Of `entries`, each an event's kept values, those at `places` are indexed: at most MOST of them."""

    MOST: Final = 3

    def __init__(self, entries: Sequence[list[Any]], places: Sequence[int]) -> None:
        self._found: dict[Key | tuple[Key, ...], list[int]] = {}
        found = self._found
        self._single = len(places) == 1
        if self._single:
            # The usual case, and there may be many entries.
            [place] = places
            for number, entry in enumerate(entries):
                value = entry[place]
                for key in set(_keys_of_any(restored(value))) if type(value) is list else _keys(value):
                    found.setdefault(key, []).append(number)
            return
        for number, entry in enumerate(entries):
            keys = [list(_keys_of_any(restored(entry[place]))) for place in places]
            for several in set(product(*keys)):
                found.setdefault(several, []).append(number)

    def find(self, values: Sequence[Any], first: int, end: int) -> Sequence[int]:
        """The numbers, from `first` up to `end`, of the entries that have the same values, in order."""
        ranges = [found[low:high] for found, low, high in self._ranges(values, first, end)]
        if len(ranges) == 1:
            return ranges[0]
        return sorted({number for part in ranges for number in part})

    def count(self, values: Sequence[Any], first: int, end: int) -> int:
        """How many `find` would find."""
        ranges = self._ranges(values, first, end)
        if len(ranges) == 1:
            [(_, low, high)] = ranges
            return high - low
        return len({number for found, low, high in ranges for number in found[low:high]})

    def _ranges(self, values: Sequence[Any], first: int, end: int) -> list[tuple[list[int], int, int]]:
        if first >= end:
            return []
        keys = _keys_to_find(values[0]) if self._single else product(*map(_keys_to_find, values))
        lists = (self._found.get(key) for key in keys)
        return [
            (found, low, high)
            for found in lists
            if found is not None and (low := bisect_left(found, first)) < (high := bisect_left(found, end))
        ]


def _keys_of_any(value: Any) -> Iterator[Key]:
    """Of a list, the keys of all its items: one of them is enough."""
    for item in value if type(value) is list else (value,):
        yield from _keys(item)


def _keys(value: Any) -> Iterator[Key]:
    """Under which an event with this value is found; a list or an object equals nothing."""
    kind = type(value)
    if kind is dict:
        return  # as it is kept
    if kind is str:
        yield "text", value
        if (number := number_of(value)) is not None:
            yield "number of a text", number
    elif kind is bool:
        yield "boolean", value
    elif (number := number_of(value)) is not None:
        yield "number", number


def _keys_to_find(value: Any) -> list[Key]:
    """Under which the events are that have the same value."""
    kind = type(value)
    if kind is str:
        keys: list[Key] = [("text", value)]
        if (number := number_of(value)) is not None:
            keys.append(("number", number))
        if value in _BOOLEANS:
            keys.append(("boolean", _BOOLEANS[value]))
        return keys
    if kind is bool:
        return [("boolean", value), ("text", "true" if value else "false")]
    if (number := number_of(value)) is None:
        return []
    return [("number", number), ("number of a text", number)]
