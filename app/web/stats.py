"""/stats: what this worker has done since it started and where it stands, as one JSON object.

Beside the fields that every version has, there are:
    clock_lag_seconds   how far the slowest clock of profile.events is behind the wall; null: unknown
    unknown_audiences   Engage calls for audiences nobody defined, see `Stats._unknown_audiences`
    left_blank          fields of calls that say nothing that could be sent: by column, by reason
    unknown_errors      answers of Facebook with an error that nobody has described, by code/subcode
    forgotten           message ids and events given up, and values cut off, because a profile or a call outgrew its bounds
    destinations        also ad_account_id, operation and delivery (Facebook's status of the audience, in its words), and
                        next_retry_at: when what went wrong is tried again, null where nothing did
    backfill            by partition that is read again for new audiences (the number of the source topic's; those of rows
                        as TOPIC/NUMBER): offsets, all below `read` of `end`
    facebook            the API's version, what Facebook said of the access token at `checked_at` (null: not asked
                        yet, and `expires_at` null in a valid one: never ends), and warnings for a person
    reconcile           of the worker that looks whether everything agrees, otherwise null: `checked_at` (null: not yet),
                        how many `audiences` and how many of them differ, `differing` by audience or destination, and
                        `trouble`: why the newest look came to nothing, or Facebook was not asked
    worker              ready, version, clock (the slowest one, as text), memory_bytes (null where unknown)
Instants are ISO 8601 in UTC with Z, milliseconds only when they are not zero, as everywhere else.
"""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.domain.access_tokens import FacebookView
from app.domain.counters import MAX_UNKNOWN_AUDIENCE_LENGTH, STAGES, AudienceCounters
from app.domain.instants import format_instant
from app.domain.reconciling import ReconcileView
from app.web.worker_view import DestinationView, WorkerView, displayable, installed_version

RATE_SECONDS = 10.0
UNKNOWN_AUDIENCES_SHOWN = 100
_RESIDENT_PAGES = Path("/proc/self/statm")


class RecordRates:
    """Records per second of each stage over the last RATE_SECONDS, from samples of what has been counted.

    The rate is measured from the newest sample that is at least that old, so the span is longer by less than one
    interval between samples; shortly after the start it is what there is.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def sample(self, now: float, counted: Mapping[str, int]) -> None:
        """`now` in monotonic seconds; a time not after the last sample's is ignored."""
        samples = self._samples
        if samples and now <= samples[-1][0]:
            return
        samples.append((now, dict(counted)))
        while len(samples) > 1 and samples[1][0] <= now - RATE_SECONDS:
            samples.popleft()

    def rate(self, stage: str) -> float | None:
        """As of the last sample; None before the second one."""
        if len(self._samples) < 2:  # noqa: PLR2004 - a rate lies between two points
            return None
        (since, first), (until, last) = self._samples[0], self._samples[-1]
        return round((last[stage] - first[stage]) / (until - since), 3)


class Stats:
    """Assembles the object; `sample` is to be called about once a second."""

    def __init__(self, worker: WorkerView) -> None:
        self.worker = worker
        self._rates = RecordRates()
        self._version = installed_version()

    def sample(self, monotonic: float) -> None:
        """Note what has been counted by now, in monotonic seconds."""
        stages = self.worker.counters.stages
        self._rates.sample(monotonic, {name: stages[name].records_in for name in STAGES})

    def document(self, *, ready: bool) -> dict[str, Any]:
        """The object as of now. Destinations that another worker owns are not in it."""
        worker = self.worker
        clock = worker.clock()
        return {
            "stages": {name: self._stage(name) for name in STAGES},
            "audiences": {
                key: self._audience(key, views) for key, views in worker.destinations_by_audience().items()
            },
            "dead_letters": _by_name(worker.counters.dead_letters),
            "clock_lag_seconds": worker.seconds_since(clock),
            "unknown_audiences": self._unknown_audiences(),
            "unknown_errors": dict(worker.counters.unknown_errors),
            "blocked_identifiers": worker.counters.blocked_identifiers,
            "left_blank": self._left_blank(),
            "forgotten": {
                "message_ids": worker.counters.forgotten_ids,
                "events": worker.counters.forgotten_events,
                "values": worker.counters.cuts.number,
            },
            "backfill": {
                partition: {"read": progress.read, "end": progress.end}
                for partition, progress in worker.backfill().items()
            },
            "facebook": _facebook(worker.facebook()),
            "reconcile": _reconcile(worker.reconcile()),
            "worker": {
                "ready": ready,
                "version": self._version,
                "clock": _instant(clock),
                "memory_bytes": _resident_bytes(),
            },
        }

    def _stage(self, name: str) -> dict[str, Any]:
        stage = self.worker.counters.stages[name]
        return {
            "in": stage.records_in,
            "out": stage.records_out,
            "dropped": _by_name(stage.dropped),
            "dead": stage.dead,
            "rate": self._rates.rate(name),
            "lag": self.worker.lags.get(name),
        }

    def _audience(self, key: str, views: Mapping[str, DestinationView]) -> dict[str, Any]:
        counted = self.worker.counters.audiences.get(key) or AudienceCounters()
        return {
            "members": counted.members,
            "entered": counted.entered,
            "exited": counted.exited,
            "destinations": [self._destination(identifier, view) for identifier, view in views.items()],
        }

    def _destination(self, identifier: str, view: DestinationView) -> dict[str, Any]:
        return {
            "id": identifier,
            "state": str(view.state),
            "reason": _text(view.reason),
            "sent": view.sent,
            "rejected": view.rejected,
            "pending": view.pending,
            "oldest_pending_seconds": self.worker.seconds_since(view.oldest_pending_at),
            "facebook_id": view.facebook_id,
            "lower_bound": view.lower_bound,
            "upper_bound": view.upper_bound,
            "last_sync_at": _instant(view.last_sync_at),
            "ad_account_id": view.ad_account_id,
            "operation": _text(view.operation),
            "delivery": _text(view.delivery),
            "next_retry_at": _instant(view.next_retry_at),
        }

    def _left_blank(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (column, why), number in sorted(self.worker.counters.left_blank.items()):
            found.setdefault(column, {})[why] = number
        return found

    def _unknown_audiences(self) -> dict[str, Any]:
        """Calls by computation key, the most frequent ones and no more than can be read; the others' sum."""
        counters = self.worker.counters
        shown: dict[str, int] = {}
        for key, calls in counters.unknown_audiences.most_common(UNKNOWN_AUDIENCES_SHOWN):
            name = displayable(key[:MAX_UNKNOWN_AUDIENCE_LENGTH])
            shown[name] = shown.get(name, 0) + calls
        all_calls = counters.unknown_audiences.total() + counters.other_unknown_audience_calls
        return {"calls": shown, "other_calls": all_calls - sum(shown.values())}


def _facebook(view: FacebookView) -> dict[str, Any]:
    token = view.token
    return {
        "version": view.version,
        "token": None
        if token is None
        else {
            "valid": token.valid,
            "kind": None if token.kind is None else displayable(token.kind),
            "app_id": token.app_id,
            "scopes": list(token.scopes),
            "expires_at": _instant(token.expires_at),
            "data_access_expires_at": _instant(token.data_access_expires_at),
            "checked_at": _instant(view.checked_at),
            "refreshed_at": _instant(view.refreshed_at),
        },
        "warnings": [displayable(text) for text in view.warnings],
    }


def _reconcile(view: ReconcileView | None) -> dict[str, Any] | None:
    if view is None:
        return None
    return {
        "checked_at": _instant(view.checked_at),
        "audiences": view.audiences,
        "differing_audiences": view.differing_audiences,
        "differing": {
            name: [
                {"kind": each.kind, "text": displayable(each.text), "repair": displayable(each.repair)}
                for each in differences
            ]
            for name, differences in view.differing
        },
        "trouble": _text(view.trouble),
    }


def _by_name(counted: Mapping[str, int]) -> dict[str, int]:
    # Reasons are raised as members of an enumeration, which JSON does not take as keys.
    return {str(name): number for name, number in counted.items()}


def _text(text: str | None) -> str | None:
    return None if text is None else displayable(text)


def _instant(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _resident_bytes() -> int | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        pages = int(_RESIDENT_PAGES.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
