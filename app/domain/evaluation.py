"""Which audiences a profile is a member of now, against which ones it was: the deltas between.

Truth is a function of what is known of the profile and the clock. Only the audiences that an event, a trait, an
identifier, a claim or the time can have changed are asked again.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import msgspec

from app.domain.rows import is_identified, rows_by_destination, rows_of
from app.domain.state import NEVER, MembershipState
from schemas.membership import Cause, Change, MembershipDelta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.plan import CompiledAudience, Plan
    from app.domain.rows import Row
    from app.domain.state import ProfileState

_ENTERED: Final = Change.ENTERED
_EXITED: Final = Change.EXITED


class Instant(msgspec.Struct, gc=False, frozen=True):
    """When something is evaluated: truth is asked at `now`, events count up to `horizon`, `clock` found it."""

    now: int
    horizon: int
    clock: int


def evaluate(
    profile: str, state: ProfileState, audiences: Iterable[CompiledAudience], instant: Instant, cause: Cause
) -> list[MembershipDelta]:
    """The changes among `audiences`, written into the state's memberships as well.

    A claim that somebody is out who never was in counts as one: see `schemas.membership.never_entered`.
    """
    deltas: list[MembershipDelta] = []
    identified = is_identified(profile, state)
    now, horizon = instant.now, instant.horizon
    memberships = state.memberships
    rows: list[Row] | None = None
    for audience in audiences:
        member = (
            audience.enabled
            and (identified or audience.include_anonymous)
            and (not audience.claimed or _is_claimed(audience, state))
            and audience.holds(state, now, horizon)
        )
        known = memberships.get(audience.id)
        if known is None or not known.sequence:
            if not member and not (
                audience.claimed and _is_told_out(audience, profile, state, identified, now)
            ):
                continue
            known = memberships[audience.id] = MembershipState(False, 0)
        elif known.member is member:
            continue
        known.member = member
        rows = rows_of(profile, state) if rows is None else rows
        change = _ENTERED if member else _EXITED
        at = now if horizon == now else _at(audience, state, instant)
        deltas.append(_delta(profile, state, audience, known, change, rows, at, instant, cause))
    return deltas


def _is_claimed(audience: CompiledAudience, state: ProfileState) -> bool:
    claim = state.claims.get(audience.claim)
    return claim is not None and claim.member


def _is_told_out(
    audience: CompiledAudience, profile: str, state: ProfileState, identified: bool, now: int
) -> bool:
    """Whether a claim takes out somebody who never entered, and some destination may have them from before."""
    claim = state.claims.get(audience.claim)
    return (
        claim is not None
        and not claim.member
        and audience.enabled
        and now >= audience.created
        and (identified or audience.include_anonymous)
        and bool(audience.told.strangers and rows_of(profile, state))
    )


def announce(
    profile: str, state: ProfileState, plan: Plan, instant: Instant, done: Iterable[str]
) -> list[MembershipDelta]:
    """A delta for every audience that the profile stays in and is delivered from, as its rows are others now.

    `done` are the audiences that have just had a delta with these rows.
    """
    skipped = set(done)
    deltas: list[MembershipDelta] = []
    rows = rows_of(profile, state)
    if not rows and not plan.mapped:
        return deltas
    for short, known in state.memberships.items():
        audience = plan.by_id.get(short)
        if audience is not None and known.member and audience.told.entries and audience.key not in skipped:
            if not rows and not audience.mappings:
                continue
            delta = _delta(
                profile, state, audience, known, Change.UPDATED, rows, instant.now, instant, Cause.EVENT
            )
            deltas.append(delta)
    return deltas


def announce_exits(
    profile: str, state: ProfileState, plan: Plan, instant: Instant, left: Iterable[str]
) -> list[MembershipDelta]:
    """A delta for each audience that the profile has left, for destinations that did not hear of exits then."""
    rows = rows_of(profile, state)
    audiences = [plan.audiences[key] for key in left if key in plan.audiences]
    return [
        _delta(
            profile, state, item, state.memberships[item.id], _EXITED, rows, instant.now, instant, Cause.EVENT
        )
        for item in audiences
        if rows or item.mappings
    ]


def next_due(state: ProfileState, plan: Plan, instant: Instant, feeds: Iterable[str], *, facts: bool) -> int:
    """The next instant at which time alone could change what these feeds decide; NEVER: none.

    With `facts` also what dates of traits and the creation of audiences decide.
    """
    due = NEVER
    known = state.feeds
    watches = plan.watches_of_feed
    for feed_id in feeds:
        feed = known.get(feed_id)
        if feed is not None and feed.instants:
            for edge in plan.edges.get(feed_id, ()):
                due = min(due, edge(feed, instant.now, instant.horizon))
        if watches:
            for watch in watches.get(feed_id, ()):
                due = min(due, watch(state, instant.now))
    if facts:
        of_trait = plan.watches_of_trait
        for path in state.traits if of_trait else ():
            for watch in of_trait.get(path, ()):
                due = min(due, watch(state, instant.now))
        for birth in plan.births[bisect_right(plan.births, instant.now) :][:1]:
            due = min(due, birth)
    return due


def _delta(
    profile: str,
    state: ProfileState,
    audience: CompiledAudience,
    known: MembershipState,
    change: Change,
    rows: list[Row],
    at: int,
    instant: Instant,
    cause: Cause,
) -> MembershipDelta:
    known.sequence += 1
    told = audience.told.entries
    if change is _EXITED:
        told = audience.told.exits if known.sequence > 1 else audience.told.strangers
    by_destination = rows_by_destination(audience, told, profile, state, rows)
    return MembershipDelta(
        audience.key, profile, change, known.sequence, by_destination, at, instant.clock, cause
    )


def _at(audience: CompiledAudience, state: ProfileState, instant: Instant) -> int:
    """The instant the change is true from: `now`, or that of the latest event counted ahead of the clock."""
    at = instant.now
    for feed_id in audience.feeds:
        feed = state.feeds.get(feed_id)
        if feed is not None and feed.instants and feed.instants[-1] > at:
            place = bisect_right(feed.instants, instant.horizon)
            if place:
                at = max(at, feed.instants[place - 1])
    return at
