"""MembershipDelta: one change of one profile's membership of one audience.

The newest record of a key in audience.memberships is the membership itself; an exit is a record, never a
tombstone, so a destination that was away for long still learns of it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.base import StoredMessage


class Change(StrEnum):
    """What happened: `updated` is a member whose identifiers changed and who must be sent again."""

    ENTERED = "entered"
    EXITED = "exited"
    UPDATED = "updated"


class Cause(StrEnum):
    """Why: an event or trait of the profile, time alone, or a membership computed elsewhere."""

    EVENT = "event"
    TIME = "time"
    CLAIM = "claim"


class MembershipDelta(msgspec.Struct, gc=False, frozen=True):
    """`rows` maps a destination id to the rows to send: Facebook's column name -> value as sent.

    `sequence` grows by one per change of (audience, profile). `at` is the instant the change is true from,
    `detected_at` the clock of the partition when it was found; both epoch milliseconds.
    """

    audience: str
    profile: str
    change: Change
    sequence: int
    rows: dict[str, list[dict[str, str | float]]]
    at: int
    detected_at: int
    cause: Cause
    version: int = 1


class MembershipDeltaModel(StoredMessage):
    """The same message as a pydantic model."""

    audience: str
    profile: str
    change: Change
    sequence: int
    rows: dict[str, list[dict[str, str | float]]]
    at: int
    detected_at: int
    cause: Cause
    version: int = 1
