"""What is wrong is said with its place, all of it at once."""

from __future__ import annotations

import pytest

from app.domain.definitions import Document, parse_definitions
from app.errors import InvalidInputError


def problems(*texts: str) -> list[str]:
    names = ["audiences.yaml", "b.yaml"]
    with pytest.raises(InvalidInputError) as caught:
        parse_definitions([Document(name, text) for name, text in zip(names, texts, strict=False)])
    return str(caught.value).splitlines()


def the_problem(when: str) -> str:
    """The one problem of a condition, without its place."""
    found = problems(f"audiences:\n  - name: A\n    when: {when}")
    assert len(found) == 1
    place, _, text = found[0].partition(": audiences[0].when")
    assert place == "audiences.yaml:3"
    return text


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("[{event: E}]", ": several conditions go under `all:` or `any:`"),
        ("E", ": expected a condition such as {event: Order Completed}, got 'E'"),
        ("", ": expected a condition such as {event: Order Completed}, got nothing"),
        ("{}", ": expected a condition: one of event, trait, audience, all, any, not"),
        ("{evnt: E}", ": expected a condition: one of event, trait, audience, all, any, not, users; did you mean `event`?"),
        ("{event: E, trait: t}", ": one condition is here as `event` and `trait`: put each into a list"),
        ("{all: []}", ".all: expected at least one condition in the list"),
        ("{any: {event: E}}", ".any: expected a list of conditions, got a mapping"),
        ("{not: [{event: E}]}", ".not: several conditions go under"),
        ("{all: [{event: E}], within: 1d}", ".within: unknown key 'within'"),
        ("{not: {any: [{event: E}, {event: E, cnt: 1}]}}", ".not.any[1].cnt: unknown key 'cnt'; did you mean `count`?"),
        ("{audience: other}", ".audience: there is no audience with the key 'other'"),
        ("{audience: A}", ".audience: expected the key of an audience, of a-z, 0-9 and _, got 'A'"),
        ("{audience: [a]}", ".audience: expected the key of an audience, got a list"),
        ("{audience: a, within: 1d}", ".within: unknown key 'within'"),
        ("{not: {audience: a}}", ".not.audience: whether someone is in `a` would depend on itself: a -> a"),
        ("{event: ''}", ".event: expected the name of an event, got ''"),
        ("{event: null}", ".event: expected the name of an event, got nothing"),
        ("{event: true}", ".event: expected the name of an event (put it in quotes), got true"),
        ("{event: [E]}", ".event: expected the name of an event, got a list"),
        (r'{event: "a\nb"}', ".event: a control character or line break"),
        (f"{{event: {'e' * 1_025}}}", ".event: the text is longer than 1,024 characters"),
        ("{event: E, count: 3}", ".count: expected one bound: {at_least: N}, {at_most: N} or {exactly: N}, got 3"),
        ("{event: E, count: {}}", ".count: expected one bound"),
        ("{event: E, count: {at_least: 1, at_most: 3}}", ".count: expected one bound"),
        ("{event: E, count: {atleast: 1}}", ".count.atleast: unknown bound 'atleast'; did you mean `at_least`?"),
        ("{event: E, count: {at_least: -1}}", ".count.at_least: expected a whole number from 0 to 1,000,000, got -1"),
        ("{event: E, count: {at_least: 1.5}}", ".count.at_least: expected a whole number"),
        ("{event: E, count: {at_least: two}}", ".count.at_least: expected a whole number"),
        ("{event: E, count: {at_least: 1000001}}", ".count.at_least: expected a whole number"),
        ("{event: E, within: thirty days}", ".within: expected a duration such as 30d, got 'thirty days'"),
        ("{event: E, within: 30}", ".within: expected a duration such as 30d, got 30"),
        ("{event: E, within: 1mo}", ".within: months and years differ in length"),
        ("{event: E, within: 0d}", ".within: a window needs a length"),
        ("{event: E, within: [1d]}", ".within: expected a duration such as 30d, got a list"),
        ("{event: E, within: 1d, between: [2d, 1d]}", ".between: `within` and `between` are two ways"),
        ("{event: E, between: 1d}", ".between: expected two ages, the far one first, such as [7d, 1d], got '1d'"),
        ("{event: E, between: [1d]}", ".between: expected two ages, the far one first, such as [7d, 1d], got 1 values"),
        ("{event: E, between: [1d, x]}", ".between[1]: expected a duration such as 30d, got 'x'"),
        ("{event: E, between: [1d, 7d]}", ".between: expected two ages, the far one first, such as [7d, 1d]: the"),
        ("{event: E, between: [24h, 1d]}", ".between: expected two ages"),  # equal is not greater
        ("{event: E, exclude_sources: s1}", ".exclude_sources: expected a list of source ids, such as [src_9], got 's1'"),
        ("{event: E, exclude_sources: ['']}", ".exclude_sources[0]: expected a source id, got ''"),
        ("{event: E, sum: revenue}", ".sum: expected a property and an operator"),
        ("{event: E, sum: {property: p}}", ".sum: expected a property and an operator"),
        ("{event: E, sum: {at_least: 1}}", ".sum: expected a property and an operator"),
        ("{event: E, sum: {property: p, at_least: x}}", ".sum.at_least: expected a number, got 'x'"),
        ("{event: E, sum: {property: p, at_least: true}}", ".sum.at_least: expected a number, got true"),
        ("{event: E, sum: {property: p, any_of: [1]}}", ".sum.any_of: unknown operator 'any_of'"),
        ("{event: E, sum: {property: p.$, at_least: 1}}", ".sum.property: a path to one value is needed here"),
        ("{event: E, sum: {property: p, at_least: 1e999}}", ".sum.at_least: expected a number: the number is too large"),
        ("{event: E, sum: {property: p, at_least: 1}, max: {property: p, at_least: 1}}", ": a condition has one of sum"),
        ("{event: E, where: {}}", ".where: expected at least one path"),
        ("{event: E, where: [a]}", ".where: expected paths with what they are compared to"),
        ("{event: E, where: {a: }}", ".where.a: a missing value is asked for with {exists: false}"),
        ("{event: E, where: {a: ~}}", ".where.a: a missing value is asked for with {exists: false}"),
        ("{event: E, where: {a: {equals: null}}}", ".where.a.equals: a missing value is asked for"),
        ("{event: E, where: {a: {}}}", ".where.a: expected a value or operators"),
        ("{event: E, where: {a: [x]}}", ".where.a: a list alone says too little: write {any_of: [...]}"),
        ("{event: E, where: {a: {trait: t, equals: x}}}", ".where.a: `trait` does not go beside operators"),
        ("{event: E, where: {a: {same_as: t, equals: x}}}", ".where.a: `same_as` does not go beside operators"),
        ("{event: E, where: {a: {eqals: x}}}", ".where.a.eqals: unknown operator 'eqals'; did you mean `equals`?"),
        ("{event: E, where: {a: {b: x}}}", ".where.a.b: unknown operator 'b'; a name within another is written with"),
        ("{event: E, where: {a..b: x}}", ".where.a..b: a path may not begin or end with a dot"),
        ("{event: E, where: {$.a: x}}", ".where.$.a: a path here begins with a name, not with $"),
        ("{event: E, context: {'': x}}", ".context.'': a path may not be empty"),
        (r'{event: E, where: {"a\nb": [x]}}', r".where.'a\nb': a list alone"),  # one problem stays one line
        ("{event: E, where: {a: {equals: [x]}}}", ".where.a.equals: `equals` takes one value; for several write any_of"),
        ("{event: E, where: {a: {equals: {trait: t, x: 1}}}}", ".where.a.equals.x: unknown key 'x'"),
        ("{event: E, where: {a: {equals: {}}}}", ".where.a.equals: expected a value or {trait: KEY}"),
        ("{event: E, where: {a: {trait: ''}}}", ".where.a.trait: a path may not be empty"),
        ("{event: E, where: {a: 9007199254740993}}", ".where.a: expected a plain value: a whole number this large"),
        ("{event: E, where: {a: {any_of: x}}}", ".where.a.any_of: expected a list such as [EUR, GBP], got 'x'"),
        ("{event: E, where: {a: {any_of: []}}}", ".where.a.any_of: expected at least one value"),
        ("{event: E, where: {a: {none_of: [x, ~]}}}", ".where.a.none_of[1]: expected a plain value, got nothing"),
        ("{event: E, where: {a: {any_of: [{trait: t}]}}}", ".where.a.any_of[0]: expected a plain value, got a mapping"),
        ("{event: E, where: {a: {contains_any_of: x}}}", ".where.a.contains_any_of: expected a list"),
        ("{event: E, where: {a: {contains: []}}}", ".where.a.contains: expected at least one value"),
        ("{event: E, where: {a: {not_contains: [x]}}}", ".where.a.not_contains: expected text, got a list"),
        ("{event: E, where: {a: {starts_with: true}}}", ".where.a.starts_with: expected text (put it in quotes), got true"),
        ("{event: E, where: {a: {greater_than: many}}}", ".where.a.greater_than: expected a number, got 'many'"),
        ("{event: E, where: {a: {at_most: [1]}}}", ".where.a.at_most: expected a number, got a list"),
        ("{event: E, where: {a: {exists: 1}}}", ".where.a.exists: expected true or false, got 1"),
        ("{event: E, where: {a: {exists: {trait: t}}}}", ".where.a.exists: expected true or false, got a mapping"),
        ("{event: E, then: F}", ".then: expected what follows, such as {event: Order Completed, within: 1d}, got 'F'"),
        ("{event: E, then: {within: 1d}}", ".then: `event` is missing: the event that follows, or does not"),
        ("{event: E, then: {event: F, between: [2d, 1d]}}", ".then.between: unknown key 'between'; what follows has its"),
        ("{event: E, then: {event: F, then: {event: G}}}", ".then.then: unknown key 'then'"),
        ("{event: E, then: {event: F, sum: {property: p, at_least: 1}}}", ".then.sum: unknown key 'sum'"),
        ("{event: E, then: {event: F, exclude_sources: [s]}}", ".then.exclude_sources: unknown key"),
        ("{event: E, then: {event: ''}}", ".then.event: expected the name of an event, got ''"),
        ("{event: E, then: {event: F, count: {at_least: x}}}", ".then.count.at_least: expected a whole number"),
        ("{event: E, then: {event: F, within: 0s}}", ".then.within: a window needs a length"),
        ("{event: E, then: {event: F, where: {}}}", ".then.where: expected at least one path"),
        ("{event: E, where: {a: {same_as: b}}}", ".where.a.same_as: `same_as` belongs to what follows an event"),
        ("{event: E, where: {a: {equals: {same_as: b}}}}", ".where.a.equals.same_as: `same_as` belongs"),
        ("{trait: t, equals: {same_as: b}}", ".equals.same_as: `same_as` belongs to what follows"),
        ("{event: E, then: {event: F, where: {a: {same_as: ''}}}}", ".then.where.a.same_as: a path may not be empty"),
        ("{event: E, then: {event: F, where: {a: {same_as: b, trait: c}}}}", ".then.where.a: `trait` does not go beside"),
        (
            "{event: E, then: {event: F, where: {a: {equals: {same_as: b, trait: c}}}}}",
            ".then.where.a.equals.trait: unknown key 'trait'",
        ),
        (
            "{event: E, then: {event: F, where: {a: {within_last: {same_as: b}}}}}",
            ".then.where.a.within_last: `within_last` takes a duration such as 30d or {trait: KEY}",
        ),
        (
            "{event: E, sum: {property: p, at_least: {same_as: b}}}",
            ".sum.at_least.same_as: unknown key 'same_as'; known are trait",
        ),
        ("{trait: t, before: soon}", ".before: expected a date such as 2026-01-31 or an instant with a zone such as"),
        ("{trait: t, before: 2026-01-31T00:00:00}", ".before: expected a date"),
        ("{trait: t, after: 2026-02-30}", ".after: expected a date"),
        ("{trait: t, after: 20260131}", ".after: expected a date"),
        ("{trait: t, after: [2026-01-31]}", ".after: expected a date"),
        ("{trait: t, after: }", ".after: expected a date"),
        ("{trait: t, within_last: 7}", ".within_last: expected a duration such as 30d, got 7"),
        ("{trait: t, before_last: 1mo}", ".before_last: months and years differ in length"),
        ("{event: E, where: {d: {within_next: }}}", ".where.d.within_next: expected a duration such as 30d, got nothing"),
        ("{event: E, sum: {property: p, before: 2026-01-31}}", ".sum.before: unknown operator 'before'"),
        ("{trait: t}", ": a trait needs an operator"),
        ("{trait: , exists: true}", ".trait: expected a path such as cart.total, got nothing"),
        ("{trait: a..b, exists: true}", ".trait: a path may not begin or end with a dot"),
        ("{trait: t, is: x}", ".is: unknown operator 'is'"),
        ("{trait: t, within: 1d}", ".within: unknown operator 'within'; did you mean"),
        ("{users: {any: {event: E}}}", ".users: `users` belongs to the `when` of an audience with `entity: account`"),
    ],
)  # fmt: skip
def test_conditions(when: str, said: str) -> None:
    assert the_problem(when).startswith(said)


@pytest.mark.parametrize(
    ("trait", "said"),
    [
        ("a: x", "a: expected a computed trait such as {event: Order Completed, sum: revenue}, got 'x'"),
        ("a: {}", "a: `event` is missing: the event that the trait is computed from"),
        ("a b: {event: E, count: true}", "a b: expected a trait's key of A-Z, a-z, 0-9, _ and -, at most 200"),
        ("a.b: {event: E, count: true}", "a.b: expected a trait's key"),
        (f"{'a' * 201}: {{event: E, count: true}}", "'" + "a" * 57),
        ("a: {event: '', count: true}", "a.event: expected the name of an event, got ''"),
        ("a: {event: E}", "a: a computed trait has one of count, sum, average, min, max, most_frequent, first, last,"),
        ("a: {event: E, sum: p, max: p}", "a: a computed trait has one of count, sum"),
        ("a: {event: E, total: p, sum: p}", "a.total: unknown key 'total'"),
        ("a: {event: E, count: false}", "a.count: expected true, got false"),
        ("a: {event: E, count: p}", "a.count: expected true or false, got 'p'"),
        ("a: {event: E, sum: }", "a.sum: expected a path such as cart.total, got nothing"),
        ("a: {event: E, sum: a..b}", "a.sum: a path may not begin or end with a dot"),
        ("a: {event: E, last: p.$}", "a.last: a path to one value is needed here"),
        ("a: {event: E, count: true, within: 0d}", "a.within: a window needs a length"),
        ("a: {event: E, count: true, session: soon}", "a.session: expected a duration such as 30d, got 'soon'"),
        ("a: {event: E, count: true, between: [2d, 1d]}", "a.between: unknown key 'between'"),
        ("a: {event: E, count: true, at_least: 2}", "a.at_least: `at_least` belongs to most_frequent"),
        ("a: {event: E, most_frequent: p, at_least: 0}", "a.at_least: what is not there is not the most frequent"),
        ("a: {event: E, most_frequent: p, at_least: x}", "a.at_least: expected a whole number from 0 to 1,000,000"),
        ("a: {event: E, count: true, where: {}}", "a.where: expected at least one path"),
        ("a: {event: E, count: true, where: {p: {same_as: q}}}", "a.where.p.same_as: `same_as` belongs to what follows"),
        ("a: {event: E, count: true, where: {p: {trait: a}}}", "a: `a` would be computed from itself: a -> a"),
        ("a: {event: E, count: true, where: {p: {within_last: {trait: a.$}}}}", "a: `a` would be computed from itself"),
    ],
)  # fmt: skip
def test_computed_traits(trait: str, said: str) -> None:
    found = problems(f"audiences: []\ntraits:\n  {trait}")
    assert [line.startswith(f"audiences.yaml:3: traits.{said}") for line in found] == [True]


def test_computed_traits_are_one_set_and_none_is_computed_from_itself() -> None:
    found = problems(
        "traits:\n  a: {event: E, count: true, where: {p: {trait: b}}}\n  c: {event: E, sum: p}",
        "traits:\n  b: {event: E, last: p, where: {q: {at_least: {trait: a}}}}\n  c: {event: E, max: p}",
    )
    assert found == [
        "audiences.yaml:2: traits.a: `a` would be computed from itself: a -> b -> a",
        "b.yaml:3: traits.c: the trait `c` is also defined in audiences.yaml:3",
    ]
    assert problems("traits: [a]") == [
        "audiences.yaml:1: traits: expected a mapping of computed traits, got a list"
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("when: {event: E}, nme: x, name: A", "audiences[0].nme: unknown key 'nme'; did you mean `name`?"),
        ("name: A, when: {event: E}, xyzzy: 1", "audiences[0].xyzzy: unknown key 'xyzzy'; known are name, key"),
        ("when: {event: E}", "audiences[0]: `name` is missing"),
        ("name: '', when: {event: E}", "audiences[0].name: expected a name, got ''"),
        ("name: , when: {event: E}", "audiences[0].name: expected a name, got nothing"),
        (f"name: {'a' * 501}, when: {{event: E}}", "audiences[0].name: expected at most 500 characters, got 501"),
        (f"name: {'a' * 201}, when: {{event: E}}", "audiences[0].name: the key made of this name is longer than 200"),
        ("name: 日本, when: {event: E}", "audiences[0].name: no key can be made of a name without Latin letters"),
        ("name: A, key: A, when: {event: E}", "audiences[0].key: expected a key of a-z, 0-9 and _, at most 200 of"),
        ("name: A, key: a|b, when: {event: E}", "audiences[0].key: expected a key"),
        ("name: A, key: a@b, when: {event: E}", "audiences[0].key: expected a key"),
        ('name: A, key: "a\\n", when: {event: E}', "audiences[0].key: expected a key"),
        ("name: A, key: '', when: {event: E}", "audiences[0].key: expected a key"),
        (f"name: A, key: {'a' * 201}, when: {{event: E}}", "audiences[0].key: expected a key"),
        ("name: A, key: , when: {event: E}", "audiences[0].key: expected a key"),
        ("name: A", "audiences[0]: `when` is missing: a computed audience needs a condition"),
        ("name: A, source: engage, when: {event: E}", "audiences[0].when: an audience with `source: engage` has no"),
        ("name: A, source: engaged", "audiences[0].source: expected computed or engage or reverse_etl, got 'engaged'; did you mean `engage`?"),
        ("name: A, source: engage, enabled: yes", "audiences[0].enabled: expected true or false, got 'yes'"),
        ("name: A, source: engage, include_anonymous: 1", "audiences[0].include_anonymous: expected true or false"),
        ("name: A, source: engage, include_history: 1", "audiences[0].include_history: expected true or false, got 1"),
        ("name: A, source: engage, created_at: soon", "audiences[0].created_at: expected a date such as 2026-01-31 or"),
        ("name: A, source: engage, created_at: 1738281600000", "audiences[0].created_at: expected a date"),
        ("name: A, source: engage, lookback: 90", "audiences[0].lookback: expected a duration such as 30d, got 90"),
        ("name: A, source: engage, lookback: 0d", "audiences[0].lookback: a window needs a length"),
        ("name: A, source: engage, description: [x]", "audiences[0].description: expected text, got a list"),
        ("name: A, source: engage, require: {trait: t}", "audiences[0].require: a trait needs an operator"),
        ("name: A, source: engage, facebook: act_1", "audiences[0].facebook: expected a mapping such as {ad_account_id"),
        ("name: A, source: engage, facebook: [act_1]", "audiences[0].facebook[0]: expected a mapping such as"),
        ("name: A, source: engage, facebook: {ad_acount_id: 1}", "audiences[0].facebook.ad_acount_id: unknown key"),
        ("name: A, source: engage, facebook: {ad_account_id: x}", "audiences[0].facebook.ad_account_id: expected an"),
        ("name: A, source: engage, facebook: {audience_id: -1}", "audiences[0].facebook.audience_id: expected the digits"),
        ("name: A, source: engage, facebook: {mode: dry}", "audiences[0].facebook.mode: expected live or dry_run"),
        (
            "name: A, source: engage, facebook: {customer_file_source: USER}",
            "audiences[0].facebook.customer_file_source: expected USER_PROVIDED_ONLY or",
        ),
        (
            "name: A, source: engage, facebook: [{ad_account_id: 1}, {}]",
            "audiences[0].facebook[1]: `ad_account_id` is needed when there are several",
        ),
        (
            "name: A, source: engage, facebook: [{ad_account_id: 1}, {ad_account_id: act_1}]",
            "audiences[0].facebook[1]: act_1 is in this list twice",
        ),
    ],
)  # fmt: skip
def test_audiences(keys: str, said: str) -> None:
    found = problems(f"audiences:\n  - {{{keys}}}")
    assert [line.startswith(f"audiences.yaml:2: {said}") for line in found] == [True]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", ["audiences.yaml:1: expected a mapping with the key `audiences`, got a list"]),
        ("x", ["audiences.yaml:1: expected a mapping with the key `audiences`, got 'x'"]),
        ("audiences: {a: 1}", ["audiences.yaml:1: audiences: expected a list of audiences, got a mapping"]),
        (
            "audiences: [x]",
            ["audiences.yaml:1: audiences[0]: expected a mapping with a `name` and a condition under `when`, got 'x'"],
        ),
        ("audience: []", ["audiences.yaml:1: audience: unknown key 'audience'; did you mean `audiences`?"]),
        ("defaults: []", ["audiences.yaml:1: defaults: expected a mapping of audience keys, got a list"]),
        ("defaults: {name: A}", ["audiences.yaml:1: defaults.name: `name` has no default: each audience has its own"]),
        ("defaults:\n  entity: x\naudiences: [{name: A, when: {event: E}}]", ["audiences.yaml:2: defaults.entity: expected user or account, got 'x'"]),
        ("a: 1\n a: 1", ["audiences.yaml:2: not valid YAML: mapping values are not allowed here"]),
    ],
)  # fmt: skip
def test_files(text: str, found: list[str]) -> None:
    assert problems(text) == found


def test_an_unknown_audience_is_refused_with_the_nearest() -> None:
    text = """\
audiences:
  - {name: Big spenders, source: engage, require: {audience: churnd}}
  - {name: Churned, when: {not: {audience: big_spender}}}
"""
    assert problems(text) == [
        (
            "audiences.yaml:2: audiences[0].require.audience: there is no audience with the key 'churnd'; "
            "did you mean `churned`?"
        ),
        (
            "audiences.yaml:3: audiences[1].when.not.audience: there is no audience with the key 'big_spender'; "
            "did you mean `big_spenders`?"
        ),
    ]


def test_a_cycle_is_refused_where_it_closes_and_named() -> None:
    text = """\
defaults: {require: {audience: consenting}}
audiences:
  - {name: Consenting, when: {trait: consent, equals: true}}
"""
    assert problems(text) == [
        (
            "audiences.yaml:1: defaults.require.audience: whether someone is in `consenting` would depend on itself: "
            "consenting -> consenting"
        )
    ]
    found = problems(
        "audiences:\n  - {name: A, when: {audience: b}}\n  - {name: B, when: {any: [{event: E}, {audience: c}]}}",
        "audiences: [{name: C, source: engage, require: {audience: a}}]",
    )
    assert found == [
        (
            "b.yaml:1: audiences[0].require.audience: whether someone is in `a` would depend on itself: "
            "a -> b -> c -> a"
        )
    ]


def test_an_audience_with_problems_of_its_own_is_there() -> None:
    found = problems("audiences:\n  - {name: A, when: {audience: b}}\n  - {name: B, when: {event: ''}}")
    assert found == ["audiences.yaml:3: audiences[1].when.event: expected the name of an event, got ''"]


def test_everything_is_reported_together_in_order() -> None:
    text = """\
audiences:
  - name: A
    when:
      all:
        - {event: E, within: soon, count: {exactly: x}}
        - {trait: t, before: soon}
    enabled: maybe
  - name: B
  - name: a
    when: {event: E}
extra: 1
"""
    places = [line.split(": ")[:2] for line in problems(text, "audiences: [{name: C}]\naudiences: []")]
    assert places == [
        ["audiences.yaml:5", "audiences[0].when.all[0].count.exactly"],
        ["audiences.yaml:5", "audiences[0].when.all[0].within"],
        ["audiences.yaml:6", "audiences[0].when.all[1].before"],
        ["audiences.yaml:7", "audiences[0].enabled"],
        ["audiences.yaml:8", "audiences[1]"],
        ["audiences.yaml:9", "audiences[2]"],
        ["audiences.yaml:11", "extra"],
        ["b.yaml:1", "audiences[0]"],
        ["b.yaml:2", "the key 'audiences' is here twice, first in line 1"],
    ]


def test_a_key_is_taken_once_and_both_places_are_named() -> None:
    one = "audiences:\n\n  - {name: Big Spenders, source: engage}"
    other = "audiences:\n  - {name: x, key: big_spenders, source: engage}"
    assert problems(one, other) == [
        "b.yaml:2: audiences[0]: the key `big_spenders` is taken by audiences.yaml:3: change the name or give another `key`"
    ]


def test_a_default_is_given_once() -> None:
    found = problems("defaults:\n  enabled: true", "defaults:\n  # again\n  enabled: true")
    assert found == ["b.yaml:3: defaults.enabled: this default is also given in audiences.yaml:2"]


def test_a_mapping_does_not_go_onto_a_list_of_defaults() -> None:
    text = "defaults:\n  facebook: [{ad_account_id: 1}]\naudiences:\n  - {name: A, source: engage, facebook: {mode: live}}"
    assert problems(text) == [
        "audiences.yaml:4: audiences[0].facebook: `defaults` has a list of ad accounts: give a list here too, to replace it"
    ]


def test_a_wrong_default_is_reported_once_where_it_is() -> None:
    text = """\
defaults:
  require: {trait: t}
  facebook: {mode: wet}
audiences:
  - {name: A, source: engage}
  - {name: B, source: engage, facebook: {name: x}}
"""
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["audiences.yaml:2", "defaults.require"],
        ["audiences.yaml:3", "defaults.facebook.mode"],
    ]


def test_of_very_many_problems_the_first_are_listed() -> None:
    found = problems("audiences:\n" + "  - {name: A}\n" * 300)
    assert len(found) == 201
    assert found[-1] == "... and 399 more problems"  # 300 without a condition, 299 with a key that is taken


def test_what_is_shown_is_short() -> None:
    assert all(len(line) < 300 for line in problems(f"audiences: [{{name: A, source: {'x' * 1_000}}}]"))
    assert all(
        len(line) < 400 for line in problems(f"audiences: [{{name: A, source: engage, {'x' * 900}: 1}}]")
    )
