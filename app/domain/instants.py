"""Instants: ISO 8601 with a zone on the outside, whole epoch milliseconds inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
MAX_INSTANT: Final = (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC) - _EPOCH) // _MILLISECOND

# The common forms, `2025-03-01T10:00:02.426Z` with 0, 3 or 6 digits of a second, are read by two tables: the calls
# of one moment share their seconds.
_SECONDS_CACHED: Final = 20_000
_ENDS: Final = (
    {"Z": 0}
    | {f".{number:03}Z": number for number in range(1_000)}
    | {f".{number:03}000Z": number for number in range(1_000)}
)
_LONGEST_TEXT: Final = 64
_seconds: dict[str, int] = {}


def parse_instant(text: str) -> int | None:
    """Epoch milliseconds (below a millisecond cut off, negative before 1970); None: no instant, or no zone."""
    second = _seconds.get(text[:19])
    if second is not None:
        end = _ENDS.get(text[19:])
        if end is not None:
            return second + end
    return _read(text)


def _read(text: str) -> int | None:
    instant = _parse(text)
    if instant is not None and text[19:] in _ENDS and text[10] == "T":
        if len(_seconds) >= _SECONDS_CACHED:
            _seconds.clear()
        _seconds[text[:19]] = instant // 1_000 * 1_000
    return instant


def _parse(text: str) -> int | None:
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        instant = (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None
    return instant if instant <= MAX_INSTANT else None


def format_instant(instant: int) -> str:
    """UTC with Z, milliseconds only when they are not zero; for instants that `parse_instant` gives."""
    moment = _EPOCH + timedelta(milliseconds=instant)
    return (
        moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if instant % 1_000 else "seconds") + "Z"
    )
