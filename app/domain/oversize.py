"""States that are too large although no events are left: what is long of their traits is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.keeping import LEAST_CHARACTERS, characters_of, cut_text
from app.domain.values import COMPOSITE

if TYPE_CHECKING:
    from app.domain.state import ProfileState


def cut_long(state: ProfileState, excess: int) -> int:
    """Cuts off the longest traits and computed values, until so many characters are saved; how many those are."""
    sizes = [(_room_of(trait.value), False, path) for path, trait in state.traits.items()]
    sizes += [(_room_of(value), True, key) for key, value in state.computed.items()]
    sizes.sort(reverse=True)
    cut = 0
    for size, computed, name in sizes:
        if excess <= 0 or size <= LEAST_CHARACTERS:
            break
        value = state.computed[name] if computed else state.traits[name].value
        shorter = _cut(value)
        if computed:
            state.computed[name] = shorter
        else:
            state.traits[name].value = shorter
        excess -= size - _room_of(shorter)
        cut += 1
    return cut


def _room_of(value: Any) -> int:
    return sum(map(characters_of, value)) if type(value) is list else characters_of(value)


def _cut(value: Any) -> Any:
    if type(value) is list:
        return [_cut(value[0])] if len(value) == 1 else value[: len(value) // 2]
    if type(value) is dict:
        return {COMPOSITE: cut_text(value[COMPOSITE], LEAST_CHARACTERS)}
    return cut_text(value, LEAST_CHARACTERS)
