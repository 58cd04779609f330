"""PartitionProfiles: the profiles of one partition as those see them who change them, and what has come of it.

Evaluation, identities, accounts and forgetting all work on it: they change states, say when a profile is to be looked at
again, and hand over deltas, which are counted here and kept until somebody takes them to write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.account_plan import ASKED
from app.domain.accounts import Accounts
from app.domain.compact import audience_id
from app.domain.forgetting import Forgotten
from app.domain.merging import leave
from app.domain.profile_states import ProfileStates
from app.domain.state import AT_ONCE, NEVER, wake_of
from app.domain.tally import Tally
from app.domain.timers import Timers
from schemas.dead_letter import DropReason
from schemas.membership import Cause, Change, MembershipDelta

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.counters import Counters, StageCounters
    from app.domain.engage_calls import EngageCalls
    from app.domain.evaluation import Instant
    from app.domain.forgetting import Removal
    from app.domain.mailbox import Mailbox
    from app.domain.plan import Plan
    from app.domain.plan_switch import PlanSwitch
    from app.domain.state import ProfileState
    from schemas.engage_call import EngageCall


class PartitionProfiles:
    """`plan` is the one that profiles are evaluated by; `change_plan` sets it. `deltas` are those since the last
    `take_deltas`, in order.

    `next_due`: time changes nothing before this instant. It may be earlier than what `timers` know, never later, and
    costs no look at them.
    """

    def __init__(
        self,
        plan: Plan,
        switch: PlanSwitch,
        early_ms: int,
        mailbox: Mailbox,
        counters: Counters,
        calls: EngageCalls | None,
    ) -> None:
        self.plan = plan
        self.states = ProfileStates(counters)
        self.forgotten = Forgotten()
        self.timers = Timers(self.states.wake_of)
        self.next_due = NEVER
        self.deltas: list[MembershipDelta] = []
        self.calls = calls
        # Deltas of erased profiles, whose Engage calls have been made.
        self._told: set[int] = set()
        self._switch = switch
        self._counters = counters
        self._evaluated = counters.stages["evaluate"]
        self.tally = Tally(counters, self._evaluated)
        self.accounts = Accounts(self, early_ms, mailbox)

    @property
    def full_plan(self) -> Plan:
        """With the audiences that wait for their past."""
        return self._switch.full

    def begin(self, plan: Plan, members: dict[str, int], *, outdated: bool) -> None:
        """After recovery. `outdated`: the states were made by another plan, and so every profile is due."""
        self.plan = plan
        states = self.states
        if outdated:
            states.outdate()
        for key, state in states.resting.items():
            wake = AT_ONCE if outdated else wake_of(state)
            if wake != NEVER:
                self.timers.arm(key, wake)
        self.tally.begin(members, self.full_plan.audiences)
        self.note_next_due()

    def change_plan(self, plan: Plan) -> None:
        """To that of another version. Every profile is due, if it makes a difference."""
        before, self.plan = self.plan, plan
        self.tally.show(self.full_plan.audiences)
        if plan.digest != before.digest:
            self.states.outdate()
            for key in self.states.overdue:
                self.timers.arm(key, AT_ONCE)
            self.note_next_due()

    # --- when to look at a profile again ---

    def arm(self, profile: str, state: ProfileState, due: int) -> None:
        """The profile is due when the clock is there."""
        self.arm_key(profile.encode(), state, due)

    def arm_key(self, key: bytes, state: ProfileState, due: int) -> None:
        """As `arm`, for who has the key."""
        state.wake = due
        self.timers.arm(key, due)
        self.next_due = min(self.next_due, due)

    def note_next_due(self) -> None:
        """To be called after timers have been popped, or armed past `arm`."""
        due = self.timers.next_due
        self.next_due = NEVER if due is None else due

    # --- what has come of it ---

    def emit(self, deltas: list[MembershipDelta], stage: StageCounters | None = None) -> None:
        """Deltas to write, and the stage that has made them; None: evaluate."""
        if not deltas:
            return
        if self.plan.accounts is not None:
            deltas = self.accounts.sift(deltas)
        stage = stage or self._evaluated
        stage.records_out += len(deltas)
        self.tally.note(deltas, stage, self.plan)
        self.deltas.extend(deltas)

    def write(self, deltas: list[MembershipDelta]) -> None:
        """Deltas by which nobody has entered or left, or of accounts, which are no people to be counted."""
        self._evaluated.records_out += len(deltas)
        self.deltas.extend(deltas)

    def tell(self, profile: str, state: ProfileState, instant: Instant) -> bool:
        """Whether Engage would say something of the computed traits, which have been made anew."""
        calls = self.calls
        return calls is not None and calls.tell_traits(profile, state, self.plan.computed, instant)

    def take_deltas(self) -> list[MembershipDelta]:
        """The deltas since the last call."""
        deltas, self.deltas = self.deltas, []
        return deltas

    def tell_memberships(self) -> None:
        """Notes in the touched states what Engage would say of the deltas; before they are packed and taken."""
        if self.calls is None:
            return
        deltas = self.deltas
        if self._told:
            deltas = [delta for delta in deltas if id(delta) not in self._told]
            self._told.clear()
        self.calls.tell_memberships(deltas, self.states.touched)

    def take_calls(self) -> Sequence[tuple[str, EngageCall]]:
        """What Engage would have said since the last call, by profile."""
        return () if self.calls is None else self.calls.take()

    # --- who ends ---

    def end(self, profile: str, state: ProfileState, instant: Instant) -> None:
        """The profile becomes part of another one, and so leaves all that it is in: what waits for its past as well, and
        what is defined no longer, which may come back, and has none of its destinations then as now.
        """
        self.emit(leave(profile, state, self.full_plan, instant))
        members = {short for short, known in state.memberships.items() if known.member}
        left = []
        for audience in self._leave_undefined(members):
            sequence = state.memberships[audience_id(audience)].sequence + 1
            now, clock = instant.now, instant.clock
            left.append(
                MembershipDelta(audience, profile, Change.EXITED, sequence, {}, now, clock, Cause.MERGE)
            )
        self.write(left)

    def _leave_undefined(self, members: set[str]) -> list[str]:
        """The keys of audiences that are defined no longer, of those which states name so. They have one member less, for
        when they come back.
        """
        counted, defined = self.tally.members, self.full_plan.audiences
        left = [
            audience for audience in counted if audience not in defined and audience_id(audience) in members
        ]
        for audience in left:
            counted[audience] -= 1
        return left

    # --- what finds no room, or comes too late ---

    def give_up(self, events: int, message_ids: int = 0) -> None:
        """So many events and message ids were needed and found no room."""
        self._counters.forgotten_events += events
        self._counters.forgotten_ids += message_ids

    def refuse_user(self) -> None:
        """An account has no room for one more user."""
        self._evaluated.dropped[DropReason.ACCOUNT_FULL.value] += 1

    def count_forgotten(self) -> None:
        """Something came too late."""
        self._evaluated.dropped[DropReason.FORGOTTEN.value] += 1

    # --- forgetting (see app.domain.forgetting) ---

    def known_audiences(self) -> Iterable[str]:
        """The keys of all audiences that are defined or have had members here."""
        keys = {*self.full_plan.audiences, *self.tally.members}
        return [key for key in keys if not key.startswith(ASKED)]

    def erase(self, profile: str, state: ProfileState | None, deltas: list[MembershipDelta]) -> None:
        """Nothing is left of the profile but these deltas, its last."""
        key = profile.encode()
        self.states.erase(key)
        if state is None:
            return
        members = {short for short, known in state.memberships.items() if known.member}
        defined = self.full_plan.audiences
        left = [
            delta for delta in deltas if delta.audience in defined and audience_id(delta.audience) in members
        ]
        self.tally.note(left, self._evaluated, self.full_plan)
        self._leave_undefined(members)
        self.write(deltas)
        if self.calls is not None:
            last = [delta for delta in self.deltas if delta.profile == profile]
            self.calls.tell_memberships(last, {key: state})
            self._told.update(map(id, last))

    def confirm_removal(self, key: bytes, removal: Removal) -> bool:
        """Every destination has let go of a forgotten profile; whoever has come back under its name may enter now."""
        if not self.forgotten.confirm(key, removal):
            return False
        state = self.states.find(removal.profile)
        if state is not None and state.owner is None:
            self.states.put(removal.profile, state)
            self.arm(removal.profile, state, AT_ONCE)
        return True
