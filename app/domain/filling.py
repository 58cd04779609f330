"""Plans while audiences and computed traits are filled from history: whoever is filled, or uses such a trait, changes
nothing before all of it has been read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace as msgspec_replace

from app.domain.definitions_references import names_read
from app.domain.feeds import filled_by, is_filled_by
from app.domain.past_fields import FIELDS, set_aside
from app.domain.plan import AccountPlan, by_event
from app.domain.trait_sources import TRAIT, traits_asked_for
from schemas.profile import CALL, GROUP, JOIN, PAST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.domain.definitions import DefinitionSet
    from app.domain.fields import CallFields
    from app.domain.plan import CompiledAudience, Plan
    from schemas.audience import AudienceDefinition, ComputedTraitDefinition
    from schemas.profile import ProfileEvent

    Groups = Mapping[str, tuple[CompiledAudience, ...]]

# Before the lane that is read again; the version stands between them.
PAST_LANE: Final = "past/"


def past_lane(number: int, lane: str) -> str:
    """The lane of what is read again of `lane` for a version; no topic id has a slash."""
    return f"{PAST_LANE}{number}/{lane}"


def lane_of_past(lane: str, number: int) -> str | None:
    """The lane that a lane of the past is of; None: it is none, or another version's."""
    prefix = f"{PAST_LANE}{number}/"
    return lane.removeprefix(prefix) if lane.startswith(prefix) else None


def held_back(
    after: DefinitionSet, before: Sequence[AudienceDefinition], filled: Collection[str], plan: Plan
) -> frozenset[str]:
    """The audiences that wait: the filled ones, those that use a filled trait, and what is new or edited and asks for
    the membership of one of these. `filled` are keys of audiences, of computed traits as `traits.KEY`, and of audiences
    whose mapped fields are filled as `fields.KEY`: for those alone only a new audience waits, which has sent nothing yet.
    """
    known = {definition.key: definition for definition in before}
    edited = {definition.key for definition in after.audiences if known.get(definition.key) != definition}
    traits = using(after.traits, {key.removeprefix(TRAIT) for key in filled if key.startswith(TRAIT)})
    held = {
        item.key
        for item in after.audiences
        if item.key in filled
        or traits_of(item) & traits
        or (item.key not in known and f"{FIELDS}{item.key}" in filled)
    }
    ahead = list(held)
    while ahead:
        more = plan.asking(ahead.pop()) & edited - held
        held |= more
        ahead += more
    return frozenset(held)


def traits_of(definition: AudienceDefinition) -> set[str]:
    """The names of the traits that an audience asks for itself."""
    conditions = [part for part in (definition.when, definition.require) if part is not None]
    return {name for condition in conditions for name in names_read(condition)}


def using(traits: Sequence[ComputedTraitDefinition], names: Collection[str]) -> set[str]:
    """These traits, and the computed ones that are compared with them, through others too."""
    found = set(names)
    while more := {item.key for item in traits if item.key not in found and traits_asked_for(item) & found}:
        found |= more
    return found


def waiting(plan: Plan, held: Collection[str]) -> Plan:
    """The plan that takes and keeps all that it needs, and leaves the audiences in `held` as they are."""

    def others(group: tuple[CompiledAudience, ...]) -> tuple[CompiledAudience, ...]:
        return tuple(audience for audience in group if audience.key not in held)

    accounts = plan.accounts
    if accounts is not None:
        by = {key: asked for key, asked in accounts.asked_by.items() if key not in held}
        asked = tuple(key for key in accounts.asked if any(key in one for one in by.values()))
        held = {*held, *accounts.asked} - set(asked)
        accounts = AccountPlan(waiting(accounts.plan, held), asked, by)

    def grouped(groups: Groups) -> Groups:
        return {name: others(group) for name, group in groups.items()}

    return replace(
        plan,
        audiences={key: audience for key, audience in plan.audiences.items() if key not in held},
        of_feed=grouped(plan.of_feed),
        of_trait=grouped(plan.of_trait),
        of_audience=grouped(plan.of_audience),
        initial=others(plan.initial),
        watched=others(plan.watched),
        digest=f"{plan.digest} waiting",
        accounts=accounts,
    )


def of_the_past(plan: Plan, held: frozenset[str], number: int, fields: CallFields | None = None) -> Plan:
    """What is taken of calls that are read again for this version; `fields` is what mappings do."""
    feeds = {
        key: feed for key, feed in plan.feeds.items() if feed.since and is_filled_by(feed.since.whose, number)
    }
    whose = {feed.since.whose for feed in feeds.values() if feed.since}
    paths = {
        path
        for path, group in plan.of_trait.items()
        if not held.isdisjoint(plan.defined(group))
        or any(
            filled_by(f"{TRAIT}{trait.key}", number) in whose
            for trait in plan.computed_of_trait.get(path, ())
        )
    }
    sees = not held.isdisjoint(plan.defined(plan.initial))
    accounts = plan.accounts
    if accounts is not None:
        accounts = None if held.isdisjoint(accounts.asked_by) else _of_past_groups(accounts, held)
    return replace(
        plan,
        # Whose field a call fills may be said by any of them: a warehouse's row says in its own way whom it is about.
        audiences={
            key: item
            for key, item in plan.audiences.items()
            if fields is not None or is_filled_by(item.claim, number)
        },
        feeds=feeds,
        events=by_event(feeds.values()),
        traits=tuple(use for use in plan.traits if use.path in paths),
        has_new_users=sees and plan.has_new_users,
        has_new_anonymous=sees and plan.has_new_anonymous,
        call_fields=fields,
        accounts=accounts,
    )


def _of_past_groups(accounts: AccountPlan, held: Collection[str]) -> AccountPlan:
    of_trait = accounts.plan.of_trait
    uses = tuple(use for use in accounts.plan.traits if any(item.key in held for item in of_trait[use.path]))
    return replace(accounts, plan=replace(accounts.plan, traits=uses))


def id_of_past(message_id: str, number: int) -> str:
    """Under which the reading for this version counts a call: one that was seen before is news to those who wait, also
    when others have waited before them.
    """
    return f"past {number} {message_id}"


def as_past(event: ProfileEvent, number: int) -> ProfileEvent | None:
    """Of a call that was resolved for a plan of the past, what this version fills needs; None: nothing.

    Who called is known from the first reading: a profile that was heard of by its identifiers exists. What group calls
    say of accounts may be heard any number of times.
    """
    if event.kind in (JOIN, GROUP):
        return event
    if event.kind != CALL:
        return None  # whoever was to be forgotten has been
    claims = {name: said for name, said in (event.claims or {}).items() if is_filled_by(name, number)}
    fields = set_aside(event.identifiers)
    if not (event.hits or event.traits or claims or fields) and (
        event.identifiers or event.linking or event.claims
    ):
        return None
    return msgspec_replace(event, kind=PAST, identifiers=fields, claims=claims or None, linking=None)
