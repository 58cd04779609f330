"""AudiencePartition: all that evaluate knows and does of one partition of profile.events.

The worker and `simulate` both run on it. It reads no clock and writes nowhere: records, markers and the wall come
in, and `drain` gives the deltas and states to write in one transaction. Given the same records it always gives the
same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from app.domain.account_plan import ASKED
from app.domain.accounts import Accounts
from app.domain.brake import NEAR_THE_WALL_MS
from app.domain.clock import PartitionClock
from app.domain.compact import audience_id
from app.domain.computed_traits import refresh_after, refresh_known
from app.domain.evaluation import Instant, announce, announce_exits, evaluate, next_due
from app.domain.filling import PAST_LANE
from app.domain.fold import (
    add_event,
    adopt,
    fold_claim,
    fold_identifiers,
    fold_trait,
    is_remembered,
    message_digest,
    prune,
    remember,
    settle,
    shed,
)
from app.domain.forgetting import FORGOTTEN_KEY, Forgotten, drop, forget
from app.domain.formats import refuse_newer_packed
from app.domain.forwarders import Forwarders
from app.domain.identity import Identities, all_aliases
from app.domain.linking import owner_of
from app.domain.mailbox import EVERYWHERE, Mailbox
from app.domain.merging import inherit
from app.domain.plan import joined
from app.domain.plan_switch import PlanSwitch, reclaim
from app.domain.plan_versions import PlanVersions
from app.domain.profile_ids import WITHOUT_USER, display_name, is_account
from app.domain.repeating import said_again
from app.domain.resending import resend, rows_sent
from app.domain.rows import is_identified
from app.domain.state import (
    AT_ONCE,
    AUDIENCES_KEY,
    CLOCK_KEY,
    MAX_STATE_BYTES,
    NEVER,
    AudiencesRecord,
    FeedState,
    PartitionRecord,
    ProfileState,
    decode_audiences,
    decode_record,
    decode_state,
    encode_record,
    encode_state,
    forwarder,
    owner_in,
    wake_of,
)
from app.domain.tally import Tally
from app.domain.timers import Timers
from schemas.dead_letter import DropReason
from schemas.membership import Cause
from schemas.profile import CALL, FORGET, MARKER, PAST, PAST_END, REPEAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.counters import Counters, StageCounters
    from app.domain.engage_calls import EngageCalls
    from app.domain.forgetting import Removal
    from app.domain.mailbox import Place
    from app.domain.plan import CompiledAudience, Plan
    from app.domain.resending import Sent
    from schemas.engage_call import EngageCall
    from schemas.membership import MembershipDelta
    from schemas.profile import ProfileEvent


# Combinations of feeds whose audiences are remembered.
_MAX_COMBINATIONS: Final = 10_000

EVALUATE: Final = "evaluate"
EXPIRE: Final = "expire"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What changed since the last drain: `deltas` in order, and each changed state once, by its key.

    `records` are what profiles here have to say to profiles of other partitions, in order. `calls` are what Engage
    would say, by profile, where that is asked for. Of forgotten people the states of `erased` and the memberships of `left`,
    by audience and profile, are to be deleted, before the rest is written.
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
        self.plan = plan
        self._switch = PlanSwitch(plan, versions or PlanVersions(), applied_at)
        self.clock = PartitionClock()
        # Of profiles that have become part of others there is no state.
        self.states: dict[bytes, bytes] = {}
        self.forwarders = Forwarders()
        self.forgotten = Forgotten()
        self._erased: dict[bytes, None] = {}
        # Deltas of erased profiles, whose Engage calls have been made.
        self._told: set[int] = set()
        self._early_ms = early_ms
        self._calls = calls
        self._counters = counters
        self._evaluated = counters.stages[EVALUATE]
        self._expired = counters.stages[EXPIRE]
        self._touched: dict[bytes, ProfileState] = {}
        self._deltas: list[MembershipDelta] = []
        self._tally = Tally(counters, self._evaluated)
        self._record_changed = False
        self._timers = Timers(self._wake_of)
        self._next_due = NEVER
        # Every timer up to here has fired; None: the clock has not started.
        self._fired: int | None = None
        # Whether the clock stood near the wall before it moved; otherwise it catches up.
        self._near = False
        self._loaded: PartitionRecord | None = None
        self._loaded_audiences = AudiencesRecord()
        # Profiles whose states were made by another plan. They are due at once, and the clock of a partition that
        # has any has started: all of them fire before anything is written by this plan.
        self._overdue: set[bytes] = set()
        self._audiences_of: dict[tuple[str, ...], tuple[CompiledAudience, ...]] = {}
        self._mailbox = Mailbox(place)
        self._accounts = Accounts(self, early_ms, self._mailbox)
        self._identities = Identities(self, early_ms, self._mailbox, self._accounts)

    # --- recovery ---

    def load(self, key: bytes, value: bytes | None) -> None:
        """One record of the changelog, in its order; None deletes. Raises NewerFormatError."""
        if value is not None and value[1:2] != b"\x01":
            refuse_newer_packed("record of a profile", value)
        if key == CLOCK_KEY:
            self._loaded = None if value is None else decode_record(value)
        elif key == AUDIENCES_KEY:
            self._loaded_audiences = AudiencesRecord() if value is None else decode_audiences(value)
        elif key.startswith(FORGOTTEN_KEY):
            self.forgotten.load(key, value)
        elif value is None:
            self.states.pop(key, None)
            self.forwarders.discard(key)
        else:
            owner = owner_in(value)
            if owner is None:
                self.states[key] = value
            else:
                self.states.pop(key, None)
                self.forwarders.put(key, owner)

    def finish_recovery(self) -> None:
        """After the last `load`. Where the plan is another than the states were made by, every profile is due."""
        record = self._loaded
        self._loaded = None
        self.plan = self._switch.recover(self.plan, record, self._loaded_audiences)
        self._record_changed = record is None or self._switch.applied != self._loaded_audiences.applied
        self._loaded_audiences = AudiencesRecord()
        if record is not None:
            self.clock.load(record.clock)
            self._fired = record.fired
            self._mailbox.sent = record.sent
            if record.plan != self.plan.digest:
                self._overdue.update(self.states)
        for key, state in self.states.items():
            wake = AT_ONCE if self._overdue else wake_of(state)
            if wake != NEVER:
                self._timers.arm(key, wake)
        self._tally.begin({} if record is None else record.members, self._switch.full.audiences)
        self._note_next_due()

    def release(self) -> None:
        """This worker owns the partition no longer: its members are no longer counted here."""
        self._tally.end()

    # --- another version of the definitions ---

    @property
    def definitions(self) -> int:
        """The version that this partition runs by."""
        return self._switch.number

    @property
    def is_filling(self) -> bool:
        """Whether audiences wait for their past to be read."""
        return self._switch.boundary is not None

    def _go_over(self, plan: Plan) -> None:
        """To another version. Every profile is due, if it makes a difference."""
        before = self.plan
        self.plan = plan
        self._audiences_of.clear()
        self._tally.show(self._switch.full.audiences)
        self._record_changed = True
        if plan.digest != before.digest:
            self._overdue.update(self.states, self._touched)
            for profile in self._overdue:
                self._timers.arm(profile, AT_ONCE)
            self._note_next_due()

    def _adopt(self, state: ProfileState) -> bool:
        """Fit the state to this plan; whether it was another's."""
        changed = adopt(state, self.plan.needs)
        changed = reclaim(state, self._switch.full) or changed
        state.computed = {}
        return changed

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
            self._receive(profile, self._switch.news(event), self.clock.now)
            mail = self._mailbox.local
            while mail:
                self._receive(*mail.popleft(), self.clock.now)

    def _remember(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        """What a call of the past says, which may be known; whoever waits is evaluated later."""
        state = self.find(profile) or ProfileState()
        owner = owner_of(state)
        if owner is not None:
            self._mailbox.send(owner, event)
            return
        self.put(profile, state)
        if now is not None and state.settled < now:
            self._counters.forgotten_events += settle(state, self.plan.needs, now)
        if event.hits and event.message_id is not None:
            # An id that the first reading has seen is news to those who wait.
            self._fold_hits(state, replace(event, message_id=f"past {event.message_id}"), now or 0)
        else:
            self._fold_hits(state, event, now or 0)
        self._fold(state, event)
        if self._switch.boundary is None:
            self.arm(profile, state, AT_ONCE)
        elif state.feeds and now is not None:
            due = next_due(state, self.plan, Instant(now, now, now), state.feeds, facts=True)
            if due < state.wake:
                self.arm(profile, state, due)

    # --- once more ---

    def apply_repeat(self, profile: str, event: ProfileEvent) -> None:
        """Says a membership once more, unless it has changed since that was asked for; a redelivery is dropped."""
        self._evaluated.records_in += 1
        self._record_changed = True
        if not self.clock.accept(event.lane, event.offset, event.index):
            self._evaluated.dropped[DropReason.DUPLICATE.value] += 1
            return
        state = self.find(profile)
        delta = (
            None if state is None else said_again(profile, state, self._switch.full, event, self.clock.now)
        )
        if state is None or delta is None:
            self._evaluated.dropped[DropReason.SUPERSEDED.value] += 1
            return
        self.put(profile, state)
        # Nobody has entered or left: it is in no tally.
        self._deltas.append(delta)
        self._evaluated.records_out += 1

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
        return self._timers.next_due

    def may_fire(self, event: ProfileEvent) -> bool:
        """Whether anything may be due by the time this record is applied."""
        return event.kind == MARKER or event.received >= self._next_due or self._is_due()

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
        return now is not None and (now >= self._next_due or self._fired is None)

    def _advance(self, most: int | None = None) -> bool:
        """Fires what is due, at most so many (None: all); whether nothing is left."""
        now = self.clock.now
        if now is None or not self._is_due():
            return True
        if self._fired is None:
            self._fired = now
        while (timer := self._timers.pop(now)) is not None:
            due, key = timer
            # What was armed at once, or before the clock started, is looked at where the clock stood last.
            self._fired = max(due, self._fired)
            # A clock that catches up passes through every instant; what is due at once is no work of time.
            found = now if self._near or due == AT_ONCE else self._fired
            self._fire(key, self._fired, found, everything=due == AT_ONCE)
            mail = self._mailbox.local
            while mail:
                self._receive(*mail.popleft(), self._fired)
            if most is not None:
                most -= 1
                if not most:
                    break
        else:
            self._fired = now
        self._note_next_due()
        return not self._is_due()

    def _fire(self, key: bytes, at: int, clock: int, *, everything: bool) -> None:
        self._expired.records_in += 1
        was_touched = key in self._touched
        state = self._touch(key)
        if self.forgotten.removals and self.forgotten.is_leaving(key.decode()):
            self._overdue.discard(key)
            state.wake = NEVER
            return
        armed = state.wake
        known, adopted = state.computed, False
        profile = key.decode()
        cause = Cause.TIME
        if everything and key in self._overdue:
            cause = Cause.DEFINITION
            self._overdue.discard(key)
        if state.ties is not None and is_account(profile):
            self._accounts.fire(profile, state, Instant(at, at, clock), cause, everything=everything)
            return
        sent = rows_sent(profile, state, self.plan) if self.plan.mapped else None
        if everything:
            if owner_of(state) is not None:
                if not was_touched:
                    del self._touched[key]
                return
            adopted = self._adopt(state)
        self._counters.forgotten_events += settle(state, self.plan.needs, at)
        instant = Instant(at, at + self._early_ms, clock)
        refresh_known(state, self.plan, instant)
        said = self.tell(profile, state, instant)
        audiences = self.plan.concerning(state) if everything else self._timed(state)
        deltas = inherit(profile, state, self.plan, instant) if everything else []
        deltas += evaluate(profile, state, audiences, instant, cause)
        told = self._switch.told
        if everything and (done := told.heard_of(state, deltas)) is not None:
            deltas += announce(profile, state, self.plan, instant, done)
        if sent is not None:
            deltas += resend(profile, state, self.plan, instant, sent, {delta.audience for delta in deltas})
        self._emit(deltas, self._expired)
        if everything and state.ties is not None:
            self._accounts.tell(profile, state, instant)
            adopted = True
        if everything and (left := told.left_by(state, deltas)):
            # Nobody is counted out twice.
            deltas += (again := announce_exits(profile, state, self.plan, instant, left))
            self._deltas.extend(again)
        state.wake = next_due(state, self.plan, instant, state.feeds, facts=True)
        if state.wake != NEVER:
            self._timers.arm(key, state.wake)
        changed = bool(deltas) or said or adopted or state.wake != armed or state.computed != known
        if not was_touched and not changed:
            del self._touched[key]  # looked at for another plan's sake, and nothing came of it

    def _timed(self, state: ProfileState) -> tuple[CompiledAudience, ...]:
        """The audiences that the profile's feeds can change; most profiles have the feeds of many others."""
        feeds = tuple(state.feeds)
        affected = self._audiences_of.get(feeds)
        if affected is None:
            affected = self.plan.watched
            for feed in feeds:
                affected = joined(affected, self.plan.of_feed[feed])
            if len(self._audiences_of) >= _MAX_COMBINATIONS:
                self._audiences_of.clear()
            self._audiences_of[feeds] = affected
        return affected

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
        if now is not None and (now >= self._next_due or self._fired is None):
            self._advance()  # unless whoever calls has foreseen the record
        self._receive(profile, event, now)
        mail = self._mailbox.local
        while mail:
            self._receive(*mail.popleft(), now)

    def _receive(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        if self.forgotten.until:
            if self.forgotten.is_past(profile, event):
                drop(self, self._mailbox, profile, event)
                return
            if event.kind != FORGET and self.forgotten.is_leaving(profile):
                now = None  # folded, and looked at when the removal is confirmed
        if event.kind == CALL:
            self._apply_call(profile, event, now)
        elif event.kind == PAST:
            self._remember(profile, event, now)
        elif event.kind == FORGET:
            forget(self, self._mailbox, profile, event, now)
        elif event.kind > REPEAT:
            self._accounts.receive(profile, event, now)
        else:
            self._identities.receive(profile, event, now)

    def _apply_call(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        key = profile.encode()
        state, is_new = self._touched.get(key), False
        if state is None:
            encoded = self.states.get(key)
            if encoded is not None:
                state = decode_state(encoded)
            else:
                owner, is_new = self.forwarders.get(key), True
                state = ProfileState() if owner is None else forwarder(owner)
        owner = state.owner
        if owner is not None:
            self._mailbox.send(owner, event)
            return
        self._touched[key] = state
        if is_new and profile.startswith(WITHOUT_USER):
            state.since = event.received
        if now is None:
            self._fold_hits(state, event, 0)
            self._fold(state, event)
            if state.wake != AT_ONCE:
                self._arm(key, state, AT_ONCE)
        else:
            self._evaluate_call(profile, key, state, event, now, is_new=is_new)
        if event.linking is not None:
            self._identities.link(profile, state, event.linking.links, event)

    def _evaluate_call(
        self, profile: str, key: bytes, state: ProfileState, event: ProfileEvent, now: int, *, is_new: bool
    ) -> None:
        if state.settled < now:
            self._counters.forgotten_events += settle(state, self.plan.needs, now)
        instant = Instant(now, now + self._early_ms, now)
        sent = rows_sent(profile, state, self.plan) if self.plan.mapped else None
        if event.traits is None and event.identifiers is None and event.claims is None:
            affected = self._fold_hits(state, event, now)
            if self.plan.computed:
                refresh_after(event, state, self.plan, instant)
                if self._calls is not None:
                    self.tell(profile, state, instant)
            if event.timestamp > instant.horizon:
                affected = ()  # looked at when the clock comes near it; until then it changes nothing
            if is_new:
                affected = joined(affected, self.plan.initial)
            deltas = evaluate(profile, state, affected, instant, Cause.EVENT) if affected else []
            if sent is not None:
                done = {delta.audience for delta in deltas}
                deltas += resend(profile, state, self.plan, instant, sent, done)
            if deltas:
                self._emit(deltas, self._evaluated)
        else:
            self._apply_facts(profile, state, event, instant, sent, is_new=is_new)
        plan = self.plan
        facts = (is_new and bool(plan.births)) or (event.traits is not None and bool(plan.watches_of_trait))
        if event.hits or facts:
            due = next_due(state, plan, instant, [hit.feed for hit in event.hits], facts=facts)
            if due < state.wake:
                self._arm(key, state, due)

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
        was_identified = is_identified(profile, state)
        affected = self._fold_hits(state, event, instant.now)
        rows_changed, by_facts = self._fold(state, event)
        if self.plan.computed:
            refresh_after(event, state, self.plan, instant)
            self.tell(profile, state, instant)
        affected = joined(affected, by_facts)
        if is_new:
            affected = joined(affected, self.plan.initial)
        if not was_identified and is_identified(profile, state):
            affected = self.plan.concerning(state)
        cause = Cause.CLAIM if event.claims else Cause.EVENT
        deltas = evaluate(profile, state, affected, instant, cause)
        self._emit(deltas, self._evaluated)
        if sent is not None:
            done = {delta.audience for delta in deltas}
            self._emit(resend(profile, state, self.plan, instant, sent, done), self._evaluated)
        elif rows_changed:
            done = {delta.audience for delta in deltas}
            self._emit(announce(profile, state, self.plan, instant, done), self._evaluated)

    def _fold_hits(self, state: ProfileState, event: ProfileEvent, now: int) -> tuple[CompiledAudience, ...]:
        """The audiences that the event's feeds decide; none when its message id has been seen.

        A message id is remembered from where its own lane stood: the clock may be far behind, held back by another
        lane, and jump on before the call is sent again.
        """
        affected: tuple[CompiledAudience, ...] = ()
        hits = event.hits
        if not hits:
            return affected
        if event.message_id is not None:
            digest = message_digest(event.message_id)
            if is_remembered(state, digest, now):
                self._evaluated.dropped[DropReason.DUPLICATE.value] += 1
                return affected
            if not remember(state, digest, max(now, event.received)):
                self._counters.forgotten_ids += 1
        plan, since = self.plan, self.plan.since
        for hit in hits:
            feed_id = hit.feed
            need = plan.needs.get(feed_id)
            if need is None:
                continue  # of a definition that is no longer there
            if since and event.received < since.get(feed_id, 0):
                continue  # before an audience without history
            feed = state.feeds.get(feed_id)
            if feed is None:
                feed = state.feeds[feed_id] = FeedState([], [])
            add_event(feed, need, event.timestamp, hit.values, state.settled)
            self._counters.forgotten_events += prune(feed, need, now)
            audiences = plan.of_feed[feed_id]
            affected = joined(affected, audiences) if affected else audiences
        return affected

    def _fold(self, state: ProfileState, event: ProfileEvent) -> tuple[bool, tuple[CompiledAudience, ...]]:
        """Traits, claims and identifiers; whether the rows to send have changed, and which audiences may have."""
        message_id = event.message_id or ""
        affected: tuple[CompiledAudience, ...] = ()
        for path, value in (event.traits or {}).items():
            audiences = self.plan.of_trait.get(path)
            if audiences is not None and fold_trait(state, path, value, event.timestamp, message_id):
                affected = joined(affected, audiences)
        for key, member in (event.claims or {}).items():
            audiences = self.plan.of_audience.get(key)
            if audiences is not None and fold_claim(state, key, member, event.timestamp, message_id):
                affected = joined(affected, audiences)
        identifiers = event.identifiers
        return identifiers is not None and fold_identifiers(state, identifiers, event.timestamp), affected

    # --- results ---

    @property
    def has_changes(self) -> bool:
        """Whether a drain would bring more than where the clock stands."""
        return bool(
            self._touched
            or self._deltas
            or self._mailbox.has_records
            or self._erased
            or self.forgotten.has_changes
        )

    def drain(self) -> Outcome:
        """Everything that changed since the last drain; writing it, all or nothing, is the caller's business."""
        if self._calls is not None:
            deltas = self._deltas
            if self._told:
                deltas = [delta for delta in deltas if id(delta) not in self._told]
                self._told.clear()
            self._calls.tell_memberships(deltas, self._touched)
        states, outdated = self.forgotten.take_records()
        erased = [*self._erased, *outdated]
        self._erased.clear()
        kept = self.states
        for key, state in self._touched.items():
            value = self.encoded(state)
            states.append((key, value))
            owner = state.owner
            if owner is None:
                kept[key] = value
            else:
                kept.pop(key, None)
                self.forwarders.put(key, owner)
        self._touched.clear()
        if self._record_changed or states or erased:
            now = self.clock.now
            fired = now if now is None or now < self._next_due else self._fired
            if not self._overdue:
                self._switch.finish(self.plan)
            record = PartitionRecord(
                1,
                self.clock.dump(),
                "" if self._overdue else self.plan.digest,
                self._tally.members,
                fired,
                self._mailbox.sent,
                self._switch.number,
                self._switch.boundary,
                sorted(self._switch.filled),
            )
            states.append((CLOCK_KEY, encode_record(record)))
            audiences = self._switch.to_write()
            if audiences is not None:
                states.append((AUDIENCES_KEY, encode_record(audiences)))
            self._record_changed = False
        calls = () if self._calls is None else self._calls.take()
        left = self.forgotten.take_tombstones()
        return Outcome(self.take_deltas(), states, self._mailbox.take_records(), calls, erased, left)

    def encoded(self, state: ProfileState) -> bytes:
        """No larger than there is room for: whoever sends more than that loses their oldest events."""
        encoded = encode_state(state)
        while len(encoded) > MAX_STATE_BYTES and (given_up := shed(state)):
            self._counters.forgotten_events += given_up
            encoded = encode_state(state)
        return encoded

    def take_deltas(self) -> list[MembershipDelta]:
        """The deltas alone, for who writes no states; the next drain does not have them again."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def members(self, audience: str) -> int:
        """How many profiles of this partition are members now."""
        return self._tally.members.get(audience, 0)

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

    def copy_of(self, profile: str) -> ProfileState | None:
        """The profile's state as it stands, to be read and thrown away; None: the profile is not known here."""
        state = self.find(profile)
        if state is None:
            return None
        copy = decode_state(encode_state(state))
        if profile.encode() in self._overdue:
            adopt(copy, self.plan.needs)
            copy.computed = {}
        return copy

    def _emit(self, deltas: list[MembershipDelta], stage: StageCounters) -> None:
        if not deltas:
            return
        if self.plan.accounts is not None:
            deltas = self._accounts.sift(deltas)
        stage.records_out += len(deltas)
        self._tally.note(deltas, stage, self.plan)
        self._deltas.extend(deltas)

    # --- forgetting (see app.domain.forgetting) ---

    @property
    def full_plan(self) -> Plan:
        """With the audiences that wait for their past."""
        return self._switch.full

    def known_audiences(self) -> Iterable[str]:
        """The keys of all audiences that are defined or have had members here."""
        keys = {*self._switch.full.audiences, *self._tally.members}
        return [key for key in keys if not key.startswith(ASKED)]

    def count_forgotten(self) -> None:
        """Something came too late."""
        self._evaluated.dropped[DropReason.FORGOTTEN.value] += 1

    def erase(self, profile: str, state: ProfileState | None, deltas: list[MembershipDelta]) -> None:
        """Nothing is left of the profile but these deltas, its last."""
        key = profile.encode()
        self._touched.pop(key, None)
        self.states.pop(key, None)
        self.forwarders.discard(key)
        self._overdue.discard(key)
        self._erased[key] = None
        if state is None:
            return
        members = {short for short, known in state.memberships.items() if known.member}
        left = [delta for delta in deltas if audience_id(delta.audience) in members]
        self._tally.note(left, self._evaluated, self._switch.full)
        for audience, count in self._tally.members.items():
            # One that is defined no longer has its number for when it comes back.
            if audience not in self._switch.full.audiences and audience_id(audience) in members:
                self._tally.members[audience] = count - 1
        self._evaluated.records_out += len(deltas)
        self._deltas.extend(deltas)
        if self._calls is not None:
            last = [delta for delta in self._deltas if delta.profile == profile]
            self._calls.tell_memberships(last, {key: state})
            self._told.update(map(id, last))

    def confirm_removal(self, key: bytes, removal: Removal) -> bool:
        """Every destination has let go of a forgotten profile; whoever has come back under its name may enter now."""
        if not self.forgotten.confirm(key, removal):
            return False
        state = self.find(removal.profile)
        if state is not None and state.owner is None:
            self.put(removal.profile, state)
            self.arm(removal.profile, state, AT_ONCE)
        return True

    # --- states and timers ---

    def find(self, profile: str) -> ProfileState | None:
        """What is known of the profile now, not to be changed."""
        key = profile.encode()
        return self._find(key)

    def _find(self, key: bytes) -> ProfileState | None:
        state = self._touched.get(key)
        if state is not None:
            return state
        encoded = self.states.get(key)
        if encoded is not None:
            return decode_state(encoded)
        owner = self.forwarders.get(key)
        return None if owner is None else forwarder(owner)

    def put(self, profile: str, state: ProfileState) -> None:
        """The profile's state, changed or about to be, to be written."""
        self._touched[profile.encode()] = state

    def arm(self, profile: str, state: ProfileState, due: int) -> None:
        """The profile is due when the clock is there."""
        self._arm(profile.encode(), state, due)

    def emit(self, deltas: list[MembershipDelta]) -> None:
        """Deltas that something other than time has made."""
        self._emit(deltas, self._evaluated)

    def write(self, deltas: list[MembershipDelta]) -> None:
        """Deltas of accounts, which are no people to be counted."""
        self._evaluated.records_out += len(deltas)
        self._deltas.extend(deltas)

    def refuse_user(self) -> None:
        """An account has no room for one more user."""
        self._evaluated.dropped[DropReason.ACCOUNT_FULL.value] += 1

    def tell(self, profile: str, state: ProfileState, instant: Instant) -> bool:
        """Whether Engage would say something of the computed traits, which have been made anew."""
        calls = self._calls
        return calls is not None and calls.tell_traits(profile, state, self.plan.computed, instant)

    def give_up(self, events: int) -> None:
        """So many events were needed and found no room."""
        self._counters.forgotten_events += events

    def _touch(self, key: bytes) -> ProfileState:
        """The profile's state, to be changed and written."""
        state = self._touched.get(key)
        if state is None:
            state = self._touched[key] = self._find(key) or ProfileState()
        return state

    def _wake_of(self, key: bytes) -> int | None:
        if key in self._overdue:
            return AT_ONCE
        state = self._touched.get(key)
        if state is not None:
            return state.wake
        encoded = self.states.get(key)
        return None if encoded is None else wake_of(encoded)

    def _arm(self, key: bytes, state: ProfileState, due: int) -> None:
        state.wake = due
        self._timers.arm(key, due)
        self._next_due = min(self._next_due, due)

    def _note_next_due(self) -> None:
        due = self._timers.next_due
        self._next_due = NEVER if due is None else due
