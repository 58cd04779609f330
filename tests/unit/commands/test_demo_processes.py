"""Programs of the demo are kept running, killed on time, and never outlive it: with tiny programs in their place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from app.commands import demo_processes
from app.commands.demo_processes import MAX_OWN_EXITS, READY_SECONDS, Program, WorkerSlot, clean_environment
from app.errors import PermanentError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartProgram = Callable[[str], Program]

ENDURING = "import time; print('up', flush=True); time.sleep(60)"
ENDING = "import sys; print('no such audience', file=sys.stderr); sys.exit(7)"
PATIENCE_SECONDS = 30


@pytest.fixture
def program(tmp_path: Path) -> Iterator[StartProgram]:
    """A program that runs the given code, not yet started."""
    made: list[Program] = []

    def make(code: str) -> Program:
        made.append(Program("worker", [sys.executable, "-c", code], clean_environment({}), tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.stop()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Slot:
    """A WorkerSlot whose readiness and time are set by hand, and what it has reported."""

    def __init__(self, program: Program, kill_every: float | None) -> None:
        self.program = program
        self.clock = Clock()
        self.ready = False
        self.reports: list[str] = []
        self.slot = WorkerSlot(program, lambda: self.ready, kill_every, self.reports.append, self.clock)
        self.slot.start()

    def tend_until_it_has_ended(self) -> None:
        while self.program.running():
            pass
        self.slot.tend(may_kill=False)


def test_a_worker_is_killed_so_long_after_each_time_it_was_ready(program: StartProgram) -> None:
    started = Slot(program(ENDURING), kill_every=5)
    slot, clock = started.slot, started.clock
    clock.now += 50
    slot.tend(may_kill=True)
    assert slot.kills == 0  # it is not ready yet, however long that takes
    started.ready = True
    slot.tend(may_kill=True)
    clock.now += 4.9
    slot.tend(may_kill=True)
    assert slot.kills == 0
    clock.now += 0.1
    slot.tend(may_kill=True)
    assert slot.kills == slot.life == 1
    assert started.program.running()  # started again at once
    clock.now += 5
    slot.tend(may_kill=True)  # ready for the first time in this life
    assert slot.kills == 1
    clock.now += 5
    slot.tend(may_kill=True)
    assert slot.kills == 2
    assert slot.own_exits == 0
    assert slot.first_ready_at == 1_050.0


@pytest.mark.parametrize(
    ("kill_every", "may_kill"),
    [
        (None, True),  # not asked for
        (5.0, False),  # it has caught up
    ],
)
def test_a_worker_is_left_alone(program: StartProgram, kill_every: float | None, may_kill: bool) -> None:
    started = Slot(program(ENDURING), kill_every)
    started.ready = True
    started.slot.tend(may_kill=may_kill)
    started.clock.now += 500
    started.slot.tend(may_kill=may_kill)
    assert started.slot.kills == 0
    assert started.program.running()


def test_a_kill_ends_the_very_process(program: StartProgram) -> None:
    started = Slot(program("import os; print(os.getpid(), flush=True); import time; time.sleep(60)"), 1)
    first = psutil.Process(int(started.program.await_line("")))
    started.ready = True
    started.slot.tend(may_kill=True)
    started.clock.now += 1
    started.slot.tend(may_kill=True)
    assert not first.is_running()


def test_a_worker_that_ends_by_itself_is_started_again_but_not_for_ever(program: StartProgram) -> None:
    started = Slot(program(ENDING), kill_every=None)
    for count in range(1, MAX_OWN_EXITS + 1):
        started.tend_until_it_has_ended()
        assert started.slot.own_exits == started.slot.life == count
        assert f"status 7; started again ({count} of at most {MAX_OWN_EXITS} times)" in started.reports[-1]
        assert started.reports[-1].endswith("no such audience")
    with pytest.raises(PermanentError, match=r"(?s)ended by itself 4 times.*status 7.*no such audience"):
        started.tend_until_it_has_ended()
    assert started.slot.kills == 0


def test_a_worker_that_is_never_ready_is_given_up(program: StartProgram) -> None:
    started = Slot(program(ENDURING), kill_every=None)
    started.program.await_line("up")
    started.clock.now += READY_SECONDS
    started.slot.tend(may_kill=True)
    started.clock.now += 0.1
    with pytest.raises(UnreachableError, match=r"(?s)not ready within 90 s; its last lines:\nup"):
        started.slot.tend(may_kill=True)


@pytest.mark.skipif(sys.platform != "linux", reason="the most memory held is read from /proc")
def test_the_most_memory_of_all_lives_is_kept(program: StartProgram) -> None:
    held = "import os; block = b'x' * 100_000_000 if not os.path.exists('again') else b''; "
    started = Slot(program(held + "open('again', 'w').close(); " + ENDURING), kill_every=1)
    started.program.await_line("up")
    started.ready = True
    started.slot.tend(may_kill=True)
    started.clock.now += 1
    started.slot.tend(may_kill=True)
    assert started.slot.kills == 1
    started.slot.tend(may_kill=True)
    now = started.program.peak_memory()
    assert now is not None
    assert now < 100_000_000 < started.slot.peak_memory


def test_the_first_line_with_a_start_is_awaited(program: StartProgram) -> None:
    made = program(
        "import time; print('warning: old'); print('http://127.0.0.1:80', flush=True); time.sleep(60)"
    )
    made.start()
    assert made.await_line("http://") == "http://127.0.0.1:80"


def test_a_program_that_ends_before_its_line_is_told_with_its_last_words(program: StartProgram) -> None:
    made = program(ENDING)
    made.start()
    with pytest.raises(PermanentError, match="the worker ended by itself; its last lines:\nno such audience"):
        made.await_line("http://")


def test_a_line_that_never_comes_is_not_awaited_for_ever(
    program: StartProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_processes, "READY_SECONDS", 0.5)
    made = program(ENDURING)
    made.start()
    with pytest.raises(PermanentError, match="was not ready within"):
        made.await_line("http://")


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = Program("worker", [str(tmp_path / "nothing")], clean_environment({}), tmp_path)
    with pytest.raises(PermanentError, match="nothing could not be started"):
        missing.start()


def test_a_program_sees_neither_the_callers_settings_nor_its_proxies(
    program: StartProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "FACEBOOK_ACCESS_TOKEN",
        "FACEBOOK_APP_SECRET_FILE",
        "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID",
        "AUDIENCE_SYNC_SETTINGS",
        "KAFKA_BOOTSTRAP_SERVERS",
        "https_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.setenv(name, "the caller's")
    monkeypatch.setenv("OF_NO_CONCERN", "kept")
    code = "import os; [print(f'{k}={v}') for k, v in os.environ.items()]; print('end', flush=True)"
    settings = {"FACEBOOK_ACCESS_TOKEN": "demo"}
    made = Program("shown", [sys.executable, "-c", code], clean_environment(settings), tmp_path)
    made.start()
    made.await_line("end")
    made.stop()
    seen = (tmp_path / "shown.log").read_text(encoding="utf-8")
    assert "the caller's" not in seen
    assert "FACEBOOK_ACCESS_TOKEN=demo\n" in seen
    assert "OF_NO_CONCERN=kept\n" in seen


OWNER = """
import signal, sys, time
from pathlib import Path
from app.commands.demo_processes import Program, clean_environment

# Whoever runs the tests may have had it ignored.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

program = Program("worker", [sys.executable, "-c", sys.argv[2]], clean_environment({}), Path(sys.argv[1]))
program.start()
print(program.await_line("up"), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_program_does_not_outlive_an_owner_that_dies_without_a_word(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {ENDURING}"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, folder, stubborn],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"up\n"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) == 2  # the watchdog and the program
        owner.send_signal(number)
        owner.wait(PATIENCE_SECONDS)
        _, alive = psutil.wait_procs(family, PATIENCE_SECONDS)
    assert alive == []
    assert not folder.exists()


def test_the_programs_of_the_demo_are_this_installations() -> None:
    assert os.access(demo_processes.EXECUTABLE, os.X_OK)
