"""Child processes of the demo: started, killed, started again, and none of them outlives the demo.

Each runs under a watchdog (see `app.adapters.kafka_watchdog`) that kills it when the demo is gone, in whatever way.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.adapters.kafka_watchdog import Watched
from app.errors import PermanentError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXECUTABLE: Final = Path(sys.executable).with_name("audience-sync")

READY_SECONDS: Final = 90.0
"""How long a program may take until it can be used; a worker on a busy machine needs ten."""

MAX_OWN_EXITS: Final = 3
"""How often a worker may end by itself, as a supervisor of the real system would let it, before the demo gives up."""

_TAIL_LINES: Final = 15
_PEAK = re.compile(rb"^VmHWM:\s*(\d+) kB", re.MULTILINE)

# The caller's settings must not reach a program of the demo: it would talk to a real ad account. Nor may its proxies
# come between programs on one machine.
_NOT_INHERITED: Final = ("AUDIENCE_SYNC_", "FACEBOOK_", "KAFKA_")
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with `settings` in place of its own settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_NOT_INHERITED) and name.lower() not in _PROXIES
    }
    return {**inherited, **settings}


class Program:
    """One program in a session of its own; what it writes is added to `folder`/NAME.log.

    A watchdog that finds its owner gone removes `folder`.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: Watched | None = None

    def start(self) -> None:
        """Raises PermanentError when there is no such program."""
        with self._log.open("a", encoding="utf-8") as log:
            try:
                self._process = Watched(self._command, self._folder, log, self._environment)
            except ChildProcessError as exc:
                raise PermanentError(f"{self._command[0]} could not be started{self.last_lines()}") from exc

    def running(self) -> bool:
        return self._process is not None and self._process.running()

    def exit_status(self) -> int | None:
        """128 + N when signal N ended it; None while it runs."""
        return None if self._process is None else self._process.wait(0)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.end("stop")

    def kill(self) -> None:
        """SIGKILL, as a crash; returns when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.end("kill")

    def peak_memory(self) -> int | None:
        """The most bytes that its present life has held; None where the system does not tell."""
        if self._process is None:
            return None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_bytes()
        except OSError:
            return None
        found = _PEAK.search(status)
        return int(found[1]) * 1024 if found else None

    def await_line(self, start: str) -> str:
        """The first line that it writes with this start. Raises PermanentError when it ends before or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            ended = not self.running()
            for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(start):
                    return line
            if ended:
                raise PermanentError(f"the {self.name} ended by itself{self.last_lines()}")
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"the {self.name} was not ready within {READY_SECONDS:.0f} s{self.last_lines()}"
                )
            time.sleep(0.05)

    def last_lines(self) -> str:
        """What it wrote last, to be put behind a sentence."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines = [line for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
        return "; its last lines:\n" + "\n".join(lines) if lines else " and wrote nothing"


class WorkerSlot:
    """Keeps one worker running, as a supervisor would, and is its nemesis when asked to.

    `kill_every` seconds after each time the worker reported ready it is killed. Calls come from one thread.
    """

    def __init__(
        self,
        program: Program,
        is_ready: Callable[[], bool],
        kill_every: float | None,
        report: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._program = program
        self._is_ready = is_ready
        self._kill_every = kill_every
        self._report = report
        self._monotonic = monotonic
        self._started_at = 0.0
        self._ready_at: float | None = None
        self.first_ready_at: float | None = None
        self.kills = 0
        self.own_exits = 0
        self.peak_memory = 0

    @property
    def life(self) -> int:
        """Grows by one whenever the worker is started again."""
        return self.kills + self.own_exits

    def start(self) -> None:
        self._started_at = self._monotonic()
        self._ready_at = None
        self._program.start()

    def tend(self, *, may_kill: bool) -> None:
        """To be called several times a second. Raises PermanentError when the worker cannot be kept running."""
        self.peak_memory = max(self.peak_memory, self._program.peak_memory() or 0)
        if not self._program.running():
            self._start_after_its_end()
        elif self._ready_at is None:
            self._watch_start()
        elif (
            self._kill_every is not None
            and may_kill
            and self._monotonic() - self._ready_at >= self._kill_every
        ):
            self._program.kill()
            self.kills += 1
            self.start()

    def stop(self) -> None:
        self._program.stop()

    def last_lines(self) -> str:
        return self._program.last_lines()

    def _start_after_its_end(self) -> None:
        status = self._program.exit_status()
        if self.own_exits == MAX_OWN_EXITS:
            raise PermanentError(
                f"the worker has ended by itself {MAX_OWN_EXITS + 1} times, now with status {status}"
                f"{self._program.last_lines()}"
            )
        self._program.stop()
        self.own_exits += 1
        self._report(
            f"the worker has ended by itself with status {status}; started again"
            f" ({self.own_exits} of at most {MAX_OWN_EXITS} times){self._program.last_lines()}"
        )
        self.start()

    def _watch_start(self) -> None:
        now = self._monotonic()
        if self._is_ready():
            self._ready_at = now
            if self.first_ready_at is None:
                self.first_ready_at = now
        elif now - self._started_at > READY_SECONDS:
            raise UnreachableError(
                f"the worker was not ready within {READY_SECONDS:.0f} s{self._program.last_lines()}"
            )
