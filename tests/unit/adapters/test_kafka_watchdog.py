"""A watched command ends when its owner says so, and when its owner is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil
import pytest

from app.adapters import kafka_watchdog
from app.adapters.kafka_watchdog import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCHDOG = Path(__file__).parents[3] / "app" / "adapters" / "kafka_watchdog.py"

ENDURING = "import sys, time; print('up', file=sys.stderr, flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + ENDURING


class Script:
    """The script, seen from its owner: a watchdog over a Python command that has reached its sleep."""

    def __init__(self, folder: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", WATCHDOG, folder, sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.command = psutil.Process(int(_opened(self.process.stdout).readline()))

    def tell(self, word: str) -> None:
        _opened(self.process.stdin).write(f"{word}\n".encode())

    def await_line(self) -> bytes:
        return _opened(self.process.stderr).readline()


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "segment.log").write_text("records", encoding="ascii")
    return folder


@pytest.fixture
def watch(folder: Path) -> Iterator[Callable[[str], Script]]:
    started: list[Script] = []

    def start(code: str) -> Script:
        started.append(Script(folder, code))
        return started[-1]

    yield start
    for watched in started:
        with watched.process as process:
            process.kill()


@pytest.mark.parametrize(
    ("code", "words", "status"),
    [
        (ENDURING, ("stop",), 128 + signal.SIGTERM),
        (ENDURING, ("kill",), 128 + signal.SIGKILL),
        # An owner that lost patience after "stop".
        (STUBBORN, ("stop", "kill"), 128 + signal.SIGKILL),
        # A word of a newer owner must not end anything.
        (ENDURING, ("pause", "stop"), 128 + signal.SIGTERM),
    ],
)
def test_a_command_ends_on_the_owners_word_and_its_folder_stays(
    watch: Callable[[str], Script], folder: Path, code: str, words: tuple[str, ...], status: int
) -> None:
    watched = watch(code)
    assert watched.await_line() == b"up\n"
    for word in words:
        watched.tell(word)
    assert watched.process.wait(30) == status
    assert not watched.command.is_running()
    # A crash of the broker must leave its data to the owner, who starts it again.
    assert (folder / "segment.log").exists()


def test_a_command_that_ends_by_itself_gives_its_status(watch: Callable[[str], Script], folder: Path) -> None:
    assert watch("import sys; sys.stdin.read(); sys.exit(7)").process.wait(30) == 7
    assert folder.exists()


def test_without_an_owner_the_command_is_killed_and_its_folder_removed(
    watch: Callable[[str], Script], folder: Path
) -> None:
    watched = watch(STUBBORN)
    assert watched.await_line() == b"up\n"
    _opened(watched.process.stdin).close()
    assert watched.process.wait(30) == 128 + signal.SIGKILL
    assert not watched.command.is_running()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_killed_watchdog_takes_its_command_along(watch: Callable[[str], Script]) -> None:
    watched = watch(STUBBORN)
    assert watched.await_line() == b"up\n"
    watched.process.kill()
    watched.process.wait(30)
    # Its new parent may leave it as a zombie; the end of its stderr shows that it runs no more.
    assert _opened(watched.process.stderr).read() == b""


def test_an_owner_loses_patience_with_a_command_that_does_not_stop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_watchdog, "STOP_SECONDS", 0.2)
    log = folder / "log"
    with log.open("w", encoding="utf-8") as file:
        watched = Watched([sys.executable, "-c", STUBBORN], folder, file)
    while log.read_text(encoding="utf-8") != "up\n":
        assert watched.running()
    watched.end("stop")
    assert watched.wait(0) == 128 + signal.SIGKILL
    assert not psutil.pid_exists(watched.pid)


def test_a_command_that_does_not_exist_is_told_at_once(folder: Path) -> None:
    with (
        (folder / "log").open("w", encoding="utf-8") as file,
        pytest.raises(ChildProcessError, match="no-such-java"),
    ):
        Watched(["/no-such-java"], folder, file)
    assert "No such file" in (folder / "log").read_text(encoding="utf-8")
