"""What a new version of the definitions asks of the past.

Only what the version before asks for has been taken from calls. An audience or a computed trait that needs more of the
past is filled: the source topic is read again for it (app.pipeline.backfill), and it has feeds and claims of its own, so
that nothing is counted twice. What cannot be had in this way is refused by name, never half accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.domain.conditions import compile_audiences
from app.domain.filling import traits_of, using
from app.domain.past_fields import FIELDS, slots_of
from app.domain.room import Room
from app.domain.state import NEVER
from app.domain.trait_sources import TRAIT, name_of
from app.errors import InvalidInputError
from schemas.audience import OnDelete

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.domain.definitions import DefinitionSet
    from app.domain.event_conditions import Need
    from app.domain.plan import CompiledAudience
    from schemas.audience import AudienceDefinition, FacebookDestination

# Until then at least every worker projects for the new version.
AHEAD_MS: Final = 60_000

# A Facebook audience is value-based for all its life, and knows people by the external ids that it was sent.
_FOR_LIFE: Final = ("value_based", "external_id")


def generations_after(
    before: DefinitionSet, after: DefinitionSet, known: Mapping[str, int], number: int, now_ms: int
) -> dict[str, int]:
    """The version that fills each audience, and each computed trait under `traits.KEY`, from history, where there is
    one; `number` for those it is needed for now, and under `fields.KEY` for audiences whose mapped fields are to be.

    `known` are those of the version before. Raises InvalidInputError with a line for each thing that cannot be done.
    """
    problems = list(_changed_elsewhere(before, after))
    if problems:
        raise InvalidInputError("\n".join(problems))
    generations = _kept(before, after, known)
    traits = _Changes(before, after, known, generations, now_ms).traits_to_fill()
    generations |= {f"{TRAIT}{key}": number for key in traits}
    changes = _Changes(before, after, known, generations, now_ms)
    fields = {f"{FIELDS}{key}" for key in changes.fields_to_fill()}
    return generations | dict.fromkeys(changes.audiences_to_fill() | fields, number)


def _kept(before: DefinitionSet, after: DefinitionSet, known: Mapping[str, int]) -> dict[str, int]:
    """Of those that were filled before. What is taken with and without history is never the same."""
    with_history = {definition.key: definition.include_history for definition in before.audiences}
    kept = [item.key for item in after.audiences if with_history.get(item.key) is item.include_history]
    kept += [f"{TRAIT}{trait.key}" for trait in after.traits]
    return {key: known[key] for key in kept if key in known}


# How much there is room for makes no change.
_ANY: Final = Room(profile_events=NEVER)


class _Changes:
    """Both sets compiled, and which audiences and traits are not as they were."""

    def __init__(
        self,
        before: DefinitionSet,
        after: DefinitionSet,
        known: Mapping[str, int],
        generations: Mapping[str, int],
        now_ms: int,
    ) -> None:
        self.old = compile_audiences(before.audiences, before.traits, known, _ANY)
        self.new = compile_audiences(after.audiences, after.traits, generations, _ANY)
        self._generations = generations
        self._now_ms = now_ms
        self._before = {definition.key: definition for definition in before.audiences}
        self._after = {definition.key: definition for definition in after.audiences}
        self._edited = {key for key, value in self._after.items() if self._before.get(key) != value}
        self._traits = {trait.key: trait for trait in after.traits}
        traits = {trait.key: trait for trait in before.traits}
        other = {key for key in traits.keys() | self._traits if traits.get(key) != self._traits.get(key)}
        # Traits that may have other values, and the audiences that use one of them or are edited themselves.
        self._touched_traits = using(after.traits, other)
        self._touched = self._edited | {
            key for key, definition in self._after.items() if traits_of(definition) & self._touched_traits
        }

    def traits_to_fill(self) -> set[str]:
        """The computed traits that need something which is not kept."""
        return {key for key in self._traits.keys() & self._touched_traits if self._is_trait_lacking(key)}

    def _is_trait_lacking(self, key: str) -> bool:
        alone = compile_audiences((), (self._traits[key],), self._generations, _ANY)
        return any(self._is_lacking(feed, need) for feed, need in alone.needs.items()) or any(
            key in {trait.key for trait in self.new.computed_of_trait.get(path, ())}
            for path in self.new.of_trait.keys() - self.old.of_trait.keys()
        )

    def audiences_to_fill(self) -> set[str]:
        """The audiences that need something which is not kept, apart from that of filled traits."""
        found: set[str] = set()
        for feed, need in self.new.needs.items():
            if self._is_lacking(feed, need) and not self._is_of_filled_trait(feed):
                users = self.new.defined(self.new.of_feed[feed]) & self._edited
                found |= {key for key in users if not self._begins_now(key)}
        for path in self.new.of_trait.keys() - self.old.of_trait.keys():
            # Whoever reads it through a computed trait waits for that.
            users = self.new.defined(self.new.of_trait[path]) & self._touched
            found |= {key for key in users if name_of(path) in traits_of(self._after[key])}
        found |= {key for key in self._edited if self._is_claim_lacking(key) and not self._begins_now(key)}
        for anonymous in (False, True):
            if self.new.holds_for_new(anonymous=anonymous) and not self.old.holds_for_new(
                anonymous=anonymous
            ):
                initial = self.new.defined(self.new.initial)
                # An audience that asks for another one's membership may be such a one by the other's change alone.
                found |= initial & self._touched or initial
        return found | self._accounts_to_fill()

    def fields_to_fill(self) -> set[str]:
        """The audiences whose mappings take what was not taken of calls, or not from their beginning on."""
        taken = slots_of(self.old, _with_history(self._before)).keys()
        return {key for key in _with_history(self._after) if not slots_of(self.new, (key,)).keys() <= taken}

    def _accounts_to_fill(self) -> set[str]:
        """The audiences of accounts that need group calls, or a trait of them, which nothing was taken of."""
        old, new = self.old.accounts, self.new.accounts
        if new is None:
            return set()
        found = set(new.asked_by) if old is None else set()
        known = {} if old is None else old.plan.of_trait
        for path in new.plan.of_trait.keys() - known.keys():
            found |= {item.key for item in new.plan.of_trait[path]}
        return found & self._edited

    def _is_lacking(self, feed: str, need: Need) -> bool:
        known = self.old.needs.get(feed)
        # The room there is for events is no part of what is kept.
        return (
            known is None
            or replace(need.and_of(known), most=known.most, characters=known.characters) != known
        )

    def _is_of_filled_trait(self, feed: str) -> bool:
        since = self.new.feeds[feed].since
        return since is not None and since.whose.startswith(TRAIT)

    def _is_claim_lacking(self, key: str) -> bool:
        audience, was = self.new.audiences[key], self.old.audiences.get(key)
        if not audience.claimed:
            return False
        before = self._before.get(key)
        return (
            was is None
            or before is None
            or was.claim != audience.claim
            or before.source is not self._after[key].source
            or before.rows != self._after[key].rows
            or _taken_rows(was) != _taken_rows(audience)
        )

    def _begins_now(self, key: str) -> bool:
        """Whether nothing that was received before this version is in use counts. An audience that began when it was
        first applied keeps that beginning when it is edited.
        """
        definition = self._after[key]
        if definition.include_history:
            return False
        if definition.created_at is None:
            return key not in self.old.unapplied
        return definition.created_at >= self._now_ms + AHEAD_MS


def _with_history(definitions: Mapping[str, AudienceDefinition]) -> list[str]:
    return [key for key, definition in definitions.items() if definition.include_history]


def _taken_rows(audience: CompiledAudience) -> Mapping[str, bool] | None:
    return None if audience.rows is None else audience.rows.memberships


def _changed_elsewhere(before: DefinitionSet, after: DefinitionSet) -> Iterator[str]:
    """Changes of where an audience is delivered to that would leave Facebook with what was true before."""
    known = {definition.key: definition for definition in before.audiences}
    for definition in after.audiences:
        other = known.get(definition.key)
        if other is None:
            continue
        if definition.entity is not other.entity:
            yield (
                f"audience {definition.key}: changing `entity` is not supported: define another audience with another key"
            )
        for name in _FOR_LIFE:
            if _differ(other, definition, name):
                yield (
                    f"audience {definition.key}: changing `facebook.{name}` is not supported: define another audience "
                    "with another key"
                )
        yield from _destinations_differ(other, definition)


def _destinations_differ(before: AudienceDefinition, after: AudienceDefinition) -> Iterator[str]:
    ids = {item.id for item in after.destinations}
    renamed = _are_renamed(before, after)
    accounts = {item.ad_account_id for item in after.destinations}
    for item in before.destinations:
        if item.on_delete is not OnDelete.CLEAR or item.id in ids:
            continue
        if renamed and (None in accounts or item.ad_account_id is None):
            yield (
                f"audience {after.key}: with `on_delete: clear`, going from one ad account to a list of several, or back, "
                "needs `ad_account_id` before and afterwards: which one goes on would be unknown"
            )
        elif not renamed or item.ad_account_id not in accounts:
            yield (
                f"audience {after.key}: {item.id} is left out, and emptying one Facebook audience of an audience that "
                "stays is not supported yet: set its `on_delete` to keep first"
            )


def _are_renamed(before: AudienceDefinition, after: AudienceDefinition) -> bool:
    """The ids are others for one ad account than for several: then the accounts say which is which."""
    ids = {item.id for item in before.destinations}, {item.id for item in after.destinations}
    return all(ids) and (after.key in ids[0]) != (after.key in ids[1])


def _differ(before: AudienceDefinition, after: AudienceDefinition, name: str) -> bool:
    renamed = _are_renamed(before, after)
    return any(
        getattr(one, name) != getattr(item, name)
        for item in after.destinations
        for one in before.destinations
        if one.id == item.id or (renamed and _may_be_one(one, item))
    )


def _may_be_one(one: FacebookDestination, other: FacebookDestination) -> bool:
    """An account that is not given is known from the settings alone."""
    accounts = {one.ad_account_id, other.ad_account_id}
    return None in accounts or len(accounts) == 1
