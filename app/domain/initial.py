"""Which audiences have a profile of which nothing but its existence is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.domain.state import MembershipState, ProfileState

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.domain.plan import CompiledAudience


class Initial(NamedTuple):
    """The audiences in their order, and whether they have users and whether they have anonymous people."""

    audiences: tuple[CompiledAudience, ...]
    has_users: bool
    has_anonymous: bool


def initial_audiences(audiences: Collection[CompiledAudience]) -> Initial:
    """`audiences` in order of rank.

    Without any event or trait no condition depends on the instant. It may on the profile being anonymous: through
    the membership of an audience that leaves such profiles out.
    """
    users = _members(audiences, identified=True)
    anonymous = _members(audiences, identified=False)
    found = users | anonymous
    return Initial(
        tuple(audience for audience in audiences if audience.key in found), bool(users), bool(anonymous)
    )


def _members(audiences: Collection[CompiledAudience], *, identified: bool) -> set[str]:
    state = ProfileState()
    for audience in audiences:
        if (
            audience.enabled
            and not audience.claimed
            and (identified or audience.include_anonymous)
            and audience.holds(state, 0, 0)
        ):
            state.memberships[audience.key] = MembershipState(True, 0)
    return set(state.memberships)
