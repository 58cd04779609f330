"""Versions of the plan in one worker: what resolve projects for, and when a partition goes over to a newer one.

    audience.control ──► PlanVersions ──► resolve projects for every version in force; its markers say the newest
                              └────────► each partition of profile.events switches when all its lanes carry that

Feeds have ids made of their content, so what serves several versions is simply the union of their feeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.domain.plan import by_event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from app.domain.fields import CallFields
    from app.domain.plan import AccountPlan, Plan


@dataclass(slots=True)
class PlanVersions:
    """The plans that a worker knows, by version; all partitions of it share one. `newest` 0: there is none yet.

    `held` are the audiences of a version that wait until the past has been read for it, `fields` what mappings take of
    calls that are read again, None: nothing.
    """

    plans: dict[int, Plan] = field(default_factory=dict)
    held: dict[int, frozenset[str]] = field(default_factory=dict)
    fields: dict[int, CallFields | None] = field(default_factory=dict)
    newest: int = 0

    def take(
        self,
        number: int,
        plan: Plan,
        held: frozenset[str] = frozenset(),
        fields: CallFields | None = None,
    ) -> None:
        """One more version."""
        self.plans[number] = plan
        self.held[number] = held
        self.fields[number] = fields
        self.newest = max(self.newest, number)

    def reads_again(self, number: int) -> bool:
        """Whether anything of the version is filled from history."""
        return bool(self.held.get(number)) or self.fields.get(number) is not None

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all versions but these and the newest."""
        for number in self.plans.keys() - {*numbers, self.newest}:
            del self.plans[number]


def projection(plans: Sequence[Plan], cleared: Iterable[str] = ()) -> Plan:
    """What resolve has to take from calls for all of these versions, the newest last, as a plan of it.

    Who decides an audience is as the newest says; nothing is taken for the `cleared` audiences, which nobody is in.
    """
    newest = plans[-1]
    feeds = {feed.id: feed for plan in plans for feed in plan.feeds.values()}
    traits = {use.path: use for plan in plans for use in plan.traits}
    audiences = {key: audience for plan in plans for key, audience in plan.audiences.items()}
    for key in cleared:
        audiences.pop(key, None)
    return replace(
        newest,
        audiences=audiences,
        feeds=feeds,
        events=by_event(feeds.values()),
        traits=tuple(traits[path] for path in sorted(traits)),
        has_new_users=any(plan.has_new_users for plan in plans),
        has_new_anonymous=any(plan.has_new_anonymous for plan in plans),
        accounts=_of_accounts(plans),
    )


def _of_accounts(plans: Sequence[Plan]) -> AccountPlan | None:
    """What has to be taken from group calls."""
    asking = [plan.accounts for plan in plans if plan.accounts is not None]
    if not asking:
        return None
    traits = {use.path: use for accounts in asking for use in accounts.plan.traits}
    newest = asking[-1]
    uses = tuple(traits[path] for path in sorted(traits))
    return replace(newest, plan=replace(newest.plan, traits=uses))
