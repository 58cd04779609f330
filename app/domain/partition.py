"""AudiencePartition: all that evaluate knows and does of one partition of profile.events.

The worker and `simulate` both run on it. It reads no clock and writes nowhere: records, markers and the wall come
in, and `drain` gives the deltas and states to write in one transaction. Given the same records it always gives the
same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.brake import NEAR_THE_WALL_MS
from app.domain.clock import PartitionClock
from app.domain.filling import PAST_LANE
from app.domain.forgetting import FORGOTTEN_KEY
from app.domain.formats import refuse_newer_packed
from app.domain.mailbox import EVERYWHERE, Mailbox
from app.domain.partition_profiles import PartitionProfiles
from app.domain.plan_switch import PlanSwitch
from app.domain.plan_versions import PlanVersions
from app.domain.profile_evaluation import ProfileEvaluation
from app.domain.repeating import said_again
from app.domain.state import (
    AT_ONCE,
    AUDIENCES_KEY,
    CLOCK_KEY,
    OWN_KEYS,
    AudiencesRecord,
    PartitionRecord,
    decode_audiences,
    decode_record,
    encode_record,
)
from schemas.dead_letter import DropReason
from schemas.profile import MARKER, PAST_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.counters import Counters
    from app.domain.engage_calls import EngageCalls
    from app.domain.forgetting import Forgotten, Removal
    from app.domain.mailbox import Place
    from app.domain.plan import Plan
    from app.domain.profile_states import ProfileStates
    from app.domain.state import ProfileState
    from schemas.engage_call import EngageCall
    from schemas.membership import MembershipDelta
    from schemas.profile import ProfileEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What changed since the last drain: `deltas` in order, and each changed state once, by its key.

    `records` are what profiles here have to say to profiles of other partitions, in order. `calls` are what Engage
    would say, by profile, where that is asked for. Of forgotten people the states of `erased` and the memberships of
    `left`, by audience and profile, are to be deleted, before the rest is written.
    """

    deltas: list[MembershipDelta]
    states: list[tuple[bytes, bytes]]
    records: list[tuple[str, ProfileEvent]]
    calls: Sequence[tuple[str, EngageCall]] = ()
    erased: Sequence[bytes] = ()
    left: Sequence[tuple[str, str]] = ()


class AudiencePartition:
    """Call `load` for every state record, then `finish_recovery`; after that the rest, in any order.

    Nothing is evaluated before `set_wall` and `set_expected` have been called and every expected lane has shown
    progress; what comes before is kept.
    """

    def __init__(
        self,
        plan: Plan,
        early_ms: int,
        counters: Counters,
        applied_at: int = 0,
        place: Place = EVERYWHERE,
        versions: PlanVersions | None = None,
        calls: EngageCalls | None = None,
    ) -> None:
        """`early_ms` is how long before its timestamp an event may count. `applied_at` is the real time, for audiences
        that this partition has not had before; 0 is before everything. `plan` is the newest of `versions`, if given,
        which may get more while this partition is in use. `calls` gets what Engage would say of every change.
        """
        self.clock = PartitionClock()
        self._switch = PlanSwitch(plan, versions or PlanVersions(), applied_at)
        self._mailbox = mailbox = Mailbox(place)
        self._profiles = PartitionProfiles(plan, self._switch, early_ms, mailbox, counters, calls)
        self._evaluation = ProfileEvaluation(self._profiles, self._switch, early_ms, mailbox, counters)
        self.states: ProfileStates = self._profiles.states
        self.forgotten: Forgotten = self._profiles.forgotten
        self._evaluated = counters.stages["evaluate"]
        self._record_changed = False
        # Every timer up to here has fired; None: the clock has not started.
        self._fired: int | None = None
        # Whether the clock stood near the wall before it moved; otherwise it catches up.
        self._near = False
        self._loaded: PartitionRecord | None = None
        self._loaded_audiences = AudiencesRecord()

    # --- recovery ---

    def load(self, key: bytes, value: bytes | None) -> None:
        """One record of the changelog, in its order; None deletes.

        Raises NewerFormatError, or UnreadableRecordError for what no release has written.
        """
        if value is not None and value[1:2] != b"\x01":
            refuse_newer_packed("record of a profile", value)
        # Nearly all are states: those are told apart by one look.
        if not (key.startswith(OWN_KEYS) and self._load_own(key, value)):
            self.states.load(key, value)

    def _load_own(self, key: bytes, value: bytes | None) -> bool:
        """Whether it is a record of the partition itself, or of somebody forgotten."""
        if key == CLOCK_KEY:
            self._loaded = None if value is None else decode_record(value)
        elif key == AUDIENCES_KEY:
            self._loaded_audiences = AudiencesRecord() if value is None else decode_audiences(value)
        elif key.startswith(FORGOTTEN_KEY):
            self.forgotten.load(key, value)
        else:
            return False
        return True

    def finish_recovery(self) -> None:
        """After the last `load`. Where the plan is another than the states were made by, every profile is due."""
        record, audiences = self._loaded, self._loaded_audiences
        self._loaded, self._loaded_audiences = None, AudiencesRecord()
        plan = self._switch.recover(self.plan, record, audiences)
        self._record_changed = record is None or self._switch.applied != audiences.applied
        if record is None:
            self._profiles.begin(plan, {}, outdated=False)
            return
        self.clock.load(record.clock)
        self._fired = record.fired
        self._mailbox.sent = record.sent
        self._profiles.begin(plan, record.members, outdated=record.plan != plan.digest)

    def release(self) -> None:
        """This worker owns the partition no longer: its members are no longer counted here."""
        self._profiles.tally.end()

    # --- another version of the definitions ---

    @property
    def plan(self) -> Plan:
        """By which profiles are evaluated."""
        return self._profiles.plan

    @property
    def full_plan(self) -> Plan:
        """With the audiences that wait for their past."""
        return self._profiles.full_plan

    @property
    def definitions(self) -> int:
        """The version that this partition runs by."""
        return self._switch.number

    @property
    def shown(self) -> int:
        """See `PlanSwitch`."""
        return self._switch.shown

    @property
    def is_filling(self) -> bool:
        """Whether audiences wait for their past to be read."""
        return self._switch.boundary is not None

    def _go_over(self, plan: Plan) -> None:
        """To another version."""
        self._record_changed = True
        now = self.clock.now
        if now is not None and now < self._profiles.next_due:
            # Every profile is looked at where the clock stands: earlier, what has happened since would be missing.
            self._fired = now
        self._evaluation.begin_plan()
        self._profiles.change_plan(plan)

    def apply_past(self, profile: str, event: ProfileEvent) -> None:
        """A call that was read again for audiences which wait, or the end of such a lane; a redelivery is dropped.

        Nothing changes by it at once: when the last lane has ended, every profile is due.
        """
        self._evaluated.records_in += 1
        self._record_changed = True
        if not self.clock.accept(event.lane, event.offset, event.index):
            self._evaluated.dropped[DropReason.DUPLICATE.value] += 1
        elif event.kind == PAST_END:
            plan = self._switch.end_lane(event)
            if plan is not None:
                # What comes of these lanes now is no news to anybody.
                self.clock.forget(PAST_LANE)
                self._go_over(plan)
        else:
            self._evaluation.receive(profile, self._switch.news(event), self.clock.now)
            self._evaluation.deliver_mail(self.clock.now)

    # --- once more ---

    def apply_repeat(self, profile: str, event: ProfileEvent) -> None:
        """Says a membership once more, unless it has changed since that was asked for; a redelivery is dropped."""
        self._evaluated.records_in += 1
        self._record_changed = True
        if not self.clock.accept(event.lane, event.offset, event.index):
            self._evaluated.dropped[DropReason.DUPLICATE.value] += 1
            return
        state = self.states.find(profile)
        delta = (
            None if state is None else said_again(profile, state, self._switch.full, event, self.clock.now)
        )
        if state is None or delta is None:
            self._evaluated.dropped[DropReason.SUPERSEDED.value] += 1
            return
        self.states.put(profile, state)
        self._profiles.write([delta])

    # --- time ---

    def set_wall(self, now_ms: int, steady_ms: int | None = None) -> None:
        """The real time; what becomes due, as the wall held the clock back, fires with the next record.

        `steady_ms` is the real time as if nobody had set the wall since this process began: a clock that follows a wall
        that jumped is not catching up.
        """
        clock = self.clock.now
        steady = now_ms if steady_ms is None else steady_ms
        self._near = clock is not None and steady - clock <= NEAR_THE_WALL_MS
        self._switch.wall = now_ms
        self.clock.set_wall(now_ms)

    def set_expected(self, lanes: Iterable[str]) -> None:
        """The live source lanes (see PartitionClock); what becomes due fires with the next record."""
        self._switch.lanes = frozenset(lanes)
        self.clock.set_expected(self._switch.lanes)

    def apply_marker(self, event: ProfileEvent) -> None:
        """The progress of lanes, as resolve writes it into every partition."""
        self._record_changed = True
        self.foresee(event, None)

    @property
    def next_due(self) -> int | None:
        """Time changes nothing before this instant; None: it never will."""
        return self._profiles.timers.next_due

    def may_fire(self, event: ProfileEvent) -> bool:
        """Whether anything may be due by the time this record is applied."""
        return event.kind == MARKER or event.received >= self._profiles.next_due or self._is_due()

    def foresee(self, event: ProfileEvent, most: int | None) -> bool:
        """Moves the clock to where this record will bring it, and fires at most so many timers (None: all). A marker
        may bring another version of the definitions, by which every profile is due.

        False: more is due; drain, and call again. Who calls this before each record that `may_fire` never holds
        more than so many states for one step of the clock, however far it goes.
        """
        if event.kind != MARKER:
            self.clock.progress(event.lane, event.received)
            return self._advance(most)
        progress = event.progress or {}
        for lane, instant in progress.items():
            self.clock.progress(lane, instant)
        self._switch.see(event)
        if not self._advance(most):
            return False
        plan = self._switch.begin_newer(self.clock.positions())
        if plan is None:
            return True
        self._go_over(plan)
        return self._advance(most)

    def _is_due(self) -> bool:
        now = self.clock.now
        return now is not None and (now >= self._profiles.next_due or self._fired is None)

    def _advance(self, most: int | None = None) -> bool:
        """Fires what is due, at most so many (None: all); whether nothing is left."""
        now = self.clock.now
        if now is None or not self._is_due():
            return True
        if self._fired is None:
            self._fired = now
        evaluation, timers = self._evaluation, self._profiles.timers
        while (timer := timers.pop(now)) is not None:
            due, key = timer
            # What was armed at once, or before the clock started, is looked at where the clock stood last.
            self._fired = max(due, self._fired)
            # A clock that catches up passes through every instant; what is due at once is no work of time.
            found = now if self._near or due == AT_ONCE else self._fired
            evaluation.fire(key, self._fired, found, everything=due == AT_ONCE)
            evaluation.deliver_mail(self._fired)
            if most is not None:
                most -= 1
                if not most:
                    break
        else:
            self._fired = now
        self._profiles.note_next_due()
        return not self._is_due()

    # --- records ---

    def apply(self, profile: str, event: ProfileEvent) -> None:
        """One call about `profile`, or what another profile says to it; a redelivery is dropped."""
        self._evaluated.records_in += 1
        self._record_changed = True
        clock = self.clock
        if not clock.take(event.lane, event.offset, event.index, event.received):
            self._evaluated.dropped[DropReason.DUPLICATE.value] += 1
            return
        now = clock.now
        if now is not None:
            if now >= self._profiles.next_due or self._fired is None:
                self._advance()  # unless whoever calls has foreseen the record
            else:
                self._fired = now
        self._evaluation.receive(profile, event, now)
        if self._mailbox.local:
            self._evaluation.deliver_mail(now)

    # --- results ---

    @property
    def has_changes(self) -> bool:
        """Whether a drain would bring more than where the clock stands."""
        return bool(
            self.states.have_changed
            or self._profiles.deltas
            or self._mailbox.has_records
            or self.forgotten.has_changes
        )

    def drain(self) -> Outcome:
        """Everything that changed since the last drain; writing it, all or nothing, is the caller's business."""
        profiles = self._profiles
        profiles.tell_memberships()
        records, outdated = self.forgotten.take_records()
        erased = self.states.take_erased() + outdated
        records += self.states.pack()
        if self._record_changed or records or erased:
            records += self._take_own_records()
        return Outcome(
            profiles.take_deltas(),
            records,
            self._mailbox.take_records(),
            profiles.take_calls(),
            erased,
            self.forgotten.take_tombstones(),
        )

    def _take_own_records(self) -> list[tuple[bytes, bytes]]:
        """Where the partition stands after the states that are written with it."""
        now, profiles, switch = self.clock.now, self._profiles, self._switch
        outdated = bool(self.states.overdue)
        if not outdated:
            switch.finish(self.plan)
        record = PartitionRecord(
            version=1,
            clock=self.clock.dump(),
            plan="" if outdated else self.plan.digest,
            members=profiles.tally.members,
            fired=now if now is None or now < profiles.next_due else self._fired,
            sent=self._mailbox.sent,
            definitions=switch.number,
            boundary=switch.boundary,
            filled=sorted(switch.filled),
        )
        records = [(CLOCK_KEY, encode_record(record))]
        audiences = switch.to_write()
        if audiences is not None:
            records.append((AUDIENCES_KEY, encode_record(audiences)))
        self._record_changed = False
        return records

    def take_deltas(self) -> list[MembershipDelta]:
        """The deltas alone, for who writes no states; the next drain does not have them again."""
        return self._profiles.take_deltas()

    def members(self, audience: str) -> int:
        """How many profiles of this partition are members now."""
        return self._profiles.tally.members.get(audience, 0)

    def copy_of(self, profile: str) -> ProfileState | None:
        """The profile's state as it stands, to be read and thrown away; None: the profile is not known here."""
        return self.states.copy_of(profile, self.plan.needs)

    def confirm_removal(self, key: bytes, removal: Removal) -> bool:
        """Every destination has let go of a forgotten profile; whoever has come back under its name may enter now."""
        return self._profiles.confirm_removal(key, removal)
