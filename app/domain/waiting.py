"""A change that waits to be sent, as small as it can be kept: a batch is 10,000 of them, and destinations are many."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.membership import Cause, Change, MembershipDelta, Repeated

_HASH_DIGITS: Final = 64


class _Kept(msgspec.Struct, array_like=True, gc=False):
    """What is kept of a delta beside its profile; of its rows, those of one destination, with hashes as bytes."""

    audience: str
    change: Change
    sequence: int
    rows: list[dict[str, Any]]
    at: int
    detected_at: int
    cause: Cause
    version: int
    repeats: Repeated | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class Waiting(msgspec.Struct, gc=False):
    """`rows` is how many rows it weighs, `arrived` when it, or what it supersedes, came (monotonic seconds)."""

    offset: int
    profile: str
    packed: bytes
    arrived: float
    rows: int

    @classmethod
    def of(cls, offset: int, delta: MembershipDelta, destination: str, arrived: float) -> Waiting:
        """Of a delta that has an entry for the destination."""
        rows = delta.rows[destination]
        kept = _Kept(
            delta.audience,
            delta.change,
            delta.sequence,
            [{key: _shorter(cell) for key, cell in row.items()} for row in rows],
            delta.at,
            delta.detected_at,
            delta.cause,
            delta.version,
            None if delta.repeats is msgspec.UNSET else delta.repeats,
        )
        # A delta with an empty list of rows has nothing to send, but it takes its place and moves the cursor.
        return cls(offset, delta.profile, _encode(kept), arrived, max(1, len(rows)))

    def delta(self, destination: str) -> MembershipDelta:
        """The delta as it came, less what other destinations are sent."""
        kept = _decode(self.packed)
        return MembershipDelta(
            kept.audience,
            self.profile,
            kept.change,
            kept.sequence,
            {destination: [{key: _as_sent(cell) for key, cell in row.items()} for row in kept.rows]},
            kept.at,
            kept.detected_at,
            kept.cause,
            kept.version,
            msgspec.UNSET if kept.repeats is None else kept.repeats,
        )


def _shorter(cell: str | float) -> str | float | bytes:
    if type(cell) is str and len(cell) == _HASH_DIGITS:
        try:
            digest = bytes.fromhex(cell)
        except ValueError:
            return cell
        # Capital letters and blanks are no part of a hash, and would be lost.
        return digest if digest.hex() == cell else cell
    return cell


def _as_sent(cell: str | float | bytes) -> str | float:
    return cell.hex() if isinstance(cell, bytes) else cell
