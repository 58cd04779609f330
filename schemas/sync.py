"""SyncState: what is known of one destination, one Facebook audience in one ad account."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import StoredMessage, Whole


class DestinationState(StrEnum):
    """`new` has no Facebook audience yet; `held` waits for a person or a probe; `gone` was deleted there."""

    NEW = "new"
    LIVE = "live"
    CATCHING_UP = "catching_up"
    PAUSED = "paused"
    HELD = "held"
    GONE = "gone"
    DRY_RUN = "dry_run"


class OffsetRange(StoredMessage):
    """Offsets of audience.memberships, `first` up to but not including `end`."""

    first: Whole
    end: Whole


class BrakeTrip(StoredMessage):
    """`removed` of `members` have left: at that instant too many within an hour, and those who left since."""

    at: Whole
    removed: Whole
    members: Whole


class BrakeState(StoredMessage):
    """The safety brake of a destination (app.domain.brake), as of offset `position` of audience.memberships.

    `members` are those of the audience. `exits` are (minute since 1970, how many left) of the last hour. `accepted_at`
    is when a person last let a shrink through, in epoch milliseconds; 0: never.
    """

    position: Whole
    members: Whole
    exits: tuple[tuple[Whole, Whole], ...] = ()
    accepted_at: Whole = 0
    trip: BrakeTrip | None = None


class ReplaceSession(StoredMessage):
    """Everybody in the Facebook audience is to be replaced by who is a member below offset `end`, by `usersreplace`.

    `session_id` None: no session has begun. `batches` is the greatest batch number that may have been sent in it, and
    `started_at` when its first was about to be, in epoch milliseconds. `external_ids`: its schema has them, and who has
    none is left out. `closed`: Facebook has its last batch; `left_out`: somebody was. `sessions` counts those that
    Facebook took, of this wish.
    """

    end: Whole
    session_id: Whole | None = None
    batches: Whole = 0
    started_at: Whole = 0
    external_ids: bool = True
    closed: bool = False
    left_out: bool = False
    sessions: Whole = 0


class StateChange(StoredMessage):
    """What a destination has been since `at`, in epoch milliseconds, and the Facebook audience that it had then."""

    at: Whole
    state: DestinationState
    reason: str | None = None
    facebook_id: str | None = None


class SyncHour(StoredMessage):
    """Rows of one hour, `hour` hours since 1970: added and removed as Facebook has confirmed, and refused by it."""

    hour: Whole
    added: Whole = 0
    removed: Whole = 0
    rejected: Whole = 0


class SyncState(StoredMessage):
    """The newest record of a destination id in audience.syncs.

    `cursor` is the offset in the audience's partition of audience.memberships below which every change is confirmed.
    `unconfirmed` was about to be sent when this was written: its outcome is unknown after a crash. `creating` is set,
    with no `facebook_id`, from before the create call until its answer is recorded: whoever finds it must look for
    the audience whose description carries `marker` before creating another. `dry_run`: nothing of what is confirmed
    has been sent. `resynced_at` is the newest wish for a resync (`DesiredRecord.resync_at`) that was taken up. Until
    the cursor is at `resync_end` again, it goes on below, with the newest change of each profile only; with
    `resync_left_out` only with those members whom a session could not hold. `operation` and `delivery` are Facebook's
    words for its last operation on the audience and for its use in ads, which it said with the bounds at `status_at`.
    `next_retry_at` is when a destination that waits is tried again. `history` are the newest changes of state,
    `hours` the newest hours with rows, both the oldest first. `recreated_at` is the newest wish for a new Facebook
    audience (`DesiredRecord.recreate_at`) that was taken up. `former` is the id that the destination had while the
    audience had one ad account, or several: what its deltas have under that is its own. `connected`: `facebook_id` is, or
    will be, one that the definition names and not one of our own. `rejected_in_a_row` is how many requests Facebook has
    refused for good, nothing of which it took, since it last took something or a person resumed the destination.
    """

    destination: str
    audience: str
    state: DestinationState = DestinationState.NEW
    reason: str | None = None
    ad_account_id: str | None = None
    facebook_id: str | None = None
    creating: bool = False
    marker: str
    cursor: Whole = 0
    unconfirmed: tuple[OffsetRange, ...] = ()
    lower_bound: Whole | None = None
    upper_bound: Whole | None = None
    updated_at: Whole
    last_sync_at: Whole | None = None
    dry_run: bool = False
    resynced_at: Whole = 0
    resync_end: Whole = 0
    resync_left_out: bool = False
    replace: ReplaceSession | None = None
    brake: BrakeState | None = None
    operation: str | None = None
    delivery: str | None = None
    status_at: Whole | None = None
    next_retry_at: Whole | None = None
    history: tuple[StateChange, ...] = ()
    hours: tuple[SyncHour, ...] = ()
    recreated_at: Whole = 0
    former: str | None = None
    connected: bool = False
    rejected_in_a_row: Annotated[Whole, Field(ge=0)] = 0
    version: Whole = 1
