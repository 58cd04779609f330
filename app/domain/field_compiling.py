"""Mapped fields compiled: the `fields` of a destination become what is taken of calls and how its rows are made."""

from __future__ import annotations

import hashlib
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from app.domain.computed_traits import computed_value
from app.domain.fields import (
    COLUMNS_OF,
    GUIDED,
    SEPARATOR,
    Place,
    RowMapping,
    Slot,
    first_of,
    known_of,
    normalized,
)
from app.domain.fold import MAPPED_SEVERAL, MAX_OF_ONE_KIND
from app.domain.normalization import NormalizationOptions
from app.domain.trait_sources import name_of
from app.domain.values import extractor, goes_into_items

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.domain.plan import ComputedTrait
    from app.domain.state import ProfileState
    from schemas.audience import FacebookDestination, FieldSource

# A row says nothing of the year in which it is made.
_AT_ROWS: Final = NormalizationOptions(today_year=9999)
_ID_DIGITS: Final = 12


def is_mapped(destination: FacebookDestination) -> bool:
    """Whether the destination is sent anything else than what is found by default."""
    return bool(destination.fields) or destination.value_based or destination.external_id == "sha256"


def compile_fields(
    destination: FacebookDestination, computed: Mapping[str, ComputedTrait]
) -> RowMapping | None:
    """None for a destination that is sent what is found by default."""
    if not is_mapped(destination):
        return None
    hashes = destination.external_id == "sha256"
    country = destination.fields.get("country")
    columns: dict[str, list[Callable[[ProfileState], list[str | float]]]] = {}
    slots: list[Slot] = []
    for name, keys in COLUMNS_OF.items():
        for of_calls, run in groupby(
            destination.fields.get(name, ()), lambda one: _is_of_calls(one, computed)
        ):
            sources = list(run)
            if of_calls:
                guides = country if name in GUIDED else None
                slot = _slot(name, sources, guides, computed, hashes=hashes and name == "external_id")
                slots.append(slot)
                takes = [_of_slot(key.value, slot.id) for key in keys]
            else:
                takes = [_of_sources(name, key.value, sources, computed, _constant(country)) for key in keys]
            for key, take in zip(keys, takes, strict=True):
                columns.setdefault(key.value, []).append(take)
        if name in destination.fields:
            for key in keys:
                columns.setdefault(key.value, [])
    content = {
        name: [[_is_of_calls(one, computed), one.model_dump(mode="json")] for one in sources]
        for name, sources in destination.fields.items()
    }
    return RowMapping(
        digest=_digest([content, destination.value_based, *(["sha256"] if hashes else [])]),
        columns={column: tuple(takes) for column, takes in columns.items()},
        value_based=destination.value_based,
        hashes_external_id=hashes,
        slots=tuple(slots),
    )


def _is_of_calls(source: FieldSource, computed: Mapping[str, ComputedTrait]) -> bool:
    return source.path is not None or (source.trait is not None and name_of(source.trait) not in computed)


def _slot(
    name: str,
    sources: Sequence[FieldSource],
    country: Sequence[FieldSource] | None,
    computed: Mapping[str, ComputedTrait],
    *,
    hashes: bool,
) -> Slot:
    places = tuple(_place(source) for source in sources)
    guide = None
    content: list[Any] = [name, [[place.path, place.of_identify] for place in places]]
    if country is not None:
        guides = tuple(_place(source) for source in country if _is_of_calls(source, computed))
        constant = _constant(country)
        content.append([[[place.path, place.of_identify] for place in guides], constant])

        def guide(whole: dict[str, Any]) -> Any:
            value = first_of(guides, whole)[1]
            return constant if value is None else value

    if hashes:
        content.append("sha256")
    return Slot(_digest(content), name, places, guide, hashes)


def _place(source: FieldSource) -> Place:
    """A trait that is not computed is one of identify calls."""
    path = f"traits.{source.trait}" if source.path is None else source.path
    extract = extractor(path)
    if goes_into_items(path):
        return Place(path, source.path is None, lambda whole: extract(whole) or None)
    return Place(path, source.path is None, extract)


def _constant(country: Sequence[FieldSource] | None) -> Any:
    return next((source.const for source in country or () if source.const is not None), None)


def _of_slot(column: str, slot: str) -> Callable[[ProfileState], list[str | float]]:
    name = f"{column}{SEPARATOR}{slot}"
    return lambda state: known_of(state, name)


def _of_sources(
    name: str,
    column: str,
    sources: Sequence[FieldSource],
    computed: Mapping[str, ComputedTrait],
    country: Any,
) -> Callable[[ProfileState], list[str | float]]:
    """Of constants and computed traits."""

    def made(value: Any) -> list[str | float]:
        values = value if type(value) is list else [value]
        sent = (normalized(name, item, country, _AT_ROWS).get(column) for item in values)
        found = list(dict.fromkeys(one for one in sent if one is not None))
        return found[: MAX_OF_ONE_KIND if column in MAPPED_SEVERAL else 1]

    constants = [None if source.const is None else made(source.const) for source in sources]
    traits = [None if source.trait is None else computed[name_of(source.trait)] for source in sources]

    def take(state: ProfileState) -> list[str | float]:
        for constant, trait in zip(constants, traits, strict=True):
            found = constant if trait is None else made(computed_value(state, trait))
            if found:
                return found
        return []

    return take


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_ID_DIGITS]
