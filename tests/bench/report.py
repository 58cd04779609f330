"""The results as tables, and as JSON."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.bench.latency import TARGET_P50_MS
from tests.bench.throughput import FAUST, LOOP, TARGET_OF_FAUST, TARGET_OF_LOOP, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.latency import Latency
    from tests.bench.recovery import Recovery
    from tests.bench.throughput import Throughput

_MIB = 1 << 20
_PERCENTILES = (50.0, 95.0, 99.0)


def verdict(*, met: bool) -> str:
    return "met" if met else "missed"


def throughput_json(result: Throughput) -> dict[str, Any]:
    of_faust, of_loop = result.ratio(FAUST), result.ratio(LOOP)
    return {
        "systems": {
            system: [
                {
                    "events": run.events,
                    "seconds": round(run.seconds, 3),
                    "events_per_second": round(run.rate),
                    "cpu_seconds": run.cpu_seconds and round(run.cpu_seconds, 2),
                    "peak_rss_bytes": run.peak_rss_bytes,
                }
                for run in result.runs
                if run.system == system
            ]
            for system in (WORKER, LOOP, FAUST)
        },
        "ratio_to_stock_faust": {
            "value": round(of_faust, 2),
            "target": TARGET_OF_FAUST,
            "met": of_faust >= TARGET_OF_FAUST,
        },
        "ratio_to_loop": {
            "value": round(of_loop, 3),
            "target": TARGET_OF_LOOP,
            "met": of_loop >= TARGET_OF_LOOP,
        },
        "memberships_equal": True,
    }


def latency_json(result: Latency) -> dict[str, Any]:
    found = {f"p{percent:.0f}_ms": round(result.percentile(percent), 1) for percent in _PERCENTILES}
    met = result.percentile(50) < TARGET_P50_MS
    return {
        "events": len(result.milliseconds),
        **found,
        "max_ms": round(max(result.milliseconds), 1),
        "target_p50_ms": TARGET_P50_MS,
        "met": met,
    }


def recovery_json(result: Recovery) -> dict[str, Any]:
    return {
        "profiles": result.profiles,
        "changelog_records": result.records,
        "ready_seconds": [round(seconds, 3) for seconds in result.ready_seconds],
        "ready_seconds_without_state": [round(seconds, 3) for seconds in result.empty_seconds],
        "load_seconds": [round(seconds, 3) for seconds in result.load_seconds],
        "records_per_second": round(result.records_per_second),
    }


def print_throughput(console: Console, result: Throughput) -> None:
    table = Table(title="Throughput: from the first record to everything durable", title_justify="left")
    table.add_column("system")
    for name in ("events", "events/s", "min", "max", "CPU s per 100k", "peak RSS MiB"):
        table.add_column(name, justify="right")
    for system in (WORKER, LOOP, FAUST):
        runs = [run for run in result.runs if run.system == system]
        rates = [run.rate for run in runs]
        table.add_row(
            system,
            f"{runs[0].events:,}",
            *(f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))),
            _figure((run.cpu_seconds and run.cpu_seconds * 100_000 / run.events for run in runs), ".2f"),
            _figure((run.peak_rss_bytes and run.peak_rss_bytes / _MIB for run in runs), ".0f"),
        )
    console.print(table)
    for name, system, target in (
        ("times stock Faust", FAUST, TARGET_OF_FAUST),
        ("of the hand-written loop", LOOP, TARGET_OF_LOOP),
    ):
        ratio = result.ratio(system)
        console.print(f"{ratio:.2f} {name} (target: at least {target:g}): {verdict(met=ratio >= target)}")
    console.print("Memberships: those that the events make, in all systems and rounds")


def print_latency(console: Console, result: Latency) -> None:
    found = ", ".join(f"p{percent:.0f} {result.percentile(percent):.0f} ms" for percent in _PERCENTILES)
    met = verdict(met=result.percentile(50) < TARGET_P50_MS)
    console.print(
        f"\nLatency from event to visible membership, {len(result.milliseconds)} single events: {found} "
        f"(target: p50 under {TARGET_P50_MS:g} ms): {met}"
    )


def print_recovery(console: Console, result: Recovery) -> None:
    console.print(
        f"\nRecovery of {result.profiles:,} profiles from {result.records:,} changelog records: "
        f"ready {median(result.ready_seconds):.2f} s after the start of the process, "
        f"{median(result.empty_seconds):.2f} s with nothing to load; "
        f"loading alone {result.records_per_second:,.0f} records/s"
    )


def _figure(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(median(known), form) if known else "-"
