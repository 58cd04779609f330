"""The demo's result: what three independent places say about the same audiences at the same instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from app.commands.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHOWN_DIFFERENCES: Final = 5


@dataclass(frozen=True, slots=True)
class AudienceResult:
    """`engine` None: the worker knows no such audience; `sandbox_count` None: the sandbox has no such audience."""

    key: str
    engine: int | None
    sandbox_count: int | None
    sandbox_members: Sequence[str]
    sql_members: frozenset[str]

    def differences(self) -> list[str]:
        """In words, with a few of the customers; empty when all agree."""
        sql = len(self.sql_members)
        found = []
        if self.engine != sql:
            found.append(f"the engine holds {_size(self.engine)}, SQL counts {sql:,}")
        if self.sandbox_count != sql:
            found.append(f"the sandbox holds {_size(self.sandbox_count)}, SQL counts {sql:,}")
        members = set(self.sandbox_members)
        if missing := self.sql_members - members:
            found.append(f"not in the sandbox: {_some(missing)}")
        if unexpected := members - self.sql_members:
            found.append(f"in the sandbox, not by SQL: {_some(unexpected)}")
        if len(self.sandbox_members) != len(members):
            found.append(f"in the sandbox twice: {len(self.sandbox_members) - len(members):,}")
        return found


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds` from the first `ready` of the worker until nothing was left to be done; memory in bytes, 0: unknown."""

    orders: int
    customers: int
    events: int
    seconds: float
    total_seconds: float
    kills: int
    own_exits: int
    peak_memory: int
    dead_letters: int

    def rate(self) -> float:
        return self.events / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "customers": self.customers,
            "events": self.events,
            "catch_up_seconds": round(self.seconds, 3),
            "events_per_second": round(self.rate()),
            "total_seconds": round(self.total_seconds, 3),
            "worker_kills": self.kills,
            "worker_own_exits": self.own_exits,
            "worker_peak_memory_bytes": self.peak_memory or None,
            "dead_letters": self.dead_letters,
        }

    def __str__(self) -> str:
        memory = f"{self.peak_memory / 2**20:,.0f} MB" if self.peak_memory else "unknown"
        return (
            f"{self.events:,} events in {self.seconds:,.1f} s ({self.rate():,.0f} a second); worker's peak memory "
            f"{memory}, killed {_times(self.kills)}, ended by itself {_times(self.own_exits)}; dead letters "
            f"{self.dead_letters:,}; {self.total_seconds:,.0f} s in all."
        )


@dataclass(frozen=True, slots=True)
class DemoResult:
    audiences: tuple[AudienceResult, ...]
    effort: Effort

    @property
    def agrees(self) -> bool:
        return not any(audience.differences() for audience in self.audiences)

    def as_json(self) -> dict[str, Any]:
        return {
            "agrees": self.agrees,
            "audiences": [
                {
                    "audience": audience.key,
                    "engine": audience.engine,
                    "sandbox": audience.sandbox_count,
                    "sql": len(audience.sql_members),
                    "differences": audience.differences(),
                }
                for audience in self.audiences
            ],
            **self.effort.as_json(),
        }

    def print_table(self, console: Console) -> None:
        sources = ("engine", "sandbox", "SQL")
        rows = []
        for audience in self.audiences:
            sizes = (audience.engine, audience.sandbox_count, len(audience.sql_members))
            verdict = "differs" if audience.differences() else "same"
            rows.append((audience.key, *map(_size, sizes), verdict))
        print_table(("audience", *sources, ""), rows, numbers=sources, console=console)
        for line in (*self._difference_lines(), *self._summary()):
            console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _difference_lines(self) -> Iterable[str]:
        for audience in self.audiences:
            for difference in audience.differences():
                yield f"{audience.key}: {difference}"

    def _summary(self) -> Iterable[str]:
        verdict = "All three agree" if self.agrees else "They differ"
        yield f"{verdict} on {self.effort.orders:,} orders of {self.effort.customers:,} customers."
        yield str(self.effort)


def _size(size: int | None) -> str:
    return "none" if size is None else f"{size:,}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _some(customers: set[str] | frozenset[str]) -> str:
    shown = sorted(customers)[:SHOWN_DIFFERENCES]
    more = len(customers) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
