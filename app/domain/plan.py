"""Plan: what a set of definitions is compiled to (see app.domain.conditions)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.domain.room import MESSAGE_IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from app.domain.computed_traits import TraitValue
    from app.domain.event_conditions import Edge, Holds, Need
    from app.domain.feeds import Feed
    from app.domain.fields import CallFields, RowMapping
    from app.domain.reverse_etl import Listeners, RowSource
    from app.domain.state import ProfileState

    # (state, now) -> the next instant after `now` at which time alone changes what is said of a date.
    Due = Callable[[ProfileState, int], int]

# So many audiences are asked sooner than those of them are found that have to be.
_FEW: Final = 10


@dataclass(frozen=True, slots=True)
class CompiledAudience:
    """One audience, ready to be asked.

    `id` stands for the key in states. `holds` is the condition and `require` together; of an audience that is not
    computed here, `require` alone, and `claimed` is True: the newest claim must say so too. `claim` is the name under
    which claims are made and kept; of past ones, those received from `claims_from` on count. `rows`: the claims are
    those of a warehouse's rows. `told` says which destinations hear of what. `rank` is greater than that of every
    audience whose membership the condition asks for. Before `created` nobody is a member, which `holds` sees to.
    `feeds` are all that can change it, through those audiences too.
    """

    key: str
    id: str
    rank: int
    holds: Holds
    claimed: bool
    claim: str
    claims_from: int
    enabled: bool
    created: int
    include_anonymous: bool
    feeds: tuple[str, ...]
    destinations: tuple[str, ...]
    told: Listeners
    rows: RowSource | None
    # Of the destinations that are sent something else than what is found by default.
    mappings: Mapping[str, RowMapping] = field(default_factory=dict)

    @property
    def sent_to(self) -> tuple[str, ...]:
        """Each destination that hears of who enters, with what tells its mapping from others."""
        return tuple(
            f"{item}#{self.mappings[item].digest}" if item in self.mappings else item
            for item in self.told.entries
        )


@dataclass(frozen=True, slots=True)
class EventFeeds:
    """The feeds of one event name, and what they need decoded of such a call."""

    feeds: tuple[Feed, ...]
    needs_properties: bool
    needs_context: bool

    @classmethod
    def of(cls, feeds: Sequence[Feed]) -> EventFeeds:
        """Of the feeds of one event name."""
        return cls(
            feeds=tuple(feeds),
            needs_properties=any(feed.needs_properties for feed in feeds),
            needs_context=any(feed.needs_context for feed in feeds),
        )


@dataclass(frozen=True, slots=True)
class TraitUse:
    """A trait that some definition uses: written as `path`, it is part of the call's trait `name`."""

    path: str
    name: str
    take: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ComputedTrait:
    """`value(state, now, horizon)` makes its value from the events of a profile and the traits of lower `rank`.

    `empty` is its value without any event, which states leave out.
    """

    key: str
    rank: int
    value: TraitValue
    empty: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything resolve and evaluate need of a set of definitions. The mappings are never changed.

    Every tuple of audiences is in order of rank and closed: with an audience come those that ask for its membership.

    `initial` are the audiences that may have a profile of which nothing but its existence is known; whether some do
    is `has_new_users` and `has_new_anonymous`. `watched` are the audiences that dates of traits can change,
    `watches_of_trait` say when; `watches_of_feed` do so for dates of events, where the audiences are those of the
    feed. `computed` are the computed traits in order of rank; which of them an event or a trait can change is
    `computed_of_feed` and `computed_of_trait`. `births` are the instants at which audiences are created, in order;
    every profile is looked at then, and these audiences are `watched` too. `since` is the received time from which on
    the events of a feed count, for the feeds that have one. `digest` differs between plans that may give different
    memberships for the same states.
    """

    audiences: Mapping[str, CompiledAudience]
    feeds: Mapping[str, Feed]
    events: Mapping[str, EventFeeds]
    needs: Mapping[str, Need]
    edges: Mapping[str, tuple[Edge, ...]]
    of_feed: Mapping[str, tuple[CompiledAudience, ...]]
    traits: tuple[TraitUse, ...]
    of_trait: Mapping[str, tuple[CompiledAudience, ...]]
    of_audience: Mapping[str, tuple[CompiledAudience, ...]]
    initial: tuple[CompiledAudience, ...]
    has_new_users: bool
    has_new_anonymous: bool
    watches_of_feed: Mapping[str, tuple[Due, ...]]
    watches_of_trait: Mapping[str, tuple[Due, ...]]
    watched: tuple[CompiledAudience, ...]
    computed: Mapping[str, ComputedTrait]
    computed_of_feed: Mapping[str, tuple[ComputedTrait, ...]]
    computed_of_trait: Mapping[str, tuple[ComputedTrait, ...]]
    births: tuple[int, ...]
    since: Mapping[str, int]
    digest: str
    # Audiences created when they are first applied; until `applied` says when, they are as if they had always been.
    unapplied: tuple[str, ...]
    _apply: Callable[[Mapping[str, int]], Plan] = field(repr=False, compare=False)
    # What mappings take of calls, None: nothing, and the audiences that have any mapping.
    call_fields: CallFields | None = None
    mapped: frozenset[str] = frozenset()
    # How many of its events' message ids a profile remembers.
    message_ids: int = MESSAGE_IDS
    # What is asked of accounts; None: nothing.
    accounts: AccountPlan | None = None
    # The same audiences by what stands for them in states, and the same traits by the name that calls have.
    by_id: Mapping[str, CompiledAudience] = field(init=False, repr=False, compare=False)
    traits_named: Mapping[str, tuple[TraitUse, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {one.id: one for one in self.audiences.values()})
        named: dict[str, tuple[TraitUse, ...]] = {}
        for use in self.traits:
            named[use.name] = (*named.get(use.name, ()), use)
        object.__setattr__(self, "traits_named", named)

    def applied(self, instants: Mapping[str, int]) -> Plan:
        """The same plan for a place where the `unapplied` audiences were first applied at these instants."""
        return self._apply(instants) if self.unapplied else self

    def computed_by(self, feeds: Iterable[str], traits: Iterable[str]) -> Iterable[ComputedTrait]:
        """The computed traits that events of these feeds or changes of these traits can change, in order of rank."""
        found = {
            trait.key: trait
            for names, groups in ((feeds, self.computed_of_feed), (traits, self.computed_of_trait))
            for name in names
            for trait in groups.get(name, ())
        }
        return sorted(found.values(), key=lambda trait: trait.rank)

    def concerning(self, state: ProfileState) -> tuple[CompiledAudience, ...]:
        """All that can have the profile as a member, had it as one, or are told that it is none: what every other one
        makes of it is what it makes of a profile of which nothing is known, and that is no member.
        """
        if len(self.audiences) <= _FEW:
            return tuple(self.audiences.values())
        groups = [self.initial]
        groups += [self.of_feed.get(feed, ()) for feed in state.feeds]
        groups += [self.of_trait.get(path, ()) for path in state.traits]
        groups += [self.of_audience.get(key, ()) for key in state.claims]
        if state.ties is not None and self.accounts is not None:
            groups += [self.of_audience.get(key, ()) for key in self.accounts.asked_by]
        found = {audience.key: audience for group in groups for audience in group}
        for short in state.memberships:
            audience = self.by_id.get(short)
            if audience is not None:
                found[audience.key] = audience
        return tuple(sorted(found.values(), key=_rank))

    def defined(self, audiences: Iterable[CompiledAudience]) -> set[str]:
        """The keys under which these stand in definitions: what is asked of users is asked for audiences of accounts."""
        keys = {audience.key for audience in audiences}
        accounts = self.accounts
        return keys if accounts is None else {asker for key in keys for asker in accounts.askers(key)}

    def asking(self, key: str) -> set[str]:
        """The keys of the audiences that ask for the membership of this one, of accounts too; its own is among them."""
        found = self.defined(self.of_audience.get(key, ()))
        if self.accounts is not None:
            found |= {audience.key for audience in self.accounts.plan.of_audience.get(key, ())}
        return found

    def holds_for_new(self, *, anonymous: bool) -> bool:
        """Whether a profile can be a member before anything but its existence is known."""
        return self.has_new_anonymous if anonymous else self.has_new_users


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """Audiences of accounts, as they are asked of an account: `plan` is as any other, but for the states of accounts.

    In the plan that this belongs to, audiences of the same keys are those of the people who are sent. Conditions on
    users are audiences there too, whom nobody is told of; `asked` are their keys, and `asked_by` those of each
    audience.
    """

    plan: Plan
    asked: tuple[str, ...]
    asked_by: Mapping[str, tuple[str, ...]]

    def askers(self, key: str) -> list[str]:
        """The audiences of accounts that ask this of users; for any other key, itself."""
        return [asker for asker, asked in self.asked_by.items() if key in asked] or [key]


def by_event(feeds: Iterable[Feed]) -> dict[str, EventFeeds]:
    """The feeds grouped by the name of their events."""
    grouped: dict[str, list[Feed]] = {}
    for feed in feeds:
        grouped.setdefault(feed.event, []).append(feed)
    return {event: EventFeeds.of(group) for event, group in grouped.items()}


def joined(
    audiences: tuple[CompiledAudience, ...], further: tuple[CompiledAudience, ...]
) -> tuple[CompiledAudience, ...]:
    """Each audience once, in order of rank as both are."""
    if not audiences or not further:
        return audiences or further
    both = tuple({audience.key: audience for audience in (*audiences, *further)}.values())
    if audiences[-1].rank or further[-1].rank:
        return tuple(sorted(both, key=_rank))
    return both


def _rank(audience: CompiledAudience) -> int:
    return audience.rank
