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
        self._found: dict[tuple[Key, ...], list[int]] = {}
        for number, entry in enumerate(entries):
            keys = [list(_keys_of_any(restored(entry[place]))) for place in places]
            for key in set(product(*keys)):
                self._found.setdefault(key, []).append(number)

    def find(self, values: Sequence[Any], first: int, end: int) -> Sequence[int]:
        """The numbers, from `first` up to `end`, of the entries that have the same values, in order."""
        if first >= end:
            return ()
        lists = [
            found
            for key in product(*map(_keys_to_find, values))
            if (found := self._found.get(key)) is not None
        ]
        if not lists:
            return ()
        ranges = [found[bisect_left(found, first) : bisect_left(found, end)] for found in lists]
        return ranges[0] if len(ranges) == 1 else sorted({number for part in ranges for number in part})


def _keys_of_any(value: Any) -> Iterator[Key]:
    """Of a list, the keys of all its items: one of them is enough."""
    for item in value if type(value) is list else (value,):
        yield from _keys(item)


def _keys(value: Any) -> Iterator[Key]:
    """Under which an event with this value is found; a list or an object equals nothing."""
    kind = type(value)
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
