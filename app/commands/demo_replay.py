"""Follows the system until everything has gone through it, then reads who is in which audience."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.commands.demo_oracle import QUERIES
from app.commands.demo_progress import Totals
from app.commands.demo_readings import (
    Settling,
    fingerprint,
    not_caught_up,
    read_sandbox_audiences,
    read_sandbox_members,
    read_stats,
    same_day,
)
from app.errors import PermanentError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.commands.demo_readings import SandboxAudience, WorkerStats
    from app.commands.demo_system import DemoSystem

POLL_SECONDS: Final = 0.25

GIVE_UP_SECONDS: Final = 900.0
"""Some minutes are usual; a worker that is killed before it gets anything done would go on for ever."""


@dataclass(frozen=True, slots=True)
class Held:
    """One audience as the engine (/stats) and the sandbox hold it; None: there is no such audience."""

    engine: int | None
    sandbox_count: int | None
    sandbox_members: Sequence[str]


@dataclass(frozen=True, slots=True)
class Holdings:
    """Every audience of the demo at one instant, in epoch milliseconds."""

    at_ms: int
    audiences: dict[str, Held]


class Replay:
    """`show` is called at every poll."""

    def __init__(self, system: DemoSystem, show: Callable[[Totals], None]) -> None:
        self._system = system
        self._show = show
        self._started_at = time.monotonic()
        self._settling = Settling(self._started_at)
        self._open_ends: list[str] = ["the worker does not answer"]
        self.totals = Totals()

    @property
    def seconds(self) -> float:
        """From the worker's first `ready` until nothing was left to be done; defined when `run` has returned."""
        end, start = self._settling.first_caught_up, self._system.worker.first_ready_at
        return 0.0 if end is None or start is None else end - start

    def run(self) -> Holdings:
        """Raises PermanentError when a process fails for good, or when nothing moves any more."""
        while True:
            self._system.tend(may_kill=bool(self._open_ends))
            try:
                holdings = self._poll()
            except UnreachableError:
                # Starting again, or busy; `tend` knows when it is gone.
                holdings = None
            if holdings is not None:
                return holdings
            self._require_progress()
            time.sleep(POLL_SECONDS)

    def _require_progress(self) -> None:
        now = time.monotonic()
        if self._settling.stalled(now):
            what = "nothing moves any more"
        elif now - self._started_at > GIVE_UP_SECONDS:
            what = f"{GIVE_UP_SECONDS / 60:.0f} minutes have passed"
        else:
            return
        left = "; ".join(self._open_ends) or "every answer differs from the one before"
        raise PermanentError(f"{what}, and not everything is done: {left}{self._system.worker.last_lines()}")

    def _poll(self) -> Holdings | None:
        stats = read_stats(self._system.worker_url)
        worker = self._system.worker
        self.totals.observe(worker.life, stats)
        self.totals.kills, self.totals.own_exits = worker.kills, worker.own_exits
        self._show(self.totals)
        self._open_ends = not_caught_up(stats, QUERIES)
        sandbox = read_sandbox_audiences(self._system.sandbox_url)
        is_final = self._settling.observe(
            fingerprint(stats, sandbox),
            caught_up=not self._open_ends,
            now_ms=_now_ms(),
            monotonic=time.monotonic(),
        )
        return self._read() if is_final else None

    def _read(self) -> Holdings | None:
        """None when something moved, or a day ended, while it was read."""
        at_ms = _now_ms()
        stats = read_stats(self._system.worker_url)
        sandbox = read_sandbox_audiences(self._system.sandbox_url)
        held = {key: self._held(key, stats, sandbox) for key in QUERIES}
        after = read_stats(self._system.worker_url)
        unmoved = fingerprint(stats, sandbox) == fingerprint(
            after, read_sandbox_audiences(self._system.sandbox_url)
        )
        return Holdings(at_ms, held) if unmoved and same_day(at_ms, _now_ms()) else None

    def _held(self, key: str, stats: WorkerStats, sandbox: dict[str, SandboxAudience]) -> Held:
        audience = stats.audiences.get(key)
        if audience is None:
            return Held(None, None, ())
        facebook_ids = [destination.facebook_id for destination in audience.destinations]
        if len(facebook_ids) != 1 or facebook_ids[0] not in sandbox:
            return Held(audience.members, None, ())
        found = sandbox[facebook_ids[0]]
        return Held(audience.members, found.count, read_sandbox_members(self._system.sandbox_url, found.id))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
