"""MembershipDelta: one change of one profile's membership of one audience.

The newest record of a key in audience.memberships is the membership itself; an exit is a record, never a
tombstone, so a destination that was away for long still learns of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from pydantic import Field

from schemas.base import StoredMessage

VERSION = 1

# In the place of a destination id: every destination of the audience that is not named itself.
EVERY = "*"


class Change(StrEnum):
    """What happened: `updated` is a member whose identifiers changed and who must be sent again."""

    ENTERED = "entered"
    EXITED = "exited"
    UPDATED = "updated"


class Cause(StrEnum):
    """Why: an event or trait of the profile, time alone, what Engage or a warehouse's row says, that two profiles have
    become one, that the definitions are others, that a dead letter is replayed, that the person is forgotten, or what an
    account and its people say to each other, unless time alone is behind that.
    """

    EVENT = "event"
    TIME = "time"
    CLAIM = "claim"
    MERGE = "merge"
    ACCOUNT = "account"
    DEFINITION = "definition"
    REPLAY = "replay"
    FORGOTTEN = "forgotten"


# What MessagePack can hold, in which deltas wait to be sent.
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Repeated(msgspec.Struct, gc=False, frozen=True):
    """The change that a delta says once more, as it was when Facebook refused it.

    `offset` and `sequence` are that delta's own, whose letters keep their ids should the rows be refused again.
    `failures`: destination -> how often it has refused them, and when it did so first (epoch milliseconds).
    """

    offset: _Whole
    sequence: _Whole
    failures: dict[str, tuple[_Whole, _Whole]]


class MembershipDelta(msgspec.Struct, gc=False, frozen=True):
    """`rows` maps a destination id to the rows to send: Facebook's column name -> value as sent.

    A destination that this change does not concern, by its sync mode, has no entry; an empty list is a profile of
    which nothing can be sent yet. `sequence` grows by one per change of (audience, profile). `at` is the instant the
    change is true from, `detected_at` the clock of the partition when it was found; both epoch milliseconds. A clock that
    catches up passes through every instant: what time does meanwhile is found at that very instant.

    The `exited` of a profile that ends in a merge has an empty list of rows for each destination that hears of exits:
    it takes back what still waits to be sent, and what has been sent is the business of the profile that goes on.

    An `exited` that follows another one changes nothing but what Facebook has: a destination hears of exits that, by its
    former sync mode, it did not hear of.

    Of an audience of accounts there are deltas of its accounts, `group_id:ID`, which nobody is told of, and of their
    people. The `exited` of a forgotten person is for every destination, whatever its sync mode, and is deleted by a
    tombstone when all have confirmed it. Of an audience that is defined no longer, whose destinations are not known,
    it has its rows under `EVERY`.

    An `exited` of sequence 1 takes out somebody who never entered here: see `never_entered`.

    `repeats` is there where nothing has changed and the replay of a dead letter asked for the membership once more:
    `updated` of a member, else `exited`.
    """

    audience: str
    profile: str
    change: Change
    sequence: _Whole
    rows: dict[str, list[dict[str, str | float]]]
    at: _Whole
    detected_at: _Whole
    cause: Cause
    # A newer one is refused as it is decoded.
    version: Annotated[int, msgspec.Meta(le=VERSION)] = VERSION
    # Left out of nearly all deltas.
    repeats: Repeated | msgspec.UnsetType = msgspec.UNSET


def never_entered(delta: MembershipDelta) -> bool:
    """Whether nothing changes by the delta but what Facebook has: Engage or a warehouse says of a stranger that they
    are not in the audience, who may be in it from before it was connected.
    """
    return delta.sequence == 1 and delta.change is Change.EXITED


class RepeatedModel(StoredMessage):
    """The same message as a pydantic model."""

    offset: int
    sequence: int
    failures: dict[str, tuple[int, int]]


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
    version: int = Field(default=VERSION, le=VERSION)
    repeats: RepeatedModel | None = None
