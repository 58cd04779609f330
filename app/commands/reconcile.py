"""`audience-sync reconcile`: whether everything that is known of members agrees, and what repairs it where not."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import click

from app.adapters.clock import SystemClock
from app.adapters.facebook_connection import facebook_graph
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_tallies import TallyReader
from app.adapters.kafka_topics import TopicAdmin
from app.commands.audience_states import known_state, published_now, recorded_states
from app.commands.tables import print_table
from app.domain.delivery import GraphRefusal
from app.domain.published import Published, cleared_by, definitions_of
from app.domain.reconciling import (
    AudienceFinding,
    AudienceTally,
    Bounds,
    compare_audience,
    compare_destination,
)
from app.domain.state import PartitionRecord
from app.errors import AudienceSyncError, InvalidInputError
from app.settings import Settings, load_settings
from schemas.audience import AudienceDefinition
from schemas.dead_letter import DeadLetter
from schemas.sync import DestinationState, SyncState

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
    """Everything is read once, cursors first: what is confirmed meanwhile only looks younger than it is."""
    if not audiences:
        return []
    reader = LogReader(kafka_connection(settings))
    states = recorded_states(settings)
    tallies = {
        audience.key: AudienceTally({d.id: _cursor(states.get(d.id)) for d in audience.destinations})
        for audience in audiences
    }
    records = TallyReader(reader, settings.catalog, settings.partitions, published.set_aside).read(tallies)
    letters = _waiting_letters(reader, settings)
    bounds = asyncio.run(_bounds(settings, audiences, states))
    unsettled = _unsettled(published, records, settings.partitions)
    counted: Counter[str] = Counter()
    for record in records:
        counted.update(record.members)
    now_ms = time.time_ns() // 1_000_000
    findings = []
    for audience in audiences:
        tally = tallies[audience.key]
        destinations = tuple(
            compare_destination(
                d.id,
                tally.destinations[d.id],
                states.get(d.id),
                _shown(published, states, audience.key, d.id),
                letters[d.id],
                bounds.get(d.id, Bounds()),
                connected=d.audience_id is not None,
                now_ms=now_ms,
                batch_ms=round(settings.batch_seconds * 1_000),
            )
            for d in audience.destinations
        )
        findings.append(compare_audience(audience, counted[audience.key], tally, unsettled, destinations))
    return findings


def _cursor(state: SyncState | None) -> int:
    return 0 if state is None else state.cursor


def _shown(
    published: Published, states: dict[str, SyncState], audience: str, destination: str
) -> tuple[DestinationState, str | None]:
    known = known_state(published, states, audience, destination)
    return DestinationState(known["state"]), known["reason"]


def _waiting_letters(reader: LogReader, settings: Settings) -> Counter[str]:
    """By destination, the rows that Facebook has refused and nobody has seen to."""

    def waits(letter: DeadLetter) -> bool:
        return letter.stage == "deliver" and letter.resolved is None and letter.destination is not None

    topic = settings.catalog.dead_letters.name
    found = newest_letters(reader, topic, settings.partitions, waits).letters
    return Counter(letter.destination or "" for letter in found)


def _unsettled(published: Published, records: list[PartitionRecord], partitions: int) -> str | None:
    newest = published.newest
    number = 0 if newest is None else newest.number
    late = [str(p) for p in range(partitions) if published.running.get(p, 0) < number]
    if late:
        return f"version {number} is not taken up yet by partitions {', '.join(late)}"
    if published.is_filling(partitions):
        return f"version {number} is being filled from history"
    return "profiles are being gone over" if any(not record.plan for record in records) else None


async def _bounds(
    settings: Settings, audiences: list[AudienceDefinition], states: dict[str, SyncState]
) -> dict[str, Bounds]:
    ids = [d.id for audience in audiences for d in audience.destinations]
    known = {id_: state for id_ in ids if (state := states.get(id_)) is not None and state.facebook_id}
    found = {id_: Bounds(state.lower_bound, state.upper_bound) for id_, state in known.items()}
    if settings.facebook_access_token is None or not known:
        return found
    async with facebook_graph(settings, SystemClock(), FACEBOOK_SECONDS) as graph:
        for id_, state in known.items():
            try:
                status = await graph.read_audience(state.facebook_id or "")
            except GraphRefusal as error:
                found[id_] = Bounds(asked=True, refused=str(error).splitlines()[0])
            except AudienceSyncError as error:
                click.echo(f"Facebook was not asked: {error}; its bounds are those last recorded", err=True)
                break
            else:
                found[id_] = Bounds(status.lower_bound, status.upper_bound, asked=True)
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
