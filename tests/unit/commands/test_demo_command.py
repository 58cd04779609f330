"""How the demo ends: its status, what it says, and that nothing of it is left, whenever and however it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Demo = Callable[..., "RunningDemo"]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_SECONDS = 60


class RunningDemo:
    """The command over stand-ins; its temporary files are in `folder`, which is empty at first."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, HERE / "demo_with_stand_ins.py", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        )

    def await_error_line(self, start: str) -> str:
        assert self.process.stderr
        for line in self.process.stderr:
            if line.startswith(start):
                return line
        raise AssertionError(f"no line with {start}")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str, str]:
        """Status, stdout, stderr."""
        output, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, output, errors


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        started.append(RunningDemo(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            each.process.kill()


@pytest.mark.parametrize(
    ("step", "number", "status"),
    [
        ("kafka", signal.SIGINT, 130),
        ("fill", signal.SIGINT, 130),
        ("sandbox", signal.SIGINT, 130),
        ("start", signal.SIGINT, 130),
        ("tend", signal.SIGINT, 130),
        ("tend", signal.SIGTERM, 0),
    ],
)
def test_a_signal_at_any_step_leaves_nothing(
    demo: Demo, step: str, number: signal.Signals, status: int
) -> None:
    running = demo(step, "wait")
    running.await_error_line(f"at {step}")
    family = running.family()
    assert family
    running.process.send_signal(number)
    # Whoever is impatient must not leave processes behind either.
    running.process.send_signal(number)
    ended, output, errors = running.end()
    assert (ended, output) == (status, "")
    assert [member for member in family if member.is_running()] == []
    assert list(running.folder.iterdir()) == []
    assert "Traceback" not in errors


def test_sigkill_leaves_nothing(demo: Demo) -> None:
    running = demo("tend", "wait")
    running.await_error_line("at tend")
    family = running.family()
    assert len(family) == 10  # five programs, each under its watchdog
    running.process.kill()
    running.process.wait(PATIENCE_SECONDS)
    _, alive = psutil.wait_procs(family, PATIENCE_SECONDS)
    assert alive == []
    assert list(running.folder.iterdir()) == []


@pytest.mark.parametrize("step", ["kafka", "tend"])
def test_a_failure_is_told_and_its_logs_are_kept(demo: Demo, step: str) -> None:
    running = demo(step, "fail")
    status, output, errors = running.end()
    (kept,) = running.folder.iterdir()
    assert (status, output) == (1, "")
    assert f"the logs are kept in {kept}\n" in errors
    assert f"error: no {step} today; its last lines:\nup\n" in errors
    assert (kept / f"{step}.log").read_text(encoding="utf-8") == "up\n"
    assert "Traceback" not in errors


def test_agreement_is_status_0_and_leaves_no_logs(demo: Demo) -> None:
    running = demo("none", "agree")
    status, output, errors = running.end()
    assert status == 0
    assert "All three agree on 1 orders of 1 customers." in output
    assert "agree" not in errors
    assert list(running.folder.iterdir()) == []


def test_a_difference_is_status_1_and_leaves_the_logs(demo: Demo) -> None:
    running = demo("none", "differ", "--json")
    status, output, errors = running.end()
    assert status == 1
    document: dict[str, Any] = json.loads(output)
    assert document["agrees"] is False
    assert document["audiences"][0]["differences"] == [
        "the engine holds 2, SQL counts 1",
        "the sandbox holds 2, SQL counts 1",
        "in the sandbox, not by SQL: 2",
    ]
    (kept,) = running.folder.iterdir()
    assert f"the logs are kept in {kept}\n" in errors


@pytest.mark.parametrize(
    ("number", "what", "status"), [(signal.SIGINT, "agree", 0), (signal.SIGTERM, "differ", 1)]
)
def test_after_the_result_a_signal_is_the_usual_end(
    demo: Demo, number: signal.Signals, what: str, status: int
) -> None:
    running = demo("none", what, "--stay")
    running.await_error_line("everything stays up")
    family = running.family()
    assert len(family) == 8
    assert all(member.is_running() for member in family)
    running.process.send_signal(number)
    ended, output, _ = running.end()
    assert ended == status
    assert output.endswith("worker: http://127.0.0.1:1/stats\n")
    assert [member for member in family if member.is_running()] == []


@pytest.mark.parametrize("seconds", ["0", "often"])
def test_a_wrong_interval_is_told_in_a_line(demo: Demo, seconds: str) -> None:
    status, output, errors = demo("none", "agree", "--kill-every", seconds).end()
    assert (status, output) == (2, "")
    assert "--kill-every" in errors
    assert "Traceback" not in errors
