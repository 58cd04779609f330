"""When a call was received, and when what it reports happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.calls import RefusedError, read_instants
from app.domain.instants import parse_instant
from schemas.dead_letter import Reason

if TYPE_CHECKING:
    from schemas.segment import SegmentEvent

# How far a call's timestamp may lie after its own received time.
MAX_AHEAD_MS: Final = 24 * 3_600_000


def times_of(call: SegmentEvent, record_time_ms: int | None, wall_ms: int) -> tuple[int, int]:
    """Received time and timestamp, epoch milliseconds.

    Received is `receivedAt`, else the record's time, else (None) the timestamp; never later than the wall. A call
    without a timestamp happened as long before it was received as its device says it was made before it was sent.
    Raises RefusedError.
    """
    received_at, text = call.received_at, call.timestamp
    if received_at is None or text is None:
        received, timestamp = _incomplete(call, record_time_ms, wall_ms)
    else:
        known = parse_instant(received_at)
        if known is None or known < 0:
            raise _unusable("receivedAt")
        received = min(wall_ms, known)
        if text != received_at:
            known = parse_instant(text)
            if known is None or known < 0:
                raise _unusable("timestamp")
        timestamp = known
    if timestamp > received + MAX_AHEAD_MS:
        detail = "timestamp is more than 24 hours after the time of receipt"
        raise RefusedError(Reason.FUTURE_TIMESTAMP, detail)
    return received, timestamp


def _incomplete(call: SegmentEvent, record_time_ms: int | None, wall_ms: int) -> tuple[int, int]:
    received, timestamp = record_time_ms, None
    if call.received_at is not None:
        received = _instant(call.received_at, "receivedAt")
    if call.timestamp is not None:
        timestamp = _instant(call.timestamp, "timestamp")
    if received is None:
        received = timestamp
    if received is None:
        raise RefusedError(Reason.INVALID_TIMESTAMP, "receivedAt and timestamp are both missing")
    received = min(received, wall_ms)
    if timestamp is None:
        timestamp = received - _skew(call)
        if timestamp < 0:
            raise _unusable("originalTimestamp")
    return received, timestamp


def received_of_refused(raw: bytes, record_time_ms: int | None, wall_ms: int) -> int | None:
    """The received time of a record that cannot be used, as far as it can be read; None: it has none at all."""
    received_at, timestamp = read_instants(raw)
    received = parse_instant(received_at) if type(received_at) is str else None
    if received is None or received < 0:
        received = record_time_ms
    if received is None and type(timestamp) is str:
        received = parse_instant(timestamp)
    return None if received is None or received < 0 else min(received, wall_ms)


def _instant(text: str, field: str) -> int:
    instant = parse_instant(text)
    if instant is None or instant < 0:
        raise _unusable(field)
    return instant


def _skew(call: SegmentEvent) -> int:
    """How long before it was sent a call was made, by the device's own clock; 0 when it does not say."""
    if call.sent_at is None or call.original_timestamp is None:
        return 0
    sent, original = parse_instant(call.sent_at), parse_instant(call.original_timestamp)
    return 0 if sent is None or original is None else sent - original


def _unusable(field: str) -> RefusedError:
    detail = f"{field} is not an ISO 8601 instant with a zone, in 1970 or later"
    return RefusedError(Reason.INVALID_TIMESTAMP, detail)
