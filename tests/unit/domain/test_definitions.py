"""What is written becomes which definition."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.domain.definitions import DefinitionSet, Document, parse_definitions, published_form, published_forms
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
    Comparison,
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

ONCE = CountBound(kind="at_least", number=1)


def parse(*texts: str) -> DefinitionSet:
    return parse_definitions([Document(f"{index}.yaml", text) for index, text in enumerate(texts)])


def audience(text: str) -> AudienceDefinition:
    """The one audience of `text`, which is written without the list around it, beside one that it may refer to."""
    other = "  - {name: Another, key: b_1, source: engage}\n"
    definitions = parse("audiences:\n  - " + text.replace("\n", "\n    ") + "\n" + other)
    assert len(definitions.audiences) == 2
    return definitions.audiences[0]


def condition(text: str) -> Condition:
    when = audience(f"name: A\nwhen: {text}").when
    assert when is not None
    return when


def compared(path: str, operator: Operator, operand: Any) -> Comparison:
    return Comparison(path=path, operator=operator, operand=operand)


def event(**parts: Any) -> EventCondition:
    return EventCondition.model_validate({"event": "E", "count": ONCE, **parts})


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


@pytest.mark.parametrize(
    ("when", "warned"),
    [
        ("{trait: vip, equals: true}", True),
        ("{not: {any: [{trait: x, equals: {trait: vip.$}}]}}", True),
        ("{event: E, where: {p: {trait: vip}}}", True),
        ("{event: E, context: {p: {at_least: {trait: vip}}}}", True),
        ("{event: E, sum: {property: p, at_least: {trait: vip}}}", True),
        ("{event: E, then: {event: F, where: {p: {trait: vip}}}}", True),
        (r"{trait: vip\.x, exists: true}", False),
        ("{event: vip, where: {vip: vip}}", False),
    ],
)
def test_an_identify_trait_that_a_computed_one_hides_is_warned_about(when: str, warned: bool) -> None:
    traits = "traits:\n  vip: {event: E, last: vip}\n  unused: {event: E, last: p}"
    found = parse(f"audiences: [{{name: A, when: {when}}}]\n{traits}").warnings
    said = "0.yaml:3: traits.vip: `trait: vip` is this computed trait; a trait of that name in identify calls is ignored"
    assert found == ((said,) if warned else ())
    require = f"audiences: [{{name: A, source: engage, require: {when}}}]\n{traits}"
    assert bool(parse(require).warnings) is warned


def test_a_computed_trait_that_another_asks_for_hides_one_too() -> None:
    traits = "traits:\n  a: {event: E, count: true, where: {p: {trait: b}}}\n  b: {event: E, last: p}"
    found = parse(f"audiences: [{{name: A, source: engage}}]\n{traits}").warnings
    assert [line.partition(": `")[0] for line in found] == ["0.yaml:4: traits.b"]


class TestDefaults:
    def test_key_by_key(self) -> None:
        text = """
        defaults: {include_anonymous: true, description: D, facebook: {mode: dry_run, ad_account_id: act_1}}
        audiences:
          - {name: A, when: {event: E}}
          - {name: B, when: {event: F}, include_anonymous: false, facebook: {mode: live}}
        """
        first, second = parse(text).audiences
        assert (first.include_anonymous, first.description) == (True, "D")
        assert (second.include_anonymous, second.description) == (False, "D")
        assert first.destinations[0].mode is DeliveryMode.DRY_RUN
        assert second.destinations[0].mode is DeliveryMode.LIVE
        assert second.destinations[0].ad_account_id == "act_1"

    def test_mapping_goes_into_each_of_a_list(self) -> None:
        text = """
        defaults: {facebook: {mode: dry_run}}
        audiences: [{name: A, source: engage, facebook: [{ad_account_id: act_1}, {ad_account_id: 2, mode: live}]}]
        """
        modes = [destination.mode for destination in parse(text).audiences[0].destinations]
        assert modes == [DeliveryMode.DRY_RUN, DeliveryMode.LIVE]

    def test_list_replaces_list(self) -> None:
        text = """
        defaults: {facebook: [{ad_account_id: act_1, mode: dry_run}, {ad_account_id: act_2}]}
        audiences:
          - {name: A, source: engage, facebook: [{ad_account_id: act_3}]}
          - {name: B, source: engage}
        """
        first, second = parse(text).audiences
        assert first.destinations == [FacebookDestination(id="a", ad_account_id="act_3")]
        assert [destination.id for destination in second.destinations] == ["b@act_1", "b@act_2"]

    def test_required_of_both(self) -> None:
        text = """
        defaults: {require: {event: D}}
        audiences:
          - {name: A, when: {event: E}}
          - {name: B, source: engage, require: {event: F}}
        """
        first, second = parse(text).audiences
        assert first.require == event(event="D")
        assert second.require == AllOf(conditions=[event(event="D"), event(event="F")])

    def test_whole_condition_is_replaced(self) -> None:
        text = (
            "{defaults: {when: {event: D, within: 1d}}, audiences: [{name: A}, {name: B, when: {event: E}}]}"
        )
        first, second = parse(text).audiences
        assert first.when == event(event="D", window=Window(far_ms=DAY_MS))
        assert second.when == event()

    def test_of_one_file_hold_for_all(self) -> None:
        read = parse("audiences: [{name: A, source: engage}]", "defaults: {enabled: false}")
        assert [one.enabled for one in read.audiences] == [False]


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


@pytest.mark.parametrize("text", ["", "audiences:", "audiences: []\ndefaults:\ntraits: {}", "{}"])
def test_no_audience_is_a_warning(text: str) -> None:
    assert parse(text) == DefinitionSet((), ("no audience is defined",))


NEVER = "must be missing and have a value at once"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{event: E, count: {at_least: 0}}", "holds for everyone"),
        ("{event: E, count: {at_least: 0}, sum: {property: p, at_least: 1}}", None),  # the sum decides
        ("{event: E, count: {exactly: 0}, sum: {property: p, at_most: 1}}", "no sum of no events"),
        ("{event: E, count: {at_most: 0}, min: {property: p, at_most: 1}}", "no min of no events"),
        ("{event: E, count: {at_most: 1}, min: {property: p, at_most: 1}}", None),
        ("{event: E, count: {exactly: 0}}", None),
        ("{trait: t, exists: false, equals: x}", NEVER),
        ("{trait: t, exists: false, none_of: [x]}", NEVER),
        ("{trait: t, exists: false, not_contains: x}", None),  # holds for a missing value
        ("{trait: t, exists: true, equals: x}", None),
        ("{trait: t, exists: false}", None),
        ("{trait: t.$, exists: false, equals: x}", None),  # one item may be null and another x
        ("{event: E, where: {t: {exists: false, equals: x}}}", NEVER),
        ("{event: E, context: {t: {exists: false, equals: x}}}", NEVER),
        ("{event: E, where: {t: {exists: false}, u: x}}", None),  # of two properties
        ("{trait: email, contains: '@test.com'}", "`email` identifies people"),
        ("{trait: work.Phone_Number, exists: true}", "`work.Phone_Number` identifies people"),
        ("{event: E, where: {ship_to: {trait: last_name}}}", "`last_name` identifies people"),
        ("{event: E, where: {email_campaign: x}}", None),
        ("{event: E, then: {event: F, where: {email: {same_as: x}}}}", "`email` identifies people"),
        ("{event: E, then: {event: F, where: {x: {same_as: email}}}}", "`email` identifies people"),
        ("{event: E, then: {event: F, where: {x: {exists: false, equals: 1}}}}", NEVER),
        ("{event: E, then: {event: F, count: {at_least: 0}}}", "`at_least: 0` holds whatever follows"),
        ("{trait: t, within_last: 0d}", "never true: `within_last` no time"),
        ("{trait: t, before_last: 0d}", None),  # come by now
    ],
)
def test_warnings(text: str, said: str | None) -> None:
    warnings = parse(f"audiences:\n  - name: A\n    when: {text}").warnings
    if said is None:
        assert warnings == ()
    else:
        assert len(warnings) == 1
        assert re.match(r"0\.yaml:3: audiences\[0\]\.when(\.then)?: ", warnings[0])
        assert said in warnings[0]


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("last: email", "email"),
        ("first: billing.last_name", "billing.last_name"),
        ("unique_list: contacts.$.phone", "contacts.$.phone"),
        ("min: phone", "phone"),  # digits alone are a number
        ("last: email_campaign", None),
        ("count: true", None),
    ],
)
def test_identifiers_that_a_computed_trait_keeps_are_warned_about(function: str, path: str | None) -> None:
    found = parse(
        f"traits: {{t: {{event: E, {function}}}}}\naudiences: [{{name: A, when: {{event: E}}}}]"
    ).warnings
    said = (
        f"0.yaml:1: traits.t: `{path}` identifies people; a computed trait keeps it as it is, without hashing"
    )
    assert found == (() if path is None else (said,))


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("when: {not: {any: [{event: E, between: [9d, 7d]}, {event: E}]}}, lookback: 7d", True),
        ("when: {event: E, between: [9d, 6d]}, lookback: 7d", False),
        ("source: engage, require: {all: [{event: E, between: [9d, 8d]}]}, lookback: 7d", True),
        ("when: {event: E, between: [9d, 8d]}", False),
    ],
)
def test_a_window_that_the_lookback_empties_is_warned_about(text: str, warned: bool) -> None:
    found = parse(f"audiences: [{{name: A, {text}}}]").warnings
    assert ["as `lookback` ends before" in warning for warning in found] == [True] * warned


def test_twins_are_warned_about() -> None:
    text = """
        audiences:
          - {name: A, when: {event: E, where: {a: 1, b: 2}}, facebook: {audience_id: 7}}
          - {name: B, when: {event: E, where: {b: 2, a: 1}}, facebook: {audience_id: 7}}
          - {name: C, when: {event: E, where: {b: 2, a: 1}}, include_anonymous: true}
          - {name: C2, when: {event: E, where: {b: 2, a: 1}}, lookback: 1d}
          - {name: D, source: engage}
          - {name: E, source: engage}
        """
    assert parse(text).warnings == (
        "0.yaml:4: audiences[1]: `b` has the same condition as `a`",
        "0.yaml:4: audiences[1]: `a` is delivered to the same Facebook audience: each removes the other's people",
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
