"""`audience-sync topics`: create the topics and show how they are laid out."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_topics import TopicAdmin
from app.errors import InvalidInputError
from app.settings import load_settings

UNREACHABLE_SECONDS = 30.0


@click.command(name="topics")
@click.argument("action", required=False, metavar="")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(action: str | None, as_json: bool) -> None:
    """Create the topics that do not exist yet and show all of them in flow order.

    Refuses, with status 2, when an existing topic has another number of partitions than configured.
    """
    if action == "repartition":
        raise InvalidInputError(
            "`topics repartition` is not supported yet: the number of partitions is fixed"
        )
    if action is not None:
        raise click.UsageError(f"Got unexpected extra argument ({action})")
    settings = load_settings()
    reachable(kafka_connection(settings), UNREACHABLE_SECONDS)
    admin = TopicAdmin(kafka_connection(settings), settings.partitions, settings.replication_factor)
    specs = settings.catalog.all()
    created = admin.ensure(specs)
    layouts = admin.layouts(specs)
    rows = [
        {
            "topic": spec.name,
            "key": spec.key,
            "value": spec.value,
            "cleanup": spec.cleanup.value,
            "partitions": layout.partitions if (layout := layouts[spec.name]) is not None else None,
            "created": spec.name in created,
        }
        for spec in specs
    ]
    console = Console()
    if as_json:
        console.print_json(data=rows)
        return
    table = Table()
    table.add_column("topic", no_wrap=True)
    for heading in ("partitions", "cleanup", "key", "value", ""):
        table.add_column(heading)
    for row in rows:
        cells = [str(row[name]) for name in ("topic", "partitions", "cleanup", "key", "value")]
        table.add_row(*cells, "created" if row["created"] else "")
    console.print(table)
