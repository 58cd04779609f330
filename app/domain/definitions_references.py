"""References between definitions, checked where they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.definitions_values import nearest
from app.domain.references import cycles_of
from app.domain.yaml_nodes import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.domain.definitions_values import Value

    # The key that is referred to, and where.
    Reference = tuple[Value, str]


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
