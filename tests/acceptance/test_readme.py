"""The README: what it shows happens, what it names is there, and what it says is missing is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.commands import COMMANDS
from app.commands.demo_events import load_orders, moved_to_end, traits
from app.commands.demo_oracle import QUERIES, SqlOracle
from app.domain.definitions import Document, parse_definitions
from app.errors import InvalidInputError
from app.settings import load_settings
from tests.acceptance.markdown_pages import ROOT, blocks, read, words

README = read("README.md")
BIN = Path(sys.executable).parent
PROMPT = "$ "


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown."""
    parts = re.split(rf"^{re.escape(PROMPT)}", block, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a prompt"
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts[1:])]


def test_the_console_shows_what_happens(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    shown = [step for block in blocks(README, "console") for step in steps(block)]
    run = 0
    for command, output in shown:
        if command.startswith("cat "):
            # Files are introduced by their content.
            (tmp_path / command.removeprefix("cat ")).write_text(output, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
        run += 1
    assert run >= 3


@pytest.mark.parametrize("block", blocks(README, "yaml"))
def test_definitions_are_read_without_warnings(block: str) -> None:
    read_out = parse_definitions([Document("audiences.yaml", block)])
    assert read_out.audiences
    assert read_out.warnings == ()


def test_the_language_takes_ten_lines() -> None:
    (block,) = blocks(README, "yaml")
    assert "ten lines" in README
    assert len(block.splitlines()) == 10


def test_the_result_of_the_demo_is_what_sql_says() -> None:
    last_day = datetime.now(UTC).date()
    noon = datetime(last_day.year, last_day.month, last_day.day, 12, tzinfo=UTC)
    orders = moved_to_end(load_orders(), last_day)
    customers = {order.customer for order in orders}
    countries = {customer: traits(customer)["country"] for customer in customers}
    with SqlOracle(orders, countries) as oracle:
        counted = {key: f"{len(oracle.members(key, round(noon.timestamp()) * 1_000)):,}" for key in QUERIES}
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in README.splitlines() if line[:1] == "│"
    ]
    assert rows == [[key, size, size, size, "same"] for key, size in counted.items()]
    assert f"All three agree on {len(orders):,} orders of {len(customers):,} customers." in README


def test_python_is_the_version_that_is_asked_for() -> None:
    asked = re.search(r'requires-python = ">=([\d.]+)"', read("pyproject.toml"))
    assert asked
    assert f"Python {asked[1]} or newer" in words(README)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_a_command_of_the_first_two_is_a_target(name: str) -> None:
    assert f"\nmake {name}\n" in README
    assert re.search(rf"^{name}:", read("Makefile"), re.MULTILINE)


# What the list of missing parts says, and how to see that it is still so.
MISSING_COMMANDS = {
    "ingest": "no HTTP ingest",
}


def missing_parts() -> str:
    return words(README.partition("## What it does not do yet")[2].partition("\n## ")[0])


@pytest.mark.parametrize(("command", "said"), MISSING_COMMANDS.items())
def test_a_command_that_is_said_to_be_missing_is_missing(command: str, said: str) -> None:
    assert said in missing_parts()
    assert command not in COMMANDS


@pytest.mark.parametrize("mechanism", ["GSSAPI"])
def test_a_mechanism_that_is_said_to_be_missing_is_refused(
    mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"`{mechanism}`" in missing_parts()
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", mechanism)
    with pytest.raises(InvalidInputError, match=f"{mechanism} is not supported"):
        load_settings()


def test_the_licence_is_the_one_that_is_named() -> None:
    assert "Apache License 2.0" in README
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert '\nlicense = "Apache-2.0"\n' in read("pyproject.toml")
