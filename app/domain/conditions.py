"""Audience definitions compiled to a Plan: what to take from calls, what to keep of it, and what to ask of that.

A condition becomes a closure `holds(state, now, horizon)` (see app.domain.condition_tests), and leaves in the plan
which feeds and traits can change it, how much past of each feed it needs, and at which instants time alone can change
it: the edges of windows, which lie in a feed's instants, and those of dates, which lie in values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.domain.condition_tests import ConditionCompiler, all_of
from app.domain.paths import parse_path
from app.domain.reverse_etl import listeners, row_source
from app.domain.state import ProfileState
from app.domain.values import extractor, goes_into_items, kept, kept_items, restored
from app.errors import InvalidInputError
from schemas.audience import AudienceSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from app.domain.comparing import Read
    from app.domain.date_edges import Watch, Watches
    from app.domain.event_conditions import Edge, FeedUse, Holds, Need
    from app.domain.feeds import Feed
    from app.domain.reverse_etl import Listeners, RowSource
    from schemas.audience import AudienceDefinition

    # (state, now) -> the next instant after `now` at which time alone changes what is said of a date.
    Due = Callable[[ProfileState, int], int]

# Events kept of one profile in one feed: a state must fit into one record of the changelog, and be quick to read.
MAX_INSTANTS = 20_000


@dataclass(frozen=True, slots=True)
class CompiledAudience:
    """One audience, ready to be asked.

    `holds` is the condition and `require` together; of an audience that is not computed here, `require` alone, and
    `claimed` is True: the newest claim must say so too. `rows`: the claims are those of a warehouse's rows. `told` says which destinations hear of what.
    """

    key: str
    holds: Holds
    claimed: bool
    enabled: bool
    include_anonymous: bool
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
    differs between plans that may give different memberships for the same states. `watched` are the audiences that
    dates of traits can change, `watches_of_traits` say when; `watches_of_feed` do so for dates of events, where the
    audiences are those of the feed.
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
    watches_of_feed: Mapping[str, tuple[Due, ...]]
    watches_of_traits: tuple[Due, ...]
    watched: tuple[CompiledAudience, ...]
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
        self._watches: Watches = {}
        self._watched: list[CompiledAudience] = []

    def add(self, definition: AudienceDefinition) -> None:
        parts = [part for part in (definition.when, definition.require) if part is not None]
        whose = f"audience {definition.key}"
        compiler = ConditionCompiler(whose, _trait_reader)
        tests = [compiler.compile(part) for part in parts]
        for use in compiler.uses:
            self._use(whose, use)
        feeds = sorted({use.feed.id for use in compiler.uses})
        audience = CompiledAudience(
            key=definition.key,
            holds=all_of(tests),
            claimed=definition.source is not AudienceSource.COMPUTED,
            enabled=definition.enabled,
            include_anonymous=definition.include_anonymous,
            feeds=tuple(feeds),
            destinations=tuple(destination.id for destination in definition.destinations),
            told=listeners(definition),
            rows=row_source(definition),
        )
        self._audiences[audience.key] = audience
        for feed in feeds:
            self._of_feed.setdefault(feed, []).append(audience)
        for trait in compiler.traits:
            self._of_trait.setdefault(trait, []).append(audience)
        self._watches |= compiler.watches
        if any(watch.traits for watch in compiler.watches.values()):
            self._watched.append(audience)

    def _use(self, whose: str, use: FeedUse) -> None:
        if use.need.newest is not None and use.need.newest > MAX_INSTANTS:
            raise InvalidInputError(f"{whose}: a count within a window may be at most {MAX_INSTANTS - 1:,}")
        feed = use.feed.id
        self._feeds[feed] = use.feed
        known = self._needs.get(feed)
        self._needs[feed] = use.need.and_of(known) if known else use.need
        self._edges.setdefault(feed, {})[use.edge_key] = use.edge

    def plan(self, digest: str) -> Plan:
        watches = self._watches.values()
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
            watches_of_feed=_by_feed(watches),
            watches_of_traits=tuple(watch.due for watch in watches if watch.traits),
            watched=tuple(self._watched),
            digest=digest,
        )


def _trait_reader(trait: str) -> Read:
    def read(state: ProfileState) -> Any:
        kept = state.traits.get(trait)
        return None if kept is None else restored(kept.value)

    return read


def _by_feed(watches: Iterable[Watch]) -> dict[str, tuple[Due, ...]]:
    grouped: dict[str, list[Due]] = {}
    for watch in watches:
        if watch.feed is not None:
            grouped.setdefault(watch.feed, []).append(watch.due)
    return {feed: tuple(group) for feed, group in grouped.items()}


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
