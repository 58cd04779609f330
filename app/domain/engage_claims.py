"""What a call of Segment Engage claims of an audience that is defined here, or why its claim is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.domain.calls import RefusedError, read_object
from app.domain.engage import audience_key, claimed_membership, is_journey_step, may_reach_facebook
from schemas.dead_letter import DropReason, Reason

if TYPE_CHECKING:
    from app.domain.plan import Plan
    from schemas.segment import SegmentEvent


class Claim(msgspec.Struct, gc=False, frozen=True):
    """What a call claims, by the audiences' names for claims, or why that is dropped.

    `key` is what the call calls the audience, empty for a row of a warehouse; `unknown_audience` is the same where
    there is no such audience.
    """

    key: str
    claims: dict[str, bool] | None = None
    dropped: DropReason | None = None
    unknown_audience: str | None = None


class EngageClaims:
    """Of one plan. `legacy_journeys`: a journey's step without a boolean says that the profile has entered."""

    def __init__(self, plan: Plan, *, legacy_journeys: bool) -> None:
        self._audiences = plan.audiences
        self._legacy_journeys = legacy_journeys

    def of(self, call: SegmentEvent, personas: dict[str, Any], properties: Any, traits: Any) -> Claim:
        """Of a call that claims a membership: integrations, then the key, then the boolean. Raises RefusedError."""
        legacy_step = self._legacy_journeys and is_journey_step(personas)
        key = audience_key(personas, legacy_step=legacy_step)
        if key is None:
            raise RefusedError(
                Reason.INVALID_AUDIENCE_MEMBERSHIP, "context.personas.computation_key is missing or blank"
            )
        if not may_reach_facebook(read_object(call.integrations)):
            return Claim(key, None, DropReason.FILTERED_BY_INTEGRATIONS)
        audience = self._audiences.get(key)
        if audience is None:
            return Claim(key, None, DropReason.UNKNOWN_AUDIENCE, key)
        if not audience.claimed or audience.rows is not None:
            return Claim(key, None, DropReason.COMPUTED_HERE)
        member = claimed_membership(call.type or "", key, properties, traits)
        if member is None and legacy_step:
            member = True
        if member is None:
            place = {"identify": "traits", "track": "properties"}.get(call.type or "")
            detail = (
                f"{place} has no boolean under the audience's key"
                if place
                else "only identify and track claim one"
            )
            raise RefusedError(Reason.INVALID_AUDIENCE_MEMBERSHIP, detail)
        return Claim(key, {audience.claim: member})
