"""What a worker has counted since it started, for what it owns; the sum over workers is the cluster.

Plain numbers that the stages raise and that /stats and /metrics read; no locks, as all run on one event loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from app.domain.room import Cuts

STAGES = ("resolve", "evaluate", "expire", "batch", "deliver")

# Computation keys come from outside: so many are told apart, and so many characters of each are kept.
MAX_UNKNOWN_AUDIENCES = 1_000
MAX_UNKNOWN_AUDIENCE_LENGTH = 200
# Codes of Facebook's errors come from outside, too.
MAX_UNKNOWN_ERRORS = 100
OTHER_ERRORS = "other"


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

    stages: dict[str, StageCounters] = field(
        default_factory=lambda: {name: StageCounters() for name in STAGES}
    )
    audiences: dict[str, AudienceCounters] = field(default_factory=dict)
    destinations: dict[str, DestinationCounters] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    # Message ids and events of profiles that outgrew their bounds, given up since the worker started.
    forgotten_ids: int = 0
    forgotten_events: int = 0
    # Values of calls that were cut off.
    cuts: Cuts = field(default_factory=Cuts)
    # Identifiers of calls that identify no one, as a setting says.
    blocked_identifiers: int = 0
    # Fields of calls that say nothing: (column, reason) -> how many, see `app.domain.left_blank`.
    left_blank: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Engage calls for audiences nobody defined: computation_key -> calls; written by `count_unknown_audience`.
    unknown_audiences: Counter[str] = field(default_factory=Counter)
    # Such calls whose keys found no room there.
    other_unknown_audience_calls: int = 0
    # Answers of Facebook whose error nobody has described: code/subcode -> answers; written by `count_unknown_error`.
    unknown_errors: Counter[str] = field(default_factory=Counter)

    def count_unknown_audience(self, computation_key: str) -> None:
        """One more Engage call for an audience nobody defined; takes bounded memory whatever the keys are."""
        key = computation_key[:MAX_UNKNOWN_AUDIENCE_LENGTH]
        if key in self.unknown_audiences or len(self.unknown_audiences) < MAX_UNKNOWN_AUDIENCES:
            self.unknown_audiences[key] += 1
        else:
            self.other_unknown_audience_calls += 1

    def count_unknown_error(self, code: str) -> bool:
        """One more answer with this error; whether it is the first one. Takes bounded memory."""
        if code not in self.unknown_errors and len(self.unknown_errors) >= MAX_UNKNOWN_ERRORS:
            code = OTHER_ERRORS
        self.unknown_errors[code] += 1
        return self.unknown_errors[code] == 1
