"""Tables lose nothing, whatever they are printed to."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from app.settings import Settings, variable_of

ROOT = Path(__file__).parents[3]
SETTINGS = [sys.executable, "-c", "from app.commands import main; main()", "settings"]
PATH = "/srv/" + "/".join(["a folder of audiences", ":key:", "[bold]"] * 8)
VARIABLES = [variable_of((name,)) for name in Settings.model_fields if name != "kafka_options"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_SYNC_")}
    return {**kept, "PYTHONPATH": str(ROOT), "AUDIENCE_SYNC_AUDIENCES": PATH, "TERM": "xterm", **more}


def piped(**more: str) -> list[str]:
    result = subprocess.run(SETTINGS, env=environment(**more), capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout.splitlines()


def on_terminal(columns: int) -> list[str]:
    """What a terminal of that width gets, line by line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(SETTINGS, env=kept, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        found = b""
        try:
            while block := os.read(ours, 65_536):
                found += block
        except OSError:  # Linux says so at the end of a terminal whose other side is closed
            pass
        os.close(ours)
        assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", found.decode()).splitlines()


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_in_a_pipe_every_value_is_whole_on_the_line_of_its_setting(columns: str) -> None:
    lines = piped(COLUMNS=columns)
    (line,) = [line for line in lines if "AUDIENCE_SYNC_AUDIENCES" in line]
    assert PATH in line
    assert "environment" in line
    for variable in VARIABLES:
        assert len([line for line in lines if f" {variable} " in line]) == 1, variable
    assert len({len(line) for line in lines}) == 1


def test_a_narrow_terminal_gets_lines() -> None:
    lines = on_terminal(40)
    at = lines.index("AUDIENCE_SYNC_AUDIENCES")
    assert lines[at + 1 : at + 3] == [f"  value: {PATH}", "  from: environment"]
    assert [line for line in lines if not line.startswith(" ")] == [
        line for line in lines if line.isupper() or line.startswith(("KAFKA_", "FACEBOOK_"))
    ]
    for variable in VARIABLES:
        assert variable in lines


@pytest.mark.parametrize("columns", [90, 130])
def test_a_wider_one_gets_a_table_that_fits_with_values_folded(columns: int) -> None:
    lines = on_terminal(columns)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= columns
    for variable in VARIABLES:
        assert len([line for line in lines if f" {variable} " in line]) == 1, variable
    at = next(number for number, line in enumerate(lines) if "AUDIENCE_SYNC_AUDIENCES" in line)
    end = next(number for number, line in enumerate(lines) if "AUDIENCE_SYNC_SOURCE_TOPIC" in line)
    values = [line.split("│")[2].strip() for line in lines[at:end]]
    assert "".join(values).replace(" ", "") == PATH.replace(" ", "")
