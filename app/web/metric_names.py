"""Every metric of the worker, and the page of the documentation that lists them.

    python -m app.web.metric_names > docs/metrics.md

Names follow Prometheus: base units, `_total` on what only grows. Labels have few values: stages, reasons and states
are closed lists, audiences and destinations are those that are defined. Nothing that comes in with an event is one.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge"]
Label = Literal["stage", "reason", "audience", "destination", "state", "version"]


class Definition(NamedTuple):
    """`meaning` is what a reader of /metrics and of the documentation is told."""

    name: str
    kind: Kind
    labels: tuple[Label, ...]
    meaning: str


_DESTINATION: tuple[Label, ...] = ("audience", "destination")


class MetricName(Enum):
    """The closed set, in the order in which they are shown."""

    RECORDS_IN = Definition(
        "audience_sync_records_in_total", "counter", ("stage",), "Records that a stage has read."
    )
    RECORDS_OUT = Definition(
        "audience_sync_records_out_total", "counter", ("stage",), "Records that a stage has passed on."
    )
    DROPPED = Definition(
        "audience_sync_dropped_total",
        "counter",
        ("stage", "reason"),
        "Records that ended without effect, as intended.",
    )
    STAGE_DEAD_LETTERS = Definition(
        "audience_sync_stage_dead_letters_total",
        "counter",
        ("stage",),
        "Dead letters that a stage has written.",
    )
    DEAD_LETTERS = Definition(
        "audience_sync_dead_letters_total",
        "counter",
        ("reason",),
        "Dead letters written, over all stages; every reason is present from the start.",
    )
    LAG = Definition(
        "audience_sync_lag_records",
        "gauge",
        ("stage",),
        "Records that wait before a stage; missing while unknown.",
    )
    CLOCK_LAG = Definition(
        "audience_sync_clock_lag_seconds",
        "gauge",
        (),
        "How far the slowest clock of profile.events is behind the wall: exits are late by as much; missing while"
        " unknown.",
    )
    MEMBERS = Definition(
        "audience_sync_members",
        "gauge",
        ("audience",),
        "Members whose profiles this worker owns; the sum over workers is the audience.",
    )
    ENTERED = Definition(
        "audience_sync_entered_total", "counter", ("audience",), "Profiles that have entered the audience."
    )
    EXITED = Definition(
        "audience_sync_exited_total", "counter", ("audience",), "Profiles that have left the audience."
    )
    DESTINATION_STATE = Definition(
        "audience_sync_destination_state",
        "gauge",
        (*_DESTINATION, "state"),
        "1 for the state that the destination is in, 0 for the others.",
    )
    DESTINATION_SENT = Definition(
        "audience_sync_destination_rows_sent_total",
        "counter",
        _DESTINATION,
        "Rows, to add or to remove, that Facebook has accepted.",
    )
    DESTINATION_REJECTED = Definition(
        "audience_sync_destination_rows_rejected_total",
        "counter",
        _DESTINATION,
        "Rows, to add or to remove, that Facebook has refused.",
    )
    DESTINATION_PENDING = Definition(
        "audience_sync_destination_pending",
        "gauge",
        _DESTINATION,
        "Changes that are known and not yet confirmed.",
    )
    DESTINATION_OLDEST_PENDING = Definition(
        "audience_sync_destination_oldest_pending_seconds",
        "gauge",
        _DESTINATION,
        "How long the oldest pending change has waited; 0 when nothing waits.",
    )
    DESTINATION_LAST_SYNC = Definition(
        "audience_sync_destination_last_sync_timestamp_seconds",
        "gauge",
        _DESTINATION,
        "When Facebook last confirmed a batch, as Unix time; missing before the first one.",
    )
    DESTINATION_LOWER_BOUND = Definition(
        "audience_sync_destination_size_lower_bound",
        "gauge",
        _DESTINATION,
        "At least so many people are in the Facebook audience, as Facebook tells; missing while unknown.",
    )
    DESTINATION_UPPER_BOUND = Definition(
        "audience_sync_destination_size_upper_bound",
        "gauge",
        _DESTINATION,
        "At most so many people are in the Facebook audience, as Facebook tells; missing while unknown.",
    )
    TOKEN_VALID = Definition(
        "audience_sync_facebook_token_valid",
        "gauge",
        (),
        "1 while Facebook says that the access token is valid, else 0; missing before it was asked.",
    )
    TOKEN_EXPIRY = Definition(
        "audience_sync_facebook_token_expiry_timestamp_seconds",
        "gauge",
        (),
        "When the access token ends, as Unix time; missing for one that does not end, and while unknown.",
    )
    TOKEN_CHECKED = Definition(
        "audience_sync_facebook_token_check_timestamp_seconds",
        "gauge",
        (),
        "When Facebook was last asked about the access token, as Unix time.",
    )
    FACEBOOK_WARNINGS = Definition(
        "audience_sync_facebook_warnings",
        "gauge",
        (),
        "How many things about the access token and the API's version need a person; /stats says which.",
    )
    UNKNOWN_AUDIENCES = Definition(
        "audience_sync_unknown_audiences",
        "gauge",
        (),
        "Computation keys of Engage calls that no definition knows, 1,000 at most; /stats lists the most frequent ones.",
    )
    UNKNOWN_ERRORS = Definition(
        "audience_sync_unknown_errors_total",
        "counter",
        (),
        "Answers of Facebook with an error that nobody has described, and that get what is safe; /stats has them by code.",
    )
    BLOCKED_IDENTIFIERS = Definition(
        "audience_sync_blocked_identifiers_total",
        "counter",
        (),
        "Identifiers in calls that identify no one, as AUDIENCE_SYNC_BLOCKED_IDENTIFIERS says.",
    )
    FORGOTTEN_MESSAGE_IDS = Definition(
        "audience_sync_forgotten_message_ids_total",
        "counter",
        (),
        "Message ids that a profile had no more room for, before their 24 hours: a repetition may count again.",
    )
    FORGOTTEN_EVENTS = Definition(
        "audience_sync_forgotten_events_total",
        "counter",
        (),
        "Events that a condition asks for and a profile had no more room for: a membership may be wrong.",
    )
    CUT_VALUES = Definition(
        "audience_sync_cut_values_total",
        "counter",
        (),
        "Values that are compared later and were longer than there was room for: a membership may be wrong.",
    )
    RECONCILE_DIFFERING = Definition(
        "audience_sync_reconcile_differing_audiences",
        "gauge",
        (),
        "Audiences in which the last scheduled look found a difference; of the one worker that looks, missing before.",
    )
    RECONCILE_LAST = Definition(
        "audience_sync_reconcile_last_run_timestamp_seconds",
        "gauge",
        (),
        "When that look ended, as Unix time; of the one worker that looks, missing before.",
    )
    READY = Definition(
        "audience_sync_ready", "gauge", (), "1 while the worker processes, 0 while it starts or rebalances."
    )
    BUILD_INFO = Definition(
        "audience_sync_build_info", "gauge", ("version",), "Always 1; the label tells the version."
    )


# What the Prometheus client library adds about the process, on systems that have /proc.
PROCESS_METRICS = {
    "process_virtual_memory_bytes": "Virtual memory of the process.",
    "process_resident_memory_bytes": "Memory that the process holds.",
    "process_start_time_seconds": "When the process started, as Unix time.",
    "process_cpu_seconds_total": "Processor time that the process has used.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "The most file descriptors that it may open.",
}

_HEAD = """\
# Metrics

<!-- Written by `python -m app.web.metric_names`; a test compares. -->

`GET /metrics` answers in Prometheus' text format. Counters start at zero with the worker. Every number is of what this
worker owns: sum over the workers (`sum without (instance) (...)`) for the whole. A destination belongs to one worker
at a time and is missing from the others.

| metric | kind | labels | meaning |
|---|---|---|---|
"""
_PROCESS_HEAD = """
Of the process itself, where the system has `/proc`:

| metric | meaning |
|---|---|
"""


def page() -> str:
    """docs/metrics.md."""
    rows = [
        f"| `{d.name}` | {d.kind} | {', '.join(f'`{label}`' for label in d.labels)} | {d.meaning} |\n"
        for d in (metric.value for metric in MetricName)
    ]
    process_rows = [f"| `{name}` | {meaning} |\n" for name, meaning in PROCESS_METRICS.items()]
    return "".join([_HEAD, *rows, _PROCESS_HEAD, *process_rows])


if __name__ == "__main__":
    sys.stdout.write(page())
