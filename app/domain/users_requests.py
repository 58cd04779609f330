"""Turns the changes of a batch into requests to Facebook, and an answer's refused rows back into changes.

A request has one schema, the keys that its rows use, and blank cells where a row lacks one. Facebook refuses a row
with a blank EXTERN_ID or LOOKALIKE_VALUE in the schema, so rows with and without either go in requests of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import msgspec
import orjson

from app.domain.scoped_ids import PAYLOAD_LISTS
from schemas.membership import Change, MembershipDelta

# Facebook's limit of rows per request.
MAX_REQUEST_ROWS = 10_000
# Facebook names no limit of bytes, but refuses bodies that are too long with an error page.
MAX_REQUEST_BYTES = 16 * 1024 * 1024

EXTERN_ID = "EXTERN_ID"
LOOKALIKE_VALUE = "LOOKALIKE_VALUE"
# Facebook's own order; keys that are not in it follow by name.
_ORDER = (
    *(EXTERN_ID, "EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI"),
    *("CT", "ST", "ZIP", "MADID", "COUNTRY", LOOKALIKE_VALUE),
)
_RANK = {key: rank for rank, key in enumerate(_ORDER)}

# Brackets, quotes, commas and a number, whatever keys the request has.
_ROW_FRAME = 100
# All other cells, most of them hashes; and a character that JSON writes as \u0001.
_LONGEST_OTHERWISE = 1_100
_ESCAPED = 6

# These alone find no one.
_NAME_NOBODY = frozenset({LOOKALIKE_VALUE, *PAYLOAD_LISTS})

Cell = str | float
Row = Mapping[str, Cell]
# Whether it adds, whether rows have an external id, and whether they have a value.
_Group = tuple[bool, bool, bool]
# A row of a partition: the offset of its delta, and its place among the delta's rows.
RowKey = tuple[int, int]


class RowSource(msgspec.Struct, frozen=True, gc=False):
    """Where a row came from: its delta, that one's offset, and the row's place among the delta's rows."""

    offset: int
    delta: MembershipDelta
    index: int


@dataclass(frozen=True, slots=True)
class UsersRequest:
    """One call of the users edge; `sources[i]` is where `data[i]` came from. `beside`: further lists of the payload,
    with one entry for each row.
    """

    remove: bool
    schema: tuple[str, ...]
    data: list[list[Cell]]
    sources: list[RowSource]
    beside: Mapping[str, list[Cell]] = field(default_factory=dict)

    @property
    def keys(self) -> Iterator[RowKey]:
        """Which rows these are."""
        return ((source.offset, source.index) for source in self.sources)

    def row(self, place: int) -> dict[str, Cell]:
        """A row of the request without its blank cells."""
        return {key: cell for key, cell in zip(self.schema, self.data[place], strict=True) if cell != ""}


def build_requests(
    changes: Iterable[tuple[int, MembershipDelta]],
    destination: str,
    max_rows: int = MAX_REQUEST_ROWS,
    done: Collection[RowKey] = (),
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Iterator[UsersRequest]:
    """Requests in the order to send them, the same for the same changes; built one at a time. Rows that are `done` are
    left out. A request has at most `max_rows` rows and about `max_bytes` bytes, but for a single longer row.

    Removals come first: when one person leaves under one profile and enters under another, the entry wins.
    """
    # Rows and their sources apart: pairs of them would be so much more for the collector of garbage to look through.
    groups: dict[_Group, tuple[list[Row], list[RowSource]]] = {}
    # The same lists, by the keys of a row that has no blank cell: nearly all rows have the keys of the one before.
    of_keys: dict[tuple[bool, tuple[str, ...]], tuple[list[Row], list[RowSource]]] = {}
    for offset, delta in changes:
        remove = delta.change is Change.EXITED
        for index, row in enumerate(delta.rows.get(destination, ())):
            if done and (offset, index) in done:
                continue
            keys = None if "" in row.values() else (remove, tuple(row))
            found = None if keys is None else of_keys.get(keys)
            if found is None:
                group = _group(row, remove=remove)
                if group is None:
                    continue
                found = groups.setdefault(group, ([], []))
                if keys is not None:
                    of_keys[keys] = found
            found[0].append(row)
            found[1].append(RowSource(offset, delta, index))
    del of_keys
    for group in sorted(groups):
        rows, sources = groups.pop(group)
        start = 0
        while start < len(rows):
            end = start + fitting(rows[start : start + max_rows], max_bytes)
            yield _request(group, rows[start:end], sources[start:end])
            start = end


def fitting(rows: Sequence[Row], max_bytes: int = MAX_REQUEST_BYTES) -> int:
    """How many of the first rows have room in a request of so many bytes; one at least."""
    # Only external ids have no fixed length. Mostly they are short, and no row needs to be measured.
    longest = max((len(str(row.get(EXTERN_ID, ""))) for row in rows), default=0)
    if len(rows) * (_LONGEST_OTHERWISE + _ESCAPED * longest) <= max_bytes:
        return len(rows)
    total = 0
    for place, row in enumerate(rows):
        total += row_bytes(row)
        if total > max_bytes and place:
            return place
    return len(rows)


def row_bytes(row: Row) -> int:
    """How long a row is in a body, a blank cell for every other key included: for long texts by their bytes."""
    cells = "".join([cell for cell in row.values() if isinstance(cell, str)])
    return _ROW_FRAME + (len(cells) if cells.isascii() else len(cells.encode()))


def _group(row: Row, *, remove: bool) -> _Group | None:
    """Which rows it can share a request with; None: it finds no one."""
    if not any(cell != "" for key, cell in row.items() if key not in _NAME_NOBODY):
        return None
    # What somebody is worth does not help to find and remove them.
    has_value = not remove and row.get(LOOKALIKE_VALUE, "") != ""
    return not remove, row.get(EXTERN_ID, "") != "", has_value


def _request(group: _Group, rows: Sequence[Row], sources: list[RowSource]) -> UsersRequest:
    add, _, has_value = group
    shapes = {tuple(row) for row in rows}
    keys = {key for shape in shapes for key in shape}
    keys = {key for key in keys if any(row.get(key, "") != "" for row in rows)}
    if not has_value:
        keys.discard(LOOKALIKE_VALUE)
    beside: dict[str, list[Cell]] = {}
    for key, name in PAYLOAD_LISTS.items():
        if key in keys:
            keys.discard(key)
            beside[name] = [row.get(key, "") for row in rows]
    schema = tuple(sorted(keys, key=lambda key: (_RANK.get(key, len(_RANK)), key)))
    return UsersRequest(not add, schema, _cells(schema, shapes, rows), sources, beside)


def _cells(schema: tuple[str, ...], shapes: set[tuple[str, ...]], rows: Sequence[Row]) -> list[list[Cell]]:
    if len(shapes) > 1 or len(schema) == 1:
        return [[row.get(key, "") for key in schema] for row in rows]
    if schema in shapes:
        return [list(row.values()) for row in rows]
    take = itemgetter(*schema)
    return [list(take(row)) for row in rows]


def refused_rows(request: UsersRequest, invalid: Mapping[str, str]) -> list[tuple[int, str]]:
    """Places of the rows that an answer named, each with Facebook's reason; all rows of equal content are meant.

    `invalid` maps rows as JSON text to reasons. Texts that are none of the request's rows are passed over.
    """
    reasons: dict[tuple[Cell, ...], str] = {}
    for text, reason in invalid.items():
        try:
            cells = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        if isinstance(cells, list) and all(isinstance(cell, str | int | float) for cell in cells):
            reasons[tuple(cells)] = reason
    if not reasons:
        return []
    named = ((place, reasons.get(tuple(row))) for place, row in enumerate(request.data))
    return [(place, reason) for place, reason in named if reason is not None]
