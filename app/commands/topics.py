"""`audience-sync topics`: create the topics, show how they are laid out, and change their number of partitions."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_control import KafkaControl
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_repartition import Repartition
from app.adapters.kafka_topics import TopicAdmin
from app.commands.tables import print_table
from app.settings import load_settings

UNREACHABLE_SECONDS = 30.0


@click.group(name="topics", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of a table.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Create the topics that do not exist yet and show all of them in flow order.

    Refuses, with status 2, when an existing topic has another number of partitions than configured.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("give --json behind the subcommand")
        return
    settings = load_settings()
    connection = kafka_connection(settings)
    reachable(connection, UNREACHABLE_SECONDS)
    admin = TopicAdmin(connection, settings.partitions, settings.replication_factor)
    control = KafkaControl(LogReader(connection), connection, settings.catalog, settings.partitions)
    control.require_whole(admin)
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
    if as_json:
        click.echo(json.dumps(rows))
        return
    shown = ("topic", "partitions", "cleanup", "key", "value")
    cells = [(*(str(row[name]) for name in shown), "created" if row["created"] else "") for row in rows]
    print_table((*shown, ""), cells)


@command.command()
@click.option(
    "--partitions",
    required=True,
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="How many each of our topics is to have.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def repartition(partitions: int, as_json: bool) -> None:
    """Give our topics N partitions, more or fewer; every membership, cursor and dead letter stays.

    Stop all workers first, and start them again with AUDIENCE_SYNC_PARTITIONS=N afterwards: in between they refuse to
    start. Broken off at any moment, it is to be run again with the same N; as long as it copies, giving the number that
    there is gives it up. Nobody may write to our topics meanwhile; the source topic is not touched.

    Status 2 while a worker runs, or when workers have to finish something first; 1 when Kafka refuses a step, and it is
    to be run again.
    """
    settings = load_settings()
    connection = kafka_connection(settings)
    reachable(connection, UNREACHABLE_SECONDS)

    def report(text: str) -> None:
        click.echo(text, err=True)

    done = Repartition(connection, settings.catalog, report).run(partitions)
    if as_json:
        moved = None if done is None or done.moved is None else asdict(done.moved)
        before = partitions if done is None else done.before
        click.echo(json.dumps({"before": before, "after": partitions, "moved": moved}))
        return
    if done is None:
        click.echo(f"the topics have {partitions} partitions")
        return
    click.echo(f"{done.before} partitions are {done.after} now")
    if done.moved is not None:
        shown = ", ".join(f"{count:,} {name}" for name, count in asdict(done.moved).items())
        click.echo(f"moved: {shown}")
    click.echo(f"set AUDIENCE_SYNC_PARTITIONS={done.after} everywhere and start the workers")
