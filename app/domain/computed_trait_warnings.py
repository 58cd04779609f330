"""Comparisons that do not fit what a computed trait is: numbers compared as dates, lists compared as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.operators import DATE_OPERATORS, RELATIVE_OPERATORS
from app.domain.paths import ARRAY_ITEMS, parse_path
from app.domain.values import number_of
from schemas.audience import ComputedFunction, Operator, TraitReference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from app.domain.definitions_values import Value
    from schemas.audience import Comparison, ComputedTraitDefinition, TraitCondition

_NUMBERS: Final = frozenset(
    {
        ComputedFunction.COUNT,
        ComputedFunction.SUM,
        ComputedFunction.AVERAGE,
        ComputedFunction.MIN,
        ComputedFunction.MAX,
        ComputedFunction.UNIQUE_LIST_COUNT,
    }
)
_NOT_NEGATIVE: Final = frozenset({ComputedFunction.COUNT, ComputedFunction.UNIQUE_LIST_COUNT})
_OF_NUMBERS: Final = frozenset(
    {Operator.GREATER_THAN, Operator.LESS_THAN, Operator.AT_LEAST, Operator.AT_MOST}
)
_OF_TEXTS: Final = frozenset(
    {
        Operator.CONTAINS,
        Operator.NOT_CONTAINS,
        Operator.CONTAINS_ANY_OF,
        Operator.STARTS_WITH,
        Operator.ENDS_WITH,
    }
)
_OF_ONE_VALUE: Final = (
    frozenset({Operator.EQUALS, Operator.NOT_EQUALS, Operator.ANY_OF, Operator.NONE_OF}) | _OF_NUMBERS
)


def warn_about_computed_traits(
    conditions: Iterable[tuple[Value, TraitCondition]], traits: Mapping[str, ComputedTraitDefinition]
) -> None:
    """Warn where each condition is written."""
    for value, condition in conditions:
        name, *rest = parse_path(condition.trait)
        trait = traits.get(str(name))
        if trait is None:
            continue
        is_list = trait.function is ComputedFunction.UNIQUE_LIST
        if rest and not (is_list and rest == [ARRAY_ITEMS]):
            kind = "a list; its items are at" if is_list else "one value; it is at"
            value.warn(
                f"nothing is at `{condition.trait}`: `{name}` is {kind} `{name}{'.$' if is_list else ''}`"
            )
        elif not rest:
            for words in _misfits(trait, condition.comparisons):
                value.warn(words)


def _misfits(trait: ComputedTraitDefinition, comparisons: Iterable[Comparison]) -> Iterator[str]:
    for one in comparisons:
        misfit = None
        if trait.function in _NUMBERS:
            misfit = _of_number(trait, one.operator, one.operand)
        elif trait.function is ComputedFunction.UNIQUE_LIST:
            misfit = _of_list(trait.key, one.operator)
        if misfit is not None:
            yield misfit


def _of_list(key: str, operator: Operator) -> str | None:
    if operator in _OF_ONE_VALUE or operator in DATE_OPERATORS or operator in RELATIVE_OPERATORS:
        return (
            f"`{operator}` looks at one value, and `{key}` is a list: compare its items, `{key}.$`, or their number, "
            "unique_list_count"
        )
    return None


def _of_number(trait: ComputedTraitDefinition, operator: Operator, operand: Any) -> str | None:
    key = trait.key
    if operator in DATE_OPERATORS or operator in RELATIVE_OPERATORS:
        return f"never true: `{operator}` compares dates, and `{key}` is a number"
    if operator in _OF_TEXTS:
        return f"`{operator}` compares texts, and `{key}` is a number"
    if operator is Operator.EXISTS and operand is False and trait.function is ComputedFunction.COUNT:
        return f"never true: `{key}` is 0 without any event"
    if isinstance(operand, TraitReference):
        return None
    if operator in (Operator.EQUALS, Operator.ANY_OF):
        options = operand if isinstance(operand, list) else [operand]
        if all(number_of(option) is None for option in options):
            return f"never true: `{key}` is a number"
    if trait.function in _NOT_NEGATIVE:
        if (operator is Operator.LESS_THAN and operand <= 0) or (
            operator is Operator.AT_MOST and operand < 0
        ):
            return f"never true: `{key}` is never below 0"
        always = (operator is Operator.AT_LEAST and operand <= 0) or (
            operator is Operator.GREATER_THAN and operand < 0
        )
        if always and trait.function is ComputedFunction.COUNT:
            return f"always true, for everyone: `{key}` is never below 0"
    return None
