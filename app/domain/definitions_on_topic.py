"""Definitions against the source topic as it is: windows beyond what it keeps, and names that it has not brought
lately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.definitions_values import nearest
from app.domain.durations import DAY_MS, format_duration
from app.domain.event_survey import MAX_DEPTH, masked
from app.domain.paths import ARRAY_ITEMS, parse_path
from app.domain.trait_sources import name_of
from app.domain.users_conditions import users_conditions
from schemas.audience import (
    AllOf,
    AnyOf,
    AudienceSource,
    Entity,
    EventCondition,
    Not,
    ParentReference,
    TraitCondition,
    TraitReference,
    UsersCondition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.definitions import DefinitionSet
    from app.domain.event_survey import EventSurvey, PathsSeen
    from schemas.audience import (
        AudienceDefinition,
        Comparison,
        ComputedTraitDefinition,
        Condition,
        ThenCondition,
    )


def hashed_external_ids(definitions: DefinitionSet, survey: EventSurvey) -> list[str]:
    """A line where user ids look like personal data, and some destination is sent them in the clear by its definition."""
    plain = [
        one.id
        for audience in definitions.audiences
        for one in audience.destinations
        if one.external_id == "plain" and "external_id" not in one.fields
    ]
    if not plain or not survey.personal_user_ids:
        return []
    line = (
        f"{survey.personal_user_ids:,} calls have a user id that is an e-mail address or a phone number: as an external id "
        f"it is sent hashed, as no clear text ({', '.join(plain)})"
    )
    return [line]


def beyond_retention(definitions: DefinitionSet, retention_ms: int) -> list[str]:
    """A line for each audience and computed trait that wants to know of more than is kept when it begins."""
    lines: list[str] = []
    for audience in definitions.audiences:
        if audience.include_history and audience.source is AudienceSource.COMPUTED:
            spans = [_span(part, audience.lookback_ms) for part in _events_of(audience)]
            lines += _too_long(f"audience {audience.key}", spans, retention_ms)
    for trait in definitions.traits:
        lines += _too_long(f"trait {trait.key}", [trait.within_ms], retention_ms)
    return lines


def _too_long(whose: str, spans: list[int | None], retention_ms: int) -> Iterator[str]:
    if not spans:
        return
    longest = None if None in spans else max(span for span in spans if span is not None)
    if longest is None or longest > retention_ms:
        wanted = "all events ever" if longest is None else f"events of the last {format_duration(longest)}"
        kept = format_duration(retention_ms // DAY_MS * DAY_MS or retention_ms)
        yield (
            f"{whose}: asks for {wanted}, and the source topic keeps {kept}: older events count only once the "
            "system has seen them itself"
        )


def _span(condition: EventCondition, lookback_ms: int | None) -> int | None:
    far = None if condition.window is None else condition.window.far_ms
    return min((span for span in (far, lookback_ms) if span is not None), default=None)


# --- names --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a definition looks at: in `event`'s properties, else in the traits or the context of calls."""

    whose: str
    event: str | None
    place: str
    path: str | None


def never_seen(definitions: DefinitionSet, survey: EventSurvey) -> list[str]:
    """A line for each event, property, trait and part of the context that the survey has not met."""
    computed = {trait.key for trait in definitions.traits}
    asked: dict[_Asked, None] = {}
    for audience in definitions.audiences:
        for part in _conditions_of(audience):
            asked.update(dict.fromkeys(_asked_by(f"audience {audience.key}", part)))
    for trait in definitions.traits:
        asked.update(dict.fromkeys(_asked_by_trait(trait)))
    lines = []
    for one in asked:
        if one.place == "trait" and one.path is not None and name_of(one.path) in computed:
            continue
        line = _missing(one, survey)
        if line is not None and line not in lines:
            lines.append(line)
    return lines


def _missing(asked: _Asked, survey: EventSurvey) -> str | None:
    if asked.event is not None:
        seen = survey.events.get(asked.event)
        if seen is None:
            if survey.beyond or masked(asked.event) != asked.event:
                return None
            return (
                f"{asked.whose}: the event `{asked.event}` was not seen{nearest(asked.event, survey.events)}"
            )
        if asked.path is None or _has(seen, asked.path):
            return None
        return (
            f"{asked.whose}: `{asked.path}` was not seen in `{asked.event}`{nearest(asked.path, seen.types)}"
        )
    found = survey.traits if asked.place == "trait" else survey.context
    if asked.path is None or not found.objects or _has(found, asked.path):
        return None
    return f"{asked.whose}: the {asked.place} `{asked.path}` was not seen{nearest(asked.path, found.types)}"


def _has(seen: PathsSeen, path: str) -> bool:
    """Whether it was met, or could have been without being noted."""
    parts = parse_path(path)
    if seen.beyond or len(parts) > MAX_DEPTH:
        return True
    names = [part for part in parts if part is not ARRAY_ITEMS]
    return path in seen.types or any(masked(str(name)) != name for name in names)


def _conditions_of(audience: AudienceDefinition) -> Iterator[EventCondition | TraitCondition]:
    ahead: list[Condition] = [part for part in (audience.when, audience.require) if part is not None]
    if audience.entity is Entity.ACCOUNT and audience.when is not None:
        # Traits of accounts are those of group calls, which are not surveyed.
        ahead[:1] = users_conditions(audience.when)
    while ahead:
        condition = ahead.pop(0)
        if isinstance(condition, AllOf | AnyOf):
            ahead[:0] = condition.conditions
        elif isinstance(condition, Not | UsersCondition):
            ahead.insert(0, condition.condition)
        elif isinstance(condition, EventCondition | TraitCondition):
            yield condition


def _events_of(audience: AudienceDefinition) -> Iterator[EventCondition]:
    return (part for part in _conditions_of(audience) if isinstance(part, EventCondition))


def _asked_by(whose: str, condition: EventCondition | TraitCondition) -> Iterator[_Asked]:
    if isinstance(condition, TraitCondition):
        yield _Asked(whose, None, "trait", condition.trait)
        yield from _referred(whose, condition.comparisons)
        return
    yield from _filtered(whose, condition)
    if condition.aggregate is not None:
        yield _Asked(whose, condition.event, "property", condition.aggregate.property_path)
        for _, operand in condition.aggregate.comparisons:
            if isinstance(operand, TraitReference):
                yield _Asked(whose, None, "trait", operand.trait)
    if condition.then is not None:
        yield from _filtered(whose, condition.then)
        for item in (*condition.then.where, *condition.then.context):
            if isinstance(item.operand, ParentReference):
                yield _Asked(whose, condition.event, "property", item.operand.same_as)


def _asked_by_trait(trait: ComputedTraitDefinition) -> Iterator[_Asked]:
    whose = f"trait {trait.key}"
    yield from _filtered(whose, trait)
    if trait.property_path is not None:
        yield _Asked(whose, trait.event, "property", trait.property_path)


def _filtered(
    whose: str, condition: EventCondition | ThenCondition | ComputedTraitDefinition
) -> Iterator[_Asked]:
    yield _Asked(whose, condition.event, "property", None)
    for item in condition.where:
        yield _Asked(whose, condition.event, "property", item.path)
    for item in condition.context:
        yield _Asked(whose, None, "context", item.path)
    yield from _referred(whose, (*condition.where, *condition.context))


def _referred(whose: str, comparisons: Iterable[Comparison]) -> Iterator[_Asked]:
    for item in comparisons:
        if isinstance(item.operand, TraitReference):
            yield _Asked(whose, None, "trait", item.operand.trait)
