"""What the calls of a source topic are made of: event names, and the paths and types of their data, without any value.

Names that look like identifiers of people, as where a property is named by an e-mail address, are masked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.domain.calls import TYPES
from app.domain.feed_hits import NAMED
from app.domain.paths import MAX_PATH_CHARACTERS
from app.domain.profile_ids import holds_personal_data
from app.domain.values import instant_of, number_of

# What is told apart; what comes beyond is counted as `beyond`.
MAX_EVENTS: Final = 1_000
MAX_PATHS: Final = 500
MAX_DEPTH: Final = 6
# Items of one array that are looked at.
_ITEMS: Final = 20
MASKED: Final = "(masked)"

_LONGEST_NAME: Final = 100
# An e-mail address, a number of 6 digits or more, however it is grouped, or an id of hexadecimal digits.
_IDENTIFIER: Final = re.compile(
    r"@|[0-9](?:[\s()/.+-]{0,2}[0-9]){5}|[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE
)

_decode: Final = msgspec.json.Decoder().decode


@dataclass(slots=True)
class PathsSeen:
    """Of the objects of one kind: how many there were, and in how many each path had a value of which type."""

    objects: int = 0
    types: dict[str, Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    # Whether there were more paths than are told apart, or deeper ones.
    beyond: bool = False

    def add(self, value: Any) -> None:
        """One object; anything else has no paths."""
        self.objects += 1
        seen: dict[str, set[str]] = {}
        for path, kind in self._walk(value, "", 1) if isinstance(value, dict) else ():
            seen.setdefault(path, set()).add(kind)
        for path, kinds in seen.items():
            if path not in self.types and len(self.types) >= MAX_PATHS:
                self.beyond = True
                continue
            self.counts[path] += 1
            self.types.setdefault(path, Counter()).update(kinds)

    def _walk(self, value: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
        for name, inner in value.items():
            yield from self._below(f"{prefix}{_part(name)}", inner, depth)

    def _below(self, path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
        yield path, _type_of(value)
        if not isinstance(value, dict | list) or not value:
            return
        if depth >= MAX_DEPTH or len(path) > MAX_PATH_CHARACTERS:
            self.beyond = True
        elif isinstance(value, dict):
            yield from self._walk(value, f"{path}.", depth + 1)
        else:
            for item in value[:_ITEMS]:
                yield from self._below(f"{path}.$", item, depth + 1)


@dataclass(slots=True)
class EventSurvey:
    """`add` every record; then the rest may be read.

    `records` are all that were added, `unreadable` those that are no call. `traits` are of identify calls, `context`
    of all calls.
    """

    records: int = 0
    unreadable: int = 0
    types: Counter[str] = field(default_factory=Counter)
    events: dict[str, PathsSeen] = field(default_factory=dict)
    traits: PathsSeen = field(default_factory=PathsSeen)
    context: PathsSeen = field(default_factory=PathsSeen)
    # Calls whose user id looks like an e-mail address or a phone number.
    personal_user_ids: int = 0
    # Whether there were more event names than are told apart.
    beyond: bool = False

    def add(self, raw: bytes | None) -> None:
        """Never raises, whatever the bytes."""
        self.records += 1
        try:
            call = _decode(raw or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            call = None
        kind = call.get("type") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(kind, str) or kind not in TYPES:
            self.unreadable += 1
            return
        self.types[kind] += 1
        self.context.add(call.get("context"))
        user_id = call.get("userId")
        if isinstance(user_id, str) and holds_personal_data(user_id):
            self.personal_user_ids += 1
        if kind == "identify":
            self.traits.add(call.get("traits"))
        event, properties = _event_of(kind, call)
        if event is not None:
            self._add_event(event, properties)

    def _add_event(self, event: str, properties: Any) -> None:
        name = masked(event)
        if name not in self.events and len(self.events) >= MAX_EVENTS:
            self.beyond = True
            return
        self.events.setdefault(name, PathsSeen()).add(properties)


def _event_of(kind: str, call: dict[str, Any]) -> tuple[str | None, Any]:
    properties, name = call.get("properties"), call.get("name")
    if kind in NAMED:
        named, name_key = NAMED[kind]
        return named, {**(properties if isinstance(properties, dict) else {}), name_key: name}
    event = call.get("event")
    return (event, properties) if kind == "track" and isinstance(event, str) else (None, None)


def masked(name: str) -> str:
    """The name, unless it looks like an identifier or cannot be shown."""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or _IDENTIFIER.search(name):
        return MASKED
    return name


def _part(name: str) -> str:
    """As a path has it; a name that a path cannot say is masked too."""
    return MASKED if name == "$" or "\\" in name else masked(name).replace(".", "\\.")


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        if instant_of(value) is not None:
            return "date"
        return "text" if number_of(value) is None else "numeric text"
    return "list" if isinstance(value, list) else "object"


# --- as JSON ------------------------------------------------------------------------------------------------------


def as_document(survey: EventSurvey) -> dict[str, Any]:
    """JSON values; the most frequent first. Shares are of the calls of the event, to 3 decimals."""
    by_count = sorted(survey.events.items(), key=lambda item: (-item[1].objects, item[0]))
    return {
        "records": survey.records,
        "unreadable": survey.unreadable,
        "types": dict(survey.types.most_common()),
        "more_events": survey.beyond,
        "personal_user_ids": survey.personal_user_ids,
        "events": [{"event": name, **_paths(seen, "properties")} for name, seen in by_count],
        "traits": _paths(survey.traits, "properties"),
        "context": _paths(survey.context, "properties"),
    }


def _paths(seen: PathsSeen, key: str) -> dict[str, Any]:
    return {
        "count": seen.objects,
        "more_properties": seen.beyond,
        key: [
            {
                "path": path,
                "share": round(seen.counts[path] / seen.objects, 3),
                "types": [kind for kind, _ in seen.types[path].most_common()],
            }
            for path in sorted(seen.types)
        ],
    }
