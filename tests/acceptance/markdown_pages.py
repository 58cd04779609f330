"""The project's pages, read as far as tests ask: fenced blocks, tables, names in backticks, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_ROW: Final = re.compile(r"^\|(.*)\|$")


def name_of(page: Path) -> str:
    """For the ids of tests."""
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The content of the fenced blocks of one language."""
    return [content for kind, content in _BLOCK.findall(text) if kind == language]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _BLOCK.sub("", text)


def words(text: str) -> str:
    """The text with every run of white space made one blank, so that line ends do not matter."""
    return " ".join(text.split())


def quoted(text: str) -> list[str]:
    """What stands in backticks outside of fenced blocks."""
    return _INLINE.findall(prose(text))


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)


def anchor(heading: str) -> str:
    """The name under which a heading can be linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head; cells without white space around."""
    _, found, rest = text.partition(f"\n{heading}\n")
    if not found:
        raise LookupError(f"there is no heading {heading}")
    rows: list[list[str]] = []
    for line in rest.splitlines():
        row = _ROW.match(line)
        if row:
            rows.append([cell.strip() for cell in row[1].split("|")])
        elif rows:
            break
    return rows[2:]
