"""What a row of a warehouse claims, of whom, or why that is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.domain.calls import RefusedError
from app.domain.engage import is_decided_by_engage, may_reach_facebook
from schemas.dead_letter import DropReason, Reason

if TYPE_CHECKING:
    from app.domain.blocked import BlockedIdentifiers
    from app.domain.plan import Plan
    from schemas.segment import SegmentEvent


class Said(NamedTuple):
    """Profile -> what the row claims of it, by the audiences' names for claims. Where it is `dropped`, its profiles
    exist, and nothing else of it counts.
    """

    claims: dict[str, dict[str, bool]]
    dropped: DropReason | None


class RowClaims:
    """Of one plan."""

    def __init__(self, plan: Plan, blocked: BlockedIdentifiers | None) -> None:
        self._rows = tuple(
            (audience.claim, audience.rows)
            for audience in plan.audiences.values()
            if audience.rows is not None
        )
        self._blocked = blocked

    def of(self, call: SegmentEvent, whole: dict[str, Any]) -> Said | None:
        """Of a track call named as a row, `whole` being all of it. Raises RefusedError.

        None: no audience takes it for one, or its boolean makes it a call of Engage.
        """
        taking = [(key, rows) for key, rows in self._rows if rows.matches(whole)]
        if not taking or is_decided_by_engage(call.type or "", whole):
            return None
        event = call.event or ""
        let_through = may_reach_facebook(whole.get("integrations"))
        claims: dict[str, dict[str, bool]] = {}
        for key, rows in taking:
            profile = rows.profile(whole)
            if self._blocked is not None:
                profile = self._blocked.profile(profile)
            if profile is None and not let_through:
                continue
            if profile is None:
                raise RefusedError(Reason.NO_IDENTITY, f"the row has no id under $.{rows.id_path}")
            said = claims.setdefault(profile, {})
            if event in rows.memberships:
                said[key] = rows.memberships[event]
        dropped = None
        if not let_through:
            dropped = DropReason.FILTERED_BY_INTEGRATIONS
        elif not any(claims.values()):
            dropped = DropReason.NOT_IN_SYNC_MODE
        return Said(claims, dropped)
