"""What is published of the places that calls of Engage name: a version of the definitions that goes by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.engage_places import with_place
from app.domain.plan_changes import generations_after
from app.domain.published import MAX_BYTES, definitions_of
from app.errors import InvalidInputError

if TYPE_CHECKING:
    from app.domain.published import Published
    from schemas.audience import AudienceDefinition
    from schemas.control import DefinitionsRecord, PlacedRecord


def may_be_placed(published: Published, key: str) -> bool:
    """Whether there is such an audience, or is to be one."""
    newest = published.newest
    if newest is None:
        return False
    return key in newest.definitions or key in newest.created or key in published.wanted


def to_place(published: Published, partitions: int, now_ms: int) -> DefinitionsRecord | None:
    """The version that goes by what calls have said; None: the newest does, or there is none to follow it yet."""
    newest = published.newest
    if newest is None or published.is_filling(partitions):
        return None
    places = dict(newest.placed)
    for audience in definitions_of(newest, placed=False).audiences:
        noted = published.placed.get(audience.key)
        if noted is not None and _changes(audience, noted, newest):
            places[audience.key] = noted.place
    if places == newest.placed:
        return None
    record = newest.model_copy(update={"number": newest.number + 1, "placed": places, "published_at": now_ms})
    before, after = definitions_of(newest), definitions_of(record)
    try:
        generations = generations_after(before, after, newest.generations, record.number, now_ms)
    except InvalidInputError:
        return None
    record = record.model_copy(update={"generations": generations})
    return record if len(record.model_dump_json()) <= MAX_BYTES else None


def _changes(audience: AudienceDefinition, noted: PlacedRecord, newest: DefinitionsRecord) -> bool:
    return with_place(audience, noted.place) != with_place(audience, newest.placed.get(audience.key))
