"""What is allowed and most likely not meant is warned about."""

from __future__ import annotations

import re

import pytest

from app.domain.definitions import DefinitionSet
from tests.unit.domain.written_definitions import parse


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
    found = parse(f"audiences: [{{name: A, when: {when}}}]\n{traits}").remarks
    said = "0.yaml:3: traits.vip: `trait: vip` is this computed trait; a trait of that name in identify calls is ignored"
    assert found == ((said,) if warned else ())
    require = f"audiences: [{{name: A, source: engage, require: {when}}}]\n{traits}"
    assert bool(parse(require).remarks) is warned
    assert parse(require).warnings == ()


def test_a_computed_trait_that_another_asks_for_hides_one_too() -> None:
    traits = "traits:\n  a: {event: E, count: true, where: {p: {trait: b}}}\n  b: {event: E, last: p}"
    found = parse(f"audiences: [{{name: A, source: engage}}]\n{traits}").remarks
    assert [line.partition(": `")[0] for line in found] == ["0.yaml:4: traits.b"]


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
