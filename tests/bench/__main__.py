"""`python -m tests.bench`: what it measures and what the figures mean is in docs/benchmarks.md.

Exit status: 0 measured, whether targets are met or missed; 1 a system computed a wrong membership or broke down;
2 usage; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import orjson
from confluent_kafka import KafkaException
from rich.console import Console

from app.adapters.kafka_client import kafka_reason
from app.adapters.kafka_embedded import EmbeddedKafka
from app.errors import AudienceSyncError
from tests.bench import facebook_report, report
from tests.bench.audiences import measure_audiences
from tests.bench.cluster import Cluster
from tests.bench.due import measure_due
from tests.bench.facebook import measure_facebook
from tests.bench.latency import measure_latency
from tests.bench.memory import PEOPLE, measure_memory
from tests.bench.recovery import measure_recovery
from tests.bench.throughput import ThroughputBench

PARTS = ("throughput", "latency", "recovery", "audiences", "due", "memory", "facebook")
USERS = 50_000
EVENTS = 400_000
# Stock Faust gets a tenth of the events: with all of them one round would take it minutes.
FAUST_SHARE = 10


def say(text: str) -> None:
    click.echo(text, err=True)


class Bench:
    """Runs the chosen parts on one broker and keeps their results, for people and as JSON."""

    def __init__(self, cluster: Cluster, folder: Path, events: int | None, rounds: int) -> None:
        self._cluster = cluster
        self._folder = folder
        self._events = events
        self._rounds = rounds
        self._console = Console(width=110, highlight=False)

    def run(self, part: str, *, as_json: bool) -> dict[str, Any]:
        measure = {
            "throughput": self._throughput,
            "latency": self._latency,
            "recovery": self._recovery,
            "audiences": self._audiences,
            "due": self._due,
            "memory": self._memory,
            "facebook": self._facebook,
        }
        return measure[part](as_json)

    def _throughput(self, as_json: bool) -> dict[str, Any]:
        events = self._events or EVENTS
        small = max(1, events // FAUST_SHARE)
        say(f"throughput: writing {events:,} events, and {small:,} for stock Faust")
        backlog = self._cluster.fill("throughput.events", events, USERS)
        small_backlog = self._cluster.fill("throughput.fewer-events", small, USERS)
        result = ThroughputBench(self._cluster, self._folder, backlog, small_backlog, say).run(self._rounds)
        self._cluster.delete("throughput.")
        if not as_json:
            report.print_throughput(self._console, result)
        return report.throughput_json(result)

    def _latency(self, as_json: bool) -> dict[str, Any]:
        result = measure_latency(self._cluster, self._folder, say)
        if not as_json:
            report.print_latency(self._console, result)
        return report.latency_json(result)

    def _recovery(self, as_json: bool) -> dict[str, Any]:
        result = measure_recovery(self._cluster, self._folder, self._rounds, self._events, say)
        if not as_json:
            report.print_recovery(self._console, result)
        return report.recovery_json(result)

    def _audiences(self, as_json: bool) -> dict[str, Any]:
        result = measure_audiences(self._rounds, say)
        if not as_json:
            report.print_audiences(self._console, result)
        return report.audiences_json(result)

    def _due(self, as_json: bool) -> dict[str, Any]:
        result = measure_due(self._cluster, self._folder, say)
        if not as_json:
            report.print_due(self._console, result)
        return report.due_json(result)

    def _memory(self, as_json: bool) -> dict[str, Any]:
        result = measure_memory(self._folder, PEOPLE, say)
        if not as_json:
            report.print_memory(self._console, result)
        return report.memory_json(result)

    def _facebook(self, as_json: bool) -> dict[str, Any]:
        result = measure_facebook(self._rounds, say)
        if not as_json:
            facebook_report.print_facebook(self._console, result)
        return facebook_report.facebook_json(result)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only this part; may be repeated."
)
@click.option("--events", type=click.IntRange(100), help=f"Events of a backlog; default {EVENTS:,}.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout in place of the tables.")
def command(parts: tuple[str, ...], events: int | None, rounds: int, as_json: bool) -> None:
    """Measure against an Apache Kafka of its own; all parts take some ten minutes."""
    with (
        tempfile.TemporaryDirectory(prefix="audience-sync-bench-") as folder,
        EmbeddedKafka(report=say) as kafka,
    ):
        bench = Bench(Cluster(kafka.bootstrap_servers), Path(folder), events, rounds)
        results = {part: bench.run(part, as_json=as_json) for part in parts or PARTS}
    if as_json:
        click.echo(orjson.dumps(results, option=orjson.OPT_INDENT_2))


def main() -> None:
    try:
        status = command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AudienceSyncError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    except KafkaException as error:
        click.echo(f"error: {kafka_reason(error)}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
