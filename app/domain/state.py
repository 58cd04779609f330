"""The records of the state table and its changelog: ProfileState, all that is known of one profile, and one
PartitionRecord.

States rest as MessagePack and are decoded only when touched, so their size is what a profile costs. Instants are
epoch milliseconds. Fields are only ever added at the end, with a default; `wake` stands second because recovery
reads nothing further.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from app.domain.clock import ClockRecord

VERSION: Final = 1

# No instant: later than any there is, so that the least of several needs no test for None.
NEVER: Final = 2**62

# A `wake` that is due at once, whatever the clock says, and asks for every audience to be looked at.
AT_ONCE: Final = 0


class NumberTotals(msgspec.Struct, array_like=True, gc=False):
    """Of the numbers seen under one kept value; the sum is `total` + `compensation` (Neumaier's summation)."""

    count: int = 0
    total: float = 0.0
    compensation: float = 0.0
    least: float = 0.0
    greatest: float = 0.0


class Totals(msgspec.Struct, array_like=True, gc=False):
    """Of all events of a feed up to the instant `settled` of the profile; one NumberTotals per kept value."""

    count: int
    numbers: list[NumberTotals]


class FeedState(msgspec.Struct, array_like=True, gc=False):
    """What is kept of the events of one feed: `instants` in order, and `values` of the same events beside them.

    `values` is empty when the feed keeps none. `totals` only where a condition looks at all events ever.
    """

    instants: list[int]
    values: list[list[Any]]
    totals: Totals | None = None


class TraitState(msgspec.Struct, array_like=True, gc=False):
    """The value with the newest timestamp, and for ties the greatest message id; None: removed."""

    value: Any
    timestamp: int
    message_id: str


class IdentifierState(msgspec.Struct, array_like=True, gc=False):
    """The value to send, and the timestamp of the call it came from."""

    value: str | float | None
    timestamp: int


class ClaimState(msgspec.Struct, array_like=True, gc=False):
    """What the newest Engage call or warehouse row says of one audience."""

    member: bool
    timestamp: int
    message_id: str


class MembershipState(msgspec.Struct, array_like=True, gc=False):
    """`sequence` is that of the newest delta of this audience and profile."""

    member: bool
    sequence: int


class IdentityState(msgspec.Struct, array_like=True, gc=False):
    """What a profile knows of its identifiers; see app.domain.linking.

    `owner`: the profile that this one has become part of; nothing else is kept then. `aliases`: all identifiers of the
    person, its own included, as profile ids with the received time of the first call that named them. `links`: chains
    of identifiers that are still to be linked; `asking`: one has been asked for, and has not answered. `inherited`:
    audiences that a profile which has ended here was a member of, while that has not been looked at yet.
    """

    owner: str | None = None
    aliases: dict[str, int] = {}
    links: list[list[str]] = []
    asking: bool = False
    inherited: list[str] = []


class ToldTrait(msgspec.Struct, array_like=True, gc=False):
    """What was last said of a computed trait: a digest of the value, how many calls there were, and the timestamp."""

    digest: int
    number: int
    timestamp: int


class CallsState(msgspec.Struct, array_like=True, gc=False):
    """What has been said in engage.calls. `newest` are timestamps by audience, while the next call could be before."""

    traits: dict[str, ToldTrait] = {}
    newest: dict[str, int] = {}


class ProfileState(msgspec.Struct, array_like=True, gc=False):
    """One profile; it exists from its first accepted call on.

    `wake` is the instant it is armed for in the timers, at or before its next due change. `settled` is the clock
    up to which events have gone into totals. `further` are the values of identifiers that a person may have
    several of, other than the current one. `recent_ids` and `recent_at` are digests of message ids and the clock
    at which they were applied, oldest first. `computed` are the values of computed traits, without those that are
    what they are without any event. `since`, of profiles without a user id, is the received time of the first call.
    `identity`: None while no second identifier is known. `calls`: None while nothing is said in engage.calls.
    """

    version: int = VERSION
    wake: int = NEVER
    settled: int = 0
    feeds: dict[str, FeedState] = {}
    traits: dict[str, TraitState] = {}
    identifiers: dict[str, IdentifierState] = {}
    further: dict[str, list[str | float]] = {}
    claims: dict[str, ClaimState] = {}
    memberships: dict[str, MembershipState] = {}
    recent_ids: list[int] = []
    recent_at: list[int] = []
    computed: dict[str, Any] = {}
    since: int = 0
    identity: IdentityState | None = None
    calls: CallsState | None = None


# Of an encoded state: half of what a record of the changelog may have (topics.spec.MAX_RECORD_BYTES).
MAX_STATE_BYTES: Final = 8 * 1024 * 1024

# Key of the partition's own record; profile ids never begin with NUL.
CLOCK_KEY: Final = b"\x00clock"


class PartitionRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Where the partition stands, by which plan, and how many members each audience has in it.

    `applied` is when audiences that need to know it were first applied here, by key. `fired` is the instant up to
    which everything due has fired; the clock is ahead of it in the midst of a long step. `plan` is "" while some states
    are still those of another plan. `definitions` is the version that the partition runs by, `told` the destinations
    of each audience by the plan that all states were made by. `boundary` and `filled`: see
    `app.domain.plan_switch.PlanSwitch`.
    `sent`: position of the newest record that this partition has sent to another one.
    """

    version: int
    clock: ClockRecord
    plan: str
    members: dict[str, int]
    applied: dict[str, int] = {}
    fired: int | None = None
    sent: int = 0
    definitions: int = 0
    told: dict[str, list[str]] = {}
    boundary: dict[str, int] | None = None
    filled: list[str] = []


class _Wake(msgspec.Struct, array_like=True, gc=False):
    version: int
    wake: int


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(ProfileState)
_wake_decoder: Final = msgspec.msgpack.Decoder(_Wake)

encode_state = _encoder.encode
encode_feed = _encoder.encode
encode_value = _encoder.encode
decode_state = _decoder.decode
encode_record = _encoder.encode
decode_record = msgspec.msgpack.Decoder(PartitionRecord).decode


def wake_of(state: bytes) -> int:
    """The `wake` of an encoded state, without decoding the rest."""
    return _wake_decoder.decode(state).wake
