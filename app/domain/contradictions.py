"""What can never be true, or never false, as far as that can be told from a condition alone.

Only what surely holds is found: with whatever a profile does, and at whatever time. A `not` is moved to the leaves
first; the parts of an `all` are then compared in pairs, once for every choice of the `any` among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.domain.clashes import aggregate_clash, clashes
from app.domain.condition_words import describe_condition
from app.domain.values import goes_into_items
from schemas.audience import AllOf, AnyOf, Condition, EventCondition, Not, Operator, TraitCondition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.audience import AudienceReference, Comparison, UsersCondition, Window

    _Leaf = EventCondition | TraitCondition | AudienceReference | UsersCondition

# Pairs of leaves compared for one condition; of a condition that takes more, nothing is said.
_MOST_PAIRS: Final = 5_000


@dataclass(frozen=True, slots=True)
class _Literal:
    """A leaf, or with `holds` False its opposite."""

    leaf: _Leaf
    holds: bool

    @property
    def words(self) -> str:
        text = describe_condition(self.leaf)
        return f"`{text}`" if self.holds else f"`not ({text})`"


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of these holds."""

    options: tuple[Condition, ...]
    holds: bool


def never_true(condition: Condition) -> str | None:
    """Why nobody can ever satisfy the condition; None: that is not known."""
    return _Search().clash([], [(condition, True)])


def always_true(condition: Condition) -> str | None:
    """Why everybody satisfies the condition at all times; None: that is not known."""
    return _Search().clash([], [(condition, False)])


class _Search:
    """Goes through the choices, as far as the pairs to compare allow."""

    def __init__(self) -> None:
        self._left = _MOST_PAIRS

    def clash(self, literals: list[_Literal], open_parts: list[tuple[Condition, bool]]) -> str | None:
        """Why these cannot hold together; of several choices, why the last one cannot."""
        literals, choices = list(literals), []
        parts = open_parts[::-1]
        while parts:
            condition, holds = parts.pop()
            if isinstance(condition, Not):
                parts.append((condition.condition, not holds))
            elif isinstance(condition, AllOf | AnyOf):
                if isinstance(condition, AllOf) is holds:
                    parts.extend((part, holds) for part in reversed(condition.conditions))
                else:
                    choices.append(_Choice(tuple(condition.conditions), holds))
            else:
                literals.append(_literal(condition, holds))
        self._left -= 1 + len(literals) * (len(literals) - 1) // 2
        if self._left < 0:
            return None
        found = _clash_of(literals)
        if found is not None or not choices:
            return found
        first, *others = choices
        rest = [
            (
                AnyOf(conditions=list(one.options)) if one.holds else AllOf(conditions=list(one.options)),
                one.holds,
            )
            for one in others
        ]
        for option in first.options:
            found = self.clash(literals, [(option, first.holds), *rest])
            if found is None:
                return None
        return found


def _literal(leaf: _Leaf, holds: bool) -> _Literal:
    """The opposite of `exists` is said by `exists` again."""
    if isinstance(leaf, TraitCondition) and not holds and len(leaf.comparisons) == 1:
        only = leaf.comparisons[0]
        if only.operator is Operator.EXISTS and not goes_into_items(only.path):
            flipped = only.model_copy(update={"operand": only.operand is False})
            return _Literal(leaf.model_copy(update={"comparisons": [flipped]}), holds=True)
    return _Literal(leaf, holds)


def _clash_of(literals: Sequence[_Literal]) -> str | None:
    for literal in literals:
        if (alone := _clash_alone(literal)) is not None:
            return alone
    for place, one in enumerate(literals):
        for other in literals[:place]:
            if one.leaf == other.leaf and one.holds is not other.holds:
                return f"{describe_condition(one.leaf)} must hold and not hold at once"
            if _bounds_clash(one, other) or _bounds_clash(other, one):
                return f"{other.words} and {one.words} exclude each other"
    return _traits_clash(literals)


def _clash_alone(literal: _Literal) -> str | None:
    leaf = literal.leaf
    least, most = _bounds(literal)
    if most is not None and most < 0:
        return f"{literal.words} asks for fewer than no events"
    if not literal.holds or not isinstance(leaf, EventCondition):
        return None
    found = [*clashes(leaf.where), *clashes(leaf.context)]
    if leaf.then is not None and leaf.then.count.kind != "at_most" and leaf.then.count.number > 0:
        found += [*clashes(leaf.then.where), *clashes(leaf.then.context)]
    if found and (least or leaf.aggregate is not None):
        return found[0]
    if leaf.aggregate is None:
        return None
    if most == 0:
        return f"there is no {leaf.aggregate.function} of no events"
    return aggregate_clash(leaf.aggregate, leaf.where)


def _traits_clash(literals: Sequence[_Literal]) -> str | None:
    """Of everything that is asked of one trait."""
    by_trait: dict[str, list[Comparison]] = {}
    for literal in literals:
        if isinstance(literal.leaf, TraitCondition) and literal.holds:
            by_trait.setdefault(literal.leaf.trait, []).extend(literal.leaf.comparisons)
    return next((found for compared in by_trait.values() for found in clashes(compared)), None)


# --- numbers of events --------------------------------------------------------------------------------------------


def _bounds(literal: _Literal) -> tuple[int | None, int | None]:
    """At least and at most so many events, where the literal implies that."""
    leaf = literal.leaf
    if not isinstance(leaf, EventCondition):
        return None, None
    kind, number = leaf.count.kind, leaf.count.number
    if literal.holds:
        return (number if kind != "at_most" else None), (number if kind != "at_least" else None)
    if leaf.aggregate is not None or (kind == "exactly" and number):
        return None, None
    return (number + 1, None) if kind != "at_least" else (None, number - 1)


def _bounds_clash(many: _Literal, few: _Literal) -> bool:
    """Whether `many` asks for more events than `few` allows, all of which `few` counts too."""
    least, most = _bounds(many)[0], _bounds(few)[1]
    return (
        least is not None
        and most is not None
        and least > most
        and isinstance(many.leaf, EventCondition)
        and isinstance(few.leaf, EventCondition)
        and _counts_among(many.leaf, few.leaf)
    )


def _counts_among(part: EventCondition, whole: EventCondition) -> bool:
    """Whether every event that `part` counts is one that `whole` counts."""
    return (
        part.event == whole.event
        and _is_within(part.window, whole.window)
        and all(item in part.where for item in whole.where)
        and all(item in part.context for item in whole.context)
        and set(whole.exclude_sources) <= set(part.exclude_sources)
        and whole.then in (None, part.then)
    )


def _is_within(part: Window | None, whole: Window | None) -> bool:
    if whole is None:
        return True
    return part is not None and part.far_ms <= whole.far_ms and part.near_ms >= whole.near_ms


def repeated(conditions: Sequence[Condition]) -> Iterator[Condition]:
    """Those that stand in the list before."""
    seen: set[str] = set()
    for condition in conditions:
        content = condition.model_dump_json()
        if content in seen:
            yield condition
        seen.add(content)
