"""Which keys a mapping of a definition may have, and which parts of the language are not built yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.definitions_values import Value, nearest
from app.domain.yaml_nodes import shown

if TYPE_CHECKING:
    from collections.abc import Collection

AUDIENCE_KEYS: Final = (
    "name",
    "key",
    "description",
    "source",
    "entity",
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


def refuse_other_keys(
    entries: dict[str, Value],
    known: Collection[str],
    *,
    what: str = "key",
    otherwise: str | None = None,
) -> bool:
    """Report the keys that are not `known`; whether there were none.

    `otherwise` is the hint for a key that is like no known one, in place of all that are known.
    """
    fine = True
    for name, value in entries.items():
        if name not in known:
            hint = nearest(name, known) or otherwise or f"; known are {', '.join(known)}"
            value.refuse(f"unknown {what} {shown(name)}{hint}")
            fine = False
    return fine
