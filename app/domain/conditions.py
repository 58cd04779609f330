"""Audience definitions compiled to a Plan: what to take from calls, what to keep of it, and what to ask of that.

A condition becomes a closure `holds(state, now, horizon)` (see app.domain.condition_tests), and leaves in the plan
which feeds and traits can change it, how much past of each feed it needs, and at which instants time alone can change
it: the edges of windows, which lie in a feed's instants, and those of dates, which lie in values. All of them meet in
app.domain.plan_builder.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from app.domain.account_builder import AccountsBuilder
from app.domain.feeds import NO_GENERATIONS
from app.domain.field_compiling import is_mapped
from app.domain.plan import Plan
from app.domain.plan_builder import PlanBuilder
from app.domain.room import Room
from app.domain.trait_sources import TraitSources
from schemas.audience import Entity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.audience import AudienceDefinition, ComputedTraitDefinition, FacebookDestination


def compile_audiences(
    definitions: Sequence[AudienceDefinition],
    traits: Sequence[ComputedTraitDefinition] = (),
    generations: Mapping[str, int] = NO_GENERATIONS,
    room: Room | None = None,
) -> Plan:
    """Audiences, and the computed traits beside them. `generations` are the versions that filled audiences, and under
    `traits.KEY` computed traits, from history: such a one shares no feed with others, or with what it was before.
    `room` None: as much as by default.

    Raises InvalidInputError for a definition that asks for what is not built, or for itself.
    """
    digest = _digest(definitions, traits, generations)
    given = room or Room()

    def compiled(instants: Mapping[str, int]) -> Plan:
        builder = PlanBuilder(TraitSources(traits, generations), given)
        accounts = AccountsBuilder(builder)
        for definition in definitions:
            add = accounts.add if definition.entity is Entity.ACCOUNT else builder.add
            add(definition, instants.get(definition.key), generations.get(definition.key))
        return accounts.plan(digest, compiled)

    return compiled({})


def _digest(
    definitions: Sequence[AudienceDefinition],
    traits: Sequence[ComputedTraitDefinition],
    generations: Mapping[str, int],
) -> str:
    """Names, descriptions and Facebook settings decide nothing here, apart from which destinations there are, and what
    they are told of.
    """
    parts = sorted(
        (
            definition.key,
            definition.source.value,
            definition.when.model_dump(mode="json") if definition.when else None,
            definition.require.model_dump(mode="json") if definition.require else None,
            definition.include_anonymous,
            definition.include_history,
            definition.created_at,
            definition.lookback_ms,
            definition.enabled,
            sorted(
                [_sent_to(item), item.sync_mode.value, item.audience_id is not None]
                for item in definition.destinations
            ),
            *(["account"] if definition.entity is Entity.ACCOUNT else []),
        )
        for definition in definitions
    )
    computed = sorted((trait.model_dump(mode="json") for trait in traits), key=json.dumps)
    return hashlib.sha256(
        json.dumps([parts, computed, *([sorted(generations.items())] if generations else [])]).encode()
    ).hexdigest()


def _sent_to(destination: FacebookDestination) -> str:
    if not is_mapped(destination):
        return destination.id
    return destination.model_dump_json(include={"id", "fields", "value_based", "external_id"})
