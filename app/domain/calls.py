"""From the bytes of a source record to a call whose fields have the types that Segment's Spec gives them.

The common case is one typed decode. Only what that refuses is read again, loosely, to say what is wrong with it;
a wrong type in a field that means nothing in that call is passed over.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from schemas.dead_letter import Reason
from schemas.segment import ABSENT, SegmentEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

# The calls of the Spec.
TYPES: Final = frozenset({"identify", "track", "page", "screen", "group", "alias"})
# Not of the Spec: the person is to be forgotten.
DELETE: Final = "delete"
# Characters of a message id; Segment's own limit is 100.
_MAX_MESSAGE_ID: Final = 100

_decode: Final = msgspec.json.Decoder(SegmentEvent).decode
_decode_any: Final = msgspec.json.Decoder().decode

_ALWAYS_TEXT: Final = ("userId", "anonymousId", "messageId")
_TEXT_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "event": ("track",),
    "name": ("page", "screen"),
    "groupId": ("group",),
}
_INSTANTS: Final = ("timestamp", "receivedAt")
_OBJECTS: Final = ("properties", "traits", "context")
_FIELDS: Final = frozenset(
    {
        *_ALWAYS_TEXT,
        *_TEXT_IN,
        *_INSTANTS,
        *_OBJECTS,
        "type",
        "originalTimestamp",
        "sentAt",
        "integrations",
    }
)
_NULL: Final = b"null"
_OBJECT_START: Final = ord("{")


class Refusal(msgspec.Struct, gc=False, frozen=True):
    """Why a record cannot be used; `detail` names the field and never holds its value."""

    reason: Reason
    detail: str


class RefusedError(Exception):
    """Ends the reading of a record; never leaves app.domain.resolution, which makes data of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


class _WholeContext(msgspec.Struct, gc=False, frozen=True):
    context: dict[str, Any] | None = None


_decode_context: Final = msgspec.json.Decoder(_WholeContext).decode


def read_call(raw: bytes) -> SegmentEvent:
    """Raises RefusedError, or RecursionError for JSON that is nested too deeply."""
    try:
        call = _decode(raw)
        if not raw.isascii():
            raw.decode()  # what the typed decode leaves undecoded may be anything
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_loosely(raw)
    if call.properties is not ABSENT and bytes(call.properties)[0] != _OBJECT_START:
        _check_null(call.properties, "properties")
    if call.traits is not ABSENT and bytes(call.traits)[0] != _OBJECT_START:
        _check_null(call.traits, "traits")
    return call


def _check_null(value: msgspec.Raw, field: str) -> None:
    if bytes(value) != _NULL:
        refuse_object(field)


def refuse_object(field: str) -> NoReturn:
    raise RefusedError(Reason.INVALID_FIELD, f"{field} is not an object")


def read_object(value: msgspec.Raw) -> Any:
    """The decoded value, None where it is absent. Raises msgspec.DecodeError for what is no JSON."""
    return None if value is ABSENT else _decode_any(value)


def read_context(raw: bytes) -> dict[str, Any] | None:
    """The whole `context` of a call that `read_call` has accepted."""
    return _decode_context(raw).context


def read_whole(raw: bytes) -> dict[str, Any]:
    """All of a call that `read_call` has accepted, of any field whatever it is."""
    whole: dict[str, Any] = _decode_any(raw)
    return whole


def message_id_of(call: SegmentEvent) -> str | None:
    """The call's message id in a bounded length, None for a blank one: states keep it."""
    text = call.message_id
    if text is None or len(text) <= _MAX_MESSAGE_ID:
        return text if text and not text.isspace() else None
    return text[:_MAX_MESSAGE_ID] + hashlib.sha256(text.encode()).hexdigest()


def has_id(call: SegmentEvent) -> bool:
    """Whether the call has a user id or an anonymous id."""
    user_id = call.user_id
    if user_id and not user_id.isspace():
        return True
    anonymous_id = call.anonymous_id
    return bool(anonymous_id and not anonymous_id.isspace())


def read_instants(raw: bytes) -> tuple[Any, Any]:
    """`receivedAt` and `timestamp` of a record that was refused, whatever they are; None where unreadable."""
    try:
        value = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return (value.get("receivedAt"), value.get("timestamp")) if type(value) is dict else (None, None)


def _read_loosely(raw: bytes) -> SegmentEvent:
    """Says what is wrong with a record that the typed decode refuses, or reads it without what means nothing."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise RefusedError(Reason.INVALID_UTF8, "the record is not UTF-8") from None
    try:
        value = _decode_any(raw)
    except msgspec.ValidationError:
        raise RefusedError(Reason.INVALID_JSON, "a number is out of range") from None
    except msgspec.DecodeError:
        raise RefusedError(Reason.INVALID_JSON, "the record is not JSON") from None
    if type(value) is not dict:
        raise RefusedError(Reason.NOT_AN_OBJECT, "the record is not a JSON object")
    _check_fields(value)
    fields = {name: field for name, field in value.items() if name in _FIELDS and _has_meaning(name, field)}
    return _decode(json.dumps(fields))


def _check_fields(value: dict[str, Any]) -> None:
    call_type = value.get("type")
    if call_type is not None and type(call_type) is not str:
        raise RefusedError(Reason.UNKNOWN_TYPE, "type is not a text")
    for name in _ALWAYS_TEXT:
        if not _is_text(value.get(name)):
            raise RefusedError(Reason.INVALID_FIELD, f"{name} is not a text")
    for name, types in _TEXT_IN.items():
        if call_type in types and not _is_text(value.get(name)):
            raise RefusedError(Reason.INVALID_FIELD, f"{name} is not a text")
    for name in _OBJECTS:
        if type(value.get(name)) not in (dict, type(None)):
            refuse_object(name)
    for name in _INSTANTS:
        if not _is_text(value.get(name)):
            raise RefusedError(Reason.INVALID_TIMESTAMP, f"{name} is not a text")


def _is_text(value: Any) -> bool:
    return value is None or type(value) is str


def _has_meaning(name: str, value: Any) -> bool:
    return _is_text(value) or name in _OBJECTS or name == "integrations"
