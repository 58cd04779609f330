"""Group calls: what one says to its user and to its account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.sights import Sights
from schemas.profile import GROUP, JOIN, VERSION, ProfileEvent, Standing

if TYPE_CHECKING:
    from app.domain.plan import AccountPlan


class GroupCalls:
    """Of what has been said lately only the news; forgetting that costs a record and changes nothing."""

    def __init__(self, plan: AccountPlan) -> None:
        self._traits = plan.plan.traits
        self._sights = Sights()

    def records(
        self, user: str, account: str, traits: Any, call: ProfileEvent
    ) -> list[tuple[str, ProfileEvent]]:
        """What becomes of a call of `user` about `account`. `call` has its coordinates, times and message id; its index
        is the last that has been used. The account hears first, so that nobody joins what it is just leaving.
        """
        made = []
        used = {}
        if type(traits) is dict and traits:
            used = {use.path: use.take(traits) for use in self._traits if use.name in traits}
        if self._sights.is_first(account) or used:
            group = ProfileEvent(
                VERSION,
                GROUP,
                call.lane,
                call.offset,
                call.index + 1,
                call.timestamp,
                call.received,
                call.message_id,
                traits=used or None,
            )
            made.append((account, group))
        if self._sights.is_first((user, account)):
            joined = ProfileEvent(
                VERSION,
                JOIN,
                call.lane,
                call.offset,
                call.index + 2,
                call.timestamp,
                call.received,
                standing=Standing(account=account),
            )
            made.append((user, joined))
        return made
