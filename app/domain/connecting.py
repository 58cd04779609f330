"""Connecting a destination to a Facebook audience that exists: a version of the definitions that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.pausing import destinations_of
from app.domain.published import definitions_of, to_apply
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.domain.published import Published
    from schemas.audience import AudienceDefinition, FacebookDestination
    from schemas.control import DefinitionsRecord


def one_destination(published: Published, target: str) -> tuple[AudienceDefinition, FacebookDestination]:
    """The destination meant by its id, or by the key of an audience that has no other. Raises InvalidInputError."""
    ids = destinations_of(published, target)
    if len(ids) > 1:
        raise InvalidInputError(f"{target} has several destinations, name one: {', '.join(ids)}")
    newest = published.newest
    audiences = () if newest is None else definitions_of(newest).audiences
    for audience in audiences:
        for destination in audience.destinations:
            if destination.id == ids[0]:
                return audience, destination
    raise InvalidInputError(f"{target} is deleted: its Facebook audience is being emptied")


def to_connect(
    published: Published, target: str, facebook_id: str, partitions: int, now_ms: int
) -> DefinitionsRecord | None:
    """What `connect` publishes; None: it is connected to that already. Raises InvalidInputError."""
    audience, destination = one_destination(published, target)
    newest = published.newest
    if newest is None or destination.audience_id == facebook_id:
        return None
    if audience.key in newest.created:
        raise InvalidInputError(
            f"{audience.key} was created by a call of Engage: define it, with facebook.audience_id, and apply that"
        )
    known = definitions_of(newest)
    for other in known.audiences:
        for one in other.destinations:
            if one.audience_id == facebook_id:
                raise InvalidInputError(
                    f"{one.id} is connected to the Facebook audience {facebook_id} already"
                )
    # Places that calls of Engage name are no part of what is defined.
    defined = definitions_of(newest, placed=False)
    audiences = tuple(
        _connected(one, destination.id, facebook_id)
        for one in defined.audiences
        if one.key not in newest.created
    )
    return to_apply(published, replace(defined, audiences=audiences), partitions, now_ms, allow_delete=False)


def _connected(audience: AudienceDefinition, destination: str, facebook_id: str) -> AudienceDefinition:
    destinations = [
        one.model_copy(update={"audience_id": facebook_id}) if one.id == destination else one
        for one in audience.destinations
    ]
    return audience.model_copy(update={"destinations": destinations})
