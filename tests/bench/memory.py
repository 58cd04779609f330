"""Memory: what a worker holds of a million people, each with four identifiers and five counted events.

Measured in a process of its own that has all of the worker's code loaded, and nothing else of size: the resident set
before and after its partitions have been recovered from what the changelog has of these people.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.errors import PermanentError
from tests.bench.memory_people import AUDIENCES, records_of
from tests.bench.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PEOPLE = 1_000_000
TARGET_BYTES = 700_000_000
# Of so many the calls are run; all others are like one of them.
_TEMPLATES = 500


@dataclass(frozen=True, slots=True)
class Memory:
    """`profiles` are the people and the identifiers that have become part of them; `encoded_bytes` is what the values of
    their records in the changelog have.
    """

    people: int
    profiles: int
    rss_before_bytes: int
    rss_after_bytes: int
    encoded_bytes: int

    @property
    def bytes_per_person(self) -> float:
        return (self.rss_after_bytes - self.rss_before_bytes) / self.people

    @property
    def target_bytes(self) -> float:
        """The target is of a million people."""
        return TARGET_BYTES * self.people / PEOPLE

    @property
    def met(self) -> bool:
        return self.rss_after_bytes <= self.target_bytes


def write_templates(file: Path, people: int) -> None:
    """What the changelog has of the first people, for the process that is measured."""
    plan = compile_audiences(read_definitions(AUDIENCES).audiences)
    file.write_bytes(msgspec.msgpack.encode(asyncio.run(records_of(plan, people))))


def measure_memory(folder: Path, people: int, say: Callable[[str], None]) -> Memory:
    """Raises PermanentError when the process fails, which it does too when somebody is not there at the end."""
    say(f"memory: {people:,} people with four identifiers and five events each")
    file = folder / "memory.templates"
    write_templates(file, min(people, _TEMPLATES))
    command = [sys.executable, "-m", "tests.bench.memory_process", str(file), str(people)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermanentError(f"the process under measurement failed:\n{done.stderr}")
    return msgspec.json.decode(done.stdout, type=Memory)
