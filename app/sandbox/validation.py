"""Checks one upload of people: what refuses the whole request, and which rows are refused alone.

A refused request raises GraphError and nothing of it is applied. A refused row is data: it is counted and
shown as a sample, and the other rows of the request are applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from app.sandbox import errors, values
from app.sandbox.errors import data_mismatch, invalid_parameter

if TYPE_CHECKING:
    from app.sandbox.options import SandboxOptions

HASHED_KEYS = frozenset(
    ["EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY"]
)
VALUE_KEY = "LOOKALIKE_VALUE"
MULTI_HASHES = "MULTI_HASHES"
HASHES_OR_USER_IDS = "HASHES_OR_USER_IDS"
MAX_SAMPLES = 100

_SINGLE_HASHED_KEYS = frozenset({"EMAIL_SHA256", "PHONE_SHA256"})
_HASHED = HASHED_KEYS | _SINGLE_HASHED_KEYS
_CLEAR_KEYS = frozenset({"EXTERN_ID", "MADID", "APPUID", "UID"})
_LIMITED_DATA_USE = "DATA_PROCESSING_OPTIONS"
_LIMITED_DATA_USE_PLACES = frozenset({"DATA_PROCESSING_OPTIONS_COUNTRY", "DATA_PROCESSING_OPTIONS_STATE"})
_ARRAY_KEYS = HASHED_KEYS | _CLEAR_KEYS | _LIMITED_DATA_USE_PLACES | {VALUE_KEY, "PAGEUID", _LIMITED_DATA_USE}
_STRING_KEYS = HASHED_KEYS | _CLEAR_KEYS | _SINGLE_HASHED_KEYS | {"MOBILE_ADVERTISER_ID", "PAGEUID"}
_NAMES_NOBODY = _LIMITED_DATA_USE_PLACES | {_LIMITED_DATA_USE, VALUE_KEY}

_HASH_LENGTH = 64
_BLANK: tuple[Any, ...] = ("", [])
_LARGEST_SESSION_ID = 2**63 - 1

Reason = str | None
RefusedRows = Sequence[tuple[Mapping[str, Any], str]]
Check = Callable[[Any], Reason]


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    batch_seq: int
    last_batch: bool


@dataclass(slots=True)
class Upload:
    """One request's rows, checked: `rows` hold only cells that are not blank."""

    schema: list[str] | str
    received: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    invalid: int = 0
    samples: dict[str, str] = field(default_factory=dict)

    @property
    def data_source(self) -> str:
        """The sub type of data source that this style of schema belongs to."""
        return HASHES_OR_USER_IDS if isinstance(self.schema, str) else MULTI_HASHES


def read_upload(parameters: values.Parameters, options: SandboxOptions, refused: RefusedRows = ()) -> Upload:
    """`payload` of an add or a removal, without regard to the audience it is for; rows with the cells of one of
    `refused` are invalid, for the reason given there.
    """
    payload = values.mapping(parameters, "payload")
    if payload is None:
        raise invalid_parameter("The parameter payload is required", blame="payload")
    schema = _schema(payload)
    keys = [schema] if isinstance(schema, str) else schema
    rows = _rows(payload, keys, single=isinstance(schema, str))
    if len(rows) > options.max_rows:
        if options.too_many_rows == "unknown error":
            raise errors.too_many_rows_unknown()
        raise invalid_parameter(
            f"At most {options.max_rows} rows can be sent in one request", blame="payload"
        )
    upload = Upload(schema, len(rows))
    _check_rows(upload, keys, rows, refused)
    return upload


def read_session(parameters: values.Parameters) -> Session | None:
    session = values.mapping(parameters, "session")
    if session is None:
        return None
    session_id = values.integer(session, "session_id", 1, _LARGEST_SESSION_ID)
    if session_id is None:
        raise values.expected("session[session_id]", "given with a session")
    values.integer(session, "estimated_num_total", 0, _LARGEST_SESSION_ID)
    return Session(
        str(session_id),
        values.integer(session, "batch_seq", 1, _LARGEST_SESSION_ID) or 1,
        values.boolean(session, "last_batch_flag") or False,
    )


def _schema(payload: dict[str, Any]) -> list[str] | str:
    schema: Any = payload.get("schema")
    if isinstance(schema, str) and schema:
        keys, known = [schema], _STRING_KEYS
    elif isinstance(schema, list) and schema and all(isinstance(key, str) for key in schema):
        keys, known = schema, _ARRAY_KEYS
    else:
        raise data_mismatch()
    for key in keys:
        if key not in known:
            raise invalid_parameter(f"Unknown key {key} in the schema", blame="schema")
    if len(set(keys)) < len(keys):
        raise invalid_parameter("A key is named twice in the schema", blame="schema")
    _check_companions(payload, set(keys))
    return schema if isinstance(schema, str) else keys


def _check_companions(payload: dict[str, Any], keys: set[str]) -> None:
    """Some identifiers mean something only beside the app or page that gave them."""
    if keys & {"APPUID", "UID"} and not payload.get("app_ids"):
        raise invalid_parameter("app_ids is required for app-scoped ids", blame="app_ids")
    if "PAGEUID" in keys and not (payload.get("page_ids") and values.boolean(payload, "is_raw")):
        raise invalid_parameter("page_ids and is_raw are required for PAGEUID", blame="page_ids")


def _rows(payload: dict[str, Any], keys: list[str], *, single: bool) -> list[list[Any]]:
    data = payload.get("data")
    if not isinstance(data, list) or not data:
        raise data_mismatch()
    if single:
        data = [[row] if isinstance(row, str) else row for row in data]
    width = len(keys)
    for row in data:
        if not isinstance(row, list) or len(row) != width:
            raise data_mismatch()
    return data


def _check_rows(upload: Upload, keys: Sequence[str], rows: list[list[Any]], refused: RefusedRows) -> None:
    """Column by column, because a column of nothing but good hashes can be checked in one go."""
    reasons: dict[int, str] = {}
    for key, column in zip(keys, zip(*rows, strict=True), strict=True):
        types = set(map(type, column))
        if types & {list, dict} and key not in {_LIMITED_DATA_USE, "PAGEUID"}:
            raise data_mismatch()
        if types == {str} and _all_good(key, column):
            continue
        check = _check_of(key)
        for place, cell in enumerate(column):
            reason = check(cell) if cell or cell not in _BLANK else None
            if reason is not None:
                reasons.setdefault(place, reason)
    for place, row in enumerate(rows):
        cells = {key: cell for key, cell in zip(keys, row, strict=True) if cell or cell not in _BLANK}
        reason = _row_reason(keys, cells) or reasons.get(place) or _refusal(cells, refused)
        if reason is None:
            upload.rows.append(cells)
            continue
        upload.invalid += 1
        if len(upload.samples) < MAX_SAMPLES:
            sent = row[0] if isinstance(upload.schema, str) else row
            upload.samples[orjson.dumps(sent).decode()] = reason


def _refusal(cells: dict[str, Any], refused: RefusedRows) -> Reason:
    return next((why for wanted, why in refused if wanted.items() <= cells.items()), None)


def _all_good(key: str, column: Sequence[str]) -> bool:
    if key in _HASHED:
        return _all_hashes(column)
    return key in _CLEAR_KEYS and not any(map(str.isspace, column))


def _all_hashes(column: Sequence[str]) -> bool:
    """Ten thousand hashes are checked as one text: `fromhex` is many times quicker than looking at each."""
    if not set(map(len, column)) <= {0, _HASH_LENGTH}:
        return False
    text = "".join(column)
    try:
        # What `fromhex` allows beside lower-case hex: capital letters, and blanks between the bytes.
        return text == text.lower() and len(bytes.fromhex(text)) * 2 == len(text)
    except ValueError:
        return False


def _row_reason(keys: Sequence[str], cells: dict[str, Any]) -> Reason:
    if "EXTERN_ID" in keys and not str(cells.get("EXTERN_ID", "")).strip():
        return "empty external ID"
    if _NAMES_NOBODY.issuperset(cells):
        return "empty row"
    return None


def _check_of(key: str) -> Check:
    if key in _HASHED:
        return lambda cell: None if type(cell) is str and _all_hashes([cell]) else f"invalid hash in {key}"
    if key == VALUE_KEY:
        return _check_value
    if key == "PAGEUID":
        return _check_page_user
    if key == _LIMITED_DATA_USE:
        return lambda cell: None if cell == ["LDU"] else f"invalid {key}"
    if key in _LIMITED_DATA_USE_PLACES:
        return lambda cell: None if type(cell) is int and cell >= 0 else f"invalid {key}"
    return lambda cell: None if type(cell) is str and cell.strip() else f"invalid {key}"


def _check_value(cell: Any) -> Reason:
    if isinstance(cell, bool) or not isinstance(cell, int | float) or cell < 0:
        return f"invalid {VALUE_KEY}: a number of at least 0 is expected"
    return None


def _check_page_user(cell: Any) -> Reason:
    """The id itself or, as the API's own examples have it, an array with one element."""
    page_user = cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
    return None if isinstance(page_user, str) and page_user.strip() else "invalid PAGEUID"
