"""Plans while audiences are filled from history: those audiences change nothing before all of it has been read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace as msgspec_replace

from app.domain.conditions import filled_by
from app.domain.plan import by_event
from schemas.profile import PAST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.domain.plan import CompiledAudience, Plan
    from schemas.audience import AudienceDefinition
    from schemas.profile import ProfileEvent

    Groups = Mapping[str, tuple[CompiledAudience, ...]]

# Before the lane that is read again; the version stands between them.
PAST_LANE: Final = "past/"


def past_lane(number: int, lane: str) -> str:
    """The lane of what is read again of `lane` for a version; no topic id has a slash."""
    return f"{PAST_LANE}{number}/{lane}"


def lane_of_past(lane: str, number: int) -> str | None:
    """The lane that a lane of the past is of; None: it is none, or another version's."""
    prefix = f"{PAST_LANE}{number}/"
    return lane.removeprefix(prefix) if lane.startswith(prefix) else None


def held_back(
    audiences: Sequence[AudienceDefinition],
    before: Sequence[AudienceDefinition],
    filled: Collection[str],
    plan: Plan,
) -> frozenset[str]:
    """The audiences that wait: the filled ones, and what is new or edited and asks for the membership of one."""
    known = {definition.key: definition for definition in before}
    edited = {definition.key for definition in audiences if known.get(definition.key) != definition}
    held = set(filled)
    for key, asking in plan.of_audience.items():
        if key in filled:
            held |= {audience.key for audience in asking if audience.key in edited}
    return frozenset(held)


def waiting(plan: Plan, held: Collection[str]) -> Plan:
    """The plan that takes and keeps all that it needs, and leaves the audiences in `held` as they are."""

    def others(group: tuple[CompiledAudience, ...]) -> tuple[CompiledAudience, ...]:
        return tuple(audience for audience in group if audience.key not in held)

    def grouped(groups: Groups) -> Groups:
        return {name: others(group) for name, group in groups.items()}

    return replace(
        plan,
        audiences={key: audience for key, audience in plan.audiences.items() if key not in held},
        of_feed=grouped(plan.of_feed),
        of_trait=grouped(plan.of_trait),
        of_audience=grouped(plan.of_audience),
        initial=others(plan.initial),
        watched=others(plan.watched),
        digest=f"{plan.digest} waiting",
    )


def of_the_past(plan: Plan, held: Collection[str], number: int) -> Plan:
    """What is taken of calls that are read again for this version."""
    own = {filled_by(key, number) for key in held}
    feeds = {key: feed for key, feed in plan.feeds.items() if feed.since and feed.since.whose in own}
    paths = {path for path, group in plan.of_trait.items() if any(item.key in held for item in group)}
    sees = any(audience.key in held for audience in plan.initial)
    return replace(
        plan,
        audiences={key: item for key, item in plan.audiences.items() if key in held and item.claimed},
        feeds=feeds,
        events=by_event(feeds.values()),
        traits=tuple(use for use in plan.traits if use.path in paths),
        has_new_users=sees and plan.has_new_users,
        has_new_anonymous=sees and plan.has_new_anonymous,
        call_fields=None,
    )


def as_past(event: ProfileEvent) -> ProfileEvent | None:
    """Of a call that was resolved for a plan of the past, what those who wait need; None: nothing.

    Who called is known from the first reading: a profile that was heard of by its identifiers exists.
    """
    if not (event.hits or event.traits or event.claims) and (event.identifiers or event.linking):
        return None
    return msgspec_replace(event, kind=PAST, identifiers=None, linking=None)
