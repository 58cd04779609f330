"""`audience-sync demo` as a user runs it: all purchases, a worker that is killed again and again, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from app.adapters.kafka_distribution import default_cache_dir, java_command, kafka_jars
from app.adapters.kafka_embedded import EmbeddedKafka
from app.errors import AudienceSyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXECUTABLE = Path(sys.executable).with_name("audience-sync")
PATIENCE_SECONDS = 30


class RunningDemo:
    """Its temporary files, and with them the working folders of all its programs, are below `folder`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [EXECUTABLE, "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )

    def await_error_line(self, part: str) -> None:
        assert self.process.stderr
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if part in line:
                return
        pytest.fail(f"no line with {part!r} in:\n{''.join(lines)}")

    def programs(self) -> list[psutil.Process]:
        """Everything that works below the folder, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


@pytest.fixture
def demo(
    tmp_path: Path, embedded_kafka_factory: Callable[[], EmbeddedKafka]
) -> Iterator[Callable[..., RunningDemo]]:
    try:
        java_command()
        kafka_jars(default_cache_dir(), lambda _line: None)
    except AudienceSyncError:
        # Kafka has never been started here: this downloads it as this machine has to, or skips the test.
        embedded_kafka_factory().stop()
    started: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        started.append(RunningDemo(tmp_path.resolve(), *arguments))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            each.process.kill()


def get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


@pytest.mark.timeout(960)
def test_all_purchases_end_where_sql_says_though_the_worker_is_killed(
    demo: Callable[..., RunningDemo],
) -> None:
    running = demo("--json", "--stay", "--kill-every", "10")
    running.await_error_line("everything stays up")
    assert running.process.stdout
    result = json.loads(running.process.stdout.readline())

    assert result["agrees"], result
    assert result["orders"] == 69_659
    assert result["customers"] == 23_570
    assert result["worker_kills"] >= 1
    assert result["worker_own_exits"] == 0
    assert result["dead_letters"] == 0
    sizes = {audience["audience"]: audience["sql"] for audience in result["audiences"]}
    # These two are not moved by the day on which the demo runs.
    assert sizes["exactly_two_orders"] == 4_079
    assert sizes["american_vips"] == 1_492
    assert len(sizes) == 6
    assert all(sizes.values())

    assert set(get(result["urls"]["worker"])["audiences"]) == set(sizes)
    assert len(get(result["urls"]["sandbox"])) == len(sizes)
    assert len(running.programs()) == 6  # broker, sandbox and worker, each under its watchdog
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_SECONDS) == 0
    assert running.programs() == []
    assert list(running.folder.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_end_midway_leaves_nothing(
    demo: Callable[..., RunningDemo], number: signal.Signals, status: int
) -> None:
    running = demo()
    running.await_error_line("events/s, evaluated")
    assert len(running.programs()) == 6
    running.process.send_signal(number)
    output, errors = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (running.process.returncode, output) == (status, "")
    assert "Traceback" not in errors
    deadline = time.monotonic() + PATIENCE_SECONDS
    # A killed demo cannot wait for its programs' end.
    while number is signal.SIGKILL and running.programs() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.programs() == []
    assert list(running.folder.iterdir()) == []
