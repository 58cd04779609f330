"""`audience-sync audiences`: what is published, and publishing other definitions while workers run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from app.adapters.definition_files import read_definitions
from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_topics import TopicAdmin
from app.adapters.settings_options import room
from app.commands.audience_facebook import connect, create, list_at_facebook, test_record
from app.commands.audience_states import (
    control_of,
    known_state,
    pause,
    published_now,
    recorded_states,
    resume,
    resync,
)
from app.commands.audience_view import delivery_lines, destination_views
from app.domain.condition_words import describe_condition
from app.domain.conditions import compile_audiences
from app.domain.definitions import DefinitionSet, published_form
from app.domain.instants import format_instant
from app.domain.published import (
    Changes,
    Published,
    changes,
    cleared_by,
    definitions_of,
    to_apply,
)
from app.domain.reverse_etl import refuse_own_topics, row_topics
from app.errors import InvalidInputError
from app.settings import Settings, load_settings
from schemas.audience import AudienceDefinition
from schemas.control import DefinitionsRecord
from schemas.sync import SyncState

UNREACHABLE_SECONDS = 30.0
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")


@click.group(name="audiences")
def command() -> None:
    """See and change the audiences that workers run.

    What is published to the topic audience.control is what runs, in every worker and at once.
    """


command.add_command(pause)
command.add_command(resume)
command.add_command(resync)
command.add_command(connect)
command.add_command(create)
command.add_command(test_record)


@command.command(name="apply")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--allow-delete", is_flag=True, help="Delete what is published and not in the file.")
@_as_json
def apply(file: Path, allow_delete: bool, as_json: bool) -> None:
    """Publish the definitions of a file, or of a folder of them, as the whole set.

    Prints what is added, changed and removed. Workers that run take it up within seconds; for rows of a topic that
    they do not read yet they end, status 1, and read it once their supervisor has started them again. Status 2, and
    nothing is changed, when something published is missing in the file, unless deletions are allowed, and for a
    change that needs more of the past than has been kept.
    """
    settings = load_settings()
    definitions = _read(file, settings)
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    admin.ensure(settings.catalog.all())
    rows = row_topics(definitions.audiences, settings.source_topic)
    admin.require(tuple(map(settings.catalog.rows, rows)), rows)
    applied: DefinitionsRecord | None = None
    found = Changes((), (), ())

    def decide(published: Published) -> DefinitionsRecord | None:
        nonlocal applied, found
        now_ms, partitions = time.time_ns() // 1_000_000, settings.partitions
        applied = to_apply(published, definitions, partitions, now_ms, allow_delete=allow_delete)
        if applied is not None:
            found = changes(published.newest, applied.definitions)
        return applied

    newest = control_of(settings).publish(decide).newest
    version = applied.number if applied is not None else newest.number if newest is not None else 0
    _print_changes(found, version, published=applied is not None, as_json=as_json)


def _read(file: Path, settings: Settings) -> DefinitionSet:
    definitions = read_definitions(file, settings.profile_events)
    refuse_own_topics(definitions.audiences, settings.source_topic, settings.catalog.own_names)
    compile_audiences(definitions.audiences, definitions.traits, room=room(settings))
    for warning in definitions.warnings:
        click.echo(f"warning: {warning}", err=True)
    return definitions


def _print_changes(found: Changes, version: int, *, published: bool, as_json: bool) -> None:
    if as_json:
        result = {
            "version": version,
            "published": published,
            "added": found.added,
            "changed": found.changed,
            "removed": found.removed,
        }
        click.echo(json.dumps(result))
        return
    for what in ("added", "changed", "removed"):
        for key in getattr(found, what):
            click.echo(f"{what} {key}")
    click.echo(f"published as version {version}" if published else f"version {version} is the same already")


@command.command(name="list")
@click.option(
    "--facebook",
    "at_facebook",
    is_flag=True,
    help="List all audiences of the ad accounts at Facebook instead.",
)
@_as_json
def list_audiences(at_facebook: bool, as_json: bool) -> int:
    """List the published audiences with their destinations, and say which partitions still run by an older version.

    With --facebook: everything the ad accounts have, with sizes on both sides, availability and destinations. Status 1
    when Facebook refuses an account.
    """
    settings = load_settings()
    published = published_now(settings)
    if at_facebook:
        return list_at_facebook(settings, published, as_json=as_json)
    _list_published(settings, published, as_json=as_json)
    return 0


def _list_published(settings: Settings, published: Published, *, as_json: bool) -> None:
    newest = published.newest
    audiences = [] if newest is None else _listed(newest, published, recorded_states(settings))
    running = dict(sorted(published.running.items()))
    if as_json:
        result = {
            "version": None if newest is None else newest.number,
            "published_at": None if newest is None else format_instant(newest.published_at),
            "filling": sorted(published.filled) if published.is_filling(settings.partitions) else [],
            "running": {str(number): version for number, version in running.items()},
            "audiences": audiences,
        }
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for audience in audiences:
        states = [f"{id_} {known['state']}" for id_, known in audience["delivery"].items()]
        destinations = ", ".join(states) or "delivered nowhere"
        click.echo(f"{audience['key']} ({audience['name']}), {audience['state']} [{destinations}]")
    if newest is None:
        click.echo("nothing is published yet", err=True)
        return
    if published.is_filling(settings.partitions):
        filled = ", ".join(sorted(published.filled))
        click.echo(f"version {newest.number} is being filled from history: {filled}", err=True)
    late = [str(number) for number, version in running.items() if version < newest.number]
    if late:
        click.echo(f"version {newest.number} is not taken up yet by partitions {', '.join(late)}", err=True)


def _listed(
    newest: DefinitionsRecord, published: Published, states: dict[str, SyncState]
) -> list[dict[str, Any]]:
    named = ", named by a call of Engage"
    defined = [
        (
            audience,
            ("enabled" if audience.enabled else "not enabled")
            + (named if audience.key in newest.created else ""),
        )
        for audience in definitions_of(newest).audiences
    ]
    cleared = [(audience, "deleted, its Facebook audience is emptied") for audience in cleared_by(newest)]
    return [
        {
            "key": audience.key,
            "name": audience.name,
            "source": audience.source.value,
            "state": state,
            "destinations": [destination.id for destination in audience.destinations],
            "delivery": {
                destination.id: known_state(published, states, audience.key, destination.id)
                for destination in audience.destinations
            },
        }
        for audience, state in (*defined, *cleared)
    ]


@command.command(name="show")
@click.argument("key")
@click.option(
    "--no-members", "without_members", is_flag=True, help="Do not count members, which reads a topic."
)
@_as_json
def show(key: str, without_members: bool, as_json: bool) -> None:
    """Show one published audience, and where it is delivered to.

    Of each destination: state and reason, the next retry, the last sync, members and by which keys they are sent, what
    Facebook says of its audience and why that may be less, what it has been before, and rows by the hour.
    """
    settings = load_settings()
    published = published_now(settings)
    published.refuse_half_moved()
    newest = published.newest
    audiences = () if newest is None else (*definitions_of(newest).audiences, *cleared_by(newest))
    audience = next((audience for audience in audiences if audience.key == key), None)
    if audience is None:
        raise InvalidInputError(f"no audience with the key {key} is published")
    states = recorded_states(settings)
    views = destination_views(settings, published, states, audience, count=not without_members)
    if as_json:
        click.echo(json.dumps({**published_form(audience), "delivery": views}, ensure_ascii=False))
        return
    for name, text in (*_shown(audience), *delivery_lines(views)):
        click.echo(f"{name}: {text}")


def _shown(audience: AudienceDefinition) -> list[tuple[str, str]]:
    lines = [("key", audience.key), ("name", audience.name), ("source", audience.source.value)]
    if audience.when is not None:
        lines.append(("when", describe_condition(audience.when)))
    if audience.require is not None:
        lines.append(("require", describe_condition(audience.require)))
    lines.append(("enabled", "yes" if audience.enabled else "no"))
    return lines
