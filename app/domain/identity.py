"""Identities: where the linking of profiles (app.domain.linking) meets their states in one partition.

Whoever ends leaves its audiences in the same instant; whoever goes on takes over its memberships and is evaluated
again with all that both did, at the clock of its own partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.domain.evaluation import Instant, next_due
from app.domain.linking import (
    Verdict,
    answered,
    decide,
    give_way,
    identity_of,
    link,
    owner_of,
    refuse,
    take_over,
)
from app.domain.merging import add_aliases, evaluate_merged, fold_profile
from app.domain.past_fields import has_past
from app.domain.resending import resend, rows_sent
from app.domain.rows import rows_of
from app.domain.state import AT_ONCE, ProfileState, decode_state, forwarder
from app.errors import UnreadableRecordError
from schemas.profile import ASK, DONE, MERGE, MOVED, Linking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.domain.mailbox import Mailbox
    from app.domain.plan import Plan
    from app.domain.profile_states import ProfileStates
    from schemas.membership import MembershipDelta
    from schemas.profile import ProfileEvent

_NOTHING = Linking()


class Profiles(Protocol):
    """The states of a partition, and the plan they are made by."""

    @property
    def plan(self) -> Plan: ...

    @property
    def states(self) -> ProfileStates: ...

    def arm(self, profile: str, state: ProfileState, due: int) -> None:
        """The profile is to be looked at when the clock is there."""

    def emit(self, deltas: list[MembershipDelta]) -> None:
        """Deltas to write."""

    def tell(self, profile: str, state: ProfileState, instant: Instant) -> bool:
        """Computed traits have been made anew."""

    def end(self, profile: str, state: ProfileState, instant: Instant) -> None:
        """The profile becomes part of another one, and so leaves all that it is in."""

    def give_up(self, events: int, message_ids: int = 0) -> None:
        """So many events were needed and found no room."""


class Successions(Protocol):
    """Who has to hear that somebody has become part of another."""

    def end(self, profile: str, state: ProfileState, at: int) -> None:
        """The profile ends, and its state goes to another."""

    def tell(self, profile: str, state: ProfileState, instant: Instant) -> None:
        """The profile goes on with what is known of others."""


class Identities:
    """`early_ms` as for the partition. `now` is its clock in all calls; None: not started yet.

    Whoever receives a MERGE or a DONE has asked, and so is there, unless somebody else writes to our topics.
    """

    def __init__(self, profiles: Profiles, early_ms: int, mailbox: Mailbox, accounts: Successions) -> None:
        self._accounts = accounts
        self._profiles = profiles
        self._early_ms = early_ms
        self._mailbox = mailbox

    def link(self, profile: str, state: ProfileState, links: Sequence[str], event: ProfileEvent) -> None:
        """A call about this profile has been applied, and names these identifiers too."""
        link(profile, state, links, event, self._mailbox)

    def receive(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        """What another profile has to say."""
        state = self._profiles.states.find(profile)
        said = event.linking or _NOTHING
        owner = None if state is None else owner_of(state)
        if event.kind == MOVED:
            if owner is not None and said.asker not in (owner, profile):
                self._profiles.states.put(profile, forwarder(said.asker))
        elif owner is not None:
            self._mailbox.send(owner, event)
        elif event.kind == ASK:
            self._answer(profile, state, said, event, now)
        elif event.kind == MERGE:
            state = ProfileState() if state is None else state
            self._profiles.states.put(profile, state)
            # Its own first: whoever was forgotten since and comes back by this has none.
            identity = identity_of(profile, state, event)
            self._take_in(profile, state, said, now)
            answered(profile, identity, event, self._mailbox)
        elif event.kind == DONE:
            self._hear(profile, state, said, event)

    def _hear(self, profile: str, state: ProfileState | None, said: Linking, event: ProfileEvent) -> None:
        """An answer that brings nothing but identifiers."""
        if state is None:
            return
        self._profiles.states.put(profile, state)
        identity = identity_of(profile, state, event)
        add_aliases(state, said.aliases)
        answered(profile, identity, event, self._mailbox)

    def _answer(
        self,
        profile: str,
        state: ProfileState | None,
        said: Linking,
        event: ProfileEvent,
        now: int | None,
    ) -> None:
        if said.asker == profile:
            self._hear(profile, state, said, event)
            return
        verdict = decide(profile, state, said)
        if verdict is Verdict.REFUSED:
            refuse(event, [], self._mailbox)
        elif verdict is Verdict.YIELDS:
            if state is not None:
                self._accounts.end(profile, state, event.received if now is None else now)
            if state is not None:
                identity_of(profile, state, event)  # who reads the state alone has to know whose it is
            encoded = None if state is None else self._profiles.states.encoded(state)
            if state is not None and now is not None:
                self._profiles.end(profile, state, self._instant(now))
            self._profiles.states.put(profile, give_way(profile, state, encoded, event, self._mailbox))
        elif state is not None:
            self._profiles.states.put(profile, state)
            take_over(profile, state, event, self._mailbox)

    def _take_in(self, profile: str, state: ProfileState, said: Linking, now: int | None) -> None:
        """All that is known of a profile that has ended."""
        add_aliases(state, said.aliases)
        if said.state is None:
            return
        plan = self._profiles.plan
        before, sent = rows_of(profile, state), rows_sent(profile, state, plan) if plan.mapped else None
        self._profiles.give_up(*fold_profile(state, decode_state(said.state), self._profiles.plan, now or 0))
        if now is None:
            self._profiles.arm(profile, state, AT_ONCE)
            return
        instant = self._instant(now)
        changed = sent is None and rows_of(profile, state) != before
        deltas = evaluate_merged(profile, state, plan, instant, rows_changed=changed)
        if sent is not None:
            deltas += resend(profile, state, plan, instant, sent, {delta.audience for delta in deltas})
        self._profiles.emit(deltas)
        self._profiles.tell(profile, state, instant)
        self._accounts.tell(profile, state, instant)
        # What is known of the past may have ended here already.
        past = has_past(state)
        due = AT_ONCE if past else next_due(state, self._profiles.plan, instant, state.feeds, facts=True)
        if due < state.wake:
            self._profiles.arm(profile, state, due)

    def _instant(self, now: int) -> Instant:
        return Instant(now, now + self._early_ms, now)


def all_aliases(state: ProfileState | None) -> Mapping[str, int]:
    """Every identifier of a profile that has several; empty otherwise."""
    return {} if state is None or state.identity is None else state.identity.aliases


def holds_a_profile(event: ProfileEvent) -> bool:
    """Whether what a MERGE or a FORGET says of a profile that has ended can be read."""
    state = event.linking.state if event.linking else None
    try:
        if state is not None:
            _ = decode_state(state).identity
    except UnreadableRecordError:
        return False
    return True
