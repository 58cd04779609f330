"""Which audiences have a profile of which nothing but its existence is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.domain.state import MembershipState, ProfileState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from app.domain.plan import CompiledAudience


class Initial(NamedTuple):
    """The audiences in their order, and whether they have users and whether they have anonymous people."""

    audiences: tuple[CompiledAudience, ...]
    has_users: bool
    has_anonymous: bool


def initial_audiences(audiences: Collection[CompiledAudience], births: Iterable[int]) -> Initial:
    """`audiences` in order of rank, `births` the instants at which some of them are created.

    Without any event or trait no condition depends on the instant, but through the membership of an audience that
    is created later; nor on the profile being anonymous, but through that of one that leaves such profiles out.
    """
    instants = (0, *births)
    users = set().union(*(_members(audiences, instant, identified=True) for instant in instants))
    anonymous = set().union(*(_members(audiences, instant, identified=False) for instant in instants))
    found = users | anonymous
    return Initial(
        tuple(audience for audience in audiences if audience.id in found), bool(users), bool(anonymous)
    )


def _members(audiences: Collection[CompiledAudience], now: int, *, identified: bool) -> set[str]:
    state = ProfileState()
    for audience in audiences:
        if (
            audience.enabled
            and not audience.claimed
            and (identified or audience.include_anonymous)
            and audience.holds(state, now, now)
        ):
            state.memberships[audience.id] = MembershipState(True, 0)
    return set(state.memberships)
