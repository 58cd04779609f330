"""Values of a definition with their place, and how each kind of value is read.

Every reader reports what is wrong with a value, and where, to the value's findings and then returns None; whoever
called it need say nothing more. That way one reading finds every problem of a whole set of files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from app.domain.durations import parse_duration
from app.domain.instants import format_instant, parse_instant
from app.domain.paths import ARRAY_ITEMS, parse_path
from app.domain.room import PROFILE_EVENTS
from app.domain.yaml_nodes import MAX_SHOWN, MappingNode, Node, ScalarNode, SequenceNode, shown, to_number
from schemas.audience import KEY_PATTERN

if TYPE_CHECKING:
    from collections.abc import Collection

    from schemas.audience import Scalar

# No more than that is kept of a value, so a longer one could not be compared to it.
MAX_TEXT_CHARACTERS = 1_024
MAX_LISTED_PROBLEMS = 200

_KEY = re.compile(KEY_PATTERN.removesuffix("$"))
_ORDINARY_KEY = re.compile(r"[\w $\\.:/-]{1,80}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Finding:
    document: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        parts = [f"{_on_one_line(self.document)}:{self.line}", self.path, self.message]
        return ": ".join(part for part in parts if part)


@dataclass(slots=True)
class Findings:
    """Problems, warnings and remarks, each once; in order of file and line they read `FILE:LINE: PATH: text`."""

    # Names of the documents in their order.
    documents: list[str]
    # How many events of a profile are kept of each thing that is counted.
    profile_events: int = PROFILE_EVENTS
    _problems: dict[_Finding, None] = field(default_factory=dict)
    _warnings: dict[_Finding, None] = field(default_factory=dict)
    _remarks: dict[_Finding, None] = field(default_factory=dict)
    # Reports of problems, those that were made before included.
    reports: int = 0

    def problem(self, document: str, line: int, path: str, message: str) -> None:
        self.reports += 1
        self._problems[_Finding(document, line, path, message)] = None

    def warning(self, document: str, line: int, path: str, message: str) -> None:
        self._warnings[_Finding(document, line, path, message)] = None

    def remark(self, document: str, line: int, path: str, message: str) -> None:
        self._remarks[_Finding(document, line, path, message)] = None

    def problems(self) -> list[str]:
        """Of very many only the first."""
        lines = self._lines(self._problems)
        more = len(lines) - MAX_LISTED_PROBLEMS
        return [*lines[:MAX_LISTED_PROBLEMS], f"... and {more} more problems"] if more > 0 else lines

    def warnings(self) -> tuple[str, ...]:
        return tuple(self._lines(self._warnings))

    def remarks(self) -> tuple[str, ...]:
        return tuple(self._lines(self._remarks))

    def _lines(self, found: dict[_Finding, None]) -> list[str]:
        ranks = {name: rank for rank, name in enumerate(self.documents)}
        return [str(one) for one in sorted(found, key=lambda one: (ranks[one.document], one.line))]


@dataclass(frozen=True, slots=True)
class Value:
    """A node at `path` of `document`; `line` is the line of its key, or its own in a list."""

    node: Node
    document: str
    line: int
    path: str
    findings: Findings

    @property
    def place(self) -> str:
        return f"{_on_one_line(self.document)}:{self.line}"

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, ScalarNode) and self.node.is_null

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, MappingNode)

    def refuse(self, message: str) -> None:
        self.findings.problem(self.document, self.line, self.path, message)

    def expected(self, what: str) -> None:
        self.refuse(f"expected {what}, got {self.described}")

    def warn(self, message: str) -> None:
        self.findings.warning(self.document, self.line, self.path, message)

    def remark(self, message: str) -> None:
        """What may well be meant: only who checks the definitions hears of it."""
        self.findings.remark(self.document, self.line, self.path, message)

    def entries(self, what: str) -> dict[str, Value] | None:
        """The values of a mapping; `what` says in an error what the mapping would be."""
        if not isinstance(self.node, MappingNode):
            self.expected(what)
            return None
        return {
            key: Value(entry.node, self.document, entry.line, self._below(key), self.findings)
            for key, entry in self.node.entries.items()
        }

    def items(self, what: str) -> list[Value] | None:
        """The values of a list; `what` says in an error what the list would be."""
        if not isinstance(self.node, SequenceNode):
            self.expected(what)
            return None
        return [
            Value(node, self.document, node.line, f"{self.path}[{index}]", self.findings)
            for index, node in enumerate(self.node.items)
        ]

    def _below(self, key: str) -> str:
        part = key if _ORDINARY_KEY.fullmatch(key) else shown(key)
        return f"{self.path}.{part}" if self.path else part

    @property
    def described(self) -> str:
        """What is there, as a message says it."""
        if isinstance(self.node, MappingNode):
            return "a mapping"
        if isinstance(self.node, SequenceNode):
            return "a list"
        if self.node.is_null:
            return "nothing"
        if self.node.is_number or self.node.boolean is not None:
            return self.node.text[:MAX_SHOWN]
        return shown(self.node.text)


def is_key(text: str) -> bool:
    """Whether it may be an audience's key."""
    return _KEY.fullmatch(text) is not None


def read_text(value: Value, what: str = "text") -> str | None:
    """Text; a number stands for itself as it is written, which is what an id or a year in a name means."""
    if not isinstance(value.node, ScalarNode) or value.is_null:
        value.expected(what)
    elif value.node.boolean is not None:
        value.expected(f"{what} (put it in quotes)")
    elif len(value.node.text) > MAX_TEXT_CHARACTERS:
        value.refuse(f"the text is longer than {MAX_TEXT_CHARACTERS:,} characters")
    else:
        return value.node.text
    return None


def read_line(value: Value, what: str, most: int) -> str | None:
    """Text with something in it, on one line, of at most `most` characters."""
    text = read_text(value, what)
    if text is None:
        return None
    if not text.strip():
        value.expected(what)
    elif _CONTROL.search(text):
        value.refuse("a control character or line break has no place here")
    elif len(text) > most:
        value.refuse(f"expected at most {most} characters, got {len(text)}")
    else:
        return text
    return None


def read_boolean(value: Value) -> bool | None:
    answer = value.node.boolean if isinstance(value.node, ScalarNode) else None
    if answer is None:
        value.expected("true or false")
    return answer


def read_number(value: Value, what: str = "a number") -> int | float | None:
    """A number, or text that is one."""
    if not isinstance(value.node, ScalarNode):
        value.expected(what)
        return None
    try:
        return to_number(value.node.text)
    except ValueError as error:
        value.refuse(f"expected {what}: {error}") if value.node.is_number else value.expected(what)
    return None


def read_whole_number(value: Value, most: int) -> int | None:
    """From 0 to `most`."""
    what = f"a whole number from 0 to {most:,}"
    text = value.node.text if isinstance(value.node, ScalarNode) else ""
    number = int(text) if _WHOLE_NUMBER.fullmatch(text) else None
    if number is None or number > most:
        value.expected(what)
        return None
    return number


def read_scalar(value: Value, what: str = "a plain value") -> Scalar | None:
    """Text, number or boolean."""
    if not isinstance(value.node, ScalarNode) or value.is_null:
        value.expected(what)
        return None
    if value.node.boolean is not None:
        return value.node.boolean
    return read_number(value, what) if value.node.is_number else read_text(value, what)


def read_choice(value: Value, choices: Collection[str]) -> str | None:
    text = value.node.text if isinstance(value.node, ScalarNode) else None
    if text in choices:
        return text
    value.refuse(f"expected {' or '.join(choices)}, got {value.described}{nearest(text or '', choices)}")
    return None


def read_duration(value: Value) -> int | None:
    """Milliseconds, 0 or more."""
    if not isinstance(value.node, ScalarNode):
        value.expected("a duration such as 30d")
        return None
    try:
        return parse_duration(value.node.text)
    except ValueError as error:
        value.refuse(f"{error}, got {value.described}")
    return None


def read_length(value: Value) -> int | None:
    """Milliseconds, more than 0."""
    length = read_duration(value)
    if length == 0:
        value.refuse("a window needs a length: expected more than 0")
        return None
    return length


def read_instant(value: Value) -> str | None:
    """An instant as text in UTC; a date without a time is its first moment in UTC."""
    text = value.node.text if isinstance(value.node, ScalarNode) else ""
    instant = parse_instant(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    if instant is None:
        value.expected("a date such as 2026-01-31 or an instant with a zone such as 2026-01-31T09:00:00Z")
        return None
    return format_instant(instant)


def read_path(value: Value, *, one_value: bool = False) -> str | None:
    """The text of a path; `one_value` refuses paths into the items of an array."""
    text = read_text(value, "a path such as cart.total")
    return text if text is not None and check_path(value, text, one_value=one_value) else None


def check_path(value: Value, text: str, *, one_value: bool = False) -> bool:
    """Whether `text`, written at `value`, is a path."""
    try:
        parts = parse_path(text)
    except ValueError as error:
        value.refuse(f"{error}, got {shown(text)}")
        return False
    if one_value and ARRAY_ITEMS in parts:
        value.refuse(f"a path to one value is needed here, and $ stands for many: {shown(text)}")
        return False
    return True


def nearest(text: str, known: Collection[str]) -> str:
    """`; did you mean `x`?`, or nothing when no known word is like `text`."""
    matches = get_close_matches(text[:100].lower(), sorted(known), n=1)
    return f"; did you mean `{matches[0]}`?" if matches else ""


def _on_one_line(text: str) -> str:
    return _CONTROL.sub("?", text)
