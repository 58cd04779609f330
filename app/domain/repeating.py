"""A membership said once more: what becomes of a dead letter of delivery when it is replayed.

Only the profile's own partition knows what is true now and writes deltas, so a replay asks it to speak again, and the
answer goes the way of every delta: in order, in a transaction, to whoever owns the destinations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.linking import owner_of
from app.domain.profile_ids import is_account
from app.domain.rows import rows_by_destination, rows_of
from schemas.membership import Cause, Change, MembershipDelta, Repeated

if TYPE_CHECKING:
    from app.domain.plan import Plan
    from app.domain.state import ProfileState
    from schemas.profile import ProfileEvent


def said_again(
    profile: str, state: ProfileState, plan: Plan, event: ProfileEvent, clock: int | None
) -> MembershipDelta | None:
    """The membership that the REPEAT names as a delta with the next sequence, which the state then has.

    All destinations hear of it: it takes the place of the delta before, which may still be on its way to some. None:
    something newer has been said since, the profile has become part of another or is an account, or nobody is told of the
    audience.
    """
    asked = event.repeat
    if asked is None or owner_of(state) is not None or is_account(profile):
        return None
    audience = plan.audiences.get(asked.audience)
    known = None if audience is None else state.memberships.get(audience.id)
    if audience is None or known is None or known.sequence != asked.expected:
        return None
    if known.member:
        change, told = Change.UPDATED, audience.told.entries
    else:
        # Of somebody who never entered: see schemas.membership.never_entered.
        was_member = asked.sequence > 1
        change, told = Change.EXITED, audience.told.exits if was_member else audience.told.strangers
    if not told:
        return None
    known.sequence += 1
    at = event.timestamp if clock is None else clock
    return MembershipDelta(
        audience.key,
        profile,
        change,
        known.sequence,
        rows_by_destination(audience, told, profile, state, rows_of(profile, state)),
        at,
        at,
        Cause.REPLAY,
        repeats=Repeated(asked.offset, asked.sequence, asked.failures),
    )
