"""`audience-sync events`: which events and properties the source topic has, without their values."""

from __future__ import annotations

import json
from typing import Any

import click

from app.adapters.kafka_connection import kafka_connection
from app.adapters.source_survey import SourceTopic
from app.domain.event_survey import as_document
from app.settings import load_settings

UNREACHABLE_SECONDS = 30.0
DEFAULT_RECORDS = 10_000
MOST_RECORDS = 1_000_000


@click.command(name="events")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(1, MOST_RECORDS),
    default=DEFAULT_RECORDS,
    show_default=True,
    help="Read the newest N records, over all partitions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def command(last: int, as_json: bool) -> None:
    """List the events of the source topic, and the paths and types of their properties.

    Behind each path stands in how many of the event's calls it is. No value is shown, and names that look like an
    identifier are masked. Traits of identify calls and the context of all calls follow.
    """
    settings = load_settings()
    source = SourceTopic(kafka_connection(settings), settings.catalog.source, UNREACHABLE_SECONDS)
    document = as_document(source.survey(last))
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for line in _lines(document):
        click.echo(line)


def _lines(document: dict[str, Any]) -> list[str]:
    types = ", ".join(f"{kind} {count:,}" for kind, count in document["types"].items())
    lines = [f"{document['records']:,} records{': ' if types else ''}{types}"]
    if document["unreadable"]:
        lines.append(f"{document['unreadable']:,} of them are no calls")
    for event in document["events"]:
        lines += [f"{event['event']}: {event['count']:,}", *_paths(event)]
    if document["more_events"]:
        lines.append("... and more events")
    for name, what in (("traits", "traits of identify calls"), ("context", "context")):
        if document[name]["properties"]:
            lines += [f"{what}: {document[name]['count']:,}", *_paths(document[name])]
    return lines


def _paths(seen: dict[str, Any]) -> list[str]:
    lines = [f"  {one['path']}  {one['share']:.1%}  {', '.join(one['types'])}" for one in seen["properties"]]
    return [*lines, "  ... and more"] if seen["more_properties"] else lines
