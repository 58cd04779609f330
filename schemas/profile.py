"""ProfileEvent: what resolve says to the evaluation of one profile.

A record of profile.events is keyed by the profile id and holds no raw personal data: identifiers are the
values sent to Facebook (hashed where Facebook wants a hash), traits are those that a definition compares.

Profile ids: a user id as received; for a profile without one `email:SHA256`, `anonymous_id:ID` or `madid:ID`. A
user id that would read as one of the prefixed forms is written `user_id:ID`. An id that is an e-mail address or a
phone number stands here as its SHA-256 (see app.domain.profile_ids).

Profiles of one person become one by records that they send each other here (see app.domain.linking). An account is a
profile too, `group_id:ID`; it and its users send each other records (see app.domain.accounts).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import ConfigDict, Field

from schemas.base import StoredMessage

CALL = 0
MARKER = 1
# What profiles say to each other when they are one person's.
ASK = 2
MERGE = 3
DONE = 4
MOVED = 5
# A call of the past, read again for definitions that are newer than it, and the end of such a lane.
PAST = 6
PAST_END = 7
# That a membership is to be said once more, as Facebook has refused its rows.
REPEAT = 8
# Of accounts. A group call says to its user which account they belong to, and to the account what it is.
JOIN = 9
GROUP = 10
# What holds of a user, and that one has become part of another, said to the account; the audiences that the account is
# in, said to its users.
STANDING = 11
ENDED = 12
ENTRY = 13
# That a person is to be forgotten: everything known, and whatever was said up to the request's received time.
FORGET = 14

VERSION = 1


class FeedHit(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The event passed the stateless filters of a feed (see app.domain.conditions).

    `values` are the properties that the feed keeps, in the feed's own order; None where the event has none.
    """

    feed: str
    values: list[Any] = []


class Linking(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Which identifiers belong to one person; all are written as profile ids.

    `links`: of a call, what else it names than the profile of its key, in order of priority; of the others, those
    that are still to be linked. `asker`: the profile that asked for the key (ASK), that gets the answer (MERGE, DONE),
    or that the key belongs to from now on (MOVED), or that it belonged to, when that one is forgotten (FORGET; "": the
    request itself). `aliases`: the asker's identifiers, in the answers also those found
    since it asked, each with the received time of the first call that named it; of a FORGET those of the profile that is
    forgotten (none: an older release has written it). `state`: of a MERGE, all that is known
    of the profile that ends, as the state table has it; None: there was none. Of a FORGET, that of somebody who ended for
    a profile that was forgotten meanwhile: what was sent of them is to be removed.
    """

    links: list[str] = []
    asker: str = ""
    aliases: dict[str, int] = {}
    state: bytes | None = None


class Repeat(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Say the profile's membership of `audience` once more, if its newest delta still has the sequence `expected`.

    The others: see `schemas.membership.Repeated`.
    """

    audience: str
    expected: int
    offset: int
    sequence: int
    failures: dict[str, tuple[int, int]]


class Standing(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What users and their accounts say to each other; all are written as profile ids.

    `account`: whose (JOIN, ENTRY). `user`: who speaks, and `replaces` whom (STANDING, ENDED). `holds`: of each condition
    that accounts ask of their users, by its id, whether it holds of this one. `audiences`: all those that the account is
    a member of, as states name them; the greater `sequence` is newer. `by_time`: nothing but time is behind it.
    """

    account: str = ""
    user: str = ""
    replaces: list[str] = []
    holds: dict[str, bool] = {}
    audiences: list[str] = []
    sequence: int = 0
    by_time: bool = False


class ProfileEvent(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One accepted call about one profile, a marker (see `LaneProgress`), or what one profile says to another;
    instants are epoch milliseconds.

    `lane`, `offset`, `index` say where the call came from: they only grow within a lane, so whoever remembers
    the highest position per lane can tell a redelivery. `index` counts the records made of one source record.
    """

    # A newer one is refused as it is decoded.
    version: Annotated[int, msgspec.Meta(le=VERSION)]
    kind: int
    lane: str
    offset: int
    index: int
    timestamp: int
    received: int
    message_id: str | None = None
    hits: list[FeedHit] = []
    # Of identify calls, and for accounts of group calls: trait path, as definitions write it -> value; None removes
    # the trait.
    traits: dict[str, Any] | None = None
    # Facebook's column name -> the value as sent, a list where the call has several; None: the call says that the
    # profile has none. What a mapping of fields takes stands under COLUMN@SLOT (see app.domain.fields), and of a call
    # that was read again under COLUMN@SLOT@past (see app.domain.past_fields).
    identifiers: dict[str, str | float | list[str] | None] | None = None
    # Name of an audience's claims, its key or `KEY#VERSION` where that filled it from history -> membership, claimed by
    # an Engage call or a warehouse's row.
    claims: dict[str, bool] | None = None
    # Of markers: lane -> instant up to which everything of that lane has been written to this partition.
    progress: dict[str, int] | None = None
    linking: Linking | None = None
    # Of calls from live lanes and of markers: the newest version of the definitions that they have been written for, 0
    # where none is known.
    definitions: int = 0
    # Of markers: lane -> the offset from which on its calls have been written for that version.
    since: dict[str, int] | None = None
    repeat: Repeat | None = None
    standing: Standing | None = None


class ProfileEventModel(StoredMessage):
    """The same message as a pydantic model, for documentation, JSON Schema and tools off the hot path."""

    model_config = ConfigDict(strict=True)

    version: int = Field(le=VERSION)
    kind: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    lane: str
    offset: int
    index: int
    timestamp: int
    received: int
    message_id: str | None = None
    hits: list[tuple[str, list[Any]]] = Field(default_factory=list)
    traits: dict[str, Any] | None = None
    identifiers: dict[str, str | float | list[str] | None] | None = None
    claims: dict[str, bool] | None = None
    progress: dict[str, int] | None = None
    linking: tuple[list[str], str, dict[str, int], bytes | None] | None = None
    definitions: int = 0
    since: dict[str, int] | None = None
    repeat: tuple[str, int, int, int, dict[str, tuple[int, int]]] | None = None
    standing: tuple[str, str, list[str], dict[str, bool], list[str], int, bool] | None = None
