"""What is allowed in a definition and yet surely not meant."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from app.domain.durations import format_duration
from app.domain.paths import ARRAY_ITEMS, parse_path
from schemas.audience import (
    AllOf,
    AnyOf,
    Comparison,
    EventCondition,
    Not,
    Operator,
    ParentReference,
    ThenCondition,
    TraitCondition,
    TraitReference,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.definitions_values import Value
    from schemas.audience import AudienceDefinition

# Names of traits and properties that tell who someone is, without case, dots and underscores.
_IDENTIFIERS: Final = frozenset(
    {
        "email",
        "emailaddress",
        "phone",
        "phonenumber",
        "firstname",
        "lastname",
        "birthday",
        "dateofbirth",
        "dob",
    }
)


def warn_about_trait(value: Value, condition: TraitCondition) -> None:
    """Warn at `value`, where the condition is written."""
    warn_about_comparisons(value, condition.comparisons)


def warn_about_event(value: Value, condition: EventCondition) -> None:
    """Warn at `value`, where the condition is written."""
    bound = condition.count
    if bound.number == 0 and bound.kind == "at_least" and condition.aggregate is None:
        value.warn("`at_least: 0` holds for everyone, always")
    if bound.number == 0 and bound.kind != "at_least" and condition.aggregate is not None:
        value.warn(f"never true: there is no {condition.aggregate.function} of no events")
    for comparisons in (condition.where, condition.context):
        warn_about_comparisons(value, comparisons)


def warn_about_lookback(value: Value, audience: AudienceDefinition) -> None:
    """Warn at `value`, where the audience is written."""
    lookback = audience.lookback_ms
    ahead = [part for part in (audience.when, audience.require) if part is not None]
    while ahead and lookback is not None:
        condition = ahead.pop()
        if isinstance(condition, AllOf | AnyOf):
            ahead += condition.conditions
        elif isinstance(condition, Not):
            ahead.append(condition.condition)
        elif isinstance(condition, EventCondition) and condition.window is not None:
            near = condition.window.near_ms
            if near >= lookback:
                value.warn(
                    f"no event ever counts that is older than {format_duration(near)}, as `lookback` ends before"
                )


def warn_about_then(value: Value, then: ThenCondition) -> None:
    """Warn at `value`, where what follows is written."""
    if then.count.number == 0 and then.count.kind == "at_least":
        value.warn("`at_least: 0` holds whatever follows")
    for comparisons in (then.where, then.context):
        warn_about_comparisons(value, comparisons)


def warn_about_comparisons(value: Value, comparisons: Sequence[Comparison]) -> None:
    """Warn at `value`, where they are written."""
    _warn_about_missing(value, comparisons)
    _warn_about_identifiers(value, comparisons)
    for one in comparisons:
        if one.operator in (Operator.WITHIN_LAST, Operator.WITHIN_NEXT) and one.operand == 0:
            value.warn(f"never true: `{one.operator}` no time")


def _warn_about_missing(value: Value, comparisons: Iterable[Comparison]) -> None:
    operators: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        operators[comparison.path].append(comparison)
    for path, compared in operators.items():
        # Of array items, one may satisfy one operator and another the next.
        if ARRAY_ITEMS in parse_path(path):
            continue
        absent = any(one.operator is Operator.EXISTS and one.operand is False for one in compared)
        # `not_contains` holds for a missing value, every other operator needs one.
        needs_value = any(
            one.operand is True
            if one.operator is Operator.EXISTS
            else one.operator is not Operator.NOT_CONTAINS
            for one in compared
        )
        if absent and needs_value:
            value.warn(f"never true: `{path}` must be missing and have a value at once")


def _warn_about_identifiers(value: Value, comparisons: Iterable[Comparison]) -> None:
    for comparison in comparisons:
        paths = [comparison.path]
        if isinstance(comparison.operand, TraitReference):
            paths.append(comparison.operand.trait)
        if isinstance(comparison.operand, ParentReference):
            paths.append(comparison.operand.same_as)
        for path in paths:
            if identifies_people(path):
                value.warn(f"`{path}` identifies people; what is compared is kept as it is, without hashing")


def identifies_people(path: str) -> bool:
    """Whether the name of what a path leads to says that it tells who someone is."""
    names = [part for part in parse_path(path) if part is not ARRAY_ITEMS]
    return bool(names) and str(names[-1]).lower().replace("_", "").replace(" ", "") in _IDENTIFIERS
