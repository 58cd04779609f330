"""The records of the state table and its changelog: ProfileState, all that is known of one profile, and one
PartitionRecord.

States rest as MessagePack and are decoded only when touched, so their size is what a profile costs. Instants are
epoch milliseconds. Fields are only ever added at the end, with a default; `wake` stands second because recovery
reads nothing further.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from app.domain.clock import ClockRecord
from app.domain.formats import UNDECODABLE, not_ours
from app.domain.person_state import UNREADABLE, IdentifierState, IdentityState, PersonState, pack, unpack

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
    # In its compact form (see app.domain.compact).
    message_id: bytes


class ClaimState(msgspec.Struct, array_like=True, gc=False):
    """What the newest Engage call or warehouse row says of one audience."""

    member: bool
    timestamp: int
    message_id: str


class MembershipState(msgspec.Struct, array_like=True, gc=False):
    """`sequence` is that of the newest delta of this audience and profile."""

    member: bool
    sequence: int


class ToldTrait(msgspec.Struct, array_like=True, gc=False):
    """What was last said of a computed trait: a digest of the value, how many calls there were, and the timestamp."""

    digest: int
    number: int
    timestamp: int


class CallsState(msgspec.Struct, array_like=True, gc=False):
    """What has been said in engage.calls. `newest` are timestamps by audience, while the next call could be before."""

    traits: dict[str, ToldTrait] = {}
    newest: dict[str, int] = {}


class Tie(msgspec.Struct, array_like=True, gc=False):
    """One account of a person.

    `told`: what the account has been told of the person (see `schemas.profile.Standing`), None: nothing yet.
    `replaces`: others whom it knows, who have become part of this person. `audiences`: what the account is a member
    of, as of its `sequence`.
    """

    told: dict[str, bool] | None = None
    replaces: list[str] = []
    audiences: list[str] = []
    sequence: int = 0


class Stand(msgspec.Struct, array_like=True, gc=False):
    """What holds of so many users of an account."""

    holds: dict[str, bool]
    users: int = 0


class Ties(msgspec.Struct, array_like=True, gc=False):
    """Of a person, all `accounts` by profile id. The rest is of an account.

    `users`: where in `stands` each of them is; places without users are free. `ended`: users that have become part of
    somebody who has not said so yet. `replaced`: the other way round, those who have not said that they ended.
    `sequence`: of what was last said to the users. `id_bytes`: of the ids of all users. `at`, of both: nothing that they
    say to each other from now on makes a change before that instant.
    """

    accounts: dict[str, Tie] = {}
    users: dict[str, int] = {}
    stands: list[Stand] = []
    ended: list[str] = []
    replaced: list[str] = []
    sequence: int = 0
    at: int = 0
    id_bytes: int = 0


class ProfileState(msgspec.Struct, array_like=True, gc=False):
    """One profile; it exists from its first accepted call on.

    `wake` is the instant it is armed for in the timers, at or before its next due change. `settled` is the clock
    up to which events have gone into totals. `memberships` are by audience, as `app.domain.compact.audience_id` names
    it. `recent_ids` are digests of message ids, one behind the other, and `recent_at` the seconds of the clock at which
    they were applied, oldest first (see app.domain.fold). `computed` are the values of computed
    traits, without those that are what they are without any event. `since`, of profiles without a user id, is the
    received time of the first call.
    `person` is packed until somebody asks for what it holds. `calls`: None while nothing is said in engage.calls.
    `ties`: None while there is no account, or no user of it.
    """

    # A newer one is refused as it is decoded.
    version: Annotated[int, msgspec.Meta(le=VERSION)] = VERSION
    wake: int = NEVER
    settled: int = 0
    feeds: dict[str, FeedState] = {}
    traits: dict[str, TraitState] = {}
    claims: dict[str, ClaimState] = {}
    memberships: dict[str, MembershipState] = {}
    recent_ids: bytes = b""
    recent_at: list[int] = []
    computed: dict[str, Any] = {}
    since: int = 0
    person: bytes | PersonState = b""
    calls: CallsState | None = None
    ties: Ties | None = None

    @property
    def _known(self) -> PersonState:
        person = self.person
        if isinstance(person, bytes):
            try:
                person = self.person = unpack(person)
            except UNREADABLE:
                raise not_ours("person") from None
        return person

    @property
    def identifiers(self) -> dict[str, IdentifierState]:
        """To be changed in place."""
        return self._known.identifiers

    @property
    def further(self) -> dict[str, list[str | float]]:
        """To be changed in place."""
        return self._known.further

    @property
    def identity(self) -> IdentityState | None:
        """None while no second identifier is known."""
        return self._known.identity

    @identity.setter
    def identity(self, identity: IdentityState | None) -> None:
        self._known.identity = identity

    @property
    def owner(self) -> str | None:
        """The profile that this one has become part of; nothing else is kept then."""
        person = self.person
        return None if isinstance(person, bytes) else person.owner


def forwarder(owner: str) -> ProfileState:
    """The state of a profile that has become part of another one."""
    return ProfileState(person=PersonState(owner=owner))


class ForwarderRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """All that is kept of a profile that has become part of another one, in place of its state."""

    version: Annotated[int, msgspec.Meta(le=VERSION)]
    owner: str


# Of an encoded state: half of what a record of the changelog may have (topics.spec.MAX_RECORD_BYTES).
MAX_STATE_BYTES: Final = 8 * 1024 * 1024

# Keys of the partition's own records, and what they begin with; profile ids never do.
OWN_KEYS: Final = b"\x00"
CLOCK_KEY: Final = b"\x00clock"
AUDIENCES_KEY: Final = b"\x00audiences"


class PartitionRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Where the partition stands, by which plan, and how many members each audience has in it.

    `fired` is the instant up to which everything due has fired; the clock is ahead of it in the midst of a long step.
    `plan` is "" while some states are still those of another plan. `definitions` is the version that the partition runs
    by. `boundary` and `filled`: see `app.domain.plan_switch.PlanSwitch`.
    `sent`: position of the newest record that this partition has sent to another one.
    """

    version: int
    clock: ClockRecord
    plan: str
    members: dict[str, int]
    fired: int | None = None
    sent: int = 0
    definitions: int = 0
    boundary: dict[str, int] | None = None
    filled: list[str] = []


class AudiencesRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a partition remembers of each audience, by key; a record of its own, as it grows with what is defined and
    hardly ever changes.

    `applied` is when audiences that need to know it were first applied here. `told` and `told_exits` are the destinations
    of each audience that hear of who enters and who leaves, by the plan that all states were made by.
    """

    version: int = 1
    applied: dict[str, int] = {}
    told: dict[str, list[str]] = {}
    told_exits: dict[str, list[str]] = {}


class _Wake(msgspec.Struct, array_like=True, gc=False):
    version: int
    wake: int


_encoder: Final = msgspec.msgpack.Encoder()
_decode_state: Final = msgspec.msgpack.Decoder(ProfileState).decode
_decode_forwarder: Final = msgspec.msgpack.Decoder(ForwarderRecord).decode
_wake_decoder: Final = msgspec.msgpack.Decoder(_Wake)

# The first byte of an encoded ForwarderRecord: MessagePack's array of two.
_FORWARDER: Final = b"\x92"

_encode = _encoder.encode
encode_feed = _encode
encode_value = _encode
encode_record = _encode
_decode_record: Final = msgspec.msgpack.Decoder(PartitionRecord).decode
_decode_audiences: Final = msgspec.msgpack.Decoder(AudiencesRecord).decode


def encode_state(state: ProfileState) -> bytes:
    """Packs the state's person; of a profile that has become part of another one no more than that is written."""
    person = state.person
    if isinstance(person, PersonState):
        if person.owner is not None:
            return _encode(ForwarderRecord(VERSION, person.owner))
        state.person = pack(person)
    return _encode(state)


def decode_state(encoded: bytes) -> ProfileState:
    """The inverse of `encode_state`. Raises UnreadableRecordError for what is no state."""
    try:
        if encoded[:1] == _FORWARDER:
            return forwarder(_decode_forwarder(encoded).owner)
        return _decode_state(encoded)
    except UNDECODABLE:
        raise not_ours("state of a profile") from None


def decode_record(encoded: bytes) -> PartitionRecord:
    """Raises UnreadableRecordError."""
    try:
        return _decode_record(encoded)
    except UNDECODABLE:
        raise not_ours("record of a partition") from None


def decode_audiences(encoded: bytes) -> AudiencesRecord:
    """Raises UnreadableRecordError."""
    try:
        return _decode_audiences(encoded)
    except UNDECODABLE:
        raise not_ours("record of a partition's audiences") from None


def owner_in(encoded: bytes) -> str | None:
    """The owner, of an encoded state of a profile that has become part of another one; None: it has not."""
    if encoded[:1] != _FORWARDER:
        return None
    try:
        return _decode_forwarder(encoded).owner
    except UNDECODABLE:
        raise not_ours("state of a profile") from None


def wake_of(state: bytes) -> int:
    """The `wake` of an encoded state that is no forwarder's, without decoding the rest."""
    try:
        return _wake_decoder.decode(state).wake
    except UNDECODABLE:
        raise not_ours("state of a profile") from None
