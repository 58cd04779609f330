"""The results of deliveries as lines, and as JSON."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.facebook import (
    AUDIENCES,
    BATCH,
    DELIVERED,
    TARGET_BODIES,
    TARGET_DELIVERED,
    TARGET_OF_SDK,
    TARGET_REQUESTS,
    TARGET_WAITING_BYTES,
    WAITING_AUDIENCES,
)
from tests.bench.report import verdict

if TYPE_CHECKING:
    from rich.console import Console

    from tests.bench.facebook import Facebook


def facebook_json(result: Facebook) -> dict[str, Any]:
    bodies, delivered = median(result.bodies), result.delivered
    return {
        "hashed_rows_per_second": [round(rate) for rate in result.hashed],
        "hashed_rows_per_second_of_meta_sdk": [round(rate) for rate in result.hashed_by_sdk],
        "ratio_to_meta_sdk": _target(
            round(result.of_sdk, 2), TARGET_OF_SDK, met=result.of_sdk >= TARGET_OF_SDK
        ),
        "body_rows_per_second": _target(round(bodies), TARGET_BODIES, met=bodies >= TARGET_BODIES),
        "delivered_rows_per_second": {
            **_target(round(delivered.rate), TARGET_DELIVERED, met=delivered.rate >= TARGET_DELIVERED),
            "rows": DELIVERED,
            "cpu_seconds": round(delivered.cpu_seconds, 2),
        },
        "requests": {
            **_target(
                round(result.requests_of_full, 3),
                TARGET_REQUESTS,
                met=result.requests_of_full <= TARGET_REQUESTS,
            ),
            "number": delivered.requests,
        },
        "waiting_rss_bytes": {
            **_target(
                result.waiting_bytes, TARGET_WAITING_BYTES, met=result.waiting_bytes <= TARGET_WAITING_BYTES
            ),
            "before": result.before_bytes,
        },
    }


def _target(value: float, target: float, *, met: bool) -> dict[str, Any]:
    return {"value": value, "target": target, "met": met}


def print_facebook(console: Console, result: Facebook) -> None:
    ours, theirs, bodies = median(result.hashed), median(result.hashed_by_sdk), median(result.bodies)
    delivered = result.delivered
    console.print(
        f"\nRaw people to hashed rows: {ours:,.0f} rows/s, Meta's client {theirs:,.0f}: {result.of_sdk:.2f} times "
        f"(target: at least {TARGET_OF_SDK:g}): {verdict(met=result.of_sdk >= TARGET_OF_SDK)}"
    )
    console.print(
        f"Hashed rows to bodies of requests: {bodies:,.0f} rows/s (target: at least {TARGET_BODIES:,.0f}): "
        f"{verdict(met=bodies >= TARGET_BODIES)}"
    )
    console.print(
        f"Delivery of {DELIVERED:,} changes of {AUDIENCES} audiences: {delivered.rate:,.0f} rows/s, "
        f"{delivered.cpu_seconds * 1e6 / DELIVERED:.1f} µs of CPU for each "
        f"(target: at least {TARGET_DELIVERED:,.0f}): {verdict(met=delivered.rate >= TARGET_DELIVERED)}"
    )
    console.print(
        f"Requests for them: {delivered.requests}, {result.requests_of_full:.3f} times as many as full ones "
        f"(target: at most {TARGET_REQUESTS:g}): {verdict(met=result.requests_of_full <= TARGET_REQUESTS)}"
    )
    console.print(
        f"{WAITING_AUDIENCES} audiences with {BATCH:,} changes waiting for each: "
        f"{result.waiting_bytes / 1e6:.0f} MB resident, {result.before_bytes / 1e6:.0f} MB of them the code "
        f"(target: at most {TARGET_WAITING_BYTES / 1e6:.0f} MB): "
        f"{verdict(met=result.waiting_bytes <= TARGET_WAITING_BYTES)}"
    )
