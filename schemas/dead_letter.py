"""DeadLetter: a record that a stage could not process, with its reason and where it came from.

It holds coordinates and only what is already hashed; never a raw payload.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from schemas.base import StoredMessage, Whole


class Reason(StrEnum):
    """The closed list of reasons."""

    INVALID_JSON = "invalid_json"
    INVALID_UTF8 = "invalid_utf8"
    NOT_AN_OBJECT = "not_an_object"
    TOO_LARGE = "too_large"
    NO_IDENTITY = "no_identity"
    INVALID_FIELD = "invalid_field"
    NEWER_FORMAT = "newer_format"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_TIMESTAMP = "invalid_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    INVALID_AUDIENCE_MEMBERSHIP = "invalid_audience_membership"
    REJECTED_ROW = "rejected_row"
    REJECTED_REQUEST = "rejected_request"


class DropReason(StrEnum):
    """Why a record ends without effect, and is counted for it."""

    DUPLICATE = "duplicate"
    NOT_NEEDED = "not_needed"
    ALIAS = "alias"
    FILTERED_BY_INTEGRATIONS = "filtered_by_integrations"
    UNKNOWN_AUDIENCE = "unknown_audience"
    COMPUTED_HERE = "computed_here"
    NOT_IN_SYNC_MODE = "not_in_sync_mode"
    NO_IDENTIFIER = "no_identifier"
    FORGOTTEN = "forgotten"
    SUPERSEDED = "superseded"
    ACCOUNT_FULL = "account_full"


class Origin(StoredMessage):
    """Where the record stands: enough to read it again while the topic keeps it.

    `key` is the record's key; for source records its SHA-256, as it may identify a person.
    """

    topic: str
    partition: Whole
    offset: Whole
    key: str | None = None


class FacebookRefusal(StoredMessage):
    """Facebook's own words about a refused row or request."""

    code: Whole | None = None
    subcode: Whole | None = None
    message: str | None = None
    trace: str | None = None


class DeadLetter(StoredMessage):
    """Instants are epoch milliseconds. The newest record of an id wins.

    `attempts` and `last_failed_at` grow when a replay fails; a letter that is `resolved` needs nobody any more.
    """

    id: str
    stage: Literal["resolve", "evaluate", "deliver"]
    reason: Reason
    detail: str
    origin: Origin
    facebook: FacebookRefusal | None = None
    audience: str | None = None
    destination: str | None = None
    profile: str | None = None
    sequence: Whole | None = None
    attempts: Whole = 1
    first_failed_at: Whole
    last_failed_at: Whole
    record: dict[str, Any] | None = None
    resolved: Literal["replayed", "superseded", "expired"] | None = None
    version: int = 1


_Count = Annotated[Whole, Field(ge=0)]


class LetterCounts(StoredMessage):
    """What a stage has counted of one partition of its input, committed as the note of the group's offset there.

    `run` records before that offset became letters in a row; `batches` are (records, letters) of the newest batches, the
    oldest first.
    """

    run: _Count = 0
    batches: tuple[tuple[_Count, _Count], ...] = ()
    version: int = 1


def dead_letter_id(
    stage: str,
    origin: Origin,
    index: int = 0,
    audience: str | None = None,
    profile: str | None = None,
    sequence: int | None = None,
) -> str:
    """The same failure always has the same id, so that a redelivery or a restart never lists it twice."""
    identity = [stage, origin.topic, origin.partition, origin.offset, index, audience, profile, sequence]
    return hashlib.sha256(orjson.dumps(identity)).hexdigest()
