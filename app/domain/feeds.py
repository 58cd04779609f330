"""Feeds: the part of event conditions that needs no state, evaluated where calls come in.

A feed is a distinct choice of events (name, comparisons with constants, excluded sources) with the values that are
kept of each. Conditions that ask for the same share it. Its id is a digest of that content: it survives restarts
and edits of whatever does not concern it, and an edited condition has another feed, with no history of the old one.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from app.domain.comparing import is_deferred
from app.domain.operators import predicate
from app.domain.values import extractor, goes_into_items, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from app.domain.keeping import Keeping
    from app.domain.values import Extract
    from schemas.audience import Comparison, ComputedTraitDefinition, EventCondition, ThenCondition

_ID_CHARACTERS: Final = 6
_SOURCE_PATH: Final = "protocols.sourceId"
# Beyond, sums could leave what a float can hold; nothing that is counted or paid is that large.
_MAX_SUMMAND: Final = 1e100
_MAX_INTEGER: Final = 2**63
_NUMBERS: Final = (int, float)


class KeptKind(StrEnum):
    """What is kept of an event: a value of its properties or context, or the number that a property is."""

    PROPERTY = "property"
    CONTEXT = "context"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """One value that a feed keeps of each of its events."""

    kind: KeptKind
    path: str


@dataclass(frozen=True, slots=True)
class Since:
    """Only events received from `instant` on belong to the feed; None: it is not known here, and none is left out.

    `whose` and `given`, an audience and the instant in its definition, tell such feeds apart and never change.
    """

    whose: str
    given: int | None
    instant: int | None


NO_GENERATIONS: Final[Mapping[str, int]] = MappingProxyType({})


def filled_by(key: str, generation: int) -> str:
    """What tells what an audience or trait takes from calls since it was filled from history from all else: `whose` of
    its feeds, and the name of its claims. Keys have no `#`.
    """
    return f"{key}#{generation}"


def is_filled_by(name: str, generation: int) -> bool:
    """Whether `filled_by` has made this name of that version."""
    return name.endswith(f"#{generation}")


def key_of(name: str) -> str:
    """The key that such a name, or one without a version, begins with."""
    return name.partition("#")[0]


@dataclass(frozen=True, slots=True)
class Feed:
    """`passes(properties, context)` says whether an event of this name belongs to the feed, if `since` lets it.

    Both arguments may be None, and are, where the call has no such object or no feed of the event needs it. `content`
    is what the id is a digest of. `keep(properties, context)` gives the values of `kept`, None: there are none; a plan sees
    to it (`keeper`). `fits(values)` says whether these may be what the feed keeps of one event; if not,
    resolve did not write them.
    """

    id: str
    content: str
    event: str
    kept: tuple[Kept, ...]
    needs_properties: bool
    needs_context: bool
    passes: Callable[[Any, Any], bool] | None
    fits: Callable[[Sequence[Any]], bool]
    since: Since | None = None
    # The message id is kept too, after the values, and orders the events of one instant.
    ordered: bool = False
    keep: Callable[[Any, Any], list[Any]] | None = None


def _fitting(kept: Sequence[Kept], *, ordered: bool) -> Callable[[Sequence[Any]], bool]:
    length = len(kept) + ordered
    numbers = [index for index, value in enumerate(kept) if value.kind is KeptKind.NUMBER]
    lists = [index for index, value in enumerate(kept) if goes_into_items(value.path)]

    def fits(values: Sequence[Any]) -> bool:
        if len(values) != length or (ordered and type(values[-1]) is not str):
            return False
        for index in numbers:
            value = values[index]
            if value is not None and not (type(value) in _NUMBERS and -_MAX_SUMMAND < value < _MAX_SUMMAND):
                return False
        return not lists or all(values[index] is None or type(values[index]) is list for index in lists)

    return fits


def values_compared(condition: EventCondition | ThenCondition | ComputedTraitDefinition) -> set[Kept]:
    """The values of its events that are compared later than where they come in."""
    values = {Kept(KeptKind.PROPERTY, item.path) for item in condition.where if is_deferred(item)}
    return values | {Kept(KeptKind.CONTEXT, item.path) for item in condition.context if is_deferred(item)}


def make_feed(
    event: str,
    where: Sequence[Comparison],
    context: Sequence[Comparison],
    values: Iterable[Kept],
    exclude_sources: Sequence[str] = (),
    since: Since | None = None,
    *,
    ordered: bool = False,
) -> Feed:
    """The feed of the events that pass those comparisons which can be made where they come in."""
    where = [item for item in where if not is_deferred(item)]
    context = [item for item in context if not is_deferred(item)]
    sources = sorted(set(exclude_sources))
    values = tuple(sorted(values))
    parts = [
        event,
        _content(where),
        _content(context),
        sources,
        [[value.kind.value, value.path] for value in values],
        *([["since", since.whose, since.given]] if since else []),
        *(["ordered"] if ordered else []),
    ]
    content = json.dumps(parts)
    return Feed(
        id=urlsafe_b64encode(hashlib.sha256(content.encode()).digest())[:_ID_CHARACTERS].decode(),
        content=content,
        event=event,
        kept=values,
        needs_properties=bool(where) or any(value.kind is not KeptKind.CONTEXT for value in values),
        needs_context=bool(context or sources) or any(value.kind is KeptKind.CONTEXT for value in values),
        passes=_filter(where, context, sources),
        fits=_fitting(values, ordered=ordered),
        since=since,
        ordered=ordered,
    )


def _content(comparisons: Iterable[Comparison]) -> list[Any]:
    parts = (item.model_dump(mode="json") for item in comparisons)
    return sorted(([part["path"], part["operator"], part["operand"]] for part in parts), key=json.dumps)


def compared(comparison: Comparison) -> Callable[[Any], bool]:
    """Whether an object's value at the comparison's path passes it; for items of an array, whether some does."""
    extract = extractor(comparison.path)
    holds = predicate(comparison.operator, comparison.operand)
    if not goes_into_items(comparison.path):
        return lambda source: holds(extract(source))

    def some_item_holds(source: Any) -> bool:
        items = extract(source)
        return holds(None) if items is None else any(holds(item) for item in items)

    return some_item_holds


def _filter(
    where: Sequence[Comparison], context: Sequence[Comparison], sources: Sequence[str]
) -> Callable[[Any, Any], bool] | None:
    """None: every event of the name passes."""
    of_properties = [compared(item) for item in where]
    of_context = [compared(item) for item in context]
    if sources:
        excluded, source_of = frozenset(sources), extractor(_SOURCE_PATH)

        def from_other_source(context: Any) -> bool:
            source = source_of(context)
            return type(source) is not str or source not in excluded

        of_context.append(from_other_source)
    if not of_properties and not of_context:
        return None
    if len(of_properties) == 1 and not of_context:
        only = of_properties[0]
        return lambda properties, _: only(properties)

    def passes(properties: Any, context: Any) -> bool:
        for test in of_properties:
            if not test(properties):
                return False
        return all(test(context) for test in of_context)

    return passes


def keeper(values: Sequence[Kept], keeping: Keeping) -> Callable[[Any, Any], list[Any]] | None:
    """(properties, context) -> these values as they are kept; None: there are none."""
    if not values:
        return None
    takers = [_taker(value, keeping) for value in values]
    if len(takers) == 1 and values[0].kind is not KeptKind.CONTEXT:
        only = takers[0]
        return lambda properties, _: [only(properties)]
    pairs = [(value.kind is KeptKind.CONTEXT, take) for value, take in zip(values, takers, strict=True)]
    return lambda properties, context: [take(context if outer else properties) for outer, take in pairs]


def _taker(value: Kept, keeping: Keeping) -> Extract:
    extract = extractor(value.path)
    if value.kind is KeptKind.NUMBER:
        return lambda source: _summand(extract(source))
    if goes_into_items(value.path):
        several = keeping.several
        return lambda source: several(extract(source))
    one = keeping.one
    return lambda source: one(extract(source))


def _summand(value: Any) -> int | float | None:
    number = number_of(value)
    if number is None or not -_MAX_SUMMAND < number < _MAX_SUMMAND:
        return None
    return number if -_MAX_INTEGER <= number < _MAX_INTEGER else float(number)
