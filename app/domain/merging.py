"""Merging: what is known of a profile that ends becomes part of the profile that goes on.

The result does not depend on the order in which profiles are merged, nor on whether a call came before or after, apart
from what only clocks and bounds decide. The clocks of two partitions differ by moments: a profile counts events up to
the later of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.account_plan import is_asked
from app.domain.computed_traits import refresh_known
from app.domain.evaluation import announce, evaluate
from app.domain.fold import (
    MAPPED_SEVERAL,
    adopt,
    fold_claim,
    fold_identifiers,
    fold_trait,
    prune,
    remember_all,
    settle,
    trait_message_id,
)
from app.domain.person_state import IdentifierState, IdentityState, Inherited
from app.domain.rows import rows_by_destination, rows_of
from app.domain.state import FeedState, MembershipState, NumberTotals, Ties, Totals
from schemas.membership import Cause, Change, MembershipDelta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.evaluation import Instant
    from app.domain.event_conditions import Need
    from app.domain.plan import CompiledAudience, Plan
    from app.domain.rows import Row
    from app.domain.state import ProfileState

_NO_TOTALS: Final = Totals(0, [])


# --- memberships ---


def leave(profile: str, state: ProfileState, plan: Plan, instant: Instant) -> list[MembershipDelta]:
    """The last deltas of a profile that ends: it is no member any more, and Facebook is told nothing.

    What waits to be sent of it is taken back; the profile that goes on sends all that both ever sent.
    """
    deltas = []
    for short, known in state.memberships.items():
        audience = plan.by_id.get(short)
        if audience is not None and known.member and not is_asked(short):
            rows: dict[str, list[Row]] = {destination: [] for destination in audience.told.exits}
            sequence = known.sequence + 1
            deltas.append(_delta(profile, audience, sequence, Change.EXITED, rows, instant))
    return deltas


def inherit(profile: str, state: ProfileState, plan: Plan, instant: Instant) -> list[MembershipDelta]:
    """Takes over the memberships of profiles that have ended here, as ENTERED; what does not hold for the person is
    to be evaluated next, and then removes what any of them has sent.
    """
    identity = state.identity
    if identity is None or not identity.inherited:
        return []
    deltas = []
    rows = rows_of(profile, state)
    inherited = [Inherited.read(one) for one in identity.inherited]
    for one in inherited:
        if not one.member and one.audience in plan.by_id:
            state.memberships.setdefault(one.audience, MembershipState(False, 0))
    for short in dict.fromkeys(one.audience for one in inherited if one.member):
        audience = plan.by_id.get(short)
        known = state.memberships.get(short)
        if audience is None or (known is not None and known.member):
            continue
        known = state.memberships[short] = MembershipState(True, 1 if known is None else known.sequence + 1)
        told = rows_by_destination(audience, audience.told.entries, profile, state, rows)
        deltas.append(_delta(profile, audience, known.sequence, Change.ENTERED, told, instant))
    # Of an audience that is not evaluated now, as it waits for its past to be read: for later.
    identity.inherited = [one for one in identity.inherited if Inherited.read(one).audience not in plan.by_id]
    return deltas


def evaluate_merged(
    profile: str, state: ProfileState, plan: Plan, instant: Instant, *, rows_changed: bool
) -> list[MembershipDelta]:
    """Every change that a merge makes of the memberships of the profile that goes on."""
    refresh_known(state, plan, instant)
    deltas = inherit(profile, state, plan, instant)
    deltas += evaluate(profile, state, plan.concerning(state), instant, Cause.MERGE)
    if rows_changed:
        deltas += announce(profile, state, plan, instant, {delta.audience for delta in deltas})
    return deltas


def _delta(
    profile: str,
    audience: CompiledAudience,
    sequence: int,
    change: Change,
    rows: dict[str, list[Row]],
    instant: Instant,
) -> MembershipDelta:
    return MembershipDelta(
        audience.key, profile, change, sequence, rows, instant.now, instant.clock, Cause.MERGE
    )


# --- what is known ---


def add_aliases(state: ProfileState, aliases: Mapping[str, int]) -> None:
    """The profile has these identifiers too."""
    identity = state.identity
    if identity is None:
        identity = state.identity = IdentityState()
    for alias, since in aliases.items():
        identity.aliases[alias] = min(since, identity.aliases.get(alias, since))


def fold_profile(state: ProfileState, other: ProfileState, plan: Plan, now: int) -> tuple[int, int]:
    """Folds all that is known of `other` into `state`; returns how many events and message ids found no room.

    `other` is used up. Its sequences end with it. Either may be another plan's.
    """
    needs = plan.needs
    adopt(state, needs)
    adopt(other, needs)
    upto = max(now, state.settled, other.settled)
    given_up = settle(state, needs, upto) + settle(other, needs, upto)
    for feed_id, feed in other.feeds.items():
        given_up += _fold_feed(state, feed_id, feed, needs[feed_id], upto)
    for path, trait in other.traits.items():
        fold_trait(state, path, trait.value, trait.timestamp, trait_message_id(trait))
    for key, claim in other.claims.items():
        fold_claim(state, key, claim.member, claim.timestamp, claim.message_id)
    _fold_identifiers(state, other)
    ids_given_up = remember_all(state, other, upto, plan.message_ids)
    _fold_accounts(state, other)
    if other.identity is not None:
        add_aliases(state, other.identity.aliases)
    identity = state.identity = state.identity or IdentityState()
    if other.identity is not None:
        identity.links += other.identity.links
        identity.inherited += other.identity.inherited
    identity.inherited += [one.written() for one in _left_behind(other, plan)]
    return given_up, ids_given_up


def _left_behind(other: ProfileState, plan: Plan) -> list[Inherited]:
    """What a profile that ends was in, and what it had left where some destination hears of no exits: that one has it
    still, and lets go of it when the person is forgotten.
    """
    found = []
    ended = None if other.identity is None else next(iter(other.identity.aliases), None)
    for short, known in other.memberships.items():
        if known.member and not is_asked(short):
            found.append(Inherited(short, known.sequence + 1, ended))
        elif ended is not None and (audience := plan.by_id.get(short)) is not None:
            told = audience.told
            if not set(told.entries) <= set(told.exits):
                found.append(Inherited(short, known.sequence, ended, member=False))
    return found


def _fold_feed(state: ProfileState, feed_id: str, other: FeedState, need: Need, now: int) -> int:
    feed = state.feeds.get(feed_id)
    if feed is None:
        state.feeds[feed_id] = other
        return 0
    # Stable: events of one instant keep their order, those of `feed` first, unless their message ids say it.
    instants = feed.instants + other.instants
    values = feed.values + other.values
    order = sorted(
        range(len(instants)),
        key=lambda place: (instants[place], values[place][-1] if need.ordered else ""),
    )
    if values:
        feed.values = [values[place] for place in order]
    feed.instants = [instants[place] for place in order]
    if other.totals is not None:
        feed.totals = _joined(feed.totals or _NO_TOTALS, other.totals)
    return prune(feed, need, now)


def _joined(one: Totals, other: Totals) -> Totals:
    if not one.numbers or not other.numbers:
        return Totals(one.count + other.count, one.numbers or other.numbers)
    numbers = [_sum(mine, theirs) for mine, theirs in zip(one.numbers, other.numbers, strict=True)]
    return Totals(one.count + other.count, numbers)


def _sum(one: NumberTotals, other: NumberTotals) -> NumberTotals:
    if not one.count or not other.count:
        return one if one.count else other
    total = one.total + other.total
    larger, smaller = sorted((one.total, other.total), key=abs, reverse=True)
    lost = (larger - total) + smaller
    return NumberTotals(
        one.count + other.count,
        total,
        one.compensation + other.compensation + lost,
        min(one.least, other.least),
        max(one.greatest, other.greatest),
    )


def _fold_identifiers(state: ProfileState, other: ProfileState) -> None:
    """Of a kind that a person may have several of, all that either ever sent: an exit has to reach every one."""
    for column, theirs in other.identifiers.items():
        if column.partition("@")[0] not in MAPPED_SEVERAL:
            fold_identifiers(state, {column: theirs.value}, theirs.timestamp)
            continue
        mine = state.identifiers.get(column)
        values = [*([] if mine is None else [mine.value]), *state.further.get(column, ())]
        values += [theirs.value, *other.further.get(column, ())]
        newest = max(
            (theirs, mine or theirs),
            key=lambda item: (item.timestamp, item.value is not None, str(item.value)),
        )
        state.identifiers[column] = IdentifierState(newest.value, newest.timestamp)
        further = [value for value in dict.fromkeys(values) if value is not None and value != newest.value]
        if further:
            state.further[column] = further


def _fold_accounts(state: ProfileState, other: ProfileState) -> None:
    """The accounts of either; each has yet to hear whom this person replaces."""
    if other.ties is None:
        return
    ties = state.ties = state.ties or Ties()
    ties.at = max(ties.at, other.ties.at)
    for account, theirs in other.ties.accounts.items():
        mine = ties.accounts.setdefault(account, theirs)
        if mine is theirs:
            continue
        mine.replaces = list(dict.fromkeys((*mine.replaces, *theirs.replaces)))
        if theirs.sequence > mine.sequence:
            mine.audiences, mine.sequence = theirs.audiences, theirs.sequence
