"""What is written becomes which definition."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.definitions import published_form, published_forms
from app.domain.durations import DAY_MS, HOUR_MS
from app.errors import InvalidInputError
from schemas.audience import (
    Aggregate,
    AggregateFunction,
    AllOf,
    AnyOf,
    AudienceDefinition,
    AudienceReference,
    AudienceSource,
    ComputedTraitDefinition,
    Condition,
    CountBound,
    DeliveryMode,
    EventCondition,
    FacebookDestination,
    Not,
    Operator,
    ParentReference,
    ThenCondition,
    TraitCondition,
    TraitReference,
    Window,
)
from tests.unit.domain.written_definitions import ONCE, audience, compared, condition, event, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{event: E}", event()),
        ("{event: Order Completed}", event(event="Order Completed")),
        ("{event: 404}", event(event="404")),  # a number is its text where text is needed
        ("{event: NO}", event(event="NO")),
        ("{event: E, count: {at_least: 3}}", event(count=CountBound(kind="at_least", number=3))),
        ("{event: E, count: {at_most: 2}}", event(count=CountBound(kind="at_most", number=2))),
        ("{event: E, count: {exactly: 0}}", event(count=CountBound(kind="exactly", number=0))),
        ("{event: E, within: 30d}", event(window=Window(far_ms=30 * DAY_MS))),
        ("{event: E, within: PT12H}", event(window=Window(far_ms=12 * HOUR_MS))),
        ("{event: E, between: [7d, 24h]}", event(window=Window(far_ms=7 * DAY_MS, near_ms=DAY_MS))),
        ("{event: E, between: [7d, 0s]}", event(window=Window(far_ms=7 * DAY_MS, near_ms=0))),
        ("{event: E, exclude_sources: [s2, s1, s2, 9]}", event(exclude_sources=["9", "s1", "s2"])),
        ("{event: E, exclude_sources: []}", event()),
        (
            "{event: E, sum: {property: cart.total, at_least: 500}}",
            event(
                aggregate=Aggregate(
                    function=AggregateFunction.SUM,
                    property_path="cart.total",
                    comparisons=[(Operator.AT_LEAST, 500.0)],
                )
            ),
        ),
        (
            "{event: E, average: {property: p, less_than: '9.5', greater_than: {trait: usual}}}",
            event(
                aggregate=Aggregate(
                    function=AggregateFunction.AVERAGE,
                    property_path="p",
                    comparisons=[
                        (Operator.GREATER_THAN, TraitReference(trait="usual")),
                        (Operator.LESS_THAN, 9.5),
                    ],
                )
            ),
        ),
        (
            "{event: E, min: {property: p, equals: 0}}",
            event(
                aggregate=Aggregate(
                    function=AggregateFunction.MIN, property_path="p", comparisons=[(Operator.EQUALS, 0.0)]
                )
            ),
        ),
        (
            "{event: E, max: {property: p, not_equals: -1.5}}",
            event(
                aggregate=Aggregate(
                    function=AggregateFunction.MAX,
                    property_path="p",
                    comparisons=[(Operator.NOT_EQUALS, -1.5)],
                )
            ),
        ),
        ("{event: E, context: {page.url: x}}", event(context=[compared("page.url", Operator.EQUALS, "x")])),
        (
            "{event: E, then: {event: F, within: 1d, where: {a: {same_as: b}}, context: {c: {not_equals: {same_as: d}}}}}",
            event(
                then=ThenCondition(
                    event="F",
                    count=ONCE,
                    within_ms=DAY_MS,
                    where=[compared("a", Operator.EQUALS, ParentReference(same_as="b"))],
                    context=[compared("c", Operator.NOT_EQUALS, ParentReference(same_as="d"))],
                )
            ),
        ),
        (
            "{event: E, then: {event: F, count: {exactly: 0}}}",
            event(then=ThenCondition(event="F", count=CountBound(kind="exactly", number=0))),
        ),
        (
            "{trait: t, exists: true}",
            TraitCondition(trait="t", comparisons=[compared("t", Operator.EXISTS, True)]),
        ),
        (
            "{trait: a.b, at_least: 1, not_equals: 5}",  # in one order, whatever was written first
            TraitCondition(
                trait="a.b",
                comparisons=[compared("a.b", Operator.NOT_EQUALS, 5), compared("a.b", Operator.AT_LEAST, 1)],
            ),
        ),
        (
            "{any: [{event: E}, {not: {audience: b_1}}]}",
            AnyOf(conditions=[event(), Not(condition=AudienceReference(audience="b_1"))]),
        ),
        ("{all: [{event: E}]}", AllOf(conditions=[event()])),
        (
            "{any: [{event: E}, {not: {event: F}}]}",
            AnyOf(conditions=[event(), Not(condition=event(event="F"))]),
        ),
    ],
)
def test_conditions(text: str, expected: Condition) -> None:
    assert condition(text) == expected


@pytest.mark.parametrize(
    ("text", "operator", "operand"),
    [
        ("5", Operator.EQUALS, 5),
        ("1.0", Operator.EQUALS, 1.0),
        ("'5'", Operator.EQUALS, "5"),
        ("true", Operator.EQUALS, True),
        ("'true'", Operator.EQUALS, "true"),
        ("NO", Operator.EQUALS, "NO"),
        ("01234", Operator.EQUALS, "01234"),
        ("2026-01-31", Operator.EQUALS, "2026-01-31"),
        ("''", Operator.EQUALS, ""),
        ("{trait: home}", Operator.EQUALS, TraitReference(trait="home")),
        ("{equals: {trait: a.b}}", Operator.EQUALS, TraitReference(trait="a.b")),
        ("{equals: false}", Operator.EQUALS, False),
        ("{not_equals: x}", Operator.NOT_EQUALS, "x"),
        ("{greater_than: '10'}", Operator.GREATER_THAN, 10),  # a text that is a number is one
        ("{less_than: -0.5}", Operator.LESS_THAN, -0.5),
        ("{at_least: {trait: a}}", Operator.AT_LEAST, TraitReference(trait="a")),
        ("{at_most: 1e3}", Operator.AT_MOST, 1000.0),
        ("{any_of: [NO, SE, 5, true]}", Operator.ANY_OF, ["NO", "SE", 5, True]),
        ("{any_of: {trait: list}}", Operator.ANY_OF, TraitReference(trait="list")),
        ("{none_of: [x]}", Operator.NONE_OF, ["x"]),
        ("{contains: x}", Operator.CONTAINS, "x"),
        ("{contains: [x, y]}", Operator.CONTAINS_ANY_OF, ["x", "y"]),
        ("{not_contains: x}", Operator.NOT_CONTAINS, "x"),
        ("{contains_any_of: [x, 007, 7]}", Operator.CONTAINS_ANY_OF, ["x", "007", "7"]),  # as written
        ("{starts_with: 33}", Operator.STARTS_WITH, "33"),
        ("{ends_with: {trait: a}}", Operator.ENDS_WITH, TraitReference(trait="a")),
        ("{exists: false}", Operator.EXISTS, False),
        ("{before: 2026-01-31}", Operator.BEFORE, "2026-01-31T00:00:00Z"),
        ("{after: '2026-01-31T01:00:00.5+01:00'}", Operator.AFTER, "2026-01-31T00:00:00.500Z"),
        ("{before: {trait: t}}", Operator.BEFORE, TraitReference(trait="t")),
        ("{within_last: 7d}", Operator.WITHIN_LAST, 7 * DAY_MS),
        ("{before_last: PT12H}", Operator.BEFORE_LAST, 12 * HOUR_MS),
        ("{within_next: 1w}", Operator.WITHIN_NEXT, 7 * DAY_MS),
        ("{after_next: {trait: t}}", Operator.AFTER_NEXT, TraitReference(trait="t")),
    ],
)
def test_comparisons(text: str, operator: Operator, operand: Any) -> None:
    expected = compared("p", operator, operand)
    read = condition(f"{{event: E, where: {{p: {text}}}}}")
    assert isinstance(read, EventCondition)
    assert read.where == [expected]
    assert repr(read.where) == repr([expected])  # 5 is not 5.0, and 1 is not true


def test_where_is_in_one_order() -> None:
    texts = ["{b: 1, a: {less_than: 9, at_least: 1}}", "{a: {at_least: 1, less_than: 9}, b: 1}"]
    first, second = (condition(f"{{event: E, where: {text}}}") for text in texts)
    assert first == second
    assert isinstance(first, EventCondition)
    assert [one.path for one in first.where] == ["a", "a", "b"]


def test_least_audience() -> None:
    assert audience("name: Order Completed Last 30Days\nwhen: {event: E}") == AudienceDefinition(
        key="order_completed_last_30days",
        name="Order Completed Last 30Days",
        when=event(),
        destinations=[FacebookDestination(id="order_completed_last_30days")],
    )


def test_whole_audience() -> None:
    text = """
name: VIPs of Norway
key: vip_no
description: Those who count
source: engage
include_anonymous: true
include_history: false
created_at: 2026-01-31T01:00:00+01:00
lookback: 90d
enabled: false
require: {trait: opt_in, equals: true}
facebook:
  ad_account_id: 123
  audience_id: 120250519929310084
  name: VIPs
  description: "Of Norway"
  mode: dry_run
  customer_file_source: BOTH_USER_AND_PARTNER_PROVIDED
"""
    assert audience(text.strip()) == AudienceDefinition(
        key="vip_no",
        name="VIPs of Norway",
        description="Those who count",
        source=AudienceSource.ENGAGE,
        include_anonymous=True,
        include_history=False,
        created_at=1_769_817_600_000,
        lookback_ms=90 * DAY_MS,
        enabled=False,
        require=TraitCondition(trait="opt_in", comparisons=[compared("opt_in", Operator.EQUALS, True)]),
        destinations=[
            FacebookDestination(
                id="vip_no",
                ad_account_id="act_123",
                audience_id="120250519929310084",  # beyond 53 bits, and every digit kept
                name="VIPs",
                description="Of Norway",
                mode=DeliveryMode.DRY_RUN,
                customer_file_source="BOTH_USER_AND_PARTNER_PROVIDED",
            )
        ],
    )


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("{}", ["a"]),
        ("{ad_account_id: act_1}", ["a"]),
        ("[]", []),  # computed, delivered nowhere
        ("[{ad_account_id: act_1}]", ["a"]),  # one in a list is still one
        ("[{ad_account_id: act_1}, {ad_account_id: 2}]", ["a@act_1", "a@act_2"]),
    ],
)
def test_destination_ids(text: str, ids: list[str]) -> None:
    read = audience(f"name: A\nwhen: {{event: E}}\nfacebook: {text}")
    assert [destination.id for destination in read.destinations] == ids


@pytest.mark.parametrize(
    "text",
    [
        "entity: user",
        "include_history: true",
        "facebook: {sync_mode: mirror, external_id: plain, value_based: false}",
    ],
)
def test_what_is_done_anyway_may_be_said(text: str) -> None:
    assert audience(f"name: A\nwhen: {{event: E}}\n{text}") == audience("name: A\nwhen: {event: E}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{event: E, count: true}", {"function": "count"}),
        ("{event: E, sum: cart.total, within: 30d}", {"function": "sum", "property_path": "cart.total", "within_ms": 30 * DAY_MS}),
        ("{event: E, average: p, session: 30m}", {"function": "average", "property_path": "p", "session_ms": HOUR_MS // 2}),
        ("{event: E, min: p}", {"function": "min", "property_path": "p"}),
        ("{event: E, max: p}", {"function": "max", "property_path": "p"}),
        ("{event: E, most_frequent: a.$.b}", {"function": "most_frequent", "property_path": "a.$.b", "at_least": 2}),
        ("{event: E, most_frequent: p, at_least: 1}", {"function": "most_frequent", "property_path": "p", "at_least": 1}),
        ("{event: E, first: p}", {"function": "first", "property_path": "p"}),
        (
            "{event: E, last: p, where: {a: 1}, context: {c: {trait: t}}}",
            {
                "function": "last",
                "property_path": "p",
                "where": [compared("a", Operator.EQUALS, 1)],
                "context": [compared("c", Operator.EQUALS, TraitReference(trait="t"))],
            },
        ),
        ("{event: E, unique_list: p}", {"function": "unique_list", "property_path": "p"}),
        ("{event: E, unique_list_count: p}", {"function": "unique_list_count", "property_path": "p"}),
    ],
)  # fmt: skip
def test_computed_traits(text: str, expected: dict[str, Any]) -> None:
    read = parse(f"audiences: [{{name: A, source: engage}}]\ntraits: {{k-1: {text}}}")
    assert read.traits == (ComputedTraitDefinition.model_validate({"key": "k-1", "event": "E", **expected}),)
    assert read.warnings == ()
    [trait] = read.traits
    assert ComputedTraitDefinition.model_validate(published_form(trait)) == trait
    assert published_forms(read)["traits.k-1"] == published_form(trait)


def test_files_are_one_set_in_order() -> None:
    read = parse("audiences: [{name: B, source: engage}]", "", "audiences: [{name: A, source: engage}]")
    assert [one.key for one in read.audiences] == ["b", "a"]
    assert read.warnings == ()


def test_json_is_read() -> None:
    read = parse(
        '{"audiences":[{"name":"A","when":{"event":"E","where":{"x":null,"y":1}}}]}'.replace("null", "2")
    )
    assert read.audiences[0].when == event(
        where=[compared("x", Operator.EQUALS, 2), compared("y", Operator.EQUALS, 1)]
    )


class TestPublishedForm:
    def test_reads_back(self) -> None:
        text = """
        audiences:
          - name: A
            require: {trait: t, any_of: [1, 1.5, "1", true]}
            when:
              any:
                - not: {all: [{event: E, within: 1d, sum: {property: p, at_least: 5, at_most: {trait: t}}}]}
                - {audience: b}
                - {event: F, then: {event: G, within: 1d, where: {a: {same_as: b}, c: {within_last: 2d}}}}
                - {event: F, between: [2d, 1d], where: {p: {trait: q}}, context: {c: x}, exclude_sources: [s]}
            facebook: [{ad_account_id: 1, mode: dry_run}, {ad_account_id: 2}]
          - {name: B, source: engage, enabled: false, include_history: false, created_at: 2026-01-31, lookback: 1d}
        """
        for definition in parse(text).audiences:
            read = AudienceDefinition.model_validate(published_form(definition))
            assert read == definition
            assert repr(read) == repr(definition)

    def test_leaves_defaults_out(self) -> None:
        published = published_form(audience("name: A\nwhen: {event: E}"))
        assert published == {
            "key": "a",
            "name": "A",
            "when": {"kind": "event", "event": "E", "count": {"kind": "at_least", "number": 1}},
            "destinations": [{"id": "a"}],
        }

    def test_spelling_does_not_matter(self) -> None:
        short = audience("name: A\nwhen: {event: E, within: 1d, where: {b: x, a: {contains: [y]}}}")
        long = audience(
            "enabled: true\nname: A\nkey: a\nwhen:\n  count: {at_least: 1}\n  within: PT24H\n  event: E\n"
            '  where: {"a": {contains_any_of: ["y"]}, "b": {equals: "x"}}\nfacebook: {mode: live}'
        )
        assert published_form(short) == published_form(long)


def test_deepest_and_most_conditions() -> None:
    nested = "{not: " * 31 + "{event: E}" + "}" * 31
    assert parse(f"audiences: [{{name: A, when: {nested}}}]").audiences
    many = ",".join(["{event: E}"] * 999)
    assert parse(f"audiences: [{{name: A, when: {{all: [{many}]}}}}]").audiences
    with pytest.raises(InvalidInputError, match="at most 32 deep"):
        parse(f"audiences: [{{name: A, when: {{not: {nested}}}}}]")
    with pytest.raises(InvalidInputError, match="at most 1,000 conditions") as caught:
        parse(f"audiences: [{{name: A, when: {{all: [{many},{{event: E}},{{event: E}}]}}}}]")
    assert len(str(caught.value).splitlines()) == 1
