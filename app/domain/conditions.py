"""Audience definitions compiled to a Plan: what to take from calls, what to keep of it, and what to ask of that.

A condition becomes a closure `holds(state, now, horizon)` (see app.domain.event_conditions), and leaves in the
plan which feeds and traits can change it, how much past of each feed it needs, and at which instants time alone
can change it. What is still to come fits in without changing that form: a funnel is a closure over two feeds; a
computed trait is a closure that gives a value, read where `trait_value` reads; a reference to an audience reads its
membership, so audiences are then evaluated in the order of their references; a date operator adds edges that depend
on a trait; an account is a profile whose feeds are its users' counts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.domain.event_conditions import Need, compared_with_trait, compile_event, trait_value
from app.domain.feeds import feed_of
from app.domain.operators import DATE_OPERATORS, predicate
from app.domain.paths import parse_path
from app.domain.reverse_etl import listeners, row_source
from app.domain.state import ProfileState
from app.domain.values import extractor, goes_into_items, kept, kept_items
from app.errors import InvalidInputError
from schemas.audience import (
    AllOf,
    AnyOf,
    AudienceSource,
    Comparison,
    EventCondition,
    Not,
    Operator,
    ParentReference,
    TraitCondition,
    TraitReference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from app.domain.event_conditions import Edge, Holds
    from app.domain.feeds import Feed
    from app.domain.reverse_etl import Listeners, RowSource
    from schemas.audience import AudienceDefinition, Condition

# Events kept of one profile in one feed: a state must fit into one record of the changelog, and be quick to read.
MAX_INSTANTS = 20_000


@dataclass(frozen=True, slots=True)
class CompiledAudience:
    """One audience, ready to be asked.

    `holds` is the condition and `require` together; of an audience that is not computed here, `require` alone, and
    `claimed` is True: the newest claim must say so too. `rows`: the claims are those of a warehouse's rows. `timed`:
    time alone can change it. `told` says which destinations hear of what.
    """

    key: str
    holds: Holds
    claimed: bool
    enabled: bool
    include_anonymous: bool
    timed: bool
    feeds: tuple[str, ...]
    destinations: tuple[str, ...]
    told: Listeners
    rows: RowSource | None


@dataclass(frozen=True, slots=True)
class EventFeeds:
    """The feeds of one event name, and what they need decoded of such a call."""

    feeds: tuple[Feed, ...]
    needs_properties: bool
    needs_context: bool


@dataclass(frozen=True, slots=True)
class TraitUse:
    """A trait that some definition uses: written as `path`, it is part of the call's trait `name`."""

    path: str
    name: str
    take: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything resolve and evaluate need of a set of definitions. The mappings are never changed.

    `initial` are the audiences that hold for a profile of which nothing but its existence is known. `digest`
    differs between plans that may give different memberships for the same states.
    """

    audiences: Mapping[str, CompiledAudience]
    feeds: Mapping[str, Feed]
    events: Mapping[str, EventFeeds]
    needs: Mapping[str, Need]
    edges: Mapping[str, tuple[Edge, ...]]
    of_feed: Mapping[str, tuple[CompiledAudience, ...]]
    traits: tuple[TraitUse, ...]
    of_trait: Mapping[str, tuple[CompiledAudience, ...]]
    initial: tuple[CompiledAudience, ...]
    digest: str

    def holds_for_new(self, *, anonymous: bool) -> bool:
        """Whether a profile can be a member before anything but its existence is known."""
        return any(audience.include_anonymous or not anonymous for audience in self.initial)


def compile_audiences(definitions: Sequence[AudienceDefinition]) -> Plan:
    """Raises InvalidInputError for a definition that asks for what is not built."""
    builder = _Builder()
    for definition in definitions:
        builder.add(definition)
    return builder.plan(_digest(definitions))


def _digest(definitions: Sequence[AudienceDefinition]) -> str:
    """Names, descriptions and Facebook settings decide nothing here, apart from which destinations there are."""
    parts = sorted(
        (
            definition.key,
            definition.source.value,
            definition.when.model_dump(mode="json") if definition.when else None,
            definition.require.model_dump(mode="json") if definition.require else None,
            definition.include_anonymous,
            definition.enabled,
            sorted(destination.id for destination in definition.destinations),
        )
        for definition in definitions
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Builder:
    """Collects what the conditions of all audiences need together."""

    def __init__(self) -> None:
        self._audiences: dict[str, CompiledAudience] = {}
        self._feeds: dict[str, Feed] = {}
        self._needs: dict[str, Need] = {}
        self._edges: dict[str, dict[tuple[object, ...], Edge]] = {}
        self._of_feed: dict[str, list[CompiledAudience]] = {}
        self._of_trait: dict[str, list[CompiledAudience]] = {}

    def add(self, definition: AudienceDefinition) -> None:
        parts = [part for part in (definition.when, definition.require) if part is not None]
        use = _Use(definition.key)
        tests = [self._condition(part, use) for part in parts]
        audience = CompiledAudience(
            key=definition.key,
            holds=_all_of(tests),
            claimed=definition.source is not AudienceSource.COMPUTED,
            enabled=definition.enabled,
            include_anonymous=definition.include_anonymous,
            timed=bool(use.feeds),
            feeds=tuple(sorted(use.feeds)),
            destinations=tuple(destination.id for destination in definition.destinations),
            told=listeners(definition),
            rows=row_source(definition),
        )
        self._audiences[audience.key] = audience
        for feed in use.feeds:
            self._of_feed.setdefault(feed, []).append(audience)
        for trait in use.traits:
            self._of_trait.setdefault(trait, []).append(audience)

    def plan(self, digest: str) -> Plan:
        return Plan(
            audiences=self._audiences,
            feeds=self._feeds,
            events=_by_event(self._feeds.values()),
            needs=self._needs,
            edges={feed: tuple(edges.values()) for feed, edges in self._edges.items()},
            of_feed={feed: tuple(audiences) for feed, audiences in self._of_feed.items()},
            traits=tuple(_trait_use(path) for path in sorted(self._of_trait)),
            of_trait={trait: tuple(audiences) for trait, audiences in self._of_trait.items()},
            initial=tuple(_initial(self._audiences.values())),
            digest=digest,
        )

    def _condition(self, condition: Condition, use: _Use) -> Holds:
        if isinstance(condition, AllOf):
            return _all_of([self._condition(part, use) for part in condition.conditions])
        if isinstance(condition, AnyOf):
            return _any_of([self._condition(part, use) for part in condition.conditions])
        if isinstance(condition, Not):
            return _not(self._condition(condition.condition, use))
        if isinstance(condition, TraitCondition):
            return _trait_condition(condition, use)
        return self._event(condition, use)

    def _event(self, condition: EventCondition, use: _Use) -> Holds:
        for comparison in (*condition.where, *condition.context):
            use.check(comparison)
        feed = feed_of(condition)
        compiled = compile_event(condition, feed)
        if compiled.need.newest is not None and compiled.need.newest > MAX_INSTANTS:
            raise InvalidInputError(
                f"audience {use.audience}: a count within a window may be at most {MAX_INSTANTS - 1:,}"
            )
        self._feeds[feed.id] = feed
        known = self._needs.get(feed.id)
        self._needs[feed.id] = compiled.need.and_of(known) if known else compiled.need
        self._edges.setdefault(feed.id, {})[compiled.edge_key] = compiled.edge
        use.feeds.add(feed.id)
        use.traits |= compiled.traits
        return compiled.holds


class _Use:
    """What one audience uses."""

    def __init__(self, audience: str) -> None:
        self.audience = audience
        self.feeds: set[str] = set()
        self.traits: set[str] = set()

    def check(self, comparison: Comparison) -> None:
        """Raises InvalidInputError for a comparison that is not built."""
        if comparison.operator in DATE_OPERATORS:
            raise InvalidInputError(
                f"audience {self.audience}: operator {comparison.operator.value} is not supported yet"
            )
        if isinstance(comparison.operand, ParentReference):
            raise InvalidInputError(f"audience {self.audience}: same_as is not supported yet")


def _trait_condition(condition: TraitCondition, use: _Use) -> Holds:
    use.traits.add(condition.trait)
    tests: list[Callable[[Any, ProfileState], bool]] = []
    for comparison in condition.comparisons:
        use.check(comparison)
        if isinstance(comparison.operand, TraitReference):
            use.traits.add(comparison.operand.trait)
            tests.append(compared_with_trait(comparison.operator, comparison.operand.trait))
        else:
            tests.append(_with_constant(comparison.operator, comparison.operand))
    several, trait = goes_into_items(condition.trait), condition.trait

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        del now, horizon
        value = trait_value(state, trait)
        if not several:
            return all(test(value, state) for test in tests)
        items = value or [None]
        return all(any(test(item, state) for item in items) for test in tests)

    return holds


def _with_constant(operator: Operator, operand: Any) -> Callable[[Any, ProfileState], bool]:
    holds = predicate(operator, operand)
    return lambda value, _: holds(value)


def _all_of(tests: Sequence[Holds]) -> Holds:
    if len(tests) == 1:
        return tests[0]

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        return all(test(state, now, horizon) for test in tests)

    return holds


def _any_of(tests: Sequence[Holds]) -> Holds:
    if len(tests) == 1:
        return tests[0]

    def holds(state: ProfileState, now: int, horizon: int) -> bool:
        return any(test(state, now, horizon) for test in tests)

    return holds


def _not(test: Holds) -> Holds:
    return lambda state, now, horizon: not test(state, now, horizon)


def _by_event(feeds: Iterable[Feed]) -> dict[str, EventFeeds]:
    grouped: dict[str, list[Feed]] = {}
    for feed in feeds:
        grouped.setdefault(feed.event, []).append(feed)
    return {
        event: EventFeeds(
            feeds=tuple(group),
            needs_properties=any(feed.needs_properties for feed in group),
            needs_context=any(feed.needs_context for feed in group),
        )
        for event, group in grouped.items()
    }


def _trait_use(path: str) -> TraitUse:
    """What is kept is the value at the whole path; the call says something of it when it has the first name."""
    name = str(parse_path(path)[0])
    extract = extractor(path)
    if goes_into_items(path):
        return TraitUse(path, name, lambda traits: kept_items(extract(traits)))
    return TraitUse(path, name, lambda traits: kept(extract(traits)))


def _initial(audiences: Iterable[CompiledAudience]) -> Iterator[CompiledAudience]:
    """For a profile without any event or trait, no condition depends on the instant."""
    empty = ProfileState()
    for audience in audiences:
        if audience.enabled and not audience.claimed and audience.holds(empty, 0, 0):
            yield audience
