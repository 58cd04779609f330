"""Operators and their operands: `{any_of: [EUR, GBP]}`, `where` and `context`, a trait's comparisons."""

from __future__ import annotations

from typing import Final

from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_values import (
    Value,
    check_path,
    read_boolean,
    read_duration,
    read_instant,
    read_number,
    read_path,
    read_scalar,
    read_text,
)
from app.domain.operators import DATE_OPERATORS, RELATIVE_OPERATORS
from schemas.audience import Comparison, Operand, Operator, ParentReference, Scalar, TraitReference

OPERATORS: Final = tuple(operator.value for operator in Operator)
NUMERIC_OPERATORS: Final = frozenset(
    {Operator.GREATER_THAN, Operator.LESS_THAN, Operator.AT_LEAST, Operator.AT_MOST}
)
# Of aggregates, which are numbers.
AGGREGATE_OPERATORS: Final = NUMERIC_OPERATORS | {Operator.EQUALS, Operator.NOT_EQUALS}

_EQUALITY = frozenset({Operator.EQUALS, Operator.NOT_EQUALS})
_TEXT = frozenset({Operator.CONTAINS, Operator.NOT_CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH})
_TEXT_LISTS = frozenset({Operator.CONTAINS, Operator.CONTAINS_ANY_OF})
_LISTS = frozenset({Operator.ANY_OF, Operator.NONE_OF})
_REFERENCES = ("trait", "same_as")


def read_filters(value: Value, *, child: bool = False) -> list[Comparison] | None:
    """The comparisons of `where` or `context`, by path and operator: their order in the file means nothing.

    `child`: they are those of a funnel's child, which may be compared with its parent.
    """
    entries = value.entries("paths with what they are compared to, such as {currency: EUR}")
    if entries is None:
        return None
    if not entries:
        value.refuse("expected at least one path; leave the key out to compare nothing")
        return None
    read = [
        read_filter(path, compared, child=child)
        for path, compared in entries.items()
        if check_path(compared, path)
    ]
    return in_order([comparison for comparisons in read for comparison in comparisons or ()])


def in_order(comparisons: list[Comparison]) -> list[Comparison]:
    """One order for comparisons that mean the same, so that equal definitions are equal."""
    order = list(Operator)
    return sorted(comparisons, key=lambda comparison: (comparison.path, order.index(comparison.operator)))


def read_filter(path: str, value: Value, *, child: bool = False) -> list[Comparison] | None:
    """What `path` is compared to; None when a problem with it was reported."""
    if value.is_null:
        value.refuse("a missing value is asked for with {exists: false}, text with quotes")
        return None
    if value.is_list:
        value.refuse("a list alone says too little: write {any_of: [...]} or {none_of: [...]}")
        return None
    if not value.is_mapping:
        scalar = read_scalar(value)
        return None if scalar is None else [_comparison(path, Operator.EQUALS, scalar)]
    entries = value.entries("operators") or {}
    if not entries:
        value.refuse("expected a value or operators, such as {any_of: [EUR, GBP]}")
        return None
    references = [name for name in _REFERENCES if name in entries]
    if not references:
        return read_comparisons(path, entries, child=child)
    if len(entries) > 1:
        reference = references[0]
        value.refuse(
            f"`{reference}` does not go beside operators: write {{equals: {{{reference}: ...}}, ...}}"
        )
        return None
    operand = _read_reference(value, child)
    return None if operand is None else [_comparison(path, Operator.EQUALS, operand)]


def read_comparisons(path: str, entries: dict[str, Value], *, child: bool = False) -> list[Comparison] | None:
    """One comparison of `path` for each operator; None as soon as one of them is wrong."""
    hint = "; a name within another is written with a dot, such as cart.total"
    fine = refuse_other_keys(entries, OPERATORS, what="operator", otherwise=hint)
    comparisons = []
    for name, value in entries.items():
        if name in OPERATORS:
            operator = Operator(name)
            operand = _read_operand(operator, value, child)
            if operator is Operator.CONTAINS and isinstance(operand, list):
                operator = Operator.CONTAINS_ANY_OF
            if operand is None:
                fine = False
            else:
                comparisons.append(_comparison(path, operator, operand))
    return in_order(comparisons) if fine else None


def read_aggregate_operand(value: Value) -> float | TraitReference | None:
    return _read_trait_reference(value) if value.is_mapping else read_number(value)


def _comparison(path: str, operator: Operator, operand: Operand) -> Comparison:
    return Comparison(path=path, operator=operator, operand=operand)


def _read_operand(operator: Operator, value: Value, child: bool) -> Operand | None:
    if operator is Operator.EXISTS:
        return read_boolean(value)
    if value.is_mapping:
        reference = _read_reference(value, child)
        if isinstance(reference, ParentReference) and operator in RELATIVE_OPERATORS:
            value.refuse(f"`{operator}` takes a duration such as 30d or {{trait: KEY}}")
            return None
        return reference
    if (
        operator in _LISTS
        or operator is Operator.CONTAINS_ANY_OF
        or (operator in _TEXT_LISTS and value.is_list)
    ):
        return _read_list(operator, value)
    if operator in NUMERIC_OPERATORS:
        return read_number(value)
    if operator in _TEXT:
        return read_text(value)
    if operator in DATE_OPERATORS:
        return read_instant(value)
    if operator in RELATIVE_OPERATORS:
        return read_duration(value)
    if value.is_list:
        value.refuse(f"`{operator}` takes one value; for several write any_of or none_of")
        return None
    if value.is_null:
        value.refuse("a missing value is asked for with {exists: false}, text with quotes")
        return None
    return read_scalar(value)


def _read_list(operator: Operator, value: Value) -> list[Scalar] | None:
    items = value.items("a list such as [EUR, GBP]")
    if items is None:
        return None
    if not items:
        value.refuse("expected at least one value in the list")
        return None
    read = [read_text(item) if operator in _TEXT_LISTS else read_scalar(item) for item in items]
    scalars = [scalar for scalar in read if scalar is not None]
    return scalars if len(scalars) == len(items) else None


def _read_reference(value: Value, child: bool) -> TraitReference | ParentReference | None:
    entries = value.entries("{trait: KEY}") or {}
    if "same_as" not in entries:
        return _read_trait_reference(value)
    if not child:
        entries["same_as"].refuse(
            "`same_as` belongs to what follows an event: to `where` or `context` under `then`"
        )
        return None
    if not refuse_other_keys(entries, ("same_as",)):
        return None
    path = read_path(entries["same_as"])
    return None if path is None else ParentReference(same_as=path)


def _read_trait_reference(value: Value) -> TraitReference | None:
    entries = value.entries("{trait: KEY}") or {}
    if not entries:
        value.refuse("expected a value or {trait: KEY}")
        return None
    if not refuse_other_keys(entries, ("trait",)) or "trait" not in entries:
        return None
    path = read_path(entries["trait"])
    return None if path is None else TraitReference(trait=path)
