"""`audience-sync reconcile`: whether everything that is known of members agrees, and what repairs it where not."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Any

import click

from app.adapters.clock import SystemClock
from app.adapters.facebook_connection import facebook_graph
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_reconcile import TopicReading
from app.adapters.kafka_topics import TopicAdmin
from app.commands.audience_states import published_now
from app.commands.tables import print_table
from app.domain.published import Published, cleared_by, definitions_of
from app.domain.reconciling import AudienceFinding, Bounds
from app.errors import InvalidInputError
from app.pipeline.reconcile import ask_bounds, recorded_bounds
from app.settings import Settings, load_settings
from schemas.audience import AudienceDefinition
from schemas.sync import SyncState

FACEBOOK_SECONDS = 20.0


@click.command(name="reconcile")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(keys: tuple[str, ...], as_json: bool) -> int:
    """Compare members by the state's counters, by audience.memberships, by what was confirmed, and Facebook's bounds.

    Of the audiences named, or of all. Each difference is shown with what it is likely to be and what repairs it. Nothing
    is changed; workers may run. Facebook is asked where a token is set, otherwise its bounds are those last recorded.
    Status 1 when something differs.
    """
    settings = load_settings()
    published = published_now(settings)
    published.refuse_half_moved()
    _require_topics(settings)
    audiences = _chosen(published, keys)
    if not audiences:
        click.echo("nothing is published yet", err=True)
    findings = examine(settings, published, audiences)
    agrees = all(finding.agrees for finding in findings)
    if as_json:
        newest = published.newest
        result = {"ok": agrees, "version": newest.number if newest else None}
        click.echo(json.dumps({**result, "audiences": [asdict(found) for found in findings]}))
    else:
        _print(findings)
    return int(not agrees)


def _require_topics(settings: Settings) -> None:
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    catalog = settings.catalog
    needed = (
        catalog.control,
        catalog.memberships,
        catalog.profiles_changelog,
        catalog.syncs,
        catalog.dead_letters,
    )
    layouts = admin.layouts(needed)
    for spec in needed:
        layout, wanted = layouts[spec.name], spec.partitions or settings.partitions
        if layout is None:
            raise InvalidInputError(
                f"the topic {spec.name} does not exist: `audience-sync topics` creates it"
            )
        if layout.partitions != wanted:
            raise InvalidInputError(
                f"{spec.name} has {layout.partitions} partitions and {wanted} are configured:"
                f" set AUDIENCE_SYNC_PARTITIONS={layout.partitions}"
            )


def _chosen(published: Published, keys: tuple[str, ...]) -> list[AudienceDefinition]:
    newest = published.newest
    known = (
        {} if newest is None else {a.key: a for a in (*definitions_of(newest).audiences, *cleared_by(newest))}
    )
    for key in keys:
        if key not in known:
            raise InvalidInputError(
                f"no audience with the key {key} is published: `audience-sync audiences list` names them"
            )
    return [audience for key, audience in known.items() if not keys or key in keys]


def examine(
    settings: Settings, published: Published, audiences: list[AudienceDefinition]
) -> list[AudienceFinding]:
    """See `TopicReading`."""
    if not audiences:
        return []
    reading = TopicReading(LogReader(kafka_connection(settings)), settings.catalog, settings.partitions)
    reading.read(published, audiences)
    bounds = asyncio.run(_bounds(settings, audiences, reading.states))
    batch_ms = round(settings.batch_seconds * 1_000)
    return reading.compare(bounds, time.time_ns() // 1_000_000, batch_ms)


async def _bounds(
    settings: Settings, audiences: list[AudienceDefinition], states: dict[str, SyncState]
) -> dict[str, Bounds]:
    found = recorded_bounds(audiences, states)
    if settings.facebook_access_token is None or not found:
        return found
    async with facebook_graph(settings, SystemClock(), FACEBOOK_SECONDS) as graph:
        found, trouble = await ask_bounds(graph, audiences, states)
    if trouble is not None:
        click.echo(trouble, err=True)
    return found


def _print(findings: list[AudienceFinding]) -> None:
    numbers = ("counted", "members", "told", "confirmed", "pending", "letters", "Facebook")
    rows = []
    for audience in findings:
        counts = [f"{audience.counted:,}", f"{audience.members:,}"]
        for found in audience.destinations:
            of_this = (found.told, found.confirmed, found.pending, found.dead_letters)
            same = "differs" if audience.differences or found.differences else "same"
            shown = [f"{number:,}" for number in of_this]
            rows.append((found.id, found.state, *counts, *shown, _as_text(found.bounds), same))
        if not audience.destinations:
            same = "same" if audience.agrees else "differs"
            rows.append((audience.audience, "not delivered", *counts, "", "", "", "", "", same))
    print_table(("destination", "state", *numbers, ""), rows, numbers=numbers)
    for name, differences in _differences(findings):
        for difference in differences:
            click.echo(f"{name}: {difference.text}")
            click.echo(f"  repair: {difference.repair}")


def _differences(findings: list[AudienceFinding]) -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for audience in findings:
        lines.append((audience.audience, audience.differences))
        lines += [(found.id, found.differences) for found in audience.destinations]
    return lines


def _as_text(bounds: Bounds) -> str:
    if bounds.refused is not None:
        return "refused"
    if bounds.lower is None or bounds.upper is None or bounds.lower < 0:
        return "not said"
    return f"{bounds.lower:,}-{bounds.upper:,}"
