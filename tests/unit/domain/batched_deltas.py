"""A batcher with a small policy, and deltas for it."""

from __future__ import annotations

from app.domain.batching import Batch, Batcher, BatchPolicy
from schemas.membership import Cause, Change, MembershipDelta

DEST = "vips"
POLICY = BatchPolicy(max_rows=10, period=30.0, max_pending=30)


def delta(profile: str, change: Change = Change.ENTERED, rows: int = 1, sequence: int = 1) -> MembershipDelta:
    sent: list[dict[str, str | float]] = [{"EXTERN_ID": f"{profile}-{number}"} for number in range(rows)]
    return MembershipDelta(DEST, profile, change, sequence, {DEST: sent}, 0, 0, Cause.EVENT)


def batcher(
    cursor: int = 0, live_offset: int = 0, policy: BatchPolicy = POLICY, settle_end: int = 0
) -> Batcher:
    return Batcher(DEST, policy, cursor, live_offset, settle_end)


def profiles(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [change.profile for _, change in batch.changes]


def offer(to: Batcher, first: int, names: str, now: float = 0.0) -> int:
    """One delta per letter, from that offset on."""
    return to.offer([(first + i, delta(name)) for i, name in enumerate(names)], first + len(names), now)
