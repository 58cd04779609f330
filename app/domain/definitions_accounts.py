"""Audiences of accounts, checked where they are written: what may be asked of an account, and what only of its users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.definitions_values import read_choice
from app.domain.trait_sources import name_of
from schemas.audience import AudienceSource, Entity, TraitReference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.domain.definitions_references import Reference
    from app.domain.definitions_values import Value
    from schemas.audience import TraitCondition


def read_entity(audience: Value, source: AudienceSource | None, value: Value | None) -> Entity:
    """With a problem that was reported it is USER. Only what is computed here can be of accounts."""
    if value is None:
        return Entity.USER
    entity = Entity(read_choice(value, tuple(Entity)) or Entity.USER)
    if entity is Entity.ACCOUNT and source not in (None, AudienceSource.COMPUTED):
        audience.refuse(
            f"an audience with `source: {source}` has no `entity: account`: what comes of it is about people"
        )
    return entity


def check_accounts(
    references: Sequence[Reference],
    conditions: Sequence[tuple[Value, TraitCondition]],
    entities: Mapping[str, Entity],
    computed: Collection[str],
) -> None:
    """Reports what is asked of accounts and is only known of people: membership of their audiences, computed traits."""
    for value, key in references:
        if entities.get(key) is Entity.USER:
            value.refuse(
                f"`{key}` is an audience of people: ask for those of the account, as in `users: {{any: {{audience: ...}}}}`"
            )
    for value, condition in conditions:
        operands = (comparison.operand for comparison in condition.comparisons)
        paths = [condition.trait, *(one.trait for one in operands if isinstance(one, TraitReference))]
        for name in dict.fromkeys(map(name_of, paths)):
            if name in computed:
                value.refuse(
                    f"`{name}` is a trait that is computed for people: ask for it under `users`, as in "
                    f"`users: {{any: {{trait: {name}, ...}}}}`"
                )
