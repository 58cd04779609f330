"""Members whose mapped fields have changed: those who are sent again are exactly those whose rows are others now.

Without mappings all rows of a profile change together, when an identifier does. A mapped field may be a computed trait,
which events and time alone change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.evaluation import announce
from app.domain.rows import rows_by_destination, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.evaluation import Instant
    from app.domain.plan import Plan
    from app.domain.rows import Row
    from app.domain.state import ProfileState
    from schemas.membership import MembershipDelta

    # Audience -> destination -> what is sent to it.
    Sent = dict[str, dict[str, list[Row]]]


def rows_sent(profile: str, state: ProfileState, plan: Plan) -> Sent:
    """Of every audience that the profile is a member of and delivered from."""
    rows = rows_of(profile, state)
    sent: Sent = {}
    for short, known in state.memberships.items():
        audience = plan.by_id.get(short)
        if known.member and audience is not None and audience.told.entries:
            sent[audience.key] = rows_by_destination(audience, audience.told.entries, profile, state, rows)
    return sent


def resend(
    profile: str, state: ProfileState, plan: Plan, instant: Instant, before: Sent, done: Iterable[str]
) -> list[MembershipDelta]:
    """A delta for every audience whose rows are others than `before`; `done` have just had one."""
    now = rows_sent(profile, state, plan)
    same = [key for key, rows in now.items() if rows == before.get(key)]
    return announce(profile, state, plan, instant, {*done, *same})
