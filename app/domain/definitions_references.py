"""References between definitions, checked where they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.definitions_values import nearest
from app.domain.references import cycles_of
from app.domain.trait_sources import name_of, traits_asked_for
from app.domain.yaml_nodes import shown
from schemas.audience import (
    AllOf,
    AnyOf,
    EventCondition,
    Not,
    TraitCondition,
    TraitReference,
    UsersCondition,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from app.domain.definitions_values import Value
    from schemas.audience import Comparison, ComputedTraitDefinition, Condition

    # The key that is referred to, and where.
    Reference = tuple[Value, str]


def check_traits(traits: Mapping[str, tuple[Value, ComputedTraitDefinition]], read: Collection[str]) -> None:
    """Reports computed traits that are computed from themselves, and remarks on those that hide an identify trait.

    `read` are the names of the traits that conditions ask for.
    """
    asked = {key: sorted(traits_asked_for(definition)) for key, (_, definition) in traits.items()}
    for cycle in cycles_of(asked):
        traits[cycle[0]][0].refuse(f"`{cycle[0]}` would be computed from itself: {' -> '.join(cycle)}")
    for key in {*read, *(name for names in asked.values() for name in names)} & traits.keys():
        traits[key][0].remark(
            f"`trait: {key}` is this computed trait; a trait of that name in identify calls is ignored"
        )


def names_read(condition: Condition) -> Iterator[str]:
    """The names of the traits that a condition asks for, each as often as it does."""
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.conditions:
            yield from names_read(part)
    elif isinstance(condition, Not | UsersCondition):
        yield from names_read(condition.condition)
    elif isinstance(condition, TraitCondition):
        yield name_of(condition.trait)
        yield from _referred(condition.comparisons)
    elif isinstance(condition, EventCondition):
        yield from _referred((*condition.where, *condition.context))
        if condition.then is not None:
            yield from _referred((*condition.then.where, *condition.then.context))
        operands = condition.aggregate.comparisons if condition.aggregate else []
        yield from (name_of(operand.trait) for _, operand in operands if isinstance(operand, TraitReference))


def _referred(comparisons: Iterable[Comparison]) -> Iterator[str]:
    operands = (comparison.operand for comparison in comparisons)
    return (name_of(operand.trait) for operand in operands if isinstance(operand, TraitReference))


def check_references(references: Mapping[str, Sequence[Reference]], known: Collection[str]) -> None:
    """Reports references to audiences that are not there, and those that lead back to where they come from."""
    for found in references.values():
        for value, key in found:
            if key not in known:
                value.refuse(f"there is no audience with the key {shown(key)}{nearest(key, known)}")
    for cycle in cycles_of({name: [key for _, key in found] for name, found in references.items()}):
        last, first = cycle[-2:]
        value = next(value for value, key in references[last] if key == first)
        value.refuse(f"whether someone is in `{first}` would depend on itself: {' -> '.join(cycle)}")
