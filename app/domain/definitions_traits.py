"""Computed traits: the top key `traits`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from app.domain.definitions_conditions import read_optional_filters
from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_values import (
    MAX_TEXT_CHARACTERS,
    read_boolean,
    read_length,
    read_line,
    read_path,
    read_whole_number,
)
from app.domain.definitions_warnings import warn_about_comparisons, warn_about_kept
from app.domain.yaml_nodes import shown
from schemas.audience import ComputedFunction, ComputedTraitDefinition

if TYPE_CHECKING:
    from app.domain.definitions_values import Value

MAX_AT_LEAST: Final = 1_000_000

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_FUNCTIONS: Final = tuple(function.value for function in ComputedFunction)
TRAIT_KEYS: Final = ("event", *_FUNCTIONS, "where", "context", "within", "session", "at_least")
# Of the items of an array, each is a value.
_OF_ITEMS: Final = frozenset(
    {ComputedFunction.MOST_FREQUENT, ComputedFunction.UNIQUE_LIST, ComputedFunction.UNIQUE_LIST_COUNT}
)


def read_computed_trait(key: str, value: Value) -> ComputedTraitDefinition | None:
    """The trait `key`, written at `value`; None when a problem with it was reported."""
    if not _KEY.fullmatch(key):
        value.refuse(
            f"expected a trait's key of A-Z, a-z, 0-9, _ and -, at most 200 of them, got {shown(key)}"
        )
        return None
    entries = value.entries("a computed trait such as {event: Order Completed, sum: revenue}")
    if entries is None:
        return None
    before = value.findings.reports
    refuse_other_keys(entries, TRAIT_KEYS)
    if "event" not in entries:
        value.refuse("`event` is missing: the event that the trait is computed from")
        return None
    event = read_line(entries["event"], "the name of an event", MAX_TEXT_CHARACTERS)
    function = _read_function(value, entries)
    path = _read_property(entries[function], function) if function else None
    within = read_length(entries["within"]) if "within" in entries else None
    session = read_length(entries["session"]) if "session" in entries else None
    at_least = _read_at_least(entries["at_least"], function) if "at_least" in entries else None
    where = read_optional_filters(entries, "where")
    context = read_optional_filters(entries, "context")
    if event is None or function is None or value.findings.reports > before:
        return None
    definition = ComputedTraitDefinition(
        key=key,
        event=event,
        function=function,
        property_path=path,
        where=where,
        context=context,
        within_ms=within,
        session_ms=session,
        **({} if at_least is None else {"at_least": at_least}),
    )
    for comparisons in (where, context):
        warn_about_comparisons(value, comparisons)
    warn_about_kept(value, path)
    return definition


def _read_function(value: Value, entries: dict[str, Value]) -> ComputedFunction | None:
    functions = [name for name in _FUNCTIONS if name in entries]
    if len(functions) == 1:
        return ComputedFunction(functions[0])
    value.refuse(f"a computed trait has one of {', '.join(_FUNCTIONS)}")
    return None


def _read_property(value: Value, function: ComputedFunction) -> str | None:
    """None for a count, which is of events."""
    if function is ComputedFunction.COUNT:
        if read_boolean(value) is False:
            value.expected("true")
        return None
    return read_path(value, one_value=function not in _OF_ITEMS)


def _read_at_least(value: Value, function: ComputedFunction | None) -> int | None:
    if function is not ComputedFunction.MOST_FREQUENT:
        value.refuse("`at_least` belongs to most_frequent")
        return None
    number = read_whole_number(value, MAX_AT_LEAST)
    if number == 0:
        value.refuse("what is not there is not the most frequent: expected 1 or more")
    return number
