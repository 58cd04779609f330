"""Which keys a mapping of a definition may have, and which parts of the language are not built yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.domain.definitions_values import Value, nearest
from app.domain.yaml_nodes import MappingNode, ScalarNode, SequenceNode, shown

if TYPE_CHECKING:
    from collections.abc import Collection

AUDIENCE_KEYS: Final = (
    "name",
    "key",
    "description",
    "source",
    "when",
    "rows",
    "require",
    "include_anonymous",
    "include_history",
    "created_at",
    "lookback",
    "enabled",
    "facebook",
)


@dataclass(frozen=True, slots=True)
class NotSupported:
    """A part of the language that is refused by name.

    `meaning` explains the name where it does not do so itself. `accepted` is the value that asks for what is done
    anyway; "" stands for an empty list or mapping.
    """

    meaning: str | None = None
    accepted: str | None = None


# Place -> name -> what it is. What is built leaves this table and enters the reader of its place.
NOT_SUPPORTED: Final[dict[str, dict[str, NotSupported]]] = {
    "audience": {
        "entity": NotSupported("account audiences", accepted="user"),
    },
    "condition": {
        "users": NotSupported("account audiences"),
    },
}


def not_supported_text(name: str, part: NotSupported) -> str:
    meaning = f" ({part.meaning})" if part.meaning else ""
    return f"`{name}`{meaning} is not supported yet"


def refuse_other_keys(
    entries: dict[str, Value],
    places: Collection[str],
    known: Collection[str],
    *,
    what: str = "key",
    otherwise: str | None = None,
) -> bool:
    """Report the keys that are not `known`, each as unknown or as not supported yet; whether there were none.

    A key that is not supported may be there with the value that asks for what is done anyway. `otherwise` is the
    hint for a key that is like no known one, in place of all that are known.
    """
    table = {name: part for place in places for name, part in NOT_SUPPORTED[place].items()}
    fine = True
    for name, value in entries.items():
        if name in known:
            continue
        part = table.get(name)
        if part is None:
            hint = nearest(name, [*known, *table]) or otherwise or f"; known are {', '.join(known)}"
            value.refuse(f"unknown {what} {shown(name)}{hint}")
        elif not _asks_for_what_is_done(value, part.accepted):
            value.refuse(not_supported_text(name, part))
        else:
            continue
        fine = False
    return fine


def _asks_for_what_is_done(value: Value, accepted: str | None) -> bool:
    if accepted is None:
        return False
    if isinstance(value.node, ScalarNode):
        return value.node.text == accepted
    if isinstance(value.node, MappingNode):
        return not accepted and not value.node.entries
    return isinstance(value.node, SequenceNode) and not accepted and not value.node.items
