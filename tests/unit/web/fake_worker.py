"""A worker's view made of plain values, which tests change before they ask."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.access_tokens import FacebookView
from app.domain.counters import Counters
from app.domain.reconciling import ReconcileView
from app.web.worker_view import DestinationView, WorkerView
from schemas.sync import DestinationState

# 2026-03-01T12:00:00Z
NOW = 1_772_366_400_000


@dataclass
class FixedClock:
    now: int = NOW

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        raise AssertionError("pages take no time from the monotonic clock")


@dataclass(frozen=True)
class Destination:
    audience: str = "vips"
    state: DestinationState = DestinationState.LIVE
    reason: str | None = None
    sent: int = 0
    rejected: int = 0
    pending: int = 0
    oldest_pending_at: int | None = None
    facebook_id: str | None = None
    lower_bound: int | None = None
    upper_bound: int | None = None
    last_sync_at: int | None = None
    ad_account_id: str | None = None
    operation: str | None = None
    delivery: str | None = None
    next_retry_at: int | None = None


@dataclass
class FakeWorker:
    """The parts of a WorkerView that a test sets."""

    counters: Counters = field(default_factory=Counters)
    audiences: list[str] = field(default_factory=list)
    destinations: dict[str, DestinationView] = field(default_factory=dict)
    lags: dict[str, int | None] = field(default_factory=dict)
    clock: int | None = None
    facebook: FacebookView = field(default_factory=lambda: FacebookView("v25.0"))
    reconcile: ReconcileView | None = None
    wall: FixedClock = field(default_factory=FixedClock)
    ready: bool = True

    def view(self) -> WorkerView:
        return WorkerView(
            counters=self.counters,
            audiences=lambda: self.audiences,
            destinations=lambda: self.destinations,
            lags=self.lags,
            clock=lambda: self.clock,
            wall=self.wall,
            facebook=lambda: self.facebook,
            reconcile=lambda: self.reconcile,
        )
