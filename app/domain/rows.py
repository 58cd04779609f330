"""Rows: what is sent of one profile, from the identifiers known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.fold import SEVERAL
from app.domain.normalization import MetaKey
from app.domain.normalization_text import is_mobile_id
from app.domain.person_state import is_eligible
from app.domain.profile_ids import external_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.plan import CompiledAudience
    from app.domain.state import ProfileState

    Row = dict[str, str | float]

_COLUMNS: Final = tuple(key.value for key in MetaKey if key is not MetaKey.EXTERN_ID)
_MADID: Final = MetaKey.MADID.value
_SEVERAL: Final = tuple(column for column in _COLUMNS if column in SEVERAL)


def rows_of(profile: str, state: ProfileState) -> list[Row]:
    """The row of all current identifiers, then one for each further e-mail, phone number or advertising id.

    Empty when nothing known of the profile finds a person alone: a city and a first name do not. The id of a device is
    sent in the clear, so only where it has the form of an advertising id; whose it is, it tells in any form.
    """
    external_id = external_id_of(profile)
    found: Row = {} if external_id is None else {MetaKey.EXTERN_ID.value: external_id}
    known = state.identifiers
    if not known:
        return [found] if found else []
    row: Row = dict(found)
    for column in _COLUMNS:
        identifier = known.get(column)
        if identifier is not None and identifier.value is not None:
            row[column] = identifier.value
    if _MADID in row and not is_mobile_id(row[_MADID]):
        del row[_MADID]
    if external_id is None and not any(column in row for column in _SEVERAL):
        return []
    further = (
        {**found, column: value}
        for column in _SEVERAL
        for value in state.further.get(column, ())
        if column != _MADID or is_mobile_id(value)
    )
    return [row, *further]


def rows_by_destination(
    audience: CompiledAudience, told: Iterable[str], profile: str, state: ProfileState, rows: list[Row]
) -> dict[str, list[Row]]:
    """What is sent to each of these destinations; `rows` are those of what is found by default."""
    mappings = audience.mappings
    if not mappings:
        return dict.fromkeys(told, rows)
    return {item: mappings[item].rows(profile, state) if item in mappings else rows for item in told}


def is_identified(profile: str, state: ProfileState) -> bool:
    """Whether the profile has a user id, an e-mail address or a mobile advertising id."""
    return external_id_of(profile) is not None or is_eligible(state.person)
