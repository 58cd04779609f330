"""Conditions read out in plain words, for people who check what they have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.durations import format_duration
from app.domain.operators import RELATIVE_OPERATORS
from schemas.audience import (
    AllOf,
    AudienceReference,
    ComputedFunction,
    Condition,
    EventCondition,
    Not,
    Operand,
    Operator,
    ParentReference,
    Quantifier,
    Scalar,
    ThenCondition,
    TraitCondition,
    TraitReference,
    UsersCondition,
)

if TYPE_CHECKING:
    from schemas.audience import Aggregate, Comparison, ComputedTraitDefinition, CountBound, Window

MAX_LISTED_VALUES = 10

_WORDS: Final[dict[Operator, str]] = {
    Operator.EQUALS: "is",
    Operator.NOT_EQUALS: "has a value other than",
    Operator.GREATER_THAN: "is more than",
    Operator.LESS_THAN: "is less than",
    Operator.AT_LEAST: "is at least",
    Operator.AT_MOST: "is at most",
    Operator.ANY_OF: "is one of",
    Operator.NONE_OF: "has a value other than",
    Operator.CONTAINS: "contains",
    Operator.NOT_CONTAINS: "does not contain",
    Operator.CONTAINS_ANY_OF: "contains one of",
    Operator.STARTS_WITH: "starts with",
    Operator.ENDS_WITH: "ends with",
    Operator.BEFORE: "is before",
    Operator.AFTER: "is after",
    Operator.WITHIN_LAST: "is within the last",
    Operator.BEFORE_LAST: "is before the last",
    Operator.WITHIN_NEXT: "is within the next",
    Operator.AFTER_NEXT: "is after the next",
}


_OF_USERS: Final = {
    Quantifier.ANY: "any user with",
    Quantifier.ALL: "only users with",
    Quantifier.NONE: "no user with",
}
_FUNCTIONS: Final = {
    ComputedFunction.COUNT: "the number of",
    ComputedFunction.SUM: "the sum of",
    ComputedFunction.AVERAGE: "the average of",
    ComputedFunction.MIN: "the min of",
    ComputedFunction.MAX: "the max of",
    ComputedFunction.MOST_FREQUENT: "the most frequent",
    ComputedFunction.FIRST: "the first",
    ComputedFunction.LAST: "the last",
    ComputedFunction.UNIQUE_LIST: "the different values of",
    ComputedFunction.UNIQUE_LIST_COUNT: "the number of different values of",
}


def describe_condition(condition: Condition) -> str:
    """For example `Order Completed at least 1 time within 30d`; on one line, whatever names hold."""
    if isinstance(condition, EventCondition):
        return _event(condition)
    if isinstance(condition, TraitCondition):
        return _comparisons(condition.comparisons)
    if isinstance(condition, AudienceReference):
        return f"in {condition.audience}"
    if isinstance(condition, Not):
        return f"not ({describe_condition(condition.condition)})"
    if isinstance(condition, UsersCondition):
        return f"{_OF_USERS[condition.quantifier]} ({describe_condition(condition.condition)})"
    word = " and " if isinstance(condition, AllOf) else " or "
    return word.join(_part(part) for part in condition.conditions)


def describe_trait(trait: ComputedTraitDefinition) -> str:
    """For example `the sum of revenue of Order Completed within 30d`."""
    parts = [_FUNCTIONS[trait.function]]
    if trait.property_path is not None:
        parts.append(_name(trait.property_path))
        if trait.function is ComputedFunction.MOST_FREQUENT:
            parts.append(f"(at least {trait.at_least} {'time' if trait.at_least == 1 else 'times'})")
        parts.append("of")
    parts.append(_name(trait.event))
    if trait.within_ms is not None:
        parts.append(f"within {format_duration(trait.within_ms)}")
    if trait.where:
        parts.append(f"where {_comparisons(trait.where)}")
    if trait.context:
        parts.append(f"with context {_comparisons(trait.context)}")
    if trait.session_ms is not None:
        parts.append(
            f"in the latest session, which ends {format_duration(trait.session_ms)} after its last event"
        )
    return " ".join(parts)


def _part(condition: Condition) -> str:
    words = describe_condition(condition)
    if isinstance(condition, EventCondition):
        alone = not (condition.where or condition.context or condition.aggregate or condition.then)
    elif isinstance(condition, TraitCondition):
        alone = len(condition.comparisons) == 1
    else:
        alone = (
            isinstance(condition, Not | AudienceReference | UsersCondition) or len(condition.conditions) == 1
        )
    return words if alone else f"({words})"


def _event(condition: EventCondition) -> str:
    parts = [_name(condition.event), _count(condition.count)]
    if condition.window is not None:
        parts.append(_window(condition.window))
    if condition.where:
        parts.append(f"where {_comparisons(condition.where)}")
    if condition.context:
        parts.append(f"with context {_comparisons(condition.context)}")
    if condition.exclude_sources:
        parts.append(f"not from {', '.join(map(_name, condition.exclude_sources))}")
    if condition.then is not None:
        parts.append(_then(condition.then))
    if condition.aggregate is not None:
        parts.append(_aggregate(condition.aggregate))
    return " ".join(parts)


def _then(then: ThenCondition) -> str:
    parts = ["each followed by", _name(then.event), _count(then.count)]
    if then.within_ms is not None:
        parts.append(f"within {format_duration(then.within_ms)}")
    if then.where:
        parts.append(f"where {_comparisons(then.where)}")
    if then.context:
        parts.append(f"with context {_comparisons(then.context)}")
    return " ".join(parts)


def _count(count: CountBound) -> str:
    return f"{count.kind.replace('_', ' ')} {count.number} {'time' if count.number == 1 else 'times'}"


def _window(window: Window) -> str:
    far = format_duration(window.far_ms)
    return f"between {far} and {format_duration(window.near_ms)} ago" if window.near_ms else f"within {far}"


def _aggregate(aggregate: Aggregate) -> str:
    bounds = " and ".join(
        f"{_WORDS[operator]} {_operand(value)}" for operator, value in aggregate.comparisons
    )
    return f"and the {aggregate.function} of {_name(aggregate.property_path)} {bounds}"


def _comparisons(comparisons: list[Comparison]) -> str:
    return " and ".join(_comparison(comparison) for comparison in comparisons)


def _comparison(comparison: Comparison) -> str:
    path = _name(comparison.path)
    if comparison.operator is Operator.EXISTS:
        return f"{path} has a value" if comparison.operand is True else f"{path} has no value"
    if comparison.operator in RELATIVE_OPERATORS and isinstance(comparison.operand, int):
        return f"{path} {_WORDS[comparison.operator]} {format_duration(comparison.operand)}"
    return f"{path} {_WORDS[comparison.operator]} {_operand(comparison.operand)}"


def _operand(operand: Operand) -> str:
    if isinstance(operand, TraitReference):
        return f"the trait {_name(operand.trait)}"
    if isinstance(operand, ParentReference):
        return f"the first event's {_name(operand.same_as)}"
    if isinstance(operand, list):
        more = len(operand) - MAX_LISTED_VALUES
        values = ", ".join(map(_scalar, operand[:MAX_LISTED_VALUES]))
        return f"{values} and {more} more" if more > 0 else values
    return _scalar(operand)


def _scalar(scalar: Scalar) -> str:
    if isinstance(scalar, str):
        return _name(scalar) if scalar.strip() == scalar != "" else repr(scalar)
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return f"{scalar:.15g}" if isinstance(scalar, float) else str(scalar)


def _name(text: str) -> str:
    """As it is when it can be printed on a line, in quotes and escaped when not."""
    return text if text.isprintable() else repr(text)
