"""What audience.syncs says of all destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.formats import read_stored, standing_under
from app.errors import NewerFormatError, UnreadableRecordError
from schemas.sync import SyncState

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 100


def read_sync_states(records: Mapping[bytes, bytes], topic: str) -> dict[str, SyncState]:
    """By destination id, of the newest values by key; `topic` is theirs.

    Raises NewerFormatError, or UnreadableRecordError for one that no release has written: without its cursor nobody knows
    what Facebook has.
    """
    states = {}
    for key, value in records.items():
        destination = key.decode(errors="replace")
        try:
            states[destination] = read_stored(SyncState, value)
        except NewerFormatError as error:
            raise standing_under(error, topic, key) from error
        except UnreadableRecordError as error:
            raise UnreadableRecordError(
                f"{topic}, key {destination[:_SHOWN]!r}: {error}; write a record of that key without value, and the"
                " destination begins anew"
            ) from None
    return states
