"""What is said to be never or always true is so in every state there is, and what people get wrong is found."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.contradictions import always_true, never_true
from app.domain.definitions import Document, parse_definitions
from app.domain.explanation import verdicts
from app.domain.state import ProfileState
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.random_cases import Case, histories
from tests.unit.domain.random_definitions import EVENTS, Defined, conditions, numbered, spans
from tests.unit.domain.test_explanation import partition_of

# Few and alike, so that they contradict each other.
counted = st.builds(
    lambda event, bound, number, window: {"event": event, "count": {bound: number}, **window},
    st.sampled_from(EVENTS),
    st.sampled_from(["at_least", "at_most", "exactly"]),
    st.integers(0, 2),
    st.one_of(
        st.just({}),
        spans.map(lambda span: {"within": span}),
        st.sampled_from([{"between": ["24h", "1h"]}, {"between": ["36h", "2h"]}]),
    ),
)
asked = st.builds(
    lambda trait, compared: {"trait": trait, **compared},
    st.sampled_from(["t", "u"]),
    st.one_of(
        st.fixed_dictionaries({"exists": st.booleans()}),
        *(
            st.fixed_dictionaries({name: st.sampled_from([0, 1, "1", "x", "xy", True])})
            for name in ("equals", "not_equals")
        ),
        *(
            st.fixed_dictionaries(
                {name: st.lists(st.sampled_from([0, 1, "1", "x", True]), min_size=1, max_size=2)}
            )
            for name in ("any_of", "none_of")
        ),
        *(
            st.fixed_dictionaries({name: st.integers(0, 2)})
            for name in ("at_least", "less_than", "at_most", "greater_than")
        ),
        *(
            st.fixed_dictionaries({name: st.sampled_from(["x", "xy", "1"])})
            for name in ("contains", "not_contains", "starts_with", "ends_with")
        ),
        *(
            st.fixed_dictionaries({name: st.sampled_from(["1h", "2h"])})
            for name in ("within_last", "before_last", "within_next", "after_next")
        ),
    ),
)
few = st.one_of(counted, counted, asked)
alike = st.recursive(
    few,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=2, max_size=4)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=2, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)
CONDITIONS = {
    "alike": st.lists(alike, min_size=4, max_size=8),
    "anything": st.lists(conditions([]), min_size=2, max_size=4),
}


@pytest.mark.parametrize("kind", CONDITIONS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_never_or_always_true_is_so_in_every_state(kind: str, data: st.DataObject) -> None:
    defined = Defined(numbered(data.draw(CONDITIONS[kind])))
    partition, explainer = partition_of(
        Case(defined, data.draw(histories(narrow=data.draw(st.booleans())))), 0
    )
    states = [
        state for key in partition.states.resting if (state := partition.copy_of(key.decode())) is not None
    ]
    now = partition.clock.now or 0
    for key, definition in explainer.definitions.items():
        assert definition.when is not None
        never, always = never_true(definition.when), always_true(definition.when)
        if never is None and always is None:
            continue
        assert never is None or always is None
        for state in [*states, ProfileState()]:
            for instant in (now, now + 1, now + HOUR, now + 2 * HOUR, now + DAY, now + 2 * DAY):
                (verdict, *_) = verdicts(explainer.node(key, 0), state, instant, instant)
                assert verdict is (always is not None), (never, always)


def warnings_of(condition: str, more: str = "") -> list[str]:
    text = f"audiences:\n  - name: A\n    when: {condition}\n{more}"
    found = parse_definitions([Document("a.yaml", text)]).warnings
    return [re.sub(r"^a\.yaml:\d+: (audiences\[0\][^ ]*|traits[^ ]*): ", "", line) for line in found]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("{all: [{event: E, count: {at_least: 3}}, {event: E, count: {at_most: 2}}]}", "exclude each other"),
        # Whoever has three in a week has three in a month.
        (
            "{all: [{event: E, count: {at_least: 3}, within: 7d}, {event: E, count: {at_most: 2}, within: 30d}]}",
            "exclude each other",
        ),
        (
            "{all: [{event: E, count: {at_most: 2}, within: 7d}, {event: E, count: {at_least: 3}, within: 30d}]}",
            None,
        ),
        ("{all: [{event: E, count: {at_least: 3}}, {event: F, count: {at_most: 2}}]}", None),
        (
            "{all: [{event: E, where: {a: 1, b: 2}}, {event: E, where: {a: 1}, count: {exactly: 0}}]}",
            "exclude",
        ),
        ("{all: [{event: E, where: {a: 1}}, {event: E, where: {a: 2}, count: {exactly: 0}}]}", None),
        ("{all: [{event: E, exclude_sources: [s]}, {event: E, count: {exactly: 0}}]}", "exclude"),
        ("{all: [{event: E}, {event: E, exclude_sources: [s], count: {exactly: 0}}]}", None),
        ("{all: [{event: E, then: {event: F}}, {event: E, count: {exactly: 0}}]}", "exclude"),
        ("{all: [{event: E}, {event: E, then: {event: F}, count: {exactly: 0}}]}", None),
        ("{all: [{event: E}, {not: {event: E}}]}", "hold and not hold"),
        ("{all: [{event: E, within: 7d}, {not: {event: E, within: 30d}}]}", "exclude"),
        ("{all: [{event: E, within: 30d}, {not: {event: E, within: 7d}}]}", None),
        ("{all: [{event: E, between: [30d, 8d]}, {event: E, within: 7d, count: {exactly: 0}}]}", None),
        # The sum may be what fails.
        ("{all: [{event: E}, {not: {event: E, sum: {property: p, at_least: 5}}}]}", None),
        ("{not: {event: E, count: {at_least: 0}}}", "holds for everyone"),
        ("{all: [{trait: t, at_least: 5}, {trait: t, less_than: 5}]}", "at least 5 and less than 5"),
        ("{all: [{trait: t, at_least: 5}, {trait: t, at_most: 5}]}", None),
        ("{all: [{trait: t, exists: false}, {trait: t, equals: x}]}", "missing and have a value"),
        ("{all: [{trait: t, exists: true}, {not: {trait: t, exists: true}}]}", "missing and have a value"),
        ("{all: [{trait: t, equals: x}, {not: {trait: t, exists: true}}]}", "missing and have a value"),
        ("{all: [{trait: t.$, equals: a}, {trait: t.$, equals: b}]}", None),
        # Every choice of the `any` is excluded.
        (
            "{all: [{trait: t, equals: a}, {any: [{trait: t, equals: b}, {trait: t, equals: c}]}]}",
            "pass the rest",
        ),
        ("{all: [{trait: t, equals: a}, {any: [{trait: t, equals: b}, {trait: u, equals: c}]}]}", None),
        ("{any: [{event: E}, {not: {event: E}}]}", "always true"),
        ("{any: [{event: E}, {event: E, count: {exactly: 0}}]}", "always true"),
        ("{any: [{event: E}, {event: E, count: {at_most: 0}}]}", "always true"),
        ("{any: [{trait: t, exists: true}, {trait: t, exists: false}]}", "always true"),
        ("{any: [{event: E}, {event: F}]}", None),
        ("{any: [{event: E}, {event: E}]}", "is here twice"),
        # One value against several constants.
        ("{trait: t, at_least: 5, less_than: 5}", "be at least 5 and less than 5"),
        ("{trait: t, equals: 3, at_least: 5}", "be 3 and pass the rest"),
        ("{trait: t, equals: x, at_least: 5}", "be 'x' and pass the rest"),
        ("{trait: t, any_of: [a, b], none_of: [a, b]}", "be 'a' or 'b' and pass the rest"),
        ("{trait: t, any_of: [a, b], none_of: [a]}", None),
        ("{trait: t, equals: 1, not_equals: '1'}", None),  # 01 passes
        ("{trait: t, equals: 1, starts_with: '0'}", None),  # as does here
        ("{trait: t, equals: '01', any_of: ['1', x]}", None),  # the number 1 passes
        ("{trait: t, equals: abc, starts_with: b}", "be 'abc'"),
        ("{trait: t, starts_with: ab, not_contains: a}", "start with 'ab' and not contain 'a'"),
        ("{trait: t, contains: ab, not_contains: c}", None),
        ("{all: [{trait: t, starts_with: a}, {trait: t, starts_with: b}]}", "start with 'a' and 'b'"),
        ("{all: [{trait: t, starts_with: a}, {trait: t, starts_with: ab}]}", None),
        ("{trait: t, after: 2026-02-01, before: 2026-01-01}", "be after 2026-02-01"),
        ("{trait: t, after: 2026-01-01, before: 2026-02-01}", None),
        ("{trait: t, after: 2026-01-01, before: 2026-01-01}", "be after 2026-01-01"),
        ("{trait: t, within_last: 7d, before_last: 7d}", "within last 7d and before last 7d"),
        ("{trait: t, within_last: 7d, before_last: 6d}", None),
        ("{trait: t, within_last: 7d, within_next: 7d}", "have passed and be still to come"),
        ("{trait: t, at_least: 7, before: 2026-02-01}", "be a number and a date"),
        ("{event: E, where: {p: {at_least: 7, at_most: 6}}}", "be at least 7 and at most 6"),
        ("{event: E, sum: {property: p, at_least: 7, less_than: 7}}", "the sum of `p` must be at least 7"),
        ("{event: E, sum: {property: p, equals: 3, at_least: 7}}", "the sum of `p` must"),
        ("{event: E, sum: {property: p, equals: 0.1234567}}", "rounded to 6 decimals"),
        ("{event: E, max: {property: p, equals: 0.1234567}}", None),
        ("{event: E, where: {p: {exists: false}}, sum: {property: p, at_least: 7}}", "have no sum of it"),
        (
            "{all: [{event: E, where: {p: {at_least: 7, at_most: 6}}}, {event: F}]}",
            "be at least 7 and at most 6",
        ),
    ],
)
def test_warnings(condition: str, said: str | None) -> None:
    found = warnings_of(condition)
    assert len(found) == (said is not None), found
    if said is not None:
        assert said in found[0]


def test_what_is_required_may_exclude_what_is_asked() -> None:
    more = "    require: {trait: vip, exists: true}\n"
    found = warnings_of("{trait: vip, exists: false}", more)
    assert found == [
        "never true together with what is required: `vip` must be missing and have a value at once"
    ]
    assert warnings_of("{trait: vip, equals: 1}", more) == []


def test_many_conditions_take_little_time() -> None:
    """Of so many nothing is said; the time limit of tests is the bound."""
    every = [{"event": "E", "count": {"at_least": number}} for number in range(1, 400)]
    pairs = [
        {"any": [{"trait": f"t{number}", "equals": 1}, {"trait": f"u{number}", "equals": 1}]}
        for number in range(100)
    ]
    text = json.dumps({"audiences": [{"name": "A", "when": {"all": [*every, *pairs]}}]})
    assert parse_definitions([Document("a.yaml", text)]).warnings == ()


@pytest.mark.parametrize(
    ("path", "warned"),
    [
        ("work_email", True),
        ("contact.E-Mail", True),
        ("mobile", True),
        ("has_email", False),
        ("is phone", False),
        ("email_opt_in", False),
        ("country", False),
        ("name", False),  # of a product, as often as not
    ],
)
def test_names_that_identify_people(path: str, warned: bool) -> None:
    assert bool(warnings_of(f"{{trait: '{path}', exists: true}}")) is warned


TRAITS = """traits:
  orders: {event: E, count: true}
  revenue: {event: E, sum: revenue}
  favourite: {event: E, most_frequent: p}
  seen: {event: E, unique_list: p}
"""


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("{trait: orders, before: 2026-01-01}", "compares dates"),
        ("{trait: orders, within_last: 7d}", "compares dates"),
        ("{trait: orders, starts_with: '1'}", "compares texts"),
        ("{trait: orders, equals: many}", "is a number"),
        ("{trait: orders, equals: '3'}", None),
        ("{trait: orders, any_of: [many, 3]}", None),
        ("{trait: orders, exists: false}", "is 0 without any event"),
        ("{trait: revenue, exists: false}", None),
        ("{trait: orders, less_than: 0}", "never below 0"),
        ("{trait: orders, at_most: 0}", None),
        ("{trait: orders, at_least: 0}", "always true"),
        ("{trait: revenue, less_than: 0}", None),
        ("{trait: orders, less_than: {trait: t}}", None),
        ("{trait: orders.x, exists: true}", "nothing is at `orders.x`"),
        ("{trait: orders.$, equals: 1}", "nothing is at"),
        ("{trait: seen, equals: a}", "`seen` is a list"),
        ("{trait: seen, at_least: 3}", "unique_list_count"),
        ("{trait: seen, contains: a}", None),
        ("{trait: seen.$, equals: a}", None),
        ("{trait: favourite, equals: a}", None),
        ("{not: {trait: orders, within_last: 7d}}", "compares dates"),
    ],
)
def test_comparisons_that_do_not_fit_a_computed_trait(condition: str, said: str | None) -> None:
    found = warnings_of(condition, TRAITS)
    assert len(found) == (said is not None), found
    if said is not None:
        assert said in found[0]
