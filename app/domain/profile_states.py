"""ProfileStates: what is known of the profiles of one partition, and which of it has changed since the last drain.

A state rests encoded, in a few hundred bytes. Whoever changes it decodes it first, and it stays decoded until it is
packed, so that a profile with many calls between two drains is decoded and encoded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.compact import audience_id
from app.domain.fold import adopt, shed
from app.domain.forwarders import Forwarders
from app.domain.identity import all_aliases
from app.domain.linking import owner_of
from app.domain.oversize import cut_long
from app.domain.profile_ids import display_name
from app.domain.state import (
    AT_ONCE,
    MAX_STATE_BYTES,
    ProfileState,
    decode_state,
    encode_state,
    forwarder,
    owner_in,
    wake_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.counters import Counters
    from app.domain.event_conditions import Need


class ProfileStates:
    """By profile id, or by `key`, which is the id in UTF-8 and that of the state's record.

    `resting` are encoded states; a profile that has become part of another has none there and is among `forwarders`.
    `touched` are those that the next `pack` encodes: a state found there is newer than the one that rests. `overdue` are
    profiles whose states were made by another plan: they are due at once, and the clock of a partition that has any has
    started, so all of them fire before anything is written by the new one.
    """

    __slots__ = ("_counters", "_erased", "forwarders", "overdue", "resting", "touched")

    def __init__(self, counters: Counters) -> None:
        self.resting: dict[bytes, bytes] = {}
        self.forwarders = Forwarders()
        self.touched: dict[bytes, ProfileState] = {}
        self.overdue: set[bytes] = set()
        self._erased: dict[bytes, None] = {}
        self._counters = counters

    def load(self, key: bytes, value: bytes | None) -> None:
        """One state's record of the changelog, in its order; None deletes."""
        if value is None:
            self.resting.pop(key, None)
            self.forwarders.discard(key)
            return
        owner = owner_in(value)
        if owner is None:
            self.resting[key] = value
        else:
            self.resting.pop(key, None)
            self.forwarders.put(key, owner)

    # --- one profile ---

    def find(self, profile: str) -> ProfileState | None:
        """What is known of the profile now, not to be changed; None: nothing is."""
        return self._find(profile.encode())

    def _find(self, key: bytes) -> ProfileState | None:
        state = self.touched.get(key)
        if state is not None:
            return state
        encoded = self.resting.get(key)
        if encoded is not None:
            return decode_state(encoded)
        owner = self.forwarders.get(key)
        return None if owner is None else forwarder(owner)

    def touch(self, key: bytes) -> ProfileState:
        """The profile's state, to be changed and written."""
        state = self.touched.get(key)
        if state is None:
            state = self.touched[key] = self._find(key) or ProfileState()
        return state

    def put(self, profile: str, state: ProfileState) -> None:
        """The profile's state, changed or about to be, to be written."""
        self.touched[profile.encode()] = state

    def erase(self, key: bytes) -> None:
        """Nothing is left of the profile; its record is to be deleted."""
        self.touched.pop(key, None)
        self.resting.pop(key, None)
        self.forwarders.discard(key)
        self.overdue.discard(key)
        self._erased[key] = None

    def wake_of(self, key: bytes) -> int | None:
        """The instant for which the profile is armed; None: there is nothing to look at."""
        if key in self.overdue:
            return AT_ONCE
        state = self.touched.get(key)
        if state is not None:
            return state.wake
        encoded = self.resting.get(key)
        return None if encoded is None else wake_of(encoded)

    # --- all of them ---

    def outdate(self) -> None:
        """All have been made by another plan than the one from now on."""
        self.overdue.update(self.resting, self.touched)

    @property
    def have_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.touched or self._erased)

    def take_erased(self) -> list[bytes]:
        """The keys of profiles of which nothing is left, since the last call."""
        erased = [*self._erased]
        self._erased.clear()
        return erased

    def pack(self) -> list[tuple[bytes, bytes]]:
        """The records of all that was touched since the last call; it rests from now on."""
        records: list[tuple[bytes, bytes]] = []
        resting = self.resting
        for key, state in self.touched.items():
            value = self.encoded(state)
            records.append((key, value))
            owner = state.owner
            if owner is None:
                resting[key] = value
            else:
                resting.pop(key, None)
                self.forwarders.put(key, owner)
        self.touched.clear()
        return records

    def encoded(self, state: ProfileState) -> bytes:
        """No larger than there is room for: whoever sends more than that loses their oldest events, then
        what is long of their traits.
        """
        encoded = encode_state(state)
        while len(encoded) > MAX_STATE_BYTES and (given_up := shed(state)):
            self._counters.forgotten_events += given_up
            encoded = encode_state(state)
        while len(encoded) > MAX_STATE_BYTES and (cut := cut_long(state, len(encoded) - MAX_STATE_BYTES)):
            self._counters.cuts.number += cut
            encoded = encode_state(state)
        return encoded

    # --- who is who, and in what ---

    def person(self, profile: str) -> str:
        """The profile that this one has become part of, as far as this partition knows; itself, if none."""
        while (state := self.find(profile)) is not None and (owner := owner_of(state)) is not None:
            profile = owner
        return profile

    def is_member(self, audience: str, profile: str) -> bool:
        """Whether the profile, which has become part of no other, is a member now."""
        state = self.find(profile)
        known = None if state is None else state.memberships.get(audience_id(audience))
        return known is not None and known.member

    def display_name(self, profile: str) -> str:
        """How results name the person (see app.domain.profile_ids)."""
        profile = self.person(profile)
        state = self.find(profile)
        known = {} if state is None else state.identifiers
        values = {column: item.value for column, item in known.items()}
        return display_name(profile, values, all_aliases(state))

    def copy_of(self, profile: str, needs: Mapping[str, Need]) -> ProfileState | None:
        """The profile's state as a plan with these needs sees it, to be read and thrown away; None: it is not known."""
        state = self.find(profile)
        if state is None:
            return None
        copy = decode_state(encode_state(state))
        if profile.encode() in self.overdue:
            adopt(copy, needs)
            copy.computed = {}
        return copy
