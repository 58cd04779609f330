"""What is known of one profile: per audience its membership, why, and when that changes by time alone.

Made of a copy of the profile's state, which is brought forward to the present and then, by the steps the engine takes
itself, into a future in which nothing more is heard of the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.domain.compact import audience_id
from app.domain.computed_traits import refresh
from app.domain.evaluation import Instant, evaluate, next_due
from app.domain.explanation import TELLS, beside_the_point, explain, verdicts
from app.domain.fold import settle
from app.domain.instants import MAX_INSTANT, format_instant
from app.domain.linking import aliases_of
from app.domain.profile_ids import external_id_of
from app.domain.rows import is_identified
from app.domain.state import decode_state, encode_state
from schemas.membership import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.explanation import Explainer, Explanation, Node
    from app.domain.plan import CompiledAudience, Plan
    from app.domain.state import ProfileState
    from schemas.audience import AudienceSource

# Instants of the future that are looked at; what changes only behind them is said to be unknown.
MAX_STEPS: Final = 200


@dataclass(frozen=True, slots=True)
class AudienceReport:
    """`member` is what memberships say, `holds` the verdict of the condition now. `reason` is one sentence.

    `changes_at` is when the membership changes by time alone; None: never, or it is not known.
    """

    key: str
    name: str
    member: bool
    holds: bool
    reason: str
    condition: Explanation
    changes_at: int | None


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """`identifiers` are as they are stored, which is hashed; `aliases` are the profile ids that lead here. `now` is
    the clock of the profile's partition.

    `known_until` is how far the future was looked at; None: to its end.
    """

    profile: str
    now: int
    aliases: list[str]
    identifiers: dict[str, list[str | float]]
    audiences: list[AudienceReport]
    known_until: int | None


def report(
    profile: str, state: ProfileState, plan: Plan, explainer: Explainer, now: int, early_ms: int
) -> ProfileReport:
    """`state` is a copy, which is changed. Of audiences that only one of `plan` and `explainer` knows nothing is said."""
    written = {short: known.member for short, known in state.memberships.items()}
    nodes = {
        key: explainer.node(key, audience.created)
        for key, audience in plan.audiences.items()
        if key in explainer.definitions
    }
    instant = Instant(now, now + early_ms, now)
    _bring_to(instant, profile, state, plan)
    future = _Future(nodes, state, instant)
    future.look(profile, decode_state(encode_state(state)), plan, instant)
    audiences = []
    for key, definition in explainer.definitions.items():
        if key not in nodes:
            continue
        condition = explain(nodes[key], state, instant.now, instant.horizon, future.verdicts[key])
        member = written.get(audience_id(key), False)
        if condition.holds and not _is_member(state, key):
            condition = beside_the_point(condition)
        reason = _reason(plan.audiences[key], definition.source, profile, state, holds=condition.holds)
        if member is not _is_member(state, key):
            reason += "; the change is not written yet"
        audiences.append(
            AudienceReport(
                key=key,
                name=definition.name,
                member=member,
                holds=condition.holds,
                reason=reason,
                condition=condition,
                changes_at=future.members[key],
            )
        )
    aliases = sorted(aliases_of(profile, state))
    return ProfileReport(profile, now, aliases, _identifiers(profile, state), audiences, future.known_until)


def _bring_to(instant: Instant, profile: str, state: ProfileState, plan: Plan) -> None:
    """As the engine does it when the clock reaches the instant, for all audiences."""
    settle(state, plan.needs, instant.now)
    refresh(state, plan.computed.values(), instant)
    evaluate(profile, state, plan.audiences.values(), instant, Cause.TIME)


def _is_member(state: ProfileState, audience: str) -> bool:
    known = state.memberships.get(audience_id(audience))
    return known is not None and known.member


def _identifiers(profile: str, state: ProfileState) -> dict[str, list[str | float]]:
    found: dict[str, list[str | float]] = {}
    external_id = external_id_of(profile)
    if external_id is not None:
        found["EXTERN_ID"] = [external_id]
    for column, identifier in sorted(state.identifiers.items()):
        if identifier.value is not None:
            found[column] = [identifier.value, *state.further.get(column, ())]
    return found


def _reason(
    audience: CompiledAudience, source: AudienceSource, profile: str, state: ProfileState, *, holds: bool
) -> str:
    """What the membership rests on; of several obstacles the first."""
    if not audience.enabled:
        return "the audience is not enabled"
    if audience.claimed:
        claim = state.claims.get(audience.claim)
        if claim is None:
            return f"{TELLS[source]} has said nothing of this profile"
        if not claim.member:
            return f"{TELLS[source]} has taken this profile out"
    if not holds:
        return "the condition does not hold" if not audience.claimed else "what is required does not hold"
    if not audience.include_anonymous and not is_identified(profile, state):
        return "the profile has no user id, e-mail or mobile advertising id, and include_anonymous is false"
    return f"{TELLS[source]} has put this profile in" if audience.claimed else "the condition holds"


class _Future:
    """The next change by time of every membership and verdict; None: none is known.

    `known_until`: behind this instant nothing was looked at; None: there is nothing.
    """

    def __init__(self, nodes: Mapping[str, Node], state: ProfileState, instant: Instant) -> None:
        """`instant` is the present."""
        self._nodes = nodes
        self._present = {key: self._verdicts(key, state, instant) for key in nodes}
        self._members = {key: _is_member(state, key) for key in nodes}
        self.verdicts: dict[str, list[int | None]] = {
            key: [None] * len(known) for key, known in self._present.items()
        }
        self.members: dict[str, int | None] = dict.fromkeys(nodes)
        self.known_until: int | None = None

    def _verdicts(self, key: str, state: ProfileState, instant: Instant) -> list[bool]:
        return verdicts(self._nodes[key], state, instant.now, instant.horizon)

    def look(self, profile: str, state: ProfileState, plan: Plan, instant: Instant) -> None:
        """Steps from one instant at which something is due to the next, as the engine's timers do."""
        early_ms = instant.horizon - instant.now
        for _ in range(MAX_STEPS):
            due = next_due(state, plan, instant, state.feeds, facts=True)
            if due > MAX_INSTANT:
                return
            instant = Instant(due, due + early_ms, due)
            _bring_to(instant, profile, state, plan)
            self._note(state, instant)
        self.known_until = instant.now

    def _note(self, state: ProfileState, instant: Instant) -> None:
        for key in self._nodes:
            if self.members[key] is None and _is_member(state, key) is not self._members[key]:
                self.members[key] = instant.now
            found = self.verdicts[key]
            present = self._present[key]
            for place, verdict in enumerate(self._verdicts(key, state, instant)):
                if found[place] is None and verdict is not present[place]:
                    found[place] = instant.now


# --- as JSON ------------------------------------------------------------------------------------------------------


def as_document(found: ProfileReport) -> dict[str, Any]:
    """JSON values; instants as everywhere, null where there is none."""
    return {
        "profile": found.profile,
        "now": format_instant(found.now),
        "known_until": _instant(found.known_until),
        "aliases": found.aliases,
        "identifiers": found.identifiers,
        "audiences": [
            {
                "audience": audience.key,
                "name": audience.name,
                "member": audience.member,
                "reason": audience.reason,
                "changes_at": _instant(audience.changes_at),
                "condition": _condition(audience.condition),
            }
            for audience in found.audiences
        ],
    }


def _condition(part: Explanation) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "text": part.text,
        "holds": part.holds,
        "deciding": part.deciding,
        "changes_at": _instant(part.changes_at),
        "seen": [{"name": seen.name, "value": seen.value, "or_more": seen.or_more} for seen in part.seen],
        "parts": [_condition(inner) for inner in part.parts],
    }


def _instant(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)
