"""`audience-sync kafka` as a user runs it: first line, signals, kept data, plain errors."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., subprocess.Popen[str]]

EXECUTABLE = Path(sys.executable).with_name("audience-sync")


@pytest.fixture
def command() -> Iterator[Command]:
    """Starts `audience-sync kafka` with the given arguments."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [EXECUTABLE, "kafka", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


def topics(address: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).topics)


def runs(process: psutil.Process) -> bool:
    """A process that nobody has waited for yet is over all the same."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """Sends a signal and returns the status; fails when anything of the command is still there."""
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(number)
    status = process.wait(10)
    assert [member for member in family if runs(member)] == []
    return status


def test_topics_are_kept_from_one_run_to_the_next(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "kafka"
    process = command("--data", data)
    address = first_line(process)
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("orders", 1)])["orders"].result(30)

    taken = command("--port", address.split(":")[1])
    assert taken.wait(30) == 2
    assert taken.stdout
    assert taken.stderr
    assert taken.stdout.read() == ""
    assert "is already in use" in taken.stderr.read()

    assert end(process, signal.SIGTERM) == 0
    assert process.stdout
    assert process.stdout.read() == ""

    port = address.split(":")[1]
    process = command("--data", data, "--port", port)
    assert first_line(process) == address == f"127.0.0.1:{port}"
    assert "orders" in topics(address)
    assert end(process, signal.SIGINT) == 130


def test_a_signal_during_the_start_leaves_nothing(command: Command) -> None:
    process = command()
    owner = psutil.Process(process.pid)
    while not (family := owner.children(recursive=True)):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    # The watchdog may notice its owner's end a moment later.
    while any(map(runs, family)):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "0"), "range"),
        (("--port", "65536"), "range"),
        (("--port", "http"), "not a valid integer"),
        (("--data", "/dev/null"), "/dev/null is not a folder"),
        (("--data", "/dev/null/kafka"), "cannot use /dev/null/kafka as Kafka's data folder"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    process = command(*arguments)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
