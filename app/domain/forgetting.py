"""Forgetting a person: what leaves, what is left behind, and what comes too late.

A request (FORGET) is addressed to any identifier of a person and goes on to the profile that it belongs to. That
profile leaves its audiences, is erased, and tells the partitions of its other identifiers to erase theirs. Of each
identifier a digest stays behind, with the instant up to which everything said of it is forgotten. What happened or
was received up to then is dropped, whenever it comes and by whatever way; who comes back later begins anew.

The newest record of each of its memberships is the removal itself, which a destination may still have to read, so
it becomes a tombstone only when every destination has confirmed it: until then the profile's name and its audiences are
kept (`Removal`). Somebody who comes back meanwhile is remembered, and enters when Facebook has let go of who they were.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from app.domain.account_plan import ASKED
from app.domain.accounts import part
from app.domain.compact import audience_id
from app.domain.formats import UNDECODABLE, not_ours
from app.domain.linking import aliases_of, owner_of, refuse
from app.domain.person_state import Inherited
from app.domain.rows import rows_by_destination, rows_of
from app.domain.state import MembershipState, ProfileState, decode_state
from schemas.membership import EVERY, Cause, Change, MembershipDelta
from schemas.profile import ASK, CALL, DONE, FORGET, JOIN, MERGE, MOVED, PAST, VERSION, Linking, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.mailbox import Mailbox
    from app.domain.plan import Plan
    from app.domain.profile_states import ProfileStates

# What the keys of these records begin with; see app.domain.state for the other keys that are no profile's.
FORGOTTEN_KEY: Final = b"\x00forgotten"
_DIGEST_BYTES: Final = 16
# In one partition; of more, those forgotten first are remembered no longer.
MOST_FORGOTTEN: Final = 100_000

_SAID_BETWEEN_PROFILES: Final = frozenset({ASK, MERGE, DONE, MOVED})


class Removal(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Until destinations have confirmed it: whose, and by audience the sequence of the record that removes them; 0 where
    there may be a record of an earlier life of this profile, before it became part of another one.
    """

    profile: str
    audiences: dict[str, int]


class ForgottenRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What stays of an identifier: everything up to `until` (epoch milliseconds) is forgotten."""

    version: int
    until: int
    removal: Removal | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ForgottenRecord).decode


def forgotten_key(profile: str) -> bytes:
    """The key of the record that is left of a profile; it does not say which profile that was."""
    return FORGOTTEN_KEY + blake2b(profile.encode(), digest_size=_DIGEST_BYTES).digest()


class Forgotten:
    """Who has been forgotten in one partition, by key (`forgotten_key`)."""

    __slots__ = ("_changed", "_tombstones", "removals", "until")

    def __init__(self) -> None:
        self.until: dict[bytes, int] = {}
        self.removals: dict[bytes, Removal] = {}
        self._changed: dict[bytes, None] = {}
        self._tombstones: list[tuple[str, str]] = []

    def load(self, key: bytes, value: bytes | None) -> None:
        """One record of the changelog, in its order; None deletes."""
        self.until.pop(key, None)
        self.removals.pop(key, None)
        if value is not None:
            try:
                record = _decode(value)
            except UNDECODABLE:
                raise not_ours("record of somebody forgotten") from None
            self.until[key] = record.until
            if record.removal is not None:
                self.removals[key] = record.removal

    def until_of(self, profile: str) -> int | None:
        """None: it has not been forgotten."""
        return self.until.get(forgotten_key(profile))

    def is_past(self, profile: str, event: ProfileEvent) -> bool:
        """Whether the event says something that is forgotten."""
        until = self.until_of(profile)
        if until is None:
            return False
        if event.kind in (CALL, PAST, JOIN):
            return event.received <= until or event.timestamp <= until
        return event.kind in _SAID_BETWEEN_PROFILES and event.received <= until

    def is_leaving(self, profile: str) -> bool:
        """Whether some destination has not confirmed the removal yet."""
        return bool(self.removals) and forgotten_key(profile) in self.removals

    def put(self, profile: str, until: int, audiences: Mapping[str, int]) -> None:
        """Forgotten up to that instant, as far as it is not already; there may be records in these audiences."""
        key = forgotten_key(profile)
        known = self.removals.get(key)
        merged = dict(known.audiences) if known else {}
        for audience, sequence in audiences.items():
            merged[audience] = max(sequence, merged.get(audience, 0))
        until = max(until, self.until.pop(key, until))
        self.until[key] = until
        self.removals[key] = Removal(profile, merged)
        self._changed[key] = None
        if len(self.until) > MOST_FORGOTTEN:
            oldest = next((one for one in self.until if one not in self.removals), None)
            if oldest is not None:
                del self.until[oldest]
                self._changed[oldest] = None

    def is_removed(self, profile: str, audience: str) -> bool:
        """Whether the newest record of this membership is a removal that some destination may still have to read."""
        removal = self.removals.get(forgotten_key(profile))
        return removal is not None and removal.audiences.get(audience, 0) > 0

    def confirm(self, key: bytes, removal: Removal) -> bool:
        """Destinations have confirmed this removal. False: there is another one by now, or none."""
        if self.removals.get(key) != removal:
            return False
        del self.removals[key]
        self._changed[key] = None
        self._tombstones += [(audience, removal.profile) for audience in removal.audiences]
        return True

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changed or self._tombstones)

    def take_records(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """The records of the changelog that have changed since the last call, and the keys of those that are gone."""
        changed, self._changed = self._changed, {}
        known = [
            (key, _encode(ForgottenRecord(1, self.until[key], self.removals.get(key))))
            for key in changed
            if key in self.until
        ]
        return known, [key for key in changed if key not in self.until]

    def take_tombstones(self) -> list[tuple[str, str]]:
        """Audiences and profiles whose memberships are to be deleted, before anything else of the same instant."""
        taken, self._tombstones = self._tombstones, []
        return taken


class Profiles(Protocol):
    """The states of a partition, as far as forgetting needs them."""

    @property
    def forgotten(self) -> Forgotten: ...

    @property
    def full_plan(self) -> Plan:
        """With the audiences that wait for their past."""

    @property
    def states(self) -> ProfileStates: ...

    def erase(self, profile: str, state: ProfileState | None, deltas: list[MembershipDelta]) -> None:
        """Nothing is left of it but these deltas, its last."""

    def write(self, deltas: list[MembershipDelta]) -> None:
        """Deltas by which nobody has entered or left."""

    def known_audiences(self) -> Iterable[str]:
        """The keys of all audiences that have had members here, also of those that are no longer defined."""

    def count_forgotten(self) -> None:
        """Something came too late."""


def forget(profiles: Profiles, mailbox: Mailbox, profile: str, event: ProfileEvent, now: int | None) -> None:
    """A request that came to `profile`; its `linking.asker` is the profile that it belonged to, if that one asks for it.
    Whoever has come back and became part of that one, which was forgotten again, is still its own.

    `linking.aliases` are that one's identifiers. `linking.state`, which came back from that profile, is somebody's who
    ended in its favour: what was sent of them is removed as well, under this identifier's name. `now` is the clock;
    None: not started yet. A request that has been fulfilled changes nothing.
    """
    state = profiles.states.find(profile)
    owner = None if state is None else owner_of(state)
    said = event.linking or Linking()
    asker = said.asker
    if owner is not None and not asker:
        mailbox.send(owner, event)
        return
    until, forgotten = event.received, profiles.forgotten
    at = until if now is None else now
    if owner != asker and not _is_theirs(said, profile, owner, until, forgotten.until_of(profile)):
        if said.state is not None:
            _remove_ended(profiles, profile, said.state, until, at)
        return
    keys = {audience_id(key): key for key in profiles.known_audiences()}
    deltas: list[MembershipDelta] = []
    aliases: Mapping[str, int] = {}
    encoded: bytes | None = None
    # An identifier that was a profile before has records of that time, wherever it was a member.
    audiences = dict.fromkeys(keys.values(), 0)
    if state is not None and owner is None:
        aliases = aliases_of(profile, state)
        found = removals(profiles, profile, state, at)
        deltas = [delta for delta in found if not forgotten.is_removed(profile, delta.audience)]
        unknown = [one for one in _inherited(state) if one.audience not in keys]
        if len(deltas) < len(found) or unknown:
            # They came back, took somebody over, and have not entered: a record of it would replace the removal of who
            # they were. One of those whom they took over was the member; nothing else of that one waits to be read. An
            # audience that is defined no longer, too, is known by name where that one is.
            encoded = profiles.states.encoded(state)
        audiences = {keys[short]: 0 for short in state.memberships if short in keys}
        part(profile, state, until, mailbox)
    if said.state is not None:
        state = ProfileState() if state is None else state
        deltas += _removals_of_ended(profiles, profile, said.state, {delta.audience for delta in deltas}, at)
    audiences |= {delta.audience: delta.sequence for delta in deltas}
    profiles.erase(profile, state, deltas)
    forgotten.put(profile, until, audiences if state is not None else {})
    for alias in aliases:
        if alias != profile:
            mailbox.send(alias, _request(event, profile, aliases, encoded))


def _is_theirs(said: Linking, profile: str, owner: str | None, until: int, known: int | None) -> bool:
    """Whether the identifier, which has been forgotten up to `known`, is one of the person who is forgotten up to `until`.

    That it became one of theirs may be long ago, as answers that come late say it too: it may have been forgotten since,
    have come back, and be somebody else's. Its owner, if it is not that person, has to be one who gave way to them.
    """
    since = said.aliases.get(profile)
    if owner is None or since is None:
        return known is None or (known < until and (since is None or known < since))
    return owner in said.aliases and (known is None or known < since)


def _remove_ended(profiles: Profiles, profile: str, encoded: bytes, until: int, at: int) -> None:
    """The identifier is forgotten already, as it was heard of in another way first, and may have come back since: the
    memberships that it has by now stay.
    """
    state = profiles.states.find(profile)
    mine = () if state is None else state.memberships
    done = {key for key in profiles.known_audiences() if audience_id(key) in mine}
    deltas = _removals_of_ended(profiles, profile, encoded, done, at)
    if not deltas:
        return
    if state is None:
        profiles.erase(profile, ProfileState(), deltas)
    else:
        profiles.states.put(profile, state)
        profiles.write(deltas)
    profiles.forgotten.put(profile, until, {delta.audience: delta.sequence for delta in deltas})


def _removals_of_ended(
    profiles: Profiles, profile: str, encoded: bytes, done: set[str], at: int
) -> list[MembershipDelta]:
    """Of somebody who ended with this state, in all other audiences than those of `done`: by them, what they were or
    had been in themselves, and by whom they had taken over what these were in. Those have exits that had nothing to
    send; of others who are one with them, there may be removals that have not been read.
    """
    state = decode_state(encoded)
    identity = state.identity
    if identity is not None and identity.aliases:  # older states of a single identifier have none
        if next(iter(identity.aliases)) != profile:
            state.memberships.clear()
        identity.inherited = [one.written() for one in _inherited(state) if one.profile in (None, profile)]
    for known in state.memberships.values():
        known.sequence += known.member  # the exit that has nothing to send
    return [
        delta
        for delta in removals(profiles, profile, state, at)
        if delta.audience not in done and not profiles.forgotten.is_removed(profile, delta.audience)
    ]


def removals(profiles: Profiles, profile: str, state: ProfileState, at: int) -> list[MembershipDelta]:
    """Out of every audience that the profile is in or has been in, at every destination: one that was not told of an
    exit, as its sync mode removes nobody, has to let go as well, and one that has somebody whom the profile has taken
    over and not entered for yet. An audience that is defined no longer may come back, to destinations nobody knows now.
    """
    by_id = profiles.full_plan.by_id
    undefined = {audience_id(key): key for key in profiles.known_audiences()}
    rows = rows_of(profile, state)
    deltas = []
    memberships = {
        one.audience: MembershipState(False, one.sequence if one.profile == profile else 0)
        for one in _inherited(state)
    } | state.memberships
    for short, known in memberships.items():
        audience = by_id.get(short)
        key = undefined.get(short) if audience is None else audience.key
        if key is None or key.startswith(ASKED):
            continue
        sent = (
            {EVERY: rows}
            if audience is None
            else rows_by_destination(audience, audience.destinations, profile, state, rows)
        )
        sequence = known.sequence + 1
        deltas.append(MembershipDelta(key, profile, Change.EXITED, sequence, sent, at, at, Cause.FORGOTTEN))
    return deltas


def _inherited(state: ProfileState) -> list[Inherited]:
    return [] if state.identity is None else [Inherited.read(one) for one in state.identity.inherited]


def is_late(profiles: Profiles, profile: str, event: ProfileEvent) -> bool:
    """Whether the event says something that is forgotten, or answers somebody of whom nothing is left: the profile before
    it was forgotten, or who had become part of it by then.
    """
    forgotten = profiles.forgotten
    if forgotten.is_past(profile, event):
        return True
    said = event.linking
    if said is None or event.kind not in (ASK, MERGE, DONE) or forgotten.until_of(profile) is None:
        return False
    state = profiles.states.find(profile)
    if said.asker == profile:
        return state is None
    if event.kind == ASK or (state is not None and owner_of(state) is not None):
        return False
    return state is None or said.asker not in aliases_of(profile, state)


def drop(profiles: Profiles, mailbox: Mailbox, profile: str, event: ProfileEvent) -> None:
    """What came too late for a profile that has been forgotten.

    A profile that has ended in favour of it was the same person, who is forgotten with all identifiers. Whoever asks for
    it gets the answer that it is not theirs.
    """
    profiles.count_forgotten()
    said = event.linking or Linking()
    if event.kind == ASK and said.asker != profile:
        refuse(event, [], mailbox)
    elif event.kind in (ASK, MERGE, DONE):
        state = profiles.states.find(profile)
        kept = {profile} if state is None else {profile, *aliases_of(profile, state)}
        _disown(said, kept, profiles.forgotten.until_of(profile) or 0, mailbox)


def _disown(said: Linking, kept: set[str], until: int, mailbox: Mailbox) -> None:
    """What has come of a question that a forgotten profile had asked before: each of the identifiers became part of it,
    those found on the way too, and is forgotten. Of a profile that has ended for it they get the state, which its
    exit had nothing to send of.
    """
    if said.state is not None:
        part("", decode_state(said.state), until, mailbox)
    request = ProfileEvent(VERSION, FORGET, "", 0, 0, until, until)
    for alias in said.aliases:
        if alias not in kept:
            mailbox.send(alias, _request(request, said.asker, said.aliases, said.state))


def _request(
    event: ProfileEvent, asker: str, aliases: Mapping[str, int], state: bytes | None = None
) -> ProfileEvent:
    said = Linking(asker=asker, aliases=dict(aliases), state=state)
    return ProfileEvent(VERSION, FORGET, "", 0, 0, event.timestamp, event.received, linking=said)
