r"""YAML text as a tree of nodes that know their lines, safe to build from anything.

A small YAML, so that a value means what it looks like:
- plain `true` and `false`, in any of the cases of YAML 1.2, `null`, `~` and JSON's numbers are values; every other
  scalar is text, also `NO`, `on`, `2026-01-31`, `1:30`, `0o17`, `007` and `+49 30`;
- JSON is read too, with `\ud83d\ude00` as one character and tabs as blanks;
- no tags, no `<<`, one document per text, keys are scalars taken as written and occur once.

Nothing here recurses, and size, depth and the number of nodes after expansion of aliases are limited.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_CHARACTERS = 1_048_576
# An audience takes about 30; an alias counts as all that it stands for.
MAX_NODES = 100_000
# Conditions nest at most 32 deep, each in a mapping and a list.
MAX_DEPTH = 100
MAX_SHOWN = 60

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_NULLS = frozenset({"", "~", "null"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SURROGATE = re.compile("[\ud800-\udfff]")

# Called with a line, counted from 1, and what is wrong there.
Report = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """`text` as written, without quotes; `plain` says that it had none."""

    line: int
    text: str
    plain: bool
    size: int = 1
    height: int = 1

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in _NULLS

    @property
    def boolean(self) -> bool | None:
        """None when this is no boolean."""
        return _BOOLEANS.get(self.text) if self.plain else None

    @property
    def is_number(self) -> bool:
        return self.plain and is_number(self.text)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    line: int
    items: tuple[Node, ...]
    size: int
    height: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's line and its value."""

    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class MappingNode:
    line: int
    entries: dict[str, Entry]
    size: int
    height: int


Node = ScalarNode | SequenceNode | MappingNode


def is_number(text: str) -> bool:
    """Whether `text` is a number as JSON writes them."""
    return _NUMBER.fullmatch(text) is not None


def to_number(text: str) -> int | float:
    """The number of a text of which `is_number` holds.

    Raises ValueError for one that JSON readers do not agree on: whole numbers beyond 53 bits, infinite ones.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("not a number")
    number = float(text)
    if abs(number) >= 2**53 and not (match["fraction"] or match["exponent"]):
        raise ValueError("a whole number this large is not exact everywhere: put it in quotes")
    if number in {float("inf"), float("-inf")}:
        raise ValueError("the number is too large")
    return number if match["fraction"] or match["exponent"] else int(text)


def shown(text: str) -> str:
    """`text` in quotes as a message shows it: on one line, without control characters, not too long."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


class _RefusedError(Exception):
    """The rest of the text cannot be read."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


# YAML folds them to a blank within quotes; in JSON they are characters like any other.
_FOREIGN_BREAK: Final = re.compile("[\x85\u2028\u2029]")


def read_nodes(text: str, report: Report) -> Node | None:
    """The tree of a YAML or JSON text; every problem goes to `report`, and None is what cannot be read at all.

    An empty text is a null scalar.
    """
    if len(text) > MAX_CHARACTERS:
        report(1, f"the text has more than {MAX_CHARACTERS:,} characters")
        return None
    foreign_break = _FOREIGN_BREAK.search(text)
    if foreign_break is not None:
        line = text.count("\n", 0, foreign_break.start()) + 1
        report(
            line,
            f"a line break to YAML and none to JSON: write the character as \\u{ord(foreign_break[0]):04x}",
        )
        return None
    try:
        return _Builder(report).build(_without_json_tabs(text))
    except _RefusedError as refusal:
        report(refusal.line, str(refusal))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        report(mark.line + 1 if mark else 1, f"not valid YAML: {what}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report(line, f"not valid YAML: the character U+{_code_point(error.character):04X} is not allowed")
    except (yaml.YAMLError, ValueError, OverflowError):
        # ValueError and OverflowError: PyYAML passes on what Python says of an escape such as "\U7fffffff".
        report(1, "not valid YAML: an escape or a number in it cannot be read")
    return None


def _code_point(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


def _without_json_tabs(text: str) -> str:
    """JSON may be indented by tabs, YAML may not; within JSON's strings a tab is always escaped."""
    if "\t" in text and text.lstrip()[:1] in {"{", "["}:
        try:
            json.loads(text, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return text
        return text.replace("\t", " ")
    return text


@dataclass(slots=True)
class _Open:
    """A sequence or mapping whose end has not come yet."""

    line: int
    anchor: str | None
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    key: ScalarNode | None = None
    size: int = 1
    height: int = 1

    def closed(self) -> Node:
        if self.is_mapping:
            return MappingNode(self.line, self.entries, self.size, self.height)
        return SequenceNode(self.line, tuple(self.items), self.size, self.height)


class _Builder:
    """Puts the nodes together from PyYAML's events, which come one by one."""

    def __init__(self, report: Report) -> None:
        self._report: Final = report
        self._anchors: Final[dict[str, Node]] = {}
        self._open: Final[list[_Open]] = []
        self._root: Node | None = None
        self._nodes = 0

    def build(self, text: str) -> Node:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise _RefusedError(line, "one text holds one YAML document: take away the line `---`")
            if isinstance(event, yaml.CollectionStartEvent):
                self._start(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                opened = self._open.pop()
                self._add(opened.closed(), opened.anchor, opened.line)
            elif isinstance(event, yaml.ScalarEvent):
                self._refuse_tag(event, line)
                node = ScalarNode(line, self._repaired(event.value, line), plain=event.style is None)
                self._count(1, line)
                self._add(node, event.anchor, line)
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._aliased(event.anchor, line), None, line)
        return self._root or ScalarNode(1, "", plain=True)

    def _start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event, line)
        if self._open and self._open[-1].is_mapping and self._open[-1].key is None:
            raise _RefusedError(line, "a key must be text, not a list or a mapping")
        if len(self._open) >= MAX_DEPTH:
            raise _RefusedError(line, f"nested more than {MAX_DEPTH} deep")
        self._count(1, line)
        self._open.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _aliased(self, anchor: str | None, line: int) -> Node:
        """Known only once it has ended, so that nothing can contain itself."""
        node = self._anchors.get(anchor or "")
        if node is None:
            raise _RefusedError(line, f"`*{anchor}` stands for nothing that ended before it")
        if len(self._open) + node.height > MAX_DEPTH:
            raise _RefusedError(line, f"nested more than {MAX_DEPTH} deep")
        self._count(node.size, line)
        return node

    def _add(self, node: Node, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, ScalarNode):
                raise _RefusedError(line, "a key must be text, not a list or a mapping")
            parent.key = node
        else:
            self._add_entry(parent, parent.key, node)
            parent.key = None

    def _add_entry(self, parent: _Open, key: ScalarNode, node: Node) -> None:
        first = parent.entries.get(key.text)
        if first is not None:
            self._report(key.line, f"the key {shown(key.text)} is here twice, first in line {first.line}")
        elif key.plain and key.text == "<<":
            self._report(key.line, "`<<` is not supported: use `defaults` or repeat the keys")
        else:
            parent.entries[key.text] = Entry(key.line, node)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _RefusedError(
                line, f"more than {MAX_NODES:,} values, aliases counted as what they stand for"
            )

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.tag is not None:
            self._report(line, "tags (`!...`) are not supported; put text in quotes")

    def _repaired(self, text: str, line: int) -> str:
        r"""JSON writes characters beyond U+FFFF as two escapes, which PyYAML leaves as two halves."""
        if not _SURROGATE.search(text):
            return text
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self._report(line, "half of a character: an escape from \\ud800 to \\udfff stands alone")
            return ""
