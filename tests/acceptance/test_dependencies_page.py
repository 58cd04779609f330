"""docs/dependencies.md lists every dependency of pyproject.toml, and says truly where each is used."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.acceptance.markdown_pages import ROOT, read, table

PAGE = read("docs/dependencies.md")
_PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
NEEDED: dict[str, list[str]] = {
    "## At run time": _PROJECT["dependencies"],
    "## Extra `embedded`: a Kafka on this machine": _PROJECT["optional-dependencies"]["embedded"],
    "## Extra `dev`: checks and tests": _PROJECT["optional-dependencies"]["dev"],
}


def modules_of(package: str) -> set[str]:
    """The top-level modules that a distribution installs."""
    wanted = canonicalize_name(package)
    return {
        module
        for module, owners in packages_distributions().items()
        if wanted in {canonicalize_name(owner) for owner in owners}
    }


def imports(path: Path, modules: set[str]) -> bool:
    found = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return not modules.isdisjoint(found)


@pytest.mark.parametrize("heading", NEEDED)
def test_every_dependency_is_listed(heading: str) -> None:
    listed = [row[0].strip("`") for row in table(PAGE, heading)]
    assert listed == [Requirement(text).name for text in NEEDED[heading]]


@pytest.mark.parametrize(
    "row", [row for heading in NEEDED for row in table(PAGE, heading)], ids=lambda row: row[0]
)
def test_a_dependency_is_used_where_it_is_said(row: list[str]) -> None:
    package, why, where = row[0].strip("`"), row[1], row[2].strip("`")
    assert why
    modules = modules_of(package)
    assert modules
    if where:
        assert imports(ROOT / where, modules)
        return
    # Nothing is said, so no module of ours imports it: it is a tool, a plugin, or there for another package.
    roots = ("app", "schemas", "topics", "tests")
    users = [path for root in roots for path in (ROOT / root).rglob("*.py") if imports(path, modules)]
    assert users == []
