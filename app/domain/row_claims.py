"""What a row of a warehouse claims, of whom, or why that is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from app.domain.calls import RefusedError
from app.domain.engage import is_decided_by_engage, may_reach_facebook
from app.domain.reverse_etl import ROW_EVENTS
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


def require_row(call: SegmentEvent) -> None:
    """Raises RefusedError for a record of a topic of rows that is none: it says nothing of any membership."""
    if call.type != "track" or call.event not in ROW_EVENTS:
        raise RefusedError(
            Reason.INVALID_AUDIENCE_MEMBERSHIP,
            f"a topic of rows holds track calls named {', '.join(sorted(ROW_EVENTS))}, and the record is none of these",
        )


def refuse_engage() -> NoReturn:
    """Raises RefusedError, for a record of a topic of rows that has the boolean of an audience of Engage."""
    raise RefusedError(
        Reason.INVALID_AUDIENCE_MEMBERSHIP,
        "the record has the boolean of an Engage audience, and an Engage call belongs in the source topic",
    )


class RowClaims:
    """Of one plan, of the records of one topic: `topic` is None for the source topic, which is called `source_topic`."""

    def __init__(
        self, plan: Plan, blocked: BlockedIdentifiers | None, topic: str | None, source_topic: str
    ) -> None:
        topics = {None, source_topic} if topic is None else {topic}
        self._rows = tuple(
            (audience.claim, audience.rows)
            for audience in plan.audiences.values()
            if audience.rows is not None and audience.rows.topic in topics
        )
        self._blocked = blocked

    def __bool__(self) -> bool:
        """Whether any audience takes rows from there."""
        return bool(self._rows)

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
