"""Pausing, resuming and sending again: what people want of destinations, and what their commands publish.

A command names an audience, for all its destinations, or one destination. Of the two records that may speak of a
destination the one that was written last holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.instants import format_instant
from app.domain.published import cleared_by, definitions_of
from app.domain.replacing import keeps_who_left, why_ordinary
from app.errors import InvalidInputError
from schemas.control import DesiredRecord
from schemas.sync import DestinationState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.published import Published
    from schemas.audience import AudienceDefinition, FacebookDestination
    from schemas.sync import BrakeTrip, SyncState

NO_REASON: Final = "paused by `audiences pause`"
MAX_REASON_LENGTH: Final = 500


class Desired(NamedTuple):
    """Of one destination: why it is to be paused, None: it is not; the others as in `DesiredRecord`."""

    paused: str | None = None
    accepted_at: int = 0
    resync_at: int = 0
    replace: bool = False
    recreate_at: int = 0


def desired_of(desired: Mapping[str, DesiredRecord], audience: str, destination: str) -> Desired:
    """What holds for the destination, of the records by target."""
    found = [record for target in (audience, destination) if (record := desired.get(target)) is not None]
    if not found:
        return Desired()
    newest = max(found, key=lambda record: record.number)
    reason = (newest.reason or NO_REASON) if newest.paused else None
    resync = max(found, key=lambda record: record.resync_at)
    accepted_at = max(record.accepted_at for record in found)
    recreate_at = max(record.recreate_at for record in found)
    return Desired(reason, accepted_at, resync.resync_at, resync.replace, recreate_at)


def brake_reason(audience: str, trip: BrakeTrip) -> str:
    """In words, with what a person can do."""
    return (
        f"safety brake at {format_instant(trip.at)}: {trip.removed:,} of {trip.members:,} members would be removed. "
        f"If they shall be: audience-sync audiences resume {audience} --accept-shrink"
    )


# --- commands ---


def targets(published: Published) -> dict[str, tuple[str, ...]]:
    """What can be paused and resumed: keys of audiences and ids of destinations, each with the destinations meant."""
    newest = published.newest
    found: dict[str, tuple[str, ...]] = {}
    for audience in (*definitions_of(newest).audiences, *cleared_by(newest)) if newest else ():
        ids = tuple(destination.id for destination in audience.destinations)
        found |= {id_: (id_,) for id_ in ids}
        found[audience.key] = ids
    return found


def destinations_of(published: Published, target: str) -> tuple[str, ...]:
    """The ids of the destinations meant. Raises InvalidInputError where there is none."""
    known = targets(published)
    if target not in known:
        raise InvalidInputError(
            f"no audience with the key {target} is published, and no destination with that id: "
            "`audience-sync audiences list` names them"
        )
    if not known[target]:
        raise InvalidInputError(f"{target} is delivered nowhere (`facebook: []`): it has no destination")
    return known[target]


def to_pause(published: Published, target: str, reason: str | None, now_ms: int) -> DesiredRecord | None:
    """What `pause` publishes; None: it is paused with this very reason already."""
    destinations_of(published, target)
    if reason is not None and len(reason) > MAX_REASON_LENGTH:
        raise InvalidInputError(f"--reason: at most {MAX_REASON_LENGTH} characters")
    why = reason or NO_REASON
    if all(wanted.paused == why for wanted in _wanted(published, target)):
        return None
    return _next(published, target, now_ms, paused=True, reason=why)


def to_resume(
    published: Published,
    states: Mapping[str, SyncState],
    target: str,
    now_ms: int,
    *,
    accept_shrink: bool,
) -> DesiredRecord | None:
    """What `resume` publishes; None: nothing is paused. `states` are the newest ones of destinations by their id.

    Raises InvalidInputError where the safety brake holds one and the shrink is not accepted.
    """
    ids = destinations_of(published, target)
    if accept_shrink:
        return _next(published, target, now_ms, paused=False, accepted_at=now_ms)
    accepted = dict(zip(ids, (wanted.accepted_at for wanted in _wanted(published, target)), strict=True))
    for id_ in ids:
        brake = states[id_].brake if id_ in states else None
        if brake is not None and brake.trip is not None and accepted[id_] <= brake.accepted_at:
            raise InvalidInputError(
                f"{brake_reason(target, brake.trip)}. Nothing was changed: a plain `resume` does not release it"
            )
    if all(wanted.paused is None for wanted in _wanted(published, target)):
        return None
    return _next(published, target, now_ms, paused=False)


def to_resync(published: Published, target: str, now_ms: int, *, replace: bool = False) -> DesiredRecord:
    """What `resync` publishes; whoever is paused stays paused, and begins when resumed.

    Raises InvalidInputError where replacing would take out people who are to stay.
    """
    destinations_of(published, target)
    if replace:
        _refuse_to_replace(published, target)
    known = published.desired.get(target)
    if known is None:
        # Number 0: of whether it is paused this says nothing.
        return DesiredRecord(
            target=target, number=0, paused=False, resync_at=now_ms, replace=replace, written_at=now_ms
        )
    return known.model_copy(update={"resync_at": now_ms, "replace": replace, "written_at": now_ms})


def to_recreate(published: Published, target: str, now_ms: int) -> DesiredRecord:
    """What `create` publishes for a destination whose Facebook audience is gone."""
    destinations_of(published, target)
    known = published.desired.get(target)
    if known is None:
        # As for a resync: number 0.
        return DesiredRecord(target=target, number=0, paused=False, recreate_at=now_ms, written_at=now_ms)
    return known.model_copy(update={"recreate_at": now_ms, "written_at": now_ms})


def _refuse_to_replace(published: Published, target: str) -> None:
    for audience, destination in _meant(published, target):
        if keeps_who_left(audience, destination):
            raise InvalidInputError(
                f"{destination.id} has sync_mode {destination.sync_mode.value}: people who are no members stay in its "
                "Facebook audience, and replacing would take them out. `resync` without --replace takes nobody out"
            )


def shown_state(
    published: Published, states: Mapping[str, SyncState], audience: str, destination: str
) -> tuple[DestinationState, str | None]:
    """State and reason of a destination; paused from the moment at which somebody wants it."""
    recorded = states.get(destination)
    state = recorded.state if recorded is not None else DestinationState.NEW
    reason = recorded.reason if recorded is not None else None
    wanted = desired_of(published.desired, audience, destination)
    if wanted.paused is not None and state is not DestinationState.PAUSED:
        return DestinationState.PAUSED, wanted.paused
    return state, reason


def sent_again(published: Published, target: str) -> dict[str, str]:
    """Destinations that are not replaced but sent again the ordinary way, with why."""
    meant = ((destination.id, why_ordinary(destination)) for _, destination in _meant(published, target))
    return {id_: why for id_, why in meant if why is not None}


def _wanted(published: Published, target: str) -> list[Desired]:
    """Of each destination that is meant, in their order."""
    return [
        desired_of(published.desired, audience.key, destination.id)
        for audience, destination in _meant(published, target)
    ]


def _meant(published: Published, target: str) -> list[tuple[AudienceDefinition, FacebookDestination]]:
    newest = published.newest
    audiences = (*definitions_of(newest).audiences, *cleared_by(newest)) if newest else ()
    return [
        (audience, destination)
        for audience in audiences
        for destination in audience.destinations
        if target in (audience.key, destination.id)
    ]


def _next(
    published: Published,
    target: str,
    now_ms: int,
    *,
    paused: bool,
    reason: str | None = None,
    accepted_at: int = 0,
) -> DesiredRecord:
    known = published.desired
    earlier = known.get(target)
    return DesiredRecord(
        target=target,
        number=max((record.number for record in known.values()), default=0) + 1,
        paused=paused,
        reason=reason,
        accepted_at=accepted_at or (earlier.accepted_at if earlier else 0),
        resync_at=earlier.resync_at if earlier else 0,
        replace=earlier.replace if earlier else False,
        recreate_at=earlier.recreate_at if earlier else 0,
        written_at=now_ms,
    )
