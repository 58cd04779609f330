"""What a worker has counted since it started, for what it owns; the sum over workers is the cluster.

Plain numbers that the stages raise and that /stats and /metrics read; no locks, as all run on one event loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

STAGES = ("resolve", "evaluate", "expire", "batch", "deliver")


@dataclass(slots=True)
class StageCounters:
    """Records in and out; `dropped` by DropReason value; `dead` letters written."""

    records_in: int = 0
    records_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dead: int = 0


@dataclass(slots=True)
class AudienceCounters:
    """`members` is of the partitions owned now; `entered` and `exited` since the worker started."""

    members: int = 0
    entered: int = 0
    exited: int = 0


@dataclass(slots=True)
class DestinationCounters:
    """Rows, since the worker started; `pending` are changes known and not yet confirmed."""

    sent: int = 0
    rejected: int = 0
    pending: int = 0
    oldest_pending_at: int | None = None


@dataclass(slots=True)
class Counters:
    """All counters of a worker."""

    stages: dict[str, StageCounters] = field(default_factory=lambda: {name: StageCounters() for name in STAGES})
    audiences: dict[str, AudienceCounters] = field(default_factory=dict)
    destinations: dict[str, DestinationCounters] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    # Engage calls for audiences nobody defined: computation_key -> calls.
    unknown_audiences: Counter[str] = field(default_factory=Counter)
