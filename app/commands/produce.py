"""`audience-sync produce`: send a file of events to the source topic."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click
import orjson

from app.adapters.kafka_client import DurableProducer, reachable
from app.adapters.kafka_connection import kafka_connection
from app.errors import InvalidInputError
from app.settings import load_settings

UNREACHABLE_SECONDS = 30.0


@click.command(name="produce")
@click.argument("file", type=click.File("rb"))
@click.option("--topic", help="Topic to write to; default: the source topic of the settings.")
@click.option(
    "--partition-by",
    type=click.Choice(["userId", "none"]),
    default="userId",
    show_default=True,
    help="Key of the records: the call's userId (else its anonymousId), or no key.",
)
def command(file: BinaryIO, topic: str | None, partition_by: str) -> None:
    """Send FILE (`-`: standard input), one event a line, as it is; print how many records Kafka has acknowledged.

    Lines are not checked: what is wrong with one ends up in dead.letters. Empty lines are skipped.
    """
    settings = load_settings()
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    topic = topic or settings.source_topic
    producer = DurableProducer(kafka_connection(settings), linger_ms=20)
    _require_topic(producer, topic, ours=topic in {spec.name for spec in settings.catalog.all()})
    count = 0
    for line in file:
        event = line.rstrip(b"\r\n")
        if event.strip():
            producer.produce(topic, event, _key(event) if partition_by == "userId" else None)
            count += 1
    producer.flush()
    click.echo(count)
    if sys.stderr.isatty():
        click.echo(f"records acknowledged in {topic}", err=True)


def _require_topic(producer: DurableProducer, topic: str, *, ours: bool) -> None:
    if not producer.topic_exists(topic):
        means = "`audience-sync topics`" if ours else "Kafka's own tools"
        raise InvalidInputError(f"there is no topic {topic}: create it with {means}, or name another")


def _key(event: bytes) -> bytes | None:
    try:
        call = orjson.loads(event)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(call, dict):
        return None
    identifier = call.get("userId") or call.get("anonymousId")
    return identifier.encode("utf-8", "surrogatepass") if isinstance(identifier, str) else None
