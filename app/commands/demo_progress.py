"""What is shown while the demo runs: a live table in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.commands.demo_readings import WorkerStats

PLAIN_SECONDS: Final = 5.0


@dataclass(slots=True)
class AudienceTotals:
    members: int = 0
    entered: int = 0
    exited: int = 0
    sent: int = 0
    pending: int = 0


@dataclass(slots=True)
class Totals:
    """The worker's counters over all its lives: each life counts from zero, and what it counted last is kept."""

    audiences: dict[str, AudienceTotals] = field(default_factory=dict)
    evaluated: int = 0
    dead_lettered: int = 0
    rate: float | None = None
    lag: int | None = None
    kills: int = 0
    own_exits: int = 0
    _life: int = 0
    _ended: dict[tuple[str, str], int] = field(default_factory=dict)
    _last: dict[tuple[str, str], int] = field(default_factory=dict)

    def observe(self, life: int, stats: WorkerStats) -> None:
        """`life` grows whenever the worker is started again."""
        if life != self._life:
            self._life = life
            for what, count in self._last.items():
                self._ended[what] = self._ended.get(what, 0) + count
            self._last = {}
        for key, audience in stats.audiences.items():
            self.audiences[key] = AudienceTotals(
                members=audience.members,
                entered=self._count(key, "entered", audience.entered),
                exited=self._count(key, "exited", audience.exited),
                sent=self._count(key, "sent", sum(d.sent for d in audience.destinations)),
                pending=sum(d.pending for d in audience.destinations),
            )
        evaluate = stats.stages["evaluate"]
        self.evaluated = self._count("", "evaluated", evaluate.records_in)
        self.rate = evaluate.rate
        self.dead_lettered = self._count("", "dead", sum(stats.dead_letters.values()))
        lags = [stage.lag for name, stage in stats.stages.items() if name in ("resolve", "evaluate")]
        known = [lag for lag in lags if lag is not None]
        self.lag = sum(known) if len(known) == len(lags) else None

    def _count(self, owner: str, name: str, now: int) -> int:
        self._last[owner, name] = now
        return self._ended.get((owner, name), 0) + now


class Progress(Protocol):
    def show(self, totals: Totals) -> None: ...


class PlainProgress:
    """For a log: a line every PLAIN_SECONDS."""

    def __init__(
        self,
        write: Callable[[str], None] = lambda line: click.echo(line, err=True),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._shown_at: float | None = None

    def show(self, totals: Totals) -> None:
        now = self._monotonic()
        if self._shown_at is not None and now - self._shown_at < PLAIN_SECONDS:
            return
        self._shown_at = now
        audiences = totals.audiences.values()
        self._write(
            f"{_headline(totals)}, members {sum(a.members for a in audiences):,}, "
            f"entered {sum(a.entered for a in audiences):,}, exited {sum(a.exited for a in audiences):,}, "
            f"sent {sum(a.sent for a in audiences):,}, pending {sum(a.pending for a in audiences):,}"
        )


class LiveProgress:
    """For a terminal: one table that is drawn again and again."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, totals: Totals) -> None:
        table = Table("audience")
        for heading in ("members", "entered", "exited", "sent", "pending"):
            table.add_column(heading, justify="right")
        for key, audience in totals.audiences.items():
            numbers = (audience.members, audience.entered, audience.exited, audience.sent, audience.pending)
            table.add_row(key, *(f"{number:,}" for number in numbers))
        self._live.update(Group(Text(_headline(totals)), table))


@contextmanager
def progress() -> Iterator[Progress]:
    """The one that fits stderr. What else is written there meanwhile appears above the live table."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield LiveProgress(live)


def _headline(totals: Totals) -> str:
    rate = "-" if totals.rate is None else f"{totals.rate:,.0f}"
    lag = "unknown" if totals.lag is None else f"{totals.lag:,}"
    ends = f", kills {totals.kills}" if totals.kills else ""
    ends += f", worker ended by itself: {totals.own_exits}" if totals.own_exits else ""
    return f"{rate} events/s, evaluated {totals.evaluated:,}, lag {lag}, dead-lettered {totals.dead_lettered:,}{ends}"
