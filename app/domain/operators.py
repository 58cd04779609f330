"""The operators of definitions as predicates on one value; None is a missing value.

Texts that are numbers compare as numbers with numbers, and `true` and `false` as booleans with booleans; two texts
always compare as texts, case and all. A missing value is false under every operator but `not_contains` and
`exists: false`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.durations import parse_duration
from app.domain.values import instant_of, number_of, text_of
from schemas.audience import Operator

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a date and a fixed instant.
DATE_OPERATORS: Final = frozenset({Operator.BEFORE, Operator.AFTER})
# Of a date and the clock, which a predicate on a value alone does not see; their operand is a duration.
RELATIVE_OPERATORS: Final = frozenset(
    {Operator.WITHIN_LAST, Operator.BEFORE_LAST, Operator.WITHIN_NEXT, Operator.AFTER_NEXT}
)
LIST_OPERATORS: Final = frozenset({Operator.ANY_OF, Operator.NONE_OF, Operator.CONTAINS_ANY_OF})


def predicate(operator: Operator, operand: Any) -> Callable[[Any], bool]:
    """`operand` is a scalar; for the operators that take a list, a list of scalars. Not for relative operators."""
    return _BUILDERS[operator](operand)


def relative_predicate(operator: Operator, operand: Any, now: int) -> Callable[[Any], bool]:
    """A relative operator at the instant `now`; `operand` as `milliseconds_of` takes it."""
    duration = milliseconds_of(operand)
    if duration is None:
        return _never
    if operator is Operator.WITHIN_LAST:
        return lambda value: (date := instant_of(value)) is not None and date <= now < date + duration
    if operator is Operator.BEFORE_LAST:
        return lambda value: (date := instant_of(value)) is not None and now >= date + duration
    if operator is Operator.WITHIN_NEXT:
        return lambda value: (date := instant_of(value)) is not None and date - duration <= now < date
    return lambda value: (date := instant_of(value)) is not None and now < date - duration


def edges_after(operator: Operator, operand: Any) -> tuple[int, ...]:
    """The milliseconds after a date at which a relative operator changes its mind about it; negative: before it."""
    duration = milliseconds_of(operand)
    if duration is None:
        return ()
    if operator is Operator.WITHIN_LAST:
        return 0, duration
    if operator is Operator.BEFORE_LAST:
        return (duration,)
    if operator is Operator.WITHIN_NEXT:
        return -duration, 0
    return (-duration,)


def milliseconds_of(operand: Any) -> int | None:
    """The duration that a whole number of milliseconds or a text such as `30d` is."""
    if type(operand) is not str:
        return operand if type(operand) is int else None
    try:
        return parse_duration(operand)
    except ValueError:
        return None


def equal(value: Any, operand: Any) -> bool:
    """Both present, and the same text, number or boolean."""
    kind, other = type(value), type(operand)
    if kind is other and kind is not float:
        return bool(value == operand) if kind in _SCALARS else False
    if kind is bool or other is bool:
        truth, text = (value, operand) if kind is bool else (operand, value)
        return bool(text == ("true" if truth else "false"))
    left, right = number_of(value), number_of(operand)
    return left is not None and left == right


_SCALARS: Final = frozenset({str, int, bool})
_TRUTHS: Final = {"true": True, "false": False}


def _equals(operand: Any) -> Callable[[Any], bool]:
    return lambda value: equal(value, operand)


def _not_equals(operand: Any) -> Callable[[Any], bool]:
    return lambda value: value is not None and not equal(value, operand)


def _never(value: Any) -> bool:
    del value
    return False


def _greater_than(operand: Any) -> Callable[[Any], bool]:
    bound = number_of(operand)
    if bound is None:
        return _never
    return lambda value: (number := number_of(value)) is not None and number > bound


def _less_than(operand: Any) -> Callable[[Any], bool]:
    bound = number_of(operand)
    if bound is None:
        return _never
    return lambda value: (number := number_of(value)) is not None and number < bound


def _at_least(operand: Any) -> Callable[[Any], bool]:
    bound = number_of(operand)
    if bound is None:
        return _never
    return lambda value: (number := number_of(value)) is not None and number >= bound


def _at_most(operand: Any) -> Callable[[Any], bool]:
    bound = number_of(operand)
    if bound is None:
        return _never
    return lambda value: (number := number_of(value)) is not None and number <= bound


def _any_of(operand: Any) -> Callable[[Any], bool]:
    """Whether the value is `equal` to one of them, in no more time for many than for one."""
    texts, truths, numbers = set[str](), set[bool](), set[float]()
    of_texts = set[float]()
    for option in operand:
        if type(option) is bool:
            truths.add(option)
        elif type(option) is str:
            texts.add(option)
            if (number := number_of(option)) is not None:
                of_texts.add(number)
        elif (number := number_of(option)) is not None:
            numbers.add(number)

    def holds(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            if value in texts or (truths and _TRUTHS.get(value) in truths):
                return True
            return bool(numbers) and (number := number_of(value)) is not None and number in numbers
        if kind is bool:
            return value in truths or ("true" if value else "false") in texts
        number = number_of(value)
        return number is not None and (number in numbers or number in of_texts)

    return holds


def _none_of(operand: Any) -> Callable[[Any], bool]:
    matches = _any_of(operand)
    return lambda value: value is not None and not matches(value)


def _contains(operand: Any) -> Callable[[Any], bool]:
    part = text_of(operand) or ""
    return lambda value: (text := text_of(value)) is not None and part in text


def _not_contains(operand: Any) -> Callable[[Any], bool]:
    part = text_of(operand) or ""
    return lambda value: (text := text_of(value)) is None or part not in text


def _contains_any_of(operand: Any) -> Callable[[Any], bool]:
    parts = [text_of(option) or "" for option in operand]
    return lambda value: (text := text_of(value)) is not None and any(part in text for part in parts)


def _starts_with(operand: Any) -> Callable[[Any], bool]:
    start = text_of(operand) or ""
    return lambda value: (text := text_of(value)) is not None and text.startswith(start)


def _ends_with(operand: Any) -> Callable[[Any], bool]:
    end = text_of(operand) or ""
    return lambda value: (text := text_of(value)) is not None and text.endswith(end)


def _exists(operand: Any) -> Callable[[Any], bool]:
    if operand is True:
        return lambda value: value is not None
    return lambda value: value is None


def _before(operand: Any) -> Callable[[Any], bool]:
    limit = instant_of(operand)
    if limit is None:
        return _never
    return lambda value: (date := instant_of(value)) is not None and date < limit


def _after(operand: Any) -> Callable[[Any], bool]:
    limit = instant_of(operand)
    if limit is None:
        return _never
    return lambda value: (date := instant_of(value)) is not None and date > limit


_BUILDERS: Final[dict[Operator, Callable[[Any], Callable[[Any], bool]]]] = {
    Operator.EQUALS: _equals,
    Operator.NOT_EQUALS: _not_equals,
    Operator.GREATER_THAN: _greater_than,
    Operator.LESS_THAN: _less_than,
    Operator.AT_LEAST: _at_least,
    Operator.AT_MOST: _at_most,
    Operator.ANY_OF: _any_of,
    Operator.NONE_OF: _none_of,
    Operator.CONTAINS: _contains,
    Operator.NOT_CONTAINS: _not_contains,
    Operator.CONTAINS_ANY_OF: _contains_any_of,
    Operator.STARTS_WITH: _starts_with,
    Operator.ENDS_WITH: _ends_with,
    Operator.EXISTS: _exists,
    Operator.BEFORE: _before,
    Operator.AFTER: _after,
}
