"""`audience-sync kafka`: a single-node Apache Kafka in the foreground, without Docker."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from app.adapters.kafka_embedded import EmbeddedKafka


def _end_once(number: int, frame: object) -> NoReturn:
    """Ends the command in order, once: further signals must not cut the broker's shutdown short."""
    del frame
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(0)


@click.command("kafka")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1 (default: a free one).")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the topics for the next start (default: nothing is kept).",
)
def command(port: int | None, data: Path | None) -> None:
    """Run a single-node Apache Kafka in the foreground.

    The first line on stdout is the bootstrap address, printed once clients can use it. SIGTERM or Ctrl-C ends it.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end_once)
    with EmbeddedKafka(port, data, report=lambda line: click.echo(line, err=True)) as kafka:
        print(kafka.bootstrap_servers, flush=True)
        kafka.watch()
