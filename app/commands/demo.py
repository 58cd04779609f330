"""`audience-sync demo`: real purchases replayed through a whole local system, the result checked against SQL.

The steps are in `_run`. Status 0 and 1 are the comparison's; 130 and 0 those of Ctrl-C and SIGTERM before there is one,
1 to 3 those of the error that ended it.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console

from app.commands.demo_events import load_orders, moved_to_end, segment_calls, traits
from app.commands.demo_oracle import SqlOracle
from app.commands.demo_progress import progress
from app.commands.demo_replay import Replay
from app.commands.demo_result import AudienceResult, DemoResult, Effort
from app.commands.demo_system import DemoSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from app.commands.demo_events import Order
    from app.commands.demo_replay import Holdings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command("demo")
@click.option("--stay", is_flag=True, help="Keep everything up after the result, until Ctrl-C.")
@click.option(
    "--kill-every",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Kill the worker (SIGKILL) this long after each time it is ready, until it has caught up.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(stay: bool, kill_every: float | None, as_json: bool) -> int:
    """Replay 69,659 real purchases through a whole local system and check the result against SQL.

    Starts a Kafka, a stand-in of the Graph API and a worker on this machine and replays 18 months of orders. Status 1
    when the engine, the stand-in and an SQL query over the same orders do not agree on who is in which audience.
    """
    with _one_signal_ends_it():
        folder = Path(tempfile.mkdtemp(prefix="audience-sync-demo-"))
        keep_logs = True
        try:
            status = _run(folder, kill_every, stay=stay, as_json=as_json)
            keep_logs = status != 0
        except (KeyboardInterrupt, SystemExit):
            keep_logs = False
            raise
        finally:
            if keep_logs:
                _say(f"the logs are kept in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return status


def _run(folder: Path, kill_every: float | None, *, stay: bool, as_json: bool) -> int:
    started = time.monotonic()
    with _stopped_at_the_end(DemoSystem(folder, kill_every, _say)) as system:
        _say("starting Kafka")
        system.start_kafka()
        orders = moved_to_end(load_orders(), datetime.now(UTC).date())
        _say(f"sending {len(orders):,} orders to {system.bootstrap_servers}")
        events = system.fill(segment_calls(orders))
        _say("starting the Graph sandbox and the worker")
        system.start_sandbox()
        system.start_worker()
        with progress() as shown:
            replay = Replay(system, shown.show)
            holdings = replay.run()
        audiences = _compared(holdings, orders)
        effort = Effort(
            orders=len(orders),
            customers=len({order.customer for order in orders}),
            events=events,
            seconds=replay.seconds,
            total_seconds=time.monotonic() - started,
            kills=system.worker.kills,
            own_exits=system.worker.own_exits,
            peak_memory=system.worker.peak_memory,
            dead_letters=replay.totals.dead_lettered,
        )
        result = DemoResult(audiences, effort)
        _print(result, system.urls() if stay else {}, as_json=as_json)
        if stay:
            _stay(system)
        return 0 if result.agrees else 1


def _compared(holdings: Holdings, orders: Sequence[Order]) -> tuple[AudienceResult, ...]:
    """SQL is asked for the instant at which the sizes were read."""
    countries = {customer: traits(customer)["country"] for customer in {order.customer for order in orders}}
    with SqlOracle(orders, countries) as oracle:
        return tuple(
            AudienceResult(
                key,
                held.engine,
                held.sandbox_count,
                held.sandbox_members,
                frozenset(oracle.members(key, holdings.at_ms)),
            )
            for key, held in holdings.audiences.items()
        )


def _print(result: DemoResult, urls: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**result.as_json(), **({"urls": urls} if urls else {})}))
        return
    result.print_table(Console())
    for name, url in urls.items():
        click.echo(f"{name}: {url}")


def _stay(system: DemoSystem) -> None:
    """Returns on Ctrl-C or SIGTERM, which are the usual end here."""
    try:
        _say("everything stays up until Ctrl-C")
        while True:
            system.tend(may_kill=False)
            time.sleep(0.5)
    except (KeyboardInterrupt, SystemExit):
        return


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def _stopped_at_the_end(system: DemoSystem) -> Iterator[DemoSystem]:
    try:
        yield system
    finally:
        _ignore_signals()
        system.stop()


@contextmanager
def _one_signal_ends_it() -> Iterator[None]:
    former = {number: signal.signal(number, _end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(number: int, frame: object) -> NoReturn:
    """Ends the command in order, once: further signals must not cut the children's end short."""
    del frame
    _ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(0)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
