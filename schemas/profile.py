"""ProfileEvent: what resolve says to the evaluation of one profile.

A record of profile.events is keyed by the profile id and holds no raw personal data: identifiers are the
values sent to Facebook (hashed where Facebook wants a hash), traits are those that a definition compares.

Profile ids: a user id as received; for a profile without one `email:SHA256`, `anonymous_id:ID` or `madid:ID`. A
user id that would read as one of the prefixed forms is written `user_id:ID`. An id that is an e-mail address or a
phone number stands here as its SHA-256 (see app.domain.profile_ids).

Profiles of one person become one by records that they send each other here (see app.domain.linking).
"""

from __future__ import annotations

from typing import Any, Literal

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
# That a person is to be forgotten: everything known, and whatever was said up to the request's received time.
FORGET = 9

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
    since it asked, each with the received time of the first call that named it. `state`: of a MERGE, all that is known
    of the profile that ends, as the state table has it; None: there was none.
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


class ProfileEvent(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One accepted call about one profile, a marker (see `LaneProgress`), or what one profile says to another;
    instants are epoch milliseconds.

    `lane`, `offset`, `index` say where the call came from: they only grow within a lane, so whoever remembers
    the highest position per lane can tell a redelivery. `index` counts the records made of one source record.
    """

    version: int
    kind: int
    lane: str
    offset: int
    index: int
    timestamp: int
    received: int
    message_id: str | None = None
    hits: list[FeedHit] = []
    # Only of identify calls: trait path, as definitions write it -> value; None removes the trait.
    traits: dict[str, Any] | None = None
    # Facebook's column name -> the value as sent, a list where the call has several; None: the call says that the
    # profile has none. What a mapping of fields takes stands under COLUMN@SLOT (see app.domain.fields).
    identifiers: dict[str, str | float | list[str] | None] | None = None
    # Name of an audience's claims, its key or `KEY#VERSION` where that filled it from history -> membership, claimed by
    # an Engage call or a warehouse's row.
    claims: dict[str, bool] | None = None
    # Of markers: lane -> instant up to which everything of that lane has been written to this partition, and the
    # version of the definitions that its calls have been written for since, 0 where none is known.
    progress: dict[str, int] | None = None
    linking: Linking | None = None
    definitions: int = 0
    # Of markers: lane -> the offset from which on its calls have been written for that version.
    since: dict[str, int] | None = None
    repeat: Repeat | None = None


class ProfileEventModel(StoredMessage):
    """The same message as a pydantic model, for documentation, JSON Schema and tools off the hot path."""

    model_config = ConfigDict(strict=True)

    version: int
    kind: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
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
