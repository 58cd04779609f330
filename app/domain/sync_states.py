"""What audience.syncs says of all destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.formats import read_stored
from app.errors import UnreadableRecordError
from schemas.sync import SyncState

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 100


def read_sync_states(records: Mapping[bytes, bytes]) -> dict[str, SyncState]:
    """By destination id, of the newest values by key.

    Raises NewerFormatError, or UnreadableRecordError for one that no release has written: without its cursor nobody knows
    what Facebook has.
    """
    states = {}
    for key, value in records.items():
        destination = key.decode(errors="replace")
        try:
            states[destination] = read_stored(SyncState, value)
        except UnreadableRecordError as error:
            raise UnreadableRecordError(
                f"audience.syncs, key {destination[:_SHOWN]!r}: {error}; write a record of that key without value, and the"
                " destination begins anew"
            ) from None
    return states
