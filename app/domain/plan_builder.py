"""Audiences compiled one by one become one Plan: what they need together, and who asks for whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.domain.compact import audience_id
from app.domain.condition_tests import ConditionCompiler, Scope, all_of
from app.domain.feeds import Since, filled_by, keeper
from app.domain.field_compiling import compile_fields
from app.domain.fields import CallFields
from app.domain.initial import initial_audiences
from app.domain.keeping import Keeping
from app.domain.paths import parse_path
from app.domain.plan import CompiledAudience, ComputedTrait, Plan, TraitUse, by_event
from app.domain.references import ranks_of
from app.domain.reverse_etl import listeners, row_source
from app.domain.trait_sources import TraitSources
from app.domain.values import extractor, goes_into_items
from app.errors import InvalidInputError
from schemas.audience import AudienceSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from app.domain.date_edges import Watch, Watches
    from app.domain.event_conditions import Edge, FeedUse, Holds, Need
    from app.domain.feeds import Feed
    from app.domain.plan import Due
    from app.domain.room import Room
    from schemas.audience import AudienceDefinition, UsersCondition

    _Grouped = dict[str, list[CompiledAudience]]


@dataclass(slots=True)
class _Part:
    """One audience compiled, and what it uses itself."""

    definition: AudienceDefinition
    holds: Holds
    feeds: set[str]
    traits: set[str]
    audiences: set[str]
    watched: bool
    created: int | None
    claim: str


class PlanBuilder:
    """Collects what the conditions of all audiences and the computed traits need together."""

    def __init__(self, traits: TraitSources, room: Room) -> None:
        self._traits = traits
        self.room = room
        self.parts: dict[str, _Part] = {}
        self._feeds: dict[str, Feed] = {}
        self._needs: dict[str, Need] = {}
        self._edges: dict[str, dict[tuple[object, ...], Edge]] = {}
        self._watches: Watches = dict(traits.watches)
        self._births: set[int] = set()
        self._unapplied: list[str] = []
        for use in traits.uses:
            self._use("computed traits", use)

    def add(self, definition: AudienceDefinition, applied: int | None, generation: int | None) -> None:
        """`applied` is when the audience was first applied, where that is known and of interest."""
        created = self.created(definition, applied)
        compiler = self.compiler(definition.key, self.scope(definition, generation, created))
        conditions = [part for part in (definition.when, definition.require) if part is not None]
        holds = all_of([compiler.compile(condition) for condition in conditions])
        self.keep(definition, compiler, holds, created, generation)

    def created(self, definition: AudienceDefinition, applied: int | None) -> int | None:
        """Before when nobody is a member; an audience whose beginning is not known here is noted."""
        if definition.created_at is not None or definition.include_history:
            return definition.created_at
        self._unapplied.append(definition.key)
        return applied

    def scope(self, definition: AudienceDefinition, generation: int | None, created: int | None) -> Scope:
        """What the conditions of an audience see of the events; `created` is its beginning, as far as that is known."""
        since = since_of(definition, generation, created)
        return Scope(since, definition.lookback_ms, self.room.funnel_events)

    def compiler(
        self, key: str, scope: Scope, of_users: Callable[[UsersCondition], Holds] | None = None
    ) -> ConditionCompiler:
        """For the conditions of the audience with this key."""
        return ConditionCompiler(f"audience {key}", self._traits.reader, scope, of_users)

    def keep(
        self,
        definition: AudienceDefinition,
        compiler: ConditionCompiler,
        holds: Holds,
        created: int | None,
        generation: int | None,
    ) -> None:
        """One audience, with all that has been compiled for it; its conditions have been, to `holds`."""
        whose = f"audience {definition.key}"
        if created is not None:
            holds = _from(created, holds)
            self._births.add(created)
        for use in compiler.uses:
            self._use(whose, use)
        self._watches |= compiler.watches
        self.parts[definition.key] = _Part(
            definition=definition,
            holds=holds,
            feeds={use.feed.id for use in compiler.uses} | self._traits.feeds(compiler.traits),
            traits=set(self._traits.traits(compiler.traits)),
            audiences=compiler.audiences,
            watched=created is not None or any(watch.traits for watch in compiler.watches.values()),
            created=created,
            claim=definition.key if generation is None else filled_by(definition.key, generation),
        )

    def _use(self, whose: str, use: FeedUse) -> None:
        most = self.room.profile_events
        if use.need.newest is not None and use.need.newest > most:
            raise InvalidInputError(f"{whose}: a count within a window may be at most {most - 1:,}")
        need = replace(use.need, most=min(use.need.most, most))
        feed = use.feed.id
        if self._feeds.setdefault(feed, use.feed).content != use.feed.content:
            raise InvalidInputError(
                f"{whose}: its events of {use.feed.event!r} have the same digest as others by chance: "
                "change the condition a little"
            )
        known = self._needs.get(feed)
        self._needs[feed] = need.and_of(known) if known else need
        self._edges.setdefault(feed, {})[use.edge_key] = use.edge

    def plan(self, digest: str, apply: Callable[[Mapping[str, int]], Plan]) -> Plan:
        audiences = self._in_order()
        watches = self._watches.values()
        computed = self._traits
        of_feed: _Grouped = {feed: [] for feed in self._feeds}
        of_trait: _Grouped = {trait: [] for key in computed.computed for trait in computed.traits_of[key]}
        of_audience: _Grouped = {key: [] for key in audiences}
        watched: list[CompiledAudience] = []
        for key, audience in audiences.items():
            part = self.parts[key]
            for group, names in (
                (of_feed, part.feeds),
                (of_trait, part.traits),
                (of_audience, part.audiences),
            ):
                for name in names:
                    group.setdefault(name, []).append(audience)
            of_audience[key].append(audience)
            of_audience[part.claim] = of_audience[key]
            if part.watched:
                watched.append(audience)
        _refuse_equal_ids(audiences.values())
        keeping = self._keeping(len(of_trait))
        feeds = {key: replace(feed, keep=keeper(feed.kept, keeping)) for key, feed in self._feeds.items()}
        initial = initial_audiences(audiences.values(), self._births)
        return Plan(
            audiences=audiences,
            feeds=feeds,
            events=by_event(feeds.values()),
            needs=self._needs,
            edges={feed: tuple(edges.values()) for feed, edges in self._edges.items()},
            of_feed=_frozen(of_feed),
            traits=tuple(_trait_use(path, keeping) for path in sorted(of_trait)),
            of_trait=_frozen(of_trait),
            of_audience=_frozen(of_audience),
            initial=initial.audiences,
            has_new_users=initial.has_users,
            has_new_anonymous=initial.has_anonymous,
            watches_of_feed=_by_feed(watches, computed),
            watches_of_trait=_by_trait(watches, computed),
            watched=tuple(watched),
            computed=computed.computed,
            computed_of_feed=_computed_by(computed, computed.feeds_of),
            computed_of_trait=_computed_by(computed, computed.traits_of),
            births=tuple(sorted(self._births)),
            since={
                feed.id: feed.since.instant
                for feed in self._feeds.values()
                if feed.since is not None and feed.since.instant is not None
            },
            digest=digest,
            unapplied=tuple(self._unapplied),
            _apply=apply,
            call_fields=_call_fields(audiences.values()),
            message_ids=self.room.message_ids,
            mapped=frozenset(key for key, audience in audiences.items() if audience.mappings),
        )

    def _keeping(self, traits: int) -> Keeping:
        """One for all, so that equal texts stay equal: there is room for the values of any one call."""
        values: Counter[str] = Counter()
        for feed in self._feeds.values():
            values[feed.event] += len(feed.kept)
        return Keeping.of(self.room, max(traits, *values.values(), 0))

    def _in_order(self) -> dict[str, CompiledAudience]:
        """The audiences by rank; each part takes on what the audiences that it asks for use."""
        ranks = ranks_of({key: part.audiences for key, part in self.parts.items()})
        audiences = {}
        for key in sorted(ranks, key=ranks.__getitem__):
            part = self.parts[key]
            for asked in [self.parts[name] for name in part.audiences]:
                part.feeds |= asked.feeds
                part.traits |= asked.traits
                part.audiences |= asked.audiences
                part.watched |= asked.watched
            definition = part.definition
            audiences[key] = CompiledAudience(
                key=key,
                id=audience_id(key),
                rank=ranks[key],
                holds=part.holds,
                claimed=definition.source is not AudienceSource.COMPUTED,
                claim=part.claim,
                claims_from=0 if definition.include_history else part.created or 0,
                enabled=definition.enabled,
                created=part.created or 0,
                include_anonymous=definition.include_anonymous,
                feeds=tuple(sorted(part.feeds)),
                destinations=tuple(destination.id for destination in definition.destinations),
                told=listeners(definition),
                rows=row_source(definition),
                mappings={
                    destination.id: mapping
                    for destination in definition.destinations
                    if (mapping := compile_fields(destination, self._traits.computed)) is not None
                },
            )
        return audiences


def since_of(definition: AudienceDefinition, generation: int | None, created: int | None) -> Since | None:
    """What tells the events of the audience from those of others; None: it shares them.

    `generation` is the version that filled it from history, `created` the instant at which it begins.
    """
    whose = definition.key if generation is None else filled_by(definition.key, generation)
    if not definition.include_history:
        return Since(whose, definition.created_at, created)
    return None if generation is None else Since(whose, None, None)


def _refuse_equal_ids(audiences: Iterable[CompiledAudience]) -> None:
    """States could not tell such audiences apart."""
    found: dict[str, str] = {}
    for audience in audiences:
        other = found.setdefault(audience.id, audience.key)
        if other != audience.key:
            raise InvalidInputError(
                f"audiences {other} and {audience.key}: their keys have the same digest by chance: rename one"
            )


def _call_fields(audiences: Iterable[CompiledAudience]) -> CallFields | None:
    slots = {
        slot.id: slot
        for audience in audiences
        for mapping in audience.mappings.values()
        for slot in mapping.slots
    }
    return CallFields(slots.values()) if slots else None


def _from(created: int, holds: Holds) -> Holds:
    return lambda state, now, horizon: now >= created and holds(state, now, horizon)


def _frozen(groups: _Grouped) -> dict[str, tuple[CompiledAudience, ...]]:
    return {name: tuple(group) for name, group in groups.items()}


def _computed_by(
    traits: TraitSources, sources: Mapping[str, Iterable[str]]
) -> dict[str, tuple[ComputedTrait, ...]]:
    grouped: dict[str, list[ComputedTrait]] = {}
    for key, trait in traits.computed.items():
        for source in sources[key]:
            grouped.setdefault(source, []).append(trait)
    return {source: tuple(group) for source, group in grouped.items()}


def _by_feed(watches: Iterable[Watch], traits: TraitSources) -> dict[str, tuple[Due, ...]]:
    grouped: dict[str, list[Due]] = {}
    for watch in watches:
        own = () if watch.feed is None else (watch.feed,)
        for feed in traits.feeds(watch.traits).union(own):
            grouped.setdefault(feed, []).append(watch.due)
    return {feed: tuple(group) for feed, group in grouped.items()}


def _by_trait(watches: Iterable[Watch], traits: TraitSources) -> dict[str, tuple[Due, ...]]:
    grouped: dict[str, list[Due]] = {}
    for watch in watches:
        for trait in traits.traits(watch.traits):
            grouped.setdefault(trait, []).append(watch.due)
    return {trait: tuple(group) for trait, group in grouped.items()}


def _trait_use(path: str, keeping: Keeping) -> TraitUse:
    """What is kept is the value at the whole path; the call says something of it when it has the first name."""
    name = str(parse_path(path)[0])
    extract = extractor(path)
    if goes_into_items(path):
        return TraitUse(path, name, lambda traits: keeping.several(extract(traits)))
    return TraitUse(path, name, lambda traits: keeping.one(extract(traits)))
