"""The results as tables, and as JSON."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.bench.audiences import FEW, MANY, TARGET_RATIO
from tests.bench.due import TARGET_MS
from tests.bench.latency import TARGET_P50_MS
from tests.bench.recovery import TARGET_TAKEOVER_SECONDS
from tests.bench.throughput import FAUST, LOOP, TARGET_OF_FAUST, TARGET_OF_LOOP, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.audiences import Audiences
    from tests.bench.due import Due
    from tests.bench.latency import Latency
    from tests.bench.memory import Memory
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
        "takeover_seconds": {
            "values": [round(seconds, 3) for seconds in result.takeover_seconds],
            "target": TARGET_TAKEOVER_SECONDS,
            "met": max(result.takeover_seconds) <= TARGET_TAKEOVER_SECONDS,
        },
    }


def audiences_json(result: Audiences) -> dict[str, Any]:
    return {
        "events": result.events,
        f"cpu_seconds_with_{FEW}": [round(seconds, 3) for seconds in result.few_seconds],
        f"cpu_seconds_with_{MANY}": [round(seconds, 3) for seconds in result.many_seconds],
        "ratio": {
            "value": round(result.ratio, 3),
            "target": TARGET_RATIO,
            "met": result.ratio >= TARGET_RATIO,
        },
    }


def due_json(result: Due) -> dict[str, Any]:
    return {
        "people": len(result.milliseconds),
        **{f"p{percent:.0f}_ms": round(result.percentile(percent), 1) for percent in (50, 99)},
        "max_ms": round(max(result.milliseconds), 1),
        "target_max_ms": TARGET_MS,
        "met": result.met,
    }


def memory_json(result: Memory) -> dict[str, Any]:
    return {
        "people": result.people,
        "profiles": result.profiles,
        "rss_before_bytes": result.rss_before_bytes,
        "rss_after_bytes": result.rss_after_bytes,
        "bytes_per_person": round(result.bytes_per_person),
        "encoded_bytes_per_person": round(result.encoded_bytes / result.people),
        "target_rss_bytes": round(result.target_bytes),
        "met": result.met,
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
        f"loading alone {result.records_per_second:,.0f} records/s; "
        f"the partitions of a killed worker served again after at most {max(result.takeover_seconds):.2f} s "
        f"(target: at most {TARGET_TAKEOVER_SECONDS:g} s): "
        f"{verdict(met=max(result.takeover_seconds) <= TARGET_TAKEOVER_SECONDS)}"
    )


def print_audiences(console: Console, result: Audiences) -> None:
    met = verdict(met=result.ratio >= TARGET_RATIO)
    few, many = (
        median(seconds) / result.events * 1e6 for seconds in (result.few_seconds, result.many_seconds)
    )
    console.print(
        f"\nAudiences: {few:.1f} µs of CPU for a call with {FEW} defined, {many:.1f} µs with {MANY:,}: "
        f"{result.ratio:.2f} of the throughput (target: at least {TARGET_RATIO:g}): {met}"
    )


def print_due(console: Console, result: Due) -> None:
    console.print(
        f"\nFrom the end of a window to the visible exit, {len(result.milliseconds):,} people: "
        f"p50 {result.percentile(50):.0f} ms, p99 {result.percentile(99):.0f} ms, "
        f"at most {max(result.milliseconds):.0f} ms (target: at most {TARGET_MS:,.0f} ms): "
        f"{verdict(met=result.met)}"
    )


def print_memory(console: Console, result: Memory) -> None:
    console.print(
        f"\nMemory of {result.people:,} people, {result.profiles:,} profiles: "
        f"{result.rss_after_bytes / 1e6:.0f} MB resident, {result.rss_before_bytes / 1e6:.0f} MB of them the code; "
        f"{result.bytes_per_person:.0f} bytes for each person "
        f"(target: at most {result.target_bytes / 1e6:.0f} MB): {verdict(met=result.met)}"
    )


def _figure(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(median(known), form) if known else "-"
