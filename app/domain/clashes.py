"""Comparisons of one value that no value passes together.

Only what is compared with constants is looked at, and only one value: of the items of an array, one may pass one
comparison and another the next.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from app.domain.durations import format_duration
from app.domain.operators import DATE_OPERATORS, RELATIVE_OPERATORS, predicate
from app.domain.values import goes_into_items, instant_of, number_of
from schemas.audience import AggregateFunction, Operator, ParentReference, TraitReference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from schemas.audience import Aggregate, Comparison

# Choices that are quoted; of more there is an ellipsis.
_MOST_SHOWN: Final = 3
_LOWER: Final = (Operator.GREATER_THAN, Operator.AT_LEAST)
_UPPER: Final = (Operator.LESS_THAN, Operator.AT_MOST)
_CLOSED: Final = (Operator.AT_LEAST, Operator.AT_MOST)
_NUMERIC: Final = frozenset((*_LOWER, *_UPPER))
_EQUALITY: Final = frozenset({Operator.EQUALS, Operator.NOT_EQUALS, Operator.ANY_OF, Operator.NONE_OF})
_TEXT: Final = frozenset(
    {
        Operator.CONTAINS,
        Operator.NOT_CONTAINS,
        Operator.CONTAINS_ANY_OF,
        Operator.STARTS_WITH,
        Operator.ENDS_WITH,
    }
)
# Of dates that have passed, and of those that have not.
_PAST: Final = (Operator.WITHIN_LAST, Operator.BEFORE_LAST)
_TO_COME: Final = (Operator.WITHIN_NEXT, Operator.AFTER_NEXT)
# Sums and averages are rounded to so many decimals before they are compared.
_DECIMALS: Final = 6


def clashes(comparisons: Iterable[Comparison]) -> list[str]:
    """Why no value can be at a path that passes all that is asked of it; one sentence for each such path."""
    by_path: dict[str, list[Comparison]] = defaultdict(list)
    for one in comparisons:
        if not goes_into_items(one.path):
            by_path[one.path].append(one)
    found = ((path, _clash(compared)) for path, compared in by_path.items())
    return [f"`{path}` must {what} at once" for path, what in found if what is not None]


def aggregate_clash(aggregate: Aggregate, where: Sequence[Comparison]) -> str | None:
    """Why the aggregate of such events can be none that passes."""
    path = aggregate.property_path
    if any(one.path == path and one.operator is Operator.EXISTS and one.operand is False for one in where):
        return f"events without `{path}` have no {aggregate.function} of it"
    constants = [
        (op, operand) for op, operand in aggregate.comparisons if not isinstance(operand, TraitReference)
    ]
    # What it must equal is a bound on both sides.
    both = [(bound, operand) for op, operand in constants if op is Operator.EQUALS for bound in _CLOSED]
    found = _interval_clash([*constants, *both])
    if found is not None:
        return f"the {aggregate.function} of `{path}` must {found} at once"
    for operator, operand in constants:
        if (
            operator is Operator.EQUALS
            and aggregate.function in (AggregateFunction.SUM, AggregateFunction.AVERAGE)
            and round(operand, _DECIMALS) != operand
        ):
            return f"a {aggregate.function} is rounded to {_DECIMALS} decimals before it is compared"
    return None


def _clash(comparisons: Sequence[Comparison]) -> str | None:
    """What the value would have to be, in words that follow `must`."""
    if _missing_clash(comparisons):
        return "be missing and have a value"
    constants = [
        (one.operator, one.operand)
        for one in comparisons
        if not isinstance(one.operand, TraitReference | ParentReference)
    ]
    # A comparison with a reference asks for a number or a date too.
    operators = {one.operator for one in comparisons}
    if operators & _NUMERIC and operators & (DATE_OPERATORS | RELATIVE_OPERATORS):
        return "be a number and a date"
    return (
        _interval_clash(constants)
        or _date_clash(constants)
        or _relative_clash(constants, operators)
        or _text_clash(constants)
        or _choice_clash(constants)
    )


def _missing_clash(comparisons: Sequence[Comparison]) -> bool:
    absent = any(one.operator is Operator.EXISTS and one.operand is False for one in comparisons)
    # `not_contains` holds for a missing value, every other operator needs one.
    return absent and any(
        one.operand is True if one.operator is Operator.EXISTS else one.operator is not Operator.NOT_CONTAINS
        for one in comparisons
    )


_Constant = tuple[Operator, Any]


def _interval_clash(constants: Sequence[_Constant]) -> str | None:
    for low, least in constants:
        for high, most in constants:
            if low not in _LOWER or high not in _UPPER:
                continue
            open_end = low is Operator.GREATER_THAN or high is Operator.LESS_THAN
            if least > most or (least == most and open_end):
                return f"be {_words(low)} {least:.15g} and {_words(high)} {most:.15g}"
    return None


def _date_clash(constants: Sequence[_Constant]) -> str | None:
    for operator, first in constants:
        for other, last in constants:
            if operator is Operator.AFTER and other is Operator.BEFORE:
                least, most = instant_of(first), instant_of(last)
                # Instants are whole milliseconds.
                if least is not None and most is not None and least + 1 >= most:
                    return f"be after {first} and before {last}"
    return None


def _relative_clash(constants: Sequence[_Constant], operators: Iterable[Operator]) -> str | None:
    used = set(operators)
    if used.intersection(_PAST) and used.intersection(_TO_COME):
        return "have passed and be still to come"
    for near, far in (_PAST, _TO_COME):
        for inner in (operand for operator, operand in constants if operator is near):
            for outer in (operand for operator, operand in constants if operator is far):
                if isinstance(inner, int) and isinstance(outer, int) and outer >= inner:
                    return f"be {_words(near)} {format_duration(inner)} and {_words(far)} {format_duration(outer)}"
    return None


def _text_clash(constants: Sequence[_Constant]) -> str | None:
    needed = (Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH)
    for operator, part in constants:
        for other, excluded in constants:
            if operator in needed and other is Operator.NOT_CONTAINS and excluded in part:
                return f"{_verb(operator)} {part!r} and not contain {excluded!r}"
    for first, second in combinations(constants, 2):
        if first[0] is not second[0]:
            continue
        one, two = sorted((first[1], second[1]), key=len) if first[0] in needed else ("", "")
        apart = {Operator.STARTS_WITH: not two.startswith(one), Operator.ENDS_WITH: not two.endswith(one)}
        if apart.get(first[0], False):
            return f"{_verb(first[0])} {one!r} and {two!r}"
    return None


def _choice_clash(constants: Sequence[_Constant]) -> str | None:
    """When it must be one of some values, and none of them passes the rest."""
    choices = [
        [operand] if operator is Operator.EQUALS else list(operand)
        for operator, operand in constants
        if operator in (Operator.EQUALS, Operator.ANY_OF)
    ]
    if not choices:
        return None
    options = min(choices, key=len)
    if any(_may_pass(option, constants) for option in options):
        return None
    shown = " or ".join(map(repr, options[:_MOST_SHOWN])) + (" ..." if len(options) > _MOST_SHOWN else "")
    return f"be {shown} and pass the rest"


def _may_pass(option: Any, constants: Sequence[_Constant]) -> bool:
    """Whether some value that equals `option` may pass. A number equals several texts, such as 1 and 01."""
    is_number = number_of(option) is not None
    for operator, operand in constants:
        if operator in RELATIVE_OPERATORS:
            if instant_of(option) is None:
                return False
            continue
        if is_number and operator in _TEXT:
            continue
        asked = operand
        if is_number and operator in _EQUALITY:
            compared = list(_without_numeric_texts(operator, operand))
            if not compared:
                continue
            asked = compared if operator in (Operator.ANY_OF, Operator.NONE_OF) else compared[0]
        if not predicate(operator, asked)(option):
            return False
    return True


def _without_numeric_texts(operator: Operator, operand: Any) -> Iterator[Any]:
    """What a number and all texts of it compare with alike."""
    operands = operand if isinstance(operand, list) else [operand]
    told_apart = [one for one in operands if type(one) is str and number_of(one) is not None]
    if operator is Operator.ANY_OF and told_apart:
        return
    yield from (one for one in operands if one not in told_apart or type(one) is not str)


def _words(operator: Operator) -> str:
    return operator.value.replace("_", " ")


def _verb(operator: Operator) -> str:
    return {
        Operator.CONTAINS: "contain",
        Operator.STARTS_WITH: "start with",
        Operator.ENDS_WITH: "end with",
    }[operator]
