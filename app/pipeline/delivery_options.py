"""What delivery is told, and what it shows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from app.domain.batching import BatchPolicy
from app.domain.brake import BrakePolicy
from app.domain.counters import Counters, DestinationCounters
from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.scope_gates import ScopeGates
from app.pipeline.permits import Permits
from app.ports import (
    REQUEST_TIMEOUT_SECONDS,
    DeadLetterSink,
    GraphApi,
    Liveness,
    MembershipLog,
    SyncLedger,
    Timer,
)
from schemas.sync import DestinationState, SyncState


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """`installation` names this system in the descriptions of the audiences it creates: two installations on one
    ad account must differ, and a restart must not change it. `ad_account_id` and `data_use` are for definitions without.
    `max_pending_rows` None: three batches. `dry_run` holds for all destinations. All times are seconds.
    """

    installation: str
    ad_account_id: str | None = None
    data_use: DataUse = NOTHING_SAID
    dry_run: bool = False
    batch_rows: int = 10_000
    batch_seconds: float = 30.0
    max_pending_rows: int | None = None
    request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    in_flight: int = 4
    # So that one ad account whose calls hang does not take every place.
    in_flight_per_account: int = 2
    # Tries of a request in a row, then the destination is held and tried at these intervals.
    tries: int = 5
    outage_probe_seconds: float = 300.0
    person_probe_seconds: float = 300.0
    gone_probe_seconds: float = 3600.0
    # Requests refused for good in a row: more would drain the topic into dead letters after a bad change.
    rejected_requests: int = 3
    # A quiet destination writes its progress this often.
    progress_seconds: float = 30.0
    status_seconds: float = 1800.0
    status_after_sync_seconds: float = 60.0
    # While Facebook is at work on a replaced audience.
    replace_poll_seconds: float = 10.0
    liveness_poll_seconds: float = 0.5
    revoke_grace_seconds: float = 2.0
    brake: BrakePolicy = field(default_factory=BrakePolicy)

    @property
    def policy(self) -> BatchPolicy:
        most = self.max_pending_rows or 3 * self.batch_rows
        return BatchPolicy(self.batch_rows, self.batch_seconds, max(most, self.batch_rows))


@dataclass(frozen=True, slots=True)
class DestinationView:
    """One destination as /stats shows it; instants in epoch milliseconds.

    `sent` and `rejected` are rows since this worker started; `pending` are changes in memory that are not confirmed.
    """

    id: str
    audience: str
    state: DestinationState
    reason: str | None
    sent: int
    rejected: int
    pending: int
    oldest_pending_at: int | None
    facebook_id: str | None
    lower_bound: int | None
    upper_bound: int | None
    last_sync_at: int | None
    ad_account_id: str | None
    operation: str | None
    delivery: str | None
    next_retry_at: int | None

    @classmethod
    def of(
        cls,
        known: SyncState,
        counters: DestinationCounters,
        shown: tuple[DestinationState, str | None],
        failed_why: str | None,
        account: str | None,
        next_retry_at: int | None,
    ) -> Self:
        """Of the newest record, but for what has changed since it was written; `shown` are state and reason."""
        return cls(
            id=known.destination,
            audience=known.audience,
            state=shown[0],
            reason=shown[1] or failed_why,
            sent=counters.sent,
            rejected=counters.rejected,
            pending=counters.pending,
            oldest_pending_at=counters.oldest_pending_at,
            facebook_id=known.facebook_id,
            lower_bound=known.lower_bound,
            upper_bound=known.upper_bound,
            last_sync_at=known.last_sync_at,
            ad_account_id=account,
            operation=known.operation,
            delivery=known.delivery,
            next_retry_at=next_retry_at,
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """What all destinations of a worker have in common; `draw` gives random numbers, 0 <= x < 1."""

    graph: GraphApi
    ledger: SyncLedger
    letters: DeadLetterSink
    log: MembershipLog
    clock: Timer
    liveness: Liveness
    counters: Counters
    options: DeliveryOptions
    topic: str
    permits: Permits
    gates: ScopeGates = field(default_factory=ScopeGates)
    # Held while a brake looks through what was there before it.
    looking_through: asyncio.Lock = field(default_factory=asyncio.Lock)
    draw: Callable[[], float] = random.random
