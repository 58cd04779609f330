"""Mapped fields of calls that are read again: set aside until all of the past has been read, then taken at once.

What a mapping reads newly is filled from history while the audience goes on by what comes. Each old call alone may be
overtaken by the next one that is read, so until the end of all lanes what they say stands in the state beside what is
sent, as `COLUMN@SLOT@past`; rows are not made of it. At the end it is folded into `COLUMN@SLOT` as if it had come in its
time, and who is sent other rows by that hears of it once. Folding goes by timestamps, so nothing is lost or doubled when
a call is read any number of times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.fields import SEPARATOR, CallFields
from app.domain.fold import MAPPED_SEVERAL, fold_identifiers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.fields import Slot
    from app.domain.person import Identifiers
    from app.domain.plan import Plan
    from app.domain.state import ProfileState

# Before an audience's key, where its mapped fields are filled; no key of an audience has a dot.
FIELDS: Final = "fields."
_PAST: Final = f"{SEPARATOR}past"
# Before every call: of several values, only the newest one's time is known, and the others are older.
_OLDER: Final = -1


def slots_of(plan: Plan, keys: Iterable[str]) -> dict[str, Slot]:
    """What the mappings of these audiences take of calls, by the slots' ids."""
    return {
        slot.id: slot
        for key in keys
        if key in plan.audiences
        for mapping in plan.audiences[key].mappings.values()
        for slot in mapping.slots
    }


def filled_fields(plan: Plan, filled: Iterable[str]) -> CallFields | None:
    """What is to be taken of calls that are read again; None: nothing. Of `filled`, `fields.KEY` are meant."""
    slots = slots_of(plan, sorted(key.removeprefix(FIELDS) for key in filled if key.startswith(FIELDS)))
    return CallFields(slots.values()) if slots else None


def set_aside(identifiers: Identifiers | None) -> Identifiers | None:
    """The mapped ones, by the names under which they wait; None: there are none."""
    mapped = {column: value for column, value in (identifiers or {}).items() if SEPARATOR in column}
    return {f"{column}{_PAST}": value for column, value in mapped.items()} or None


def name_of_past(column: str) -> str:
    """The name under which what waits here will be known; any other name is itself."""
    return column.removesuffix(_PAST)


def has_past(state: ProfileState) -> bool:
    """Whether anything waits."""
    return any(column.endswith(_PAST) for column in state.identifiers)


def take_past(state: ProfileState) -> bool:
    """Takes what waits, now that all of the past has been read; whether there was any.

    Of a kind that a person may have several of, what was sent already keeps its place: an exit has to reach it.
    """
    waiting = [column for column in state.identifiers if column.endswith(_PAST)]
    for column in waiting:
        known, further = state.identifiers.pop(column), state.further.pop(column, [])
        name = name_of_past(column)
        if name.partition(SEPARATOR)[0] not in MAPPED_SEVERAL:
            fold_identifiers(state, {name: known.value}, known.timestamp)
            continue
        newest = [] if known.value is None else [str(known.value)]
        fold_identifiers(state, {name: newest}, known.timestamp)
        fold_identifiers(state, {name: [str(value) for value in further]}, _OLDER)
    return bool(waiting)
