from __future__ import annotations

import pytest

from app.domain.condition_words import describe_condition, describe_trait
from app.domain.definitions import Document, parse_definitions
from schemas.audience import (
    Comparison,
    ComputedFunction,
    ComputedTraitDefinition,
    Operator,
    ParentReference,
    TraitCondition,
)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("{event: Order Completed, within: 30d}", "Order Completed at least 1 time within 30d"),
        ("{event: E, count: {exactly: 0}}", "E exactly 0 times"),
        ("{event: E, count: {at_most: 2}, between: [1w, 12h]}", "E at most 2 times between 7d and 12h ago"),
        ("{event: E, between: [7d, 0s]}", "E at least 1 time within 7d"),  # up to now
        (
            "{event: E, where: {a: 1, b.c: {contains: x, exists: true}}, context: {p: y}, exclude_sources: [s, r]}",
            "E at least 1 time where a is 1 and b.c contains x and b.c has a value with context p is y not from r, s",
        ),
        (
            "{event: E, sum: {property: revenue, at_least: 500, less_than: {trait: limit}}}",
            "E at least 1 time and the sum of revenue is less than the trait limit and is at least 500",
        ),
        ("{trait: t, any_of: [NO, 1, 1.5, true, '', ' x']}", "t is one of NO, 1, 1.5, true, '', ' x'"),
        ("{trait: t, none_of: [x]}", "t has a value other than x"),
        ("{trait: t, not_equals: {trait: u}}", "t has a value other than the trait u"),
        ("{trait: t, exists: false}", "t has no value"),
        ("{trait: t, not_contains: x}", "t does not contain x"),
        (f"{{trait: t, any_of: {list(range(12))}}}", "t is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
        ("{not: {event: E}}", "not (E at least 1 time)"),
        (
            "{all: [{event: E, within: 7d, then: {event: F, count: {exactly: 0}, within: 1d, where: {a: {same_as: b}}}}, {audience: b}]}",
            "(E at least 1 time within 7d each followed by F exactly 0 times within 1d where a is the first event's b) and in b",
        ),
        (
            "{event: E, then: {event: F, context: {c: x}}, max: {property: p, equals: 1}}",
            "E at least 1 time each followed by F at least 1 time with context c is x and the max of p is 1",
        ),
        ("{all: [{audience: b}, {not: {audience: b}}]}", "in b and not (in b)"),
        ("{trait: t, before: 2026-01-31}", "t is before 2026-01-31T00:00:00Z"),
        ("{trait: t, within_next: {trait: u}}", "t is within the next the trait u"),
        ("{all: [{event: E}, {event: F}]}", "E at least 1 time and F at least 1 time"),
        (
            "{all: [{event: E}, {any: [{event: F}, {trait: t, exists: true}]}, {not: {event: G}}]}",
            "E at least 1 time and (F at least 1 time or t has a value) and not (G at least 1 time)",
        ),
        (
            "{any: [{event: E, where: {a: x}}, {all: [{trait: t, exists: true, equals: y}]}]}",
            "(E at least 1 time where a is x) or (t is y and t has a value)",
        ),
        (r'{event: "caf\u00e9"}', "café at least 1 time"),
        (r'{trait: t, equals: "a\nb\x1b"}', r"t is 'a\nb\x1b'"),  # nothing that moves a terminal's cursor
    ],
)
def test_words(when: str, words: str) -> None:
    text = f"audiences: [{{name: A, when: {when}}}, {{name: B, source: engage}}]"
    condition = parse_definitions([Document("a.yaml", text)]).audiences[0].when
    assert condition is not None
    assert describe_condition(condition) == words


@pytest.mark.parametrize(
    ("trait", "words"),
    [
        ("{event: E, count: true, within: 30d}", "the number of E within 30d"),
        ("{event: E, sum: revenue, where: {a: 1}}", "the sum of revenue of E where a is 1"),
        ("{event: E, most_frequent: p}", "the most frequent p (at least 2 times) of E"),
        ("{event: E, most_frequent: p, at_least: 1}", "the most frequent p (at least 1 time) of E"),
        ("{event: E, last: p, context: {c: x}}", "the last p of E with context c is x"),
        ("{event: E, unique_list: p, session: 30m}", "the different values of p of E in the latest session, which ends 30m after its last event"),
    ],
)  # fmt: skip
def test_words_of_traits(trait: str, words: str) -> None:
    read = parse_definitions([Document("a.yaml", f"traits: {{t: {trait}}}")])
    assert describe_trait(read.traits[0]) == words


@pytest.mark.parametrize("function", list(ComputedFunction))
def test_every_function_has_words(function: ComputedFunction) -> None:
    path = None if function is ComputedFunction.COUNT else "p"
    trait = ComputedTraitDefinition(key="k", event="E", function=function, property_path=path)
    assert describe_trait(trait).startswith("the ")


@pytest.mark.parametrize("operator", list(Operator))
def test_every_operator_has_words(operator: Operator) -> None:
    comparison = Comparison(path="t", operator=operator, operand=86_400_000)
    words = describe_condition(TraitCondition(trait="t", comparisons=[comparison]))
    assert words.startswith("t ")
    assert ("1d" in words) is operator.value.endswith(("_last", "_next"))


def test_parent_reference() -> None:
    comparison = Comparison(path="t", operator=Operator.EQUALS, operand=ParentReference(same_as="cart_id"))
    assert (
        describe_condition(TraitCondition(trait="t", comparisons=[comparison]))
        == "t is the first event's cart_id"
    )
