"""ProfileEvaluation: what a record or the passing of time makes of one profile of a partition.

It changes the profile's state, and the memberships that come of it; where the clock stands, and whether the record is
one that was there before, its caller knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from app.domain.computed_traits import refresh_after, refresh_known
from app.domain.evaluation import Instant, announce, announce_exits, evaluate, next_due
from app.domain.filling import id_of_past
from app.domain.fold import adopt, settle
from app.domain.fold_call import fold_facts, fold_hits
from app.domain.forgetting import drop, forget, is_late
from app.domain.identity import Identities
from app.domain.linking import owner_of
from app.domain.merging import inherit
from app.domain.past_fields import take_past
from app.domain.plan import joined
from app.domain.plan_switch import reclaim
from app.domain.profile_ids import WITHOUT_USER, is_account
from app.domain.resending import resend, rows_sent
from app.domain.rows import is_identified
from app.domain.state import AT_ONCE, NEVER, ProfileState, decode_state, forwarder
from app.errors import FatalError
from schemas.membership import Cause
from schemas.profile import CALL, FORGET, PAST, REPEAT

if TYPE_CHECKING:
    from app.domain.counters import Counters
    from app.domain.mailbox import Mailbox
    from app.domain.partition_profiles import PartitionProfiles
    from app.domain.plan import CompiledAudience
    from app.domain.plan_switch import PlanSwitch
    from app.domain.resending import Sent
    from schemas.profile import ProfileEvent

# Combinations of feeds whose audiences are remembered.
_MAX_COMBINATIONS: Final = 10_000
# Messages that one record may set off in a partition, far beyond the largest account: only profiles that stand for each
# other in a ring, which somebody else has written, have more to say.
MOST_MAIL: Final = 1_000_000


class ProfileEvaluation:
    """`early_ms` as for the partition. `now` is its clock in all calls; None: not started yet, and so states are made,
    and nobody is evaluated.
    """

    def __init__(
        self,
        profiles: PartitionProfiles,
        switch: PlanSwitch,
        early_ms: int,
        mailbox: Mailbox,
        counters: Counters,
    ) -> None:
        self._profiles = profiles
        self._states = profiles.states
        self._forgotten = profiles.forgotten
        self._accounts = profiles.accounts
        self._identities = Identities(profiles, early_ms, mailbox, profiles.accounts)
        self._switch = switch
        self._early_ms = early_ms
        self._mailbox = mailbox
        self._counters = counters
        self._expired = counters.stages["expire"]
        self._audiences_of: dict[tuple[str, ...], tuple[CompiledAudience, ...]] = {}

    def begin_plan(self) -> None:
        """The plan is another one than before."""
        self._audiences_of.clear()

    # --- records ---

    def receive(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        """A call about the profile, of the past too, or what another profile says to it."""
        forgotten = self._forgotten
        if forgotten.until:
            if is_late(self._profiles, profile, event):
                drop(self._profiles, self._mailbox, profile, event)
                return
            if event.kind != FORGET and forgotten.is_leaving(profile):
                now = None  # folded, and looked at when the removal is confirmed
        if event.kind == CALL:
            self._apply_call(profile, event, now)
        elif event.kind == PAST:
            self._apply_past_call(profile, event, now)
        elif event.kind == FORGET:
            forget(self._profiles, self._mailbox, profile, event, now)
        elif event.kind > REPEAT:
            self._accounts.receive(profile, event, now)
        else:
            self._identities.receive(profile, event, now)

    def deliver_mail(self, now: int | None) -> None:
        """What profiles of this partition have to say to each other, and what that makes them say.

        Raises FatalError when it does not end.
        """
        mail = self._mailbox.local
        for _ in range(MOST_MAIL):
            if not mail:
                return
            self.receive(*mail.popleft(), now)
        raise FatalError("profiles have something to say to each other without end")

    def _apply_call(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        key = profile.encode()
        states = self._states
        state, is_new = states.touched.get(key), False
        if state is None:
            encoded = states.resting.get(key)
            if encoded is not None:
                state = decode_state(encoded)
            else:
                owner, is_new = states.forwarders.get(key), True
                state = ProfileState() if owner is None else forwarder(owner)
        owner = state.owner
        if owner is not None:
            self._mailbox.send(owner, event)
            return
        states.touched[key] = state
        if is_new and profile.startswith(WITHOUT_USER):
            state.since = event.received
        if now is None:
            plan = self._profiles.plan
            fold_hits(state, event, plan, 0, self._counters)
            fold_facts(state, event, plan)
            if state.wake != AT_ONCE:
                self._profiles.arm_key(key, state, AT_ONCE)
        else:
            self._evaluate_call(profile, key, state, event, now, is_new=is_new)
        if event.linking is not None:
            self._identities.link(profile, state, event.linking.links, event)

    def _evaluate_call(
        self, profile: str, key: bytes, state: ProfileState, event: ProfileEvent, now: int, *, is_new: bool
    ) -> None:
        profiles = self._profiles
        plan = profiles.plan
        if state.settled < now:
            self._counters.forgotten_events += settle(state, plan.needs, now)
        instant = Instant(now, now + self._early_ms, now)
        sent = rows_sent(profile, state, plan) if plan.mapped else None
        if event.traits is None and event.identifiers is None and event.claims is None:
            affected = fold_hits(state, event, plan, now, self._counters)
            if plan.computed:
                refresh_after(event, state, plan, instant)
                if profiles.calls is not None:
                    profiles.tell(profile, state, instant)
            if event.timestamp > instant.horizon:
                affected = ()  # looked at when the clock comes near it; until then it changes nothing
            if is_new:
                affected = joined(affected, plan.initial)
            deltas = evaluate(profile, state, affected, instant, Cause.EVENT) if affected else []
            if sent is not None:
                done = {delta.audience for delta in deltas}
                deltas += resend(profile, state, plan, instant, sent, done)
            if deltas:
                profiles.emit(deltas)
        else:
            self._apply_facts(profile, state, event, instant, sent, is_new=is_new)
        facts = (is_new and bool(plan.births)) or (event.traits is not None and bool(plan.watches_of_trait))
        if event.hits or facts:
            due = next_due(state, plan, instant, [hit.feed for hit in event.hits], facts=facts)
            if due < state.wake:
                profiles.arm_key(key, state, due)

    def _apply_facts(
        self,
        profile: str,
        state: ProfileState,
        event: ProfileEvent,
        instant: Instant,
        sent: Sent | None,
        *,
        is_new: bool,
    ) -> None:
        """A call that says something of the profile itself: its traits, identifiers, memberships claimed.

        `sent`, where fields are mapped, is what destinations have of the profile.
        """
        profiles = self._profiles
        plan = profiles.plan
        was_identified = is_identified(profile, state)
        affected = fold_hits(state, event, plan, instant.now, self._counters)
        rows_changed, by_facts = fold_facts(state, event, plan)
        if plan.computed:
            refresh_after(event, state, plan, instant)
            profiles.tell(profile, state, instant)
        affected = joined(affected, by_facts)
        if is_new:
            affected = joined(affected, plan.initial)
        if not was_identified and is_identified(profile, state):
            affected = plan.concerning(state)
        cause = Cause.CLAIM if event.claims else Cause.EVENT
        deltas = evaluate(profile, state, affected, instant, cause)
        profiles.emit(deltas)
        if sent is not None:
            done = {delta.audience for delta in deltas}
            profiles.emit(resend(profile, state, plan, instant, sent, done))
        elif rows_changed:
            done = {delta.audience for delta in deltas}
            profiles.emit(announce(profile, state, plan, instant, done))

    def _apply_past_call(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        """What a call of the past says, which may be known; whoever waits is evaluated later."""
        profiles = self._profiles
        plan = profiles.plan
        state = self._states.find(profile) or ProfileState()
        owner = owner_of(state)
        if owner is not None:
            self._mailbox.send(owner, event)
            return
        self._states.put(profile, state)
        if now is not None and state.settled < now:
            self._counters.forgotten_events += settle(state, plan.needs, now)
        said = event
        if event.hits and event.message_id is not None:
            said = replace(event, message_id=id_of_past(event.message_id, self._switch.number))
        fold_hits(state, said, plan, now or 0, self._counters)
        fold_facts(state, event, plan)
        if self._switch.boundary is None:
            profiles.arm(profile, state, AT_ONCE)
        elif state.feeds and now is not None:
            due = next_due(state, plan, Instant(now, now, now), state.feeds, facts=True)
            if due < state.wake:
                profiles.arm(profile, state, due)

    # --- time ---

    def fire(self, key: bytes, at: int, clock: int, *, everything: bool) -> None:
        """The profile is due `at` this instant, which the clock found at `clock`, and gets another wake.

        `everything`: all its audiences are looked at, also for another plan's sake.
        """
        states = self._states
        self._expired.records_in += 1
        was_touched = key in states.touched
        state = states.touch(key)
        profile = key.decode()
        if self._forgotten.is_leaving(profile):
            # Evaluated when the removal is confirmed; what comes until then meets a state of this plan.
            if everything:
                self._adopt(state)
            states.overdue.discard(key)
            state.wake = NEVER
            return
        cause = Cause.TIME
        if everything and key in states.overdue:
            cause = Cause.DEFINITION
            states.overdue.discard(key)
        if state.ties is not None and is_account(profile):
            self._accounts.fire(profile, state, Instant(at, at, clock), cause, everything=everything)
            return
        if everything and owner_of(state) is not None:
            changed = False
        else:
            instant = Instant(at, at + self._early_ms, clock)
            changed = self._look(profile, key, state, instant, cause, everything=everything)
        if not was_touched and not changed:
            del states.touched[key]  # looked at for another plan's sake, and nothing came of it

    def _look(
        self,
        profile: str,
        key: bytes,
        state: ProfileState,
        instant: Instant,
        cause: Cause,
        *,
        everything: bool,
    ) -> bool:
        """Evaluates what time, or with `everything` another plan, may have changed; whether the state has."""
        profiles = self._profiles
        plan, told = profiles.plan, self._switch.told
        armed, known = state.wake, state.computed
        sent = rows_sent(profile, state, plan) if plan.mapped else None
        adopted = everything and self._adopt(state)
        self._counters.forgotten_events += settle(state, plan.needs, instant.now)
        refresh_known(state, plan, instant)
        said = profiles.tell(profile, state, instant)
        audiences = plan.concerning(state) if everything else self._timed(state)
        deltas = inherit(profile, state, plan, instant) if everything else []
        deltas += evaluate(profile, state, audiences, instant, cause)
        # Whoever has been looked at for this plan's sake before has been told.
        is_outdated = cause is Cause.DEFINITION
        if is_outdated and (done := told.heard_of(state, deltas)) is not None:
            deltas += announce(profile, state, plan, instant, done)
        if sent is not None:
            deltas += resend(profile, state, plan, instant, sent, {delta.audience for delta in deltas})
        profiles.emit(deltas, self._expired)
        if everything and state.ties is not None:
            self._accounts.tell(profile, state, instant)
            adopted = True
        if is_outdated and (left := told.left_by(state, deltas)):
            # Nobody is counted out twice.
            deltas += (again := announce_exits(profile, state, plan, instant, left))
            profiles.deltas.extend(again)
        state.wake = next_due(state, plan, instant, state.feeds, facts=True)
        if state.wake != NEVER:
            profiles.timers.arm(key, state.wake)
        return bool(deltas) or said or adopted or state.wake != armed or state.computed != known

    def _adopt(self, state: ProfileState) -> bool:
        """Fit the state to this plan; whether it was another's."""
        changed = adopt(state, self._profiles.plan.needs)
        if self._switch.boundary is None:
            changed = take_past(state) or changed
        changed = reclaim(state, self._switch.full) or changed
        state.computed = {}
        return changed

    def _timed(self, state: ProfileState) -> tuple[CompiledAudience, ...]:
        """The audiences that the profile's feeds can change; most profiles have the feeds of many others."""
        feeds = tuple(state.feeds)
        affected = self._audiences_of.get(feeds)
        if affected is None:
            plan = self._profiles.plan
            affected = plan.watched
            for feed in feeds:
                affected = joined(affected, plan.of_feed[feed])
            if len(self._audiences_of) >= _MAX_COMBINATIONS:
                self._audiences_of.clear()
            self._audiences_of[feeds] = affected
        return affected
