"""What is allowed in a definition and yet surely not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.clashes import aggregate_clash, clashes
from app.domain.condition_words import describe_condition
from app.domain.contradictions import always_true, never_true, repeated
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
    UsersCondition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.definitions_values import Value
    from schemas.audience import AudienceDefinition

# How names of traits and properties end that tell who someone is, without case, blanks and underscores.
_IDENTIFIER_ENDS: Final = ("email", "emailaddress", "phone", "phonenumber", "mobile", "mobilenumber")
# And those that do as a whole.
_IDENTIFIERS: Final = frozenset(
    {
        "firstname",
        "lastname",
        "fullname",
        "username",
        "birthday",
        "birthdate",
        "dateofbirth",
        "dob",
        "street",
        "ip",
        "ipaddress",
    }
)
# What such names begin with when the value is a yes or no.
_QUESTIONS: Final = ("has", "is")


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
    if condition.aggregate is not None and (clash := aggregate_clash(condition.aggregate, condition.where)):
        value.warn(f"never true: {clash}")


def warn_about_lookback(value: Value, audience: AudienceDefinition) -> None:
    """Warn at `value`, where the audience is written."""
    lookback = audience.lookback_ms
    ahead = [part for part in (audience.when, audience.require) if part is not None]
    while ahead and lookback is not None:
        condition = ahead.pop()
        if isinstance(condition, AllOf | AnyOf):
            ahead += condition.conditions
        elif isinstance(condition, Not | UsersCondition):
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
    for clash in clashes(comparisons):
        value.warn(f"never true: {clash}")
    _warn_about_identifiers(value, comparisons)
    for one in comparisons:
        if one.operator in (Operator.WITHIN_LAST, Operator.WITHIN_NEXT) and one.operand == 0:
            value.warn(f"never true: `{one.operator}` no time")


def warn_about_compound(value: Value, condition: AllOf | AnyOf) -> None:
    """Warn at `value`, where an `all` or `any` is written, of what none of its parts has been warned about alone."""
    for again in repeated(condition.conditions):
        value.warn(f"`{describe_condition(again)}` is here twice")
    if isinstance(condition, AllOf):
        reason = never_true(condition)
        if reason is not None and not any(map(never_true, condition.conditions)):
            value.warn(f"never true: {reason}")
    else:
        reason = always_true(condition)
        if reason is not None and not any(map(always_true, condition.conditions)):
            value.warn(f"always true, for everyone: of its opposite, {reason}")


def warn_about_requirement(value: Value, audience: AudienceDefinition) -> None:
    """Warn at `value`, where the audience is written."""
    parts = [part for part in (audience.when, audience.require) if part is not None]
    if len(parts) > 1 and not any(map(never_true, parts)):
        reason = never_true(AllOf(conditions=parts))
        if reason is not None:
            value.warn(f"never true together with what is required: {reason}")


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


def warn_about_kept(value: Value, path: str | None) -> None:
    """Warn at `value` of a property whose values a computed trait keeps; None: it keeps none."""
    if path is not None and identifies_people(path):
        value.warn(f"`{path}` identifies people; a computed trait keeps it as it is, without hashing")


def identifies_people(path: str) -> bool:
    """Whether the name of what a path leads to says that it tells who someone is."""
    names = [part for part in parse_path(path) if part is not ARRAY_ITEMS]
    if not names:
        return False
    name = str(names[-1])
    plain = name.lower().replace("_", "").replace(" ", "").replace("-", "")
    if plain in _IDENTIFIERS:
        return True
    asks = any(name.lower().startswith((f"{word}_", f"{word} ")) for word in _QUESTIONS)
    return plain.endswith(_IDENTIFIER_ENDS) and not asks
