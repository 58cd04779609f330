"""Records of a newer format than this release knows are refused: misread, they would become wrong memberships.

A format's version grows when old code could misread it; what is only added at the end, with a default, needs none.
Of what stands in Kafka only a newer release can have written more, and only that one may go on.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from app.errors import NewerFormatError, UnreadableRecordError
from schemas.base import StoredMessage

# Of every format, today. A format that gets a version of its own says so where it is defined.
KNOWN: Final = 1

# Of a version that stands in one byte: MessagePack's small whole numbers.
_MOST: Final = 127
# MessagePack's heads of an array: of 2 to 15 items, and of more, behind which two bytes of length follow.
_SHORT: Final = tuple(bytes([0x90 + items]) for items in range(2, 16))
_LONG: Final = b"\xdc"

# What msgspec raises for bytes that are no such record: also for text that is not UTF-8, or too many lists in lists.
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_TAG_INVALID: Final = "union_tag_invalid"

_Record = TypeVar("_Record", bound=StoredMessage)


class _Versioned(msgspec.Struct, gc=False):
    version: int = 0


_decode_array: Final = msgspec.msgpack.Decoder(list[Any]).decode
_decode_json: Final = msgspec.json.Decoder(_Versioned).decode


def refuse_newer_packed(what: str, encoded: bytes, known: int = KNOWN) -> None:
    """Raises NewerFormatError for a MessagePack array that begins with a version greater than `known`."""
    head = encoded[:1]
    at = 1 if head in _SHORT else 3
    if (at == 1 or head == _LONG) and len(encoded) > at and known < encoded[at] <= _MOST:
        raise _newer(what, encoded[at], known)


def nothing_set_aside(topic: str, partition: int, offset: int) -> bool:
    """Nobody has said of any record that it is to be a dead letter."""
    del topic, partition, offset
    return False


def is_packed(encoded: bytes) -> bool:
    """Whether all of it is one MessagePack array, as every release writes: not bytes that only begin like one."""
    try:
        _decode_array(encoded)
    except UNDECODABLE:
        return False
    return True


def standing_at(error: NewerFormatError, topic: str, partition: int, offset: int) -> NewerFormatError:
    """The same with the place of the record."""
    return NewerFormatError(f"{error}. It stands in {topic}, partition {partition}, offset {offset}")


def standing_under(error: NewerFormatError, topic: str, key: bytes) -> NewerFormatError:
    """As `standing_at`, of a compacted topic of which the newest record of each key is read; the keys name no person."""
    return NewerFormatError(f"{error}. It stands in {topic} under the key {key.decode(errors='replace')}")


def may_be_set_aside(error: NewerFormatError, topic: str, partition: int, offset: int) -> NewerFormatError:
    """As `standing_at`, where a person can say that nobody needs the record."""
    return NewerFormatError(
        f"{standing_at(error, topic, partition, offset)}. If no release of yours has written it, somebody else writes to "
        f"that topic: `audience-sync dead-letters set-aside {topic} {partition} {offset}` makes it a dead letter"
    )


def refuse_newer_json(what: str, encoded: bytes, known: int = KNOWN) -> None:
    """Raises NewerFormatError for a JSON object that says a version greater than `known`."""
    try:
        version = _decode_json(encoded).version
    except UNDECODABLE:
        return
    if version > known:
        raise _newer(what, version, known)


def read_stored(model: type[_Record], encoded: bytes) -> _Record:
    """The record; raises NewerFormatError, or UnreadableRecordError for what is no such record."""
    try:
        record = model.model_validate_json(encoded)
    except ValidationError as exc:
        # What has been changed is likely to be refused for that: the version says more.
        refuse_newer_json(model.__name__, encoded)
        raise unreadable(model, exc) from None
    version = getattr(record, "version", KNOWN)
    if version > KNOWN:
        raise _newer(model.__name__, version, KNOWN)
    return record


def unreadable(model: type[BaseModel], problems: ValidationError) -> UnreadableRecordError:
    """What is wrong with a record, by the first problem; the text holds nothing of the record."""
    problem = problems.errors(include_input=False, include_url=False, include_context=False)[0]
    field = problem["loc"][0] if problem["loc"] else None
    where = f"{field}: " if field in model.model_fields else ""
    # The one text of pydantic's that quotes the value.
    why = "of no known kind" if problem["type"] == _TAG_INVALID else problem["msg"]
    return UnreadableRecordError(f"a record is no {model.__name__}: {where}{why}")


def not_ours(what: str) -> UnreadableRecordError:
    """Of a record of the changelog that cannot be decoded."""
    return UnreadableRecordError(
        f"a record of the changelog is no {what}: something else has written to that topic, so what is known of its people"
        " cannot be trusted; have the topic restored"
    )


def _newer(what: str, version: int, known: int) -> NewerFormatError:
    return NewerFormatError(
        f"there is a {what} of format {version}, and this release knows {known} at most: run the release that wrote it,"
        " or a later one"
    )
