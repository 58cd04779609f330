"""Conditions: `when` and `require`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.comparing import is_deferred
from app.domain.definitions_keys import refuse_other_keys
from app.domain.definitions_operators import (
    AGGREGATE_OPERATORS,
    read_aggregate_operand,
    read_comparisons,
    read_filters,
)
from app.domain.definitions_values import (
    MAX_TEXT_CHARACTERS,
    Value,
    is_key,
    nearest,
    read_duration,
    read_length,
    read_line,
    read_path,
    read_whole_number,
)
from app.domain.definitions_warnings import (
    warn_about_compound,
    warn_about_event,
    warn_about_then,
    warn_about_trait,
)
from schemas.audience import (
    Aggregate,
    AggregateFunction,
    AllOf,
    AnyOf,
    AudienceReference,
    Condition,
    CountBound,
    EventCondition,
    Not,
    Operator,
    Quantifier,
    ThenCondition,
    TraitCondition,
    UsersCondition,
    Window,
)

if TYPE_CHECKING:
    from schemas.audience import Comparison, TraitReference

MAX_CONDITION_DEPTH = 32
MAX_CONDITIONS = 1_000
# A profile keeps that many instants for `at_least`.
MAX_COUNT = 1_000_000

_KINDS: Final = ("event", "trait", "audience", "all", "any", "not", "users")
_AGGREGATES: Final = tuple(function.value for function in AggregateFunction)
_EVENT_KEYS: Final = (
    "event",
    "count",
    "within",
    "between",
    "where",
    "context",
    "exclude_sources",
    "then",
    *_AGGREGATES,
)
_NO_EVENTS: Final = (
    "an account has no events of its own: ask for those of its users, as in `users: {any: {event: ...}}`"
)
_QUANTIFIERS: Final = tuple(quantifier.value for quantifier in Quantifier)
_THEN_KEYS: Final = ("event", "count", "within", "where", "context")
_BETWEEN_AGES: Final = 2


class ConditionReader:
    """Reads the conditions of one audience, and limits how many there are."""

    def __init__(self) -> None:
        self._conditions = 0
        # Whether what is read is about an account; if not, whether about one of its users.
        self._of_account = False
        self._of_users = False
        # References and conditions on traits that are an account's own, with where they are written.
        self.account_references: list[tuple[Value, str]] = []
        self.account_traits: list[tuple[Value, TraitCondition]] = []
        # Keys of other audiences, with where they are written.
        self.references: list[tuple[Value, str]] = []
        # Conditions on traits, with where they are written.
        self.trait_conditions: list[tuple[Value, TraitCondition]] = []

    def read_of_account(self, value: Value) -> Condition | None:
        """As `read`, of a condition about accounts."""
        self._of_account = True
        try:
            return self.read(value)
        finally:
            self._of_account = False

    def read(self, value: Value, depth: int = 1) -> Condition | None:
        """The condition at `value`, or None when a problem with it or within it was reported."""
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            if self._conditions == MAX_CONDITIONS + 1:
                value.refuse(f"an audience may have at most {MAX_CONDITIONS:,} conditions")
            return None
        if depth > MAX_CONDITION_DEPTH:
            value.refuse(f"conditions may nest at most {MAX_CONDITION_DEPTH} deep")
            return None
        if value.is_list:
            value.refuse("several conditions go under `all:` or `any:`")
            return None
        entries = value.entries("a condition such as {event: Order Completed}")
        kind = None if entries is None else _kind(value, entries)
        if entries is None or kind is None:
            return None
        if kind == "event":
            if self._of_account:
                value.refuse(_NO_EVENTS)
                return None
            return _read_event(value, entries)
        if kind == "trait":
            trait = _read_trait(value, entries)
            if trait is not None:
                found = self.account_traits if self._of_account else self.trait_conditions
                found.append((value, trait))
            return trait
        built = [kind] if kind in _KINDS else []
        if not refuse_other_keys(entries, built):
            return None
        if kind == "audience":
            return self._read_reference(entries[kind])
        if kind == "users":
            return self._read_users(entries[kind], depth)
        return self._read_compound(kind, entries[kind], depth)

    def _read_reference(self, value: Value) -> AudienceReference | None:
        key = read_line(value, "the key of an audience", MAX_TEXT_CHARACTERS)
        if key is None:
            return None
        if not is_key(key):
            value.expected("the key of an audience, of a-z, 0-9 and _")
            return None
        self.references.append((value, key))
        if self._of_account:
            self.account_references.append((value, key))
        return AudienceReference(audience=key)

    def _read_users(self, value: Value, depth: int) -> UsersCondition | None:
        if not self._of_account:
            value.refuse(
                "`users` is here within `users`: these are conditions of one user"
                if self._of_users
                else "`users` belongs to the `when` of an audience with `entity: account`"
            )
            return None
        what = "one of {any: CONDITION}, {all: CONDITION} and {none: CONDITION}, of the users of an account"
        entries = value.entries(what)
        if entries is None or not refuse_other_keys(entries, _QUANTIFIERS):
            return None
        if len(entries) != 1:
            value.refuse(f"expected {what}")
            return None
        [(quantifier, inner)] = entries.items()
        self._of_account, self._of_users = False, True
        condition = self.read(inner, depth + 1)
        self._of_account, self._of_users = True, False
        return (
            None
            if condition is None
            else UsersCondition(quantifier=Quantifier(quantifier), condition=condition)
        )

    def _read_compound(self, kind: str, value: Value, depth: int) -> Condition | None:
        if kind == "not":
            negated = self.read(value, depth + 1)
            return None if negated is None else Not(condition=negated)
        items = value.items("a list of conditions")
        if items is not None and not items:
            value.refuse("expected at least one condition in the list")
        read = [self.read(item, depth + 1) for item in items or ()]
        conditions = [condition for condition in read if condition is not None]
        if not conditions or len(conditions) < len(read):
            return None
        compound = AllOf(conditions=conditions) if kind == "all" else AnyOf(conditions=conditions)
        warn_about_compound(value, compound)
        return compound


def _kind(value: Value, entries: dict[str, Value]) -> str | None:
    """The one key that says which kind of condition this is."""
    kinds = [kind for kind in _KINDS if kind in entries]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        named = " and ".join(f"`{kind}`" for kind in kinds)
        value.refuse(f"one condition is here as {named}: put each into a list under `all:` or `any:`")
    else:
        hints = (nearest(key, _KINDS) for key in entries)
        value.refuse(f"expected a condition: one of {', '.join(_KINDS)}{next(filter(None, hints), '')}")
    return None


def _read_trait(value: Value, entries: dict[str, Value]) -> TraitCondition | None:
    trait = read_path(entries["trait"])
    operators = {name: operand for name, operand in entries.items() if name != "trait"}
    if not operators:
        value.refuse("a trait needs an operator, such as `exists: true` or `equals: FR`")
    comparisons = read_comparisons(trait or "", operators)
    if trait is None or not comparisons:
        return None
    condition = TraitCondition(trait=trait, comparisons=comparisons)
    warn_about_trait(value, condition)
    return condition


def _read_event(value: Value, entries: dict[str, Value]) -> EventCondition | None:
    """None when a problem was reported on the way."""
    before = value.findings.reports
    refuse_other_keys(entries, _EVENT_KEYS)
    event = read_line(entries["event"], "the name of an event", MAX_TEXT_CHARACTERS)
    count = _read_count(entries["count"]) if "count" in entries else CountBound(kind="at_least", number=1)
    window = _read_window(entries)
    aggregate = _read_aggregate(value, entries)
    where = read_optional_filters(entries, "where")
    context = read_optional_filters(entries, "context")
    sources = _read_sources(entries["exclude_sources"]) if "exclude_sources" in entries else []
    then = _read_then(entries["then"]) if "then" in entries else None
    if count is not None and (
        window is not None or then is not None or any(map(is_deferred, (*where, *context)))
    ):
        _refuse_beyond_room(entries.get("count", value), count)
    if event is None or count is None or value.findings.reports > before:
        return None
    condition = EventCondition(
        event=event,
        count=count,
        window=window,
        where=where,
        context=context,
        exclude_sources=sources,
        aggregate=aggregate,
        then=then,
    )
    warn_about_event(value, condition)
    return condition


def _read_then(value: Value) -> ThenCondition | None:
    """None when a problem was reported on the way."""
    entries = value.entries("what follows, such as {event: Order Completed, within: 1d}")
    if entries is None:
        return None
    before = value.findings.reports
    hint = "; what follows has its event, count, within, where and context"
    if "then" in entries:
        entries.pop("then").refuse(f"`then` is not nested{hint}")
    refuse_other_keys(entries, _THEN_KEYS, otherwise=hint)
    if "event" not in entries:
        value.refuse("`event` is missing: the event that follows, or does not")
        return None
    event = read_line(entries["event"], "the name of an event", MAX_TEXT_CHARACTERS)
    count = _read_count(entries["count"]) if "count" in entries else CountBound(kind="at_least", number=1)
    window = _read_window({key: entries[key] for key in ("within",) if key in entries})
    where = read_optional_filters(entries, "where", child=True)
    context = read_optional_filters(entries, "context", child=True)
    if event is None or count is None or value.findings.reports > before:
        return None
    then = ThenCondition(
        event=event, count=count, within_ms=window.far_ms if window else None, where=where, context=context
    )
    warn_about_then(value, then)
    return then


def read_optional_filters(entries: dict[str, Value], key: str, *, child: bool = False) -> list[Comparison]:
    """The comparisons under `key`, none when it is not there or a problem with them was reported."""
    return (read_filters(entries[key], child=child) or []) if key in entries else []


def _read_count(value: Value) -> CountBound | None:
    what = "one bound: {at_least: N}, {at_most: N} or {exactly: N}"
    entries = value.entries(what)
    if entries is None or not refuse_other_keys(entries, ("at_least", "at_most", "exactly"), what="bound"):
        return None
    if len(entries) != 1:
        value.refuse(f"expected {what}, got {len(entries)} bounds")
        return None
    for kind in ("at_least", "at_most", "exactly"):
        if kind in entries:
            number = read_whole_number(entries[kind], MAX_COUNT)
            return None if number is None else CountBound(kind=kind, number=number)
    return None


def _refuse_beyond_room(value: Value, count: CountBound) -> None:
    """Of events that are counted one by one: one more than the bound may have to be seen."""
    most = value.findings.profile_events
    if count.number >= most:
        value.refuse(
            f"within a window, before `then` and compared with a trait or the clock at most {most - 1:,} events are counted "
            "(AUDIENCE_SYNC_PROFILE_EVENTS)"
        )


def _read_window(entries: dict[str, Value]) -> Window | None:
    if "within" in entries and "between" in entries:
        entries["between"].refuse("`within` and `between` are two ways to say when: keep one")
        return None
    if "between" in entries:
        return _read_between(entries["between"])
    if "within" not in entries:
        return None
    far = read_length(entries["within"])
    return Window(far_ms=far) if far else None


def _read_between(value: Value) -> Window | None:
    what = "two ages, the far one first, such as [7d, 1d]"
    items = value.items(what)
    if items is None:
        return None
    if len(items) != _BETWEEN_AGES:
        value.refuse(f"expected {what}, got {len(items)} values")
        return None
    far, near = (read_duration(item) for item in items)
    if far is None or near is None:
        return None
    if far <= near:
        value.refuse(f"expected {what}: the first must be greater than the second")
        return None
    return Window(far_ms=far, near_ms=near)


def _read_aggregate(value: Value, entries: dict[str, Value]) -> Aggregate | None:
    functions = [name for name in _AGGREGATES if name in entries]
    if len(functions) > 1:
        value.refuse(f"a condition has one of {', '.join(_AGGREGATES)}: use `all:` for several")
        return None
    if not functions:
        return None
    aggregate = entries[functions[0]]
    what = "a property and an operator, such as {property: revenue, at_least: 500}"
    parts = aggregate.entries(what)
    operators = [operator for operator in Operator if operator in AGGREGATE_OPERATORS]
    if parts is None or not refuse_other_keys(parts, ("property", *operators), what="operator"):
        return None
    if "property" not in parts or len(parts) == 1:
        aggregate.refuse(f"expected {what}")
        return None
    path = read_path(parts["property"], one_value=True)
    comparisons: list[tuple[Operator, float | TraitReference]] = []
    for operator in operators:
        operand = read_aggregate_operand(parts[operator]) if operator in parts else None
        if operand is not None:
            comparisons.append((operator, operand))
    if path is None or len(comparisons) < len(parts) - 1:
        return None
    return Aggregate(function=AggregateFunction(functions[0]), property_path=path, comparisons=comparisons)


def _read_sources(value: Value) -> list[str]:
    items = value.items("a list of source ids, such as [src_9]") or []
    ids = [read_line(item, "a source id", MAX_TEXT_CHARACTERS) for item in items]
    return sorted({source for source in ids if source is not None})
