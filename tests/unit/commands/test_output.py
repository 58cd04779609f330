"""What becomes of a result that cannot be written: the same for every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = "from app.commands import main; main()"
AUDIENCES = """
audiences:
  - {name: Bought, when: {event: Order Completed, within: 30d}}
"""
EVENT = {"type": "track", "event": "Order Completed", "timestamp": "2026-01-01T00:00:00Z"}
COMMANDS = [
    "--help",
    "settings",
    "settings --json",
    "validate audiences.yaml",
    "validate audiences.yaml --json",
    "simulate --audiences audiences.yaml --events events.ndjson",
    "simulate --audiences audiences.yaml --events few.ndjson",
    "normalize",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audiences.yaml").write_text(AUDIENCES)
    calls = [json.dumps({**EVENT, "userId": f"user_{n}", "messageId": f"m{n}"}) for n in range(2_000)]
    (tmp_path / "events.ndjson").write_text("\n".join(calls))
    (tmp_path / "few.ndjson").write_text(calls[0])
    return tmp_path


def run(command: str, folder: Path, redirected: str) -> tuple[int, str]:
    """Status and standard error of the command, its standard output redirected by a shell."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_SYNC_")}
    result = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {command} {redirected}', sys.executable, PROGRAM],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        input=b'{"gender": "f"}\n' * 2_000,
        capture_output=True,
        check=False,
    )
    assert result.stdout == b""
    return result.returncode, result.stderr.decode()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_a_failure_in_one_line(command: str, folder: Path) -> None:
    assert run(command, folder, ">/dev/full") == (
        1,
        "error: cannot write the result: No space left on device\n",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_so_is_a_closed_standard_output(command: str, folder: Path) -> None:
    assert run(command, folder, ">&-") == (
        1,
        "error: cannot write the result: standard output is closed\n",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_seen_enough_is_none(command: str, folder: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)  # gone before the first byte, so that no chance decides
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command.split()],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(theirs)
    _, stderr = process.communicate(b'{"gender": "f"}\n')
    assert (process.returncode, stderr) == (0, b"")


def test_an_error_keeps_its_status_where_nothing_was_to_be_written(folder: Path) -> None:
    status, stderr = run("validate none.yaml", folder, ">&-")
    assert (status, "there is no such file" in stderr) == (2, True)
    assert run("validate none.yaml", folder, ">/dev/full")[0] == 2
