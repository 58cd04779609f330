"""Which audiences a profile is a member of now, against which ones it was: the deltas between.

Truth is a function of what is known of the profile and the clock. Only the audiences that an event, a trait, an
identifier, a claim or the time can have changed are asked again.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from app.domain.rows import is_identified, rows_of
from app.domain.state import NEVER, MembershipState
from schemas.membership import Cause, Change, MembershipDelta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.conditions import CompiledAudience, Plan
    from app.domain.rows import Row
    from app.domain.state import ProfileState


class Instant(msgspec.Struct, gc=False, frozen=True):
    """When something is evaluated: truth is asked at `now`, events count up to `horizon`, `clock` found it."""

    now: int
    horizon: int
    clock: int


def is_member(audience: CompiledAudience, state: ProfileState, instant: Instant, *, identified: bool) -> bool:
    """Membership: what limits it first, as that is cheaper, then the conditions."""
    if not audience.enabled or not (identified or audience.include_anonymous):
        return False
    if audience.claimed:
        claim = state.claims.get(audience.key)
        if claim is None or not claim.member:
            return False
    return audience.holds(state, instant.now, instant.horizon)


def evaluate(
    profile: str, state: ProfileState, audiences: Iterable[CompiledAudience], instant: Instant, cause: Cause
) -> list[MembershipDelta]:
    """The changes among `audiences`, written into the state's memberships as well."""
    deltas: list[MembershipDelta] = []
    identified = is_identified(profile, state)
    rows: list[Row] | None = None
    for audience in audiences:
        member = is_member(audience, state, instant, identified=identified)
        known = state.memberships.get(audience.key)
        if known is None:
            if not member:
                continue
            known = state.memberships[audience.key] = MembershipState(member=False, sequence=0)
        elif known.member == member:
            continue
        known.member = member
        rows = rows_of(profile, state) if rows is None else rows
        change = Change.ENTERED if member else Change.EXITED
        deltas.append(
            _delta(profile, audience, known, change, rows, _at(audience, state, instant), instant, cause)
        )
    return deltas


def announce(
    profile: str, state: ProfileState, plan: Plan, instant: Instant, done: Iterable[str]
) -> list[MembershipDelta]:
    """A delta for every audience that the profile stays in and is delivered from, as its rows are others now.

    `done` are the audiences that have just had a delta with these rows.
    """
    skipped = set(done)
    deltas: list[MembershipDelta] = []
    rows = rows_of(profile, state)
    if not rows:
        return deltas
    for key, known in state.memberships.items():
        audience = plan.audiences.get(key)
        if audience is not None and known.member and audience.destinations and key not in skipped:
            delta = _delta(profile, audience, known, Change.UPDATED, rows, instant.now, instant, Cause.EVENT)
            deltas.append(delta)
    return deltas


def next_due(state: ProfileState, plan: Plan, instant: Instant, feeds: Iterable[str]) -> int:
    """The next instant at which time alone could change what these feeds decide; NEVER: none."""
    due = NEVER
    for feed_id in feeds:
        feed = state.feeds.get(feed_id)
        if feed is not None and feed.instants:
            for edge in plan.edges[feed_id]:
                due = min(due, edge(feed, instant.now, instant.horizon))
    return due


def _delta(
    profile: str,
    audience: CompiledAudience,
    known: MembershipState,
    change: Change,
    rows: list[Row],
    at: int,
    instant: Instant,
    cause: Cause,
) -> MembershipDelta:
    known.sequence += 1
    return MembershipDelta(
        audience=audience.key,
        profile=profile,
        change=change,
        sequence=known.sequence,
        rows=dict.fromkeys(audience.destinations, rows),
        at=at,
        detected_at=instant.clock,
        cause=cause,
    )


def _at(audience: CompiledAudience, state: ProfileState, instant: Instant) -> int:
    """The instant the change is true from: `now`, or that of the latest event counted ahead of the clock."""
    at = instant.now
    if instant.horizon > at:
        for feed_id in audience.feeds:
            feed = state.feeds.get(feed_id)
            if feed is not None:
                place = bisect_right(feed.instants, instant.horizon)
                if place:
                    at = max(at, feed.instants[place - 1])
    return at
