"""Turns the changes of a batch into requests to Facebook, and an answer's refused rows back into changes.

A request has one schema, the keys that its rows use, and blank cells where a row lacks one. Facebook refuses a row
with a blank EXTERN_ID or LOOKALIKE_VALUE in the schema, so rows with and without either go in requests of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from app.domain.scoped_ids import PAYLOAD_LISTS
from schemas.membership import Change, MembershipDelta

# Facebook's limit of rows per request.
MAX_REQUEST_ROWS = 10_000

EXTERN_ID = "EXTERN_ID"
LOOKALIKE_VALUE = "LOOKALIKE_VALUE"
# Facebook's own order; keys that are not in it follow by name.
_ORDER = (
    *(EXTERN_ID, "EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI"),
    *("CT", "ST", "ZIP", "MADID", "COUNTRY", LOOKALIKE_VALUE),
)
_RANK = {key: rank for rank, key in enumerate(_ORDER)}

# These alone find no one.
_NAME_NOBODY = frozenset({LOOKALIKE_VALUE, *PAYLOAD_LISTS})

Cell = str | float
Row = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class RowSource:
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

    def row(self, place: int) -> dict[str, Cell]:
        """A row of the request without its blank cells."""
        return {key: cell for key, cell in zip(self.schema, self.data[place], strict=True) if cell != ""}


def build_requests(
    changes: Iterable[tuple[int, MembershipDelta]], destination: str, max_rows: int = MAX_REQUEST_ROWS
) -> Iterator[UsersRequest]:
    """Requests in the order to send them, the same for the same changes; built one at a time.

    Removals come first: when one person leaves under one profile and enters under another, the entry wins.
    """
    groups: dict[tuple[bool, bool, bool], list[tuple[Row, RowSource]]] = {}
    for offset, delta in changes:
        remove = delta.change is Change.EXITED
        for index, row in enumerate(delta.rows.get(destination, ())):
            if any(cell != "" for key, cell in row.items() if key not in _NAME_NOBODY):
                # What somebody is worth does not help to find and remove them.
                has_value = not remove and row.get(LOOKALIKE_VALUE, "") != ""
                group = (not remove, row.get(EXTERN_ID, "") != "", has_value)
                groups.setdefault(group, []).append((row, RowSource(offset, delta, index)))
    for group in sorted(groups):
        rows = groups.pop(group)
        for start in range(0, len(rows), max_rows):
            yield _request(group, rows[start : start + max_rows])


def _request(group: tuple[bool, bool, bool], rows: Sequence[tuple[Row, RowSource]]) -> UsersRequest:
    add, _, has_value = group
    keys: set[str] = set()
    for row, _ in rows:
        keys.update(row)
    keys = {key for key in keys if any(row.get(key, "") != "" for row, _ in rows)}
    if not has_value:
        keys.discard(LOOKALIKE_VALUE)
    beside: dict[str, list[Cell]] = {}
    for key, name in PAYLOAD_LISTS.items():
        if key in keys:
            keys.discard(key)
            beside[name] = [row.get(key, "") for row, _ in rows]
    schema = tuple(sorted(keys, key=lambda key: (_RANK.get(key, len(_RANK)), key)))
    data = [[row.get(key, "") for key in schema] for row, _ in rows]
    return UsersRequest(not add, schema, data, [source for _, source in rows], beside)


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
