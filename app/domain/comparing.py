"""Comparisons that constants do not settle: with a trait of the profile, with the clock, with a funnel's parent.

Such a comparison is bound once per evaluation to the state and the clock, and then asked of any number of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from app.domain.operators import (
    LIST_OPERATORS,
    RELATIVE_OPERATORS,
    predicate,
    relative_predicate,
)
from app.domain.paths import ARRAY_ITEMS
from app.domain.values import goes_into_items, number_of
from schemas.audience import Operator, ParentReference, TraitReference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.state import ProfileState
    from schemas.audience import Comparison, Operand

    Test = Callable[[Any], bool]
    # A trait of the profile as the operators take it; None: missing. A path into items gives a list.
    Read = Callable[[ProfileState], Any]
    # Path of a trait -> how to read it.
    Readers = Callable[[str], Read]
    # (state, now) -> the comparison, for any value.
    Bind = Callable[[ProfileState, int], Test]

_OPERANDS: Final = frozenset({str, int, float, bool})


def is_deferred(comparison: Comparison) -> bool:
    """Whether the comparison cannot be made where calls come in, as it needs more than the value."""
    return comparison.operator in RELATIVE_OPERATORS or isinstance(
        comparison.operand, TraitReference | ParentReference
    )


def bound(operator: Operator, operand: Operand, readers: Readers) -> Bind:
    """Of a constant or of a trait; a missing trait makes every operator false."""
    if isinstance(operand, TraitReference):
        read, several = readers(operand.trait), goes_into_items(operand.trait)
        if operator in LIST_OPERATORS and not several:
            return _of_list_or_value(operator, read, readers(f"{operand.trait}.{ARRAY_ITEMS.value}"))
        return lambda state, now: test_of(operator, options_of(read(state), several=several), now)
    if operator in RELATIVE_OPERATORS:
        return lambda _, now: relative_predicate(operator, operand, now)
    test = predicate(operator, operand)
    return lambda _state, _now: test


def _of_list_or_value(operator: Operator, read: Read, read_items: Read) -> Bind:
    """Of a trait that may be a list, as a list operator expects it, or one value."""

    def bind(state: ProfileState, now: int) -> Test:
        items = read_items(state)
        options = options_of(read(state), several=False) if items is None else options_of(items, several=True)
        return test_of(operator, options, now)

    return bind


def options_of(referred: Any, *, several: bool) -> list[Any]:
    """The plain values that a reference leads to."""
    options = referred or () if several else (referred,)
    return [option for option in options if type(option) in _OPERANDS]


def _furthest(choose: Callable[..., Any]) -> Callable[[Operator, Sequence[Any]], list[Test]]:
    """Of an order the one option that decides: who passes any of them passes that one."""

    def tests(operator: Operator, options: Sequence[Any]) -> list[Test]:
        numbers = [number for option in options if (number := number_of(option)) is not None]
        return [predicate(operator, choose(numbers))] if numbers else []

    return tests


# One test in place of one for each of several options, which may be as many as an array has items.
_ONE_FOR_ALL: Final[Mapping[Operator, Callable[[Operator, Sequence[Any]], list[Test]]]] = {
    Operator.EQUALS: lambda _, options: [predicate(Operator.ANY_OF, options)],
    Operator.CONTAINS: lambda _, options: [predicate(Operator.CONTAINS_ANY_OF, options)],
    Operator.LESS_THAN: _furthest(max),
    Operator.AT_MOST: _furthest(max),
    Operator.GREATER_THAN: _furthest(min),
    Operator.AT_LEAST: _furthest(min),
}


def test_of(operator: Operator, options: Sequence[Any], now: int) -> Test:
    """The comparison with what a reference led to.

    Operators that take a list take all of it, others hold when they hold for one of it; a duration is a text.
    """
    if operator in RELATIVE_OPERATORS:
        tests = [relative_predicate(operator, option, now) for option in options if type(option) is str]
    elif operator in LIST_OPERATORS:
        tests = [predicate(operator, options)] if options else []
    elif len(options) > 1 and operator in _ONE_FOR_ALL:
        tests = _ONE_FOR_ALL[operator](operator, options)
    else:
        tests = [predicate(operator, option) for option in options]
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)
