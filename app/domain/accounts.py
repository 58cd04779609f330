"""Accounts and their users: how what holds of people decides over accounts, and that over who is sent.

An account is a profile in the partition of its id. A group call says to its user which account they belong to (JOIN), and
to the account what it is (GROUP). From then on they talk to each other:

- a user says to each of their accounts what holds of them of all that accounts ask (STANDING): at once, whenever it
  changes, by time too, and when they have taken somebody else over, whom they name;
- somebody who is forgotten says that they end and that nobody replaces them;
- who becomes part of another profile says so as well (ENDED). Both are waited for, as they come from different partitions:
  between them the account goes on by what it knew;
- an account whose memberships change says so to all its users, and to each who is new (ENTRY). They evaluate the
  audiences of people that hang on it, and are sent by what comes of that.

An account is looked at by an audience as soon as all its users have said what holds of them; what it was stays until
then, so a new version of the definitions takes nobody out while it spreads.

What one says to the other has the instant it is true from as its timestamp, and the clock that found it as its received
time: both go into the deltas that come of it, and so does that time alone is behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from app.domain.account_plan import ASKED, is_answered
from app.domain.compact import audience_id
from app.domain.evaluation import Instant, evaluate, next_due
from app.domain.fold import fold_trait, settle
from app.domain.identity import Profiles
from app.domain.linking import owner_of
from app.domain.plan import joined
from app.domain.profile_ids import WITHOUT_USER, is_account
from app.domain.state import AT_ONCE, NEVER, ProfileState, Stand, Tie, Ties
from schemas.membership import Cause
from schemas.profile import ENDED, ENTRY, GROUP, JOIN, STANDING, VERSION, ProfileEvent, Standing

if TYPE_CHECKING:
    from app.domain.mailbox import Mailbox
    from app.domain.plan import CompiledAudience
    from schemas.membership import MembershipDelta

# Of one account: a state has to fit into one record of the changelog, and each change of it is told to all.
MAX_USERS: Final = 100_000
# Of one user: they say all that changes to each.
MAX_ACCOUNTS: Final = 1_000
# Of the ids of all users of an account together.
MAX_ID_BYTES: Final = 4 * 1024 * 1024

_NOTHING: Final = Standing()


class AccountProfiles(Profiles, Protocol):
    """The states of a partition; accounts are among them."""

    def write(self, deltas: list[MembershipDelta]) -> None:
        """Deltas of accounts, which are no people to be counted."""

    def refuse_user(self) -> None:
        """An account has no room for one more user."""


class Accounts:
    """`early_ms` as for the partition. `now` is its clock in all calls, or where that stands while what is due is fired;
    None: not started yet.
    """

    def __init__(self, profiles: AccountProfiles, early_ms: int, mailbox: Mailbox) -> None:
        self._profiles = profiles
        self._early_ms = early_ms
        self._mailbox = mailbox

    def receive(self, profile: str, event: ProfileEvent, now: int | None) -> None:
        """What a group call, an account or one of its users has to say."""
        state = self._profiles.states.find(profile)
        if is_account(profile):
            if event.kind == GROUP:
                self._describe(profile, state, event, now)
            elif event.kind in (STANDING, ENDED):
                self._hear(profile, state, event, now)
            return
        owner = None if state is None else owner_of(state)
        if owner is not None:
            self._mailbox.send(owner, event)
        elif event.kind == JOIN:
            self._join(profile, state, event, now)
        elif event.kind == ENTRY and state is not None:
            self._enter(profile, state, event, now)

    # --- a person ---

    def _join(self, profile: str, state: ProfileState | None, event: ProfileEvent, now: int | None) -> None:
        account = (event.standing or _NOTHING).account
        is_new = state is None
        if state is None:
            state = ProfileState(since=event.received if profile.startswith(WITHOUT_USER) else 0)
        ties = state.ties or Ties()
        if account in ties.accounts:
            return
        if len(ties.accounts) >= MAX_ACCOUNTS:
            self._profiles.refuse_user()
            return
        state.ties = ties
        ties.accounts[account] = Tie()
        self._profiles.states.put(profile, state)
        if now is None:
            self._profiles.arm(profile, state, AT_ONCE)
            return
        if is_new:
            plan, instant = self._profiles.plan, self._instant(now)
            self._profiles.emit(evaluate(profile, state, plan.initial, instant, Cause.EVENT))
            due = next_due(state, plan, instant, (), facts=True)
            if due < state.wake:
                self._profiles.arm(profile, state, due)
        self.tell(profile, state, self._instant(now))

    def tell(self, profile: str, state: ProfileState, instant: Instant, *, by_time: bool = False) -> None:
        """Says to every account of this person what holds of them, as far as that is news there.

        To be called when they are somebody else's successor, and after a change of the definitions; `sift` sees to all
        else. `by_time`: nothing but time has changed it.
        """
        ties = state.ties
        if ties is None or not ties.accounts:
            return
        holds = self._answers(state)
        for account, tie in ties.accounts.items():
            if tie.told == holds and not tie.replaces:
                continue
            said = Standing(user=profile, replaces=tie.replaces, holds=holds, by_time=by_time)
            tie.told, tie.replaces = holds, []
            ties.at = max(ties.at, instant.now)
            self._send(account, STANDING, instant.now, instant.clock, said)

    def _answers(self, state: ProfileState) -> dict[str, bool]:
        accounts = self._profiles.plan.accounts
        if accounts is None:
            return {}
        known = {key: state.memberships.get(audience_id(key)) for key in accounts.asked}
        return {key: answer is not None and answer.member for key, answer in known.items()}

    def sift(self, deltas: list[MembershipDelta]) -> list[MembershipDelta]:
        """The deltas without those that only answer what accounts ask; they have been told."""
        changed = {delta.profile: delta for delta in deltas if delta.audience.startswith(ASKED)}
        if not changed:
            return deltas
        for profile, delta in changed.items():
            state = self._profiles.states.find(profile)
            if state is not None:
                instant = Instant(delta.at, delta.at, delta.detected_at)
                self.tell(profile, state, instant, by_time=delta.cause is Cause.TIME)
        return [delta for delta in deltas if not delta.audience.startswith(ASKED)]

    def end(self, profile: str, state: ProfileState, at: int) -> None:
        """The person becomes part of another, who gets this state, and is to say whom they replace."""
        for account, tie in state.ties.accounts.items() if state.ties else ():
            if tie.told is not None:
                self._send(account, ENDED, at, at, Standing(user=profile))
                tie.replaces = [*tie.replaces, profile]

    def _enter(self, profile: str, state: ProfileState, event: ProfileEvent, now: int | None) -> None:
        said = event.standing or _NOTHING
        ties = state.ties or Ties()
        tie = ties.accounts.get(said.account)
        # What was said to somebody who has ended may come after what was said here.
        if tie is None or said.sequence <= tie.sequence:
            return
        changed = {*tie.audiences} ^ {*said.audiences}
        tie.audiences, tie.sequence = list(said.audiences), said.sequence
        self._profiles.states.put(profile, state)
        if now is None:
            self._profiles.arm(profile, state, AT_ONCE)
            return
        if profile.encode() in self._profiles.states.overdue:
            # Accounts are looked at before some of their users. The state is still another plan's, and is to be fitted
            # to this one first: when it fires, in this very instant, all is evaluated, what was said just now too.
            return
        plan = self._profiles.plan
        self._profiles.give_up(settle(state, plan.needs, now))
        affected: tuple[CompiledAudience, ...] = ()
        for short in sorted(changed & plan.by_id.keys()):
            affected = joined(affected, plan.of_audience[plan.by_id[short].key])
        instant = Instant(now, now + self._early_ms, event.received)
        cause = Cause.TIME if said.by_time else Cause.ACCOUNT
        deltas = evaluate(profile, state, affected, instant, cause)
        # Accounts speak from several partitions, too; and what the profile does next is not before what they said.
        ties.at = max(ties.at, min(event.timestamp, instant.horizon))
        self._profiles.emit([replace(delta, at=ties.at) for delta in deltas])

    # --- an account ---

    def _describe(
        self, account: str, state: ProfileState | None, event: ProfileEvent, now: int | None
    ) -> None:
        """What a group call says of the account, if only that it is there."""
        state = state or ProfileState()
        state.ties = state.ties or Ties()
        self._profiles.states.put(account, state)
        accounts = self._profiles.plan.accounts
        for path, value in (event.traits or {}).items():
            if accounts is not None and path in accounts.plan.of_trait:
                fold_trait(state, path, value, event.timestamp, event.message_id or "")
        self._look(account, state, now, None if now is None else Instant(now, now, now), Cause.EVENT)

    def _hear(self, account: str, state: ProfileState | None, event: ProfileEvent, now: int | None) -> None:
        state = state or ProfileState()
        ties = state.ties = state.ties or Ties()
        self._profiles.states.put(account, state)
        said = event.standing or _NOTHING
        if event.kind == ENDED:
            _settle_end(said.user, ties.replaced, ties.ended)
            return
        for name in said.replaces:
            _remove(ties, name)
            _settle_end(name, ties.ended, ties.replaced)
        if said.user and said.user not in ties.replaced:
            is_new = said.user not in ties.users
            if is_new and not has_room(ties, said.user):
                self._profiles.refuse_user()
            else:
                _place(ties, said.user, said.holds)
                if is_new and ties.sequence:
                    entry = self._entry(account, state, ties)
                    self._send(said.user, ENTRY, event.timestamp, event.received, entry)
        cause = Cause.TIME if said.by_time else Cause.ACCOUNT
        instant = None if now is None else Instant(now, now, event.received)
        self._look(account, state, event.timestamp, instant, cause)

    def fire(
        self, account: str, state: ProfileState, instant: Instant, cause: Cause, *, everything: bool
    ) -> None:
        """The account is due. `everything`: the definitions may be others than before."""
        accounts = self._profiles.plan.accounts
        if everything and accounts is not None:
            for path in [path for path in state.traits if path not in accounts.plan.of_trait]:
                del state.traits[path]
        state.wake = NEVER
        self._look(account, state, instant.now, instant, cause)

    def _look(
        self, account: str, state: ProfileState, at: int | None, instant: Instant | None, cause: Cause
    ) -> None:
        """Evaluates all that has been answered; what changes is true from `at`, and is told to the users."""
        accounts = self._profiles.plan.accounts
        if instant is None or at is None:
            self._profiles.arm(account, state, AT_ONCE)
            return
        if accounts is None:
            return
        answered = [
            audience
            for key, audience in accounts.plan.audiences.items()
            if is_answered(state, accounts.asked_by[key])
        ]
        ties = state.ties = state.ties or Ties()
        # Users speak from several partitions: nothing is said to have been before what was said last.
        ties.at = max(ties.at, at)
        deltas = evaluate(account, state, answered, instant, cause)
        if deltas:
            self._profiles.write([replace(delta, at=ties.at) for delta in deltas])
            ties.sequence += 1
            said = self._entry(account, state, ties, by_time=cause is Cause.TIME)
            for user in ties.users:
                self._send(user, ENTRY, ties.at, instant.clock, said)
        due = next_due(state, accounts.plan, instant, (), facts=True)
        if due < state.wake:
            self._profiles.arm(account, state, due)

    def _entry(self, account: str, state: ProfileState, ties: Ties, *, by_time: bool = False) -> Standing:
        """Also of audiences that are not there now, or wait for their past: they may come back with these members."""
        members = sorted(short for short, known in state.memberships.items() if known.member)
        return Standing(account=account, audiences=members, sequence=ties.sequence, by_time=by_time)

    def _send(self, profile: str, kind: int, at: int, clock: int, said: Standing) -> None:
        self._mailbox.send(profile, ProfileEvent(VERSION, kind, "", 0, 0, at, clock, standing=said))

    def _instant(self, now: int) -> Instant:
        return Instant(now, now + self._early_ms, now)


def part(profile: str, state: ProfileState, at: int, mailbox: Mailbox) -> None:
    """A person is forgotten: no account has them any more, nor those whom they have taken over. `profile` "": the state
    is that of somebody who has ended already.
    """
    for account, tie in state.ties.accounts.items() if state.ties else ():
        gone = list(tie.replaces)
        if profile and tie.told is not None:
            ended = Standing(user=profile)
            mailbox.send(account, ProfileEvent(VERSION, ENDED, "", 0, 0, at, at, standing=ended))
            gone.append(profile)
        if gone:
            said = Standing(replaces=gone)
            mailbox.send(account, ProfileEvent(VERSION, STANDING, "", 0, 0, at, at, standing=said))


# --- the users of an account ---


def has_room(ties: Ties, user: str) -> bool:
    """Whether the account may have one more user."""
    return len(ties.users) < MAX_USERS and ties.id_bytes + len(user.encode()) <= MAX_ID_BYTES


def _place(ties: Ties, user: str, holds: dict[str, bool]) -> None:
    """Users of whom the same holds stand together."""
    _remove(ties, user)
    ties.id_bytes += len(user.encode())
    stands = ties.stands
    free = len(stands)
    for place, stand in enumerate(stands):
        if not stand.users:
            free = min(free, place)
        elif stand.holds == holds:
            stand.users += 1
            ties.users[user] = place
            return
    if free == len(stands):
        stands.append(Stand(holds, 1))
    else:
        stands[free] = Stand(holds, 1)
    ties.users[user] = free


def _remove(ties: Ties, user: str) -> None:
    place = ties.users.pop(user, None)
    if place is not None:
        ties.stands[place].users -= 1
        ties.id_bytes -= len(user.encode())


def _settle_end(user: str, awaited: list[str], waiting: list[str]) -> None:
    """An end is said twice, by who ends and by their successor, in either order: the first waits for the second."""
    if user in awaited:
        awaited.remove(user)
    else:
        waiting.append(user)
