"""The processes that are measured; none of them outlives the benchmark, however it ends."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.adapters.kafka_embedded import free_port
from app.adapters.kafka_watchdog import Watched
from app.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
AUDIENCES = HERE / "audiences.yaml"
PARTITIONS = 8

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.005
_LAST_LINES = 10


@dataclass(frozen=True, slots=True)
class Process:
    """A process under measurement, and the file that its output goes to."""

    name: str
    watched: Watched
    log: Path

    def check(self) -> None:
        """Raises PermanentError when it has ended by itself."""
        if not self.watched.running():
            raise PermanentError(f"{self.name} has ended by itself; its last lines:\n{self._last_lines()}")

    def wait_for_line(self, line: str) -> None:
        deadline = time.perf_counter() + _READY_SECONDS
        while line not in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            self.check()
            if time.perf_counter() > deadline:
                raise PermanentError(f"{self.name} did not say {line!r} within {_READY_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def cpu_seconds(self) -> float | None:
        """User and system time so far; None where there is no /proc."""
        try:
            stat = Path(f"/proc/{self.watched.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return None
        # The name in parentheses may hold spaces; behind it, user and system time are fields 12 and 13.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_rss_bytes(self) -> int | None:
        try:
            status = Path(f"/proc/{self.watched.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        lines = (line.split() for line in status.splitlines())
        return next((int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:"), None)

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])


@contextmanager
def running(
    name: str, command: Sequence[str], folder: Path, environment: dict[str, str]
) -> Iterator[Process]:
    """The command, stopped with SIGTERM at the end; whatever it leaves lies in `folder`."""
    log = folder / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        watched = Watched(
            list(command), folder, file, {"LC_ALL": "C.UTF-8", "TMPDIR": str(folder), **environment}
        )
    try:
        yield Process(name, watched, log)
    finally:
        watched.end("stop")


@contextmanager
def worker(
    folder: Path, bootstrap: str, prefix: str, source: str, name: str, audiences: Path = AUDIENCES
) -> Iterator[Process]:
    """A real worker in dry run: everything but the requests to Facebook."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "FACEBOOK_ACCESS_TOKEN": "none-is-needed-in-dry-run",
        "AUDIENCE_SYNC_FACEBOOK_MODE": "dry_run",
        "AUDIENCE_SYNC_AUDIENCES": str(audiences),
        "AUDIENCE_SYNC_SOURCE_TOPIC": source,
        "AUDIENCE_SYNC_TOPIC_PREFIX": prefix,
        "AUDIENCE_SYNC_PARTITIONS": str(PARTITIONS),
        "AUDIENCE_SYNC_WEB_PORT": str(free_port()),
    }
    command = [str(Path(sys.executable).parent / "audience-sync"), "worker"]
    with running(name, command, folder, environment) as process:
        yield process
