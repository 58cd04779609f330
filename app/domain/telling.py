"""What destinations have heard of members: who has to be told once more when a destination, or its sync mode, is new."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.plan import CompiledAudience, Plan
    from app.domain.state import ProfileState
    from schemas.membership import MembershipDelta

    ByAudience = dict[str, list[str]]


@dataclass(slots=True)
class Told:
    """By audience the destinations that have heard of who enters, and of who leaves, as of the last time at which all
    states were made by one plan.

    `untold` and `left` are the audiences of the plan now that have a destination which has not heard of all who are in
    them, and of those who have left them.
    """

    entries: ByAudience
    exits: ByAudience
    untold: frozenset[str] = field(default=frozenset())
    left: frozenset[str] = field(default=frozenset())
    _by_id: Mapping[str, CompiledAudience] = field(default_factory=dict)

    @classmethod
    def by(cls, plan: Plan) -> Told:
        """By this plan from the beginning."""
        return cls(entries_by(plan), exits_by(plan))

    def compare(self, plan: Plan) -> None:
        """Find who has something to hear by this plan."""
        audiences = plan.audiences.items()
        self._by_id = plan.by_id
        self.untold = frozenset(
            key for key, item in audiences if not set(item.sent_to) <= set(self.entries.get(key, ()))
        )
        # Of an audience that is new nobody has left.
        self.left = frozenset(
            key
            for key, item in audiences
            if key in self.exits and not set(item.told.exits) <= set(self.exits[key])
        )

    def finish(self, plan: Plan, full: Plan) -> None:
        """All states are made by `plan`; those of `full` that wait have been told what they were told before."""
        waits = {key: told for key, told in self.entries.items() if key in full.audiences}
        left = {key: told for key, told in self.exits.items() if key in full.audiences}
        self.entries, self.exits = waits | entries_by(plan), left | exits_by(plan)
        self.untold = self.left = frozenset()

    def heard_of(self, state: ProfileState, deltas: Iterable[MembershipDelta]) -> set[str] | None:
        """Of a state that was another plan's: the audiences whose destinations have heard that the profile is in them, of
        old or by these deltas. None: all have.
        """
        if not self.untold:
            return None
        by_id = self._by_id
        known = {by_id[short].key for short in state.memberships if short in by_id}
        return (known - self.untold) | {delta.audience for delta in deltas}

    def left_by(self, state: ProfileState, deltas: Iterable[MembershipDelta]) -> list[str]:
        """The audiences that the profile was in and has left, while a destination that hears of exits now did not."""
        if not self.left:
            return []
        done = {delta.audience for delta in deltas}
        was_in = (
            self._by_id[short].key
            for short, known in state.memberships.items()
            if short in self._by_id and not known.member and known.sequence > 1
        )
        return [key for key in was_in if key in self.left and key not in done]


def entries_by(plan: Plan) -> dict[str, list[str]]:
    """The destinations of each audience that hear of who enters, and what they are sent."""
    return {key: list(audience.sent_to) for key, audience in plan.audiences.items()}


def exits_by(plan: Plan) -> dict[str, list[str]]:
    """The destinations of each audience that hear of who leaves."""
    return {key: list(audience.told.exits) for key, audience in plan.audiences.items()}
