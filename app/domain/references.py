"""References between definitions: in which order they can be computed, and where they lead back to themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


def ranks_of(references: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Of each name a rank greater than those of all it refers to, 0 for one that refers to none.

    Raises InvalidInputError for a cycle, and for a reference to what is not there.
    """
    for name, targets in references.items():
        for target in targets:
            if target not in references:
                raise InvalidInputError(f"{name} refers to {target}, which is not defined")
    for cycle in cycles_of(references):
        raise InvalidInputError(f"references go round in a circle: {' -> '.join(cycle)}")
    ranks: dict[str, int] = {}
    for name in _innermost_first(references):
        ranks[name] = max((ranks[target] + 1 for target in references[name]), default=0)
    return ranks


def cycles_of(references: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """Cycles, each with its first name repeated at its end; at least one of those that share a name.

    Names that are not keys refer to nothing. Chains may be of any length: nothing here is recursive.
    """
    done: set[str] = set()
    for start in references:
        if start in done:
            continue
        path = [start]
        places = {start: 0}
        ahead = [iter(references[start])]
        while path:
            target = next(ahead[-1], None)
            if target is None:
                ahead.pop()
                done.add(path[-1])
                del places[path.pop()]
            elif target in places:
                yield [*path[places[target] :], target]
            elif target not in done and target in references:
                places[target] = len(path)
                path.append(target)
                ahead.append(iter(references[target]))


def _innermost_first(references: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Every name after all that it refers to; there are no cycles."""
    done: set[str] = set()
    for start in references:
        ahead = [start]
        while ahead:
            name = ahead[-1]
            missing = [] if name in done else [target for target in references[name] if target not in done]
            if missing:
                ahead += missing
                continue
            ahead.pop()
            if name not in done:
                done.add(name)
                yield name
