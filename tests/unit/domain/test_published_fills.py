"""What a new version of the definitions has filled from history."""

from __future__ import annotations

import pytest

from app.domain.definitions import DefinitionSet
from app.domain.published import (
    Published,
    to_apply,
    to_publish_at_start,
)
from app.errors import InvalidInputError
from tests.unit.domain.plans import START
from tests.unit.domain.published_sets import BASE, KEPT, ONE, TWO, of, published

WORK = "{email: [$.traits.work_email, $.traits.email]}"
OF_FIELDS = {
    "a first mapping": ("{}", WORK, {"fields.a"}),
    "another path": (WORK, "{email: $.traits.work_email}", {"fields.a"}),
    "another order": (WORK, "{email: [$.traits.email, $.traits.work_email]}", {"fields.a"}),
    "a trait of identify calls": (WORK, "{email: {trait: work_email}}", {"fields.a"}),
    "another country to read a phone number by": (
        "{phone: $.traits.p}",
        "{phone: $.traits.p, country: $.traits.land}",
        {"fields.a"},
    ),
    "one field more": (
        WORK,
        "{email: [$.traits.work_email, $.traits.email], city: $.traits.c}",
        {"fields.a"},
    ),
    "one field less": ("{email: $.traits.m, city: $.traits.c}", "{email: $.traits.m}", set()),
    "a constant behind it": (
        "{city: $.traits.c}",
        "{city: [$.traits.c, {const: Berlin}]}",
        set(),
    ),
    "nothing of calls": (WORK, "{city: {const: Berlin}, gender: {trait: bought}}", set()),
}


@pytest.mark.parametrize(("before", "after", "filled"), OF_FIELDS.values(), ids=OF_FIELDS.keys())
def test_fills_mapped_fields_that_take_something_else_of_calls(
    before: str, after: str, filled: set[str]
) -> None:
    def mapped(fields: str, more: str = "") -> DefinitionSet:
        audience = f"{{name: A, when: {{event: A}}{more}, facebook: {{fields: {fields}}}}}"
        return of(audience, traits=BOUGHT)

    record = to_apply(published(mapped(before)), mapped(after), 1, START, allow_delete=False)
    assert record is not None
    assert record.generations == dict.fromkeys(filled, 2)
    without = ", include_history: false"
    record = to_apply(
        published(mapped(before, without)), mapped(after, without), 1, START, allow_delete=False
    )
    assert record is not None
    assert record.generations == {}


def test_what_an_audience_without_history_takes_of_calls_is_filled_for_one_with_it() -> None:
    without = f"{{name: A, when: {{event: A}}, include_history: false, facebook: {{fields: {WORK}}}}}"
    known = published(of(without))
    other = f"{{name: B, when: {{event: A}}, facebook: {{fields: {WORK}}}}}"
    record = to_apply(known, of(without, other), 1, START, allow_delete=False)
    assert record is not None
    assert "fields.b" in record.generations


BOUGHT = "{bought: {event: B, count: true, within: 30d}}"
BUYERS = "{name: Buyers, when: {trait: bought, at_least: 2}}"
OF_TRAITS = {
    "a new one": ("{}", BOUGHT, {"traits.bought"}),
    "a longer window": (BOUGHT, BOUGHT.replace("30d", "31d"), {"traits.bought"}),
    "another function": (BOUGHT, BOUGHT.replace("count: true", "sum: x"), {"traits.bought"}),
    "compared with what an identify call says": (
        BOUGHT,
        BOUGHT.replace("within", "where: {x: {trait: size}}, within"),
        {"traits.bought"},
    ),
    "less of the same": (BOUGHT, BOUGHT.replace("30d", "29d"), set()),
    "what another one keeps already": (
        BOUGHT,
        BOUGHT.replace("}}", "}, lately: {event: B, count: true, within: 9d}}"),
        set(),
    ),
    "gone, and read of identify calls from now on": (BOUGHT, "{}", {"buyers"}),
}


@pytest.mark.parametrize(("before", "after", "filled"), OF_TRAITS.values(), ids=OF_TRAITS.keys())
def test_fills_computed_traits_from_history(before: str, after: str, filled: set[str]) -> None:
    known = published(of(ONE, BUYERS, traits=before))
    record = to_apply(known, of(ONE, BUYERS, traits=after), 1, START, allow_delete=True)
    assert record is not None
    assert record.generations == dict.fromkeys(filled, 2)
    assert Published({**known.versions, 2: record}, {0: 1}).is_filling(1) is bool(filled)


def test_a_filled_trait_stays_as_it_is_until_it_needs_more() -> None:
    longer, other = BOUGHT.replace("30d", "60d"), BOUGHT.replace("30d", "90d")
    sets = [of(ONE, BUYERS, traits=BOUGHT), of(ONE, BUYERS, traits=longer)]
    first = published(*sets[:1])
    second = to_apply(first, sets[1], 1, START, allow_delete=True)
    assert second is not None
    known = Published({**first.versions, 2: second}, {0: 2})
    third = to_apply(known, of(ONE, TWO, BUYERS, traits=longer), 1, START, allow_delete=True)
    assert third is not None
    assert third.generations == {"traits.bought": 2}
    known = Published({**known.versions, 3: third}, {0: 3})
    fourth = to_apply(known, of(ONE, TWO, BUYERS, traits=other), 1, START, allow_delete=True)
    assert fourth is not None
    assert fourth.generations == {"traits.bought": 4}


FILLED = {
    "a longer window": "{name: A, when: {event: A, within: 31d}}",
    "ever in place of a window": "{name: A, when: {event: A}}",
    "another event": "{name: A, when: {event: B}}",
    "another filter": "{name: A, when: {event: A, where: {x: 1}, within: 9d}}",
    "a larger count": "{name: A, when: {event: A, within: 9d, count: {at_least: 4}}}",
    "a sum, where only the newest are kept": (
        "{name: A, when: {event: A, within: 9d, sum: {property: x, at_least: 1}}}"
    ),
    "another trait": "{name: A, when: {trait: city, equals: X}}",
    "everybody": "{name: A, when: {not: {event: A, within: 9d}}}",
    "calls of Engage": "{name: N, key: a2, source: engage}",
    "calls of Engage in place of events": "{name: A, source: engage}",
    "a beginning in the past": (
        "{name: A, when: {event: B}, include_history: false, created_at: 2025-02-01T00:00:00Z}"
    ),
    "a trait of the past, without history": "{name: A, when: {trait: city, equals: X}, include_history: false}",
    "other events of what began when it was applied": (
        "{name: Later, key: a_later, when: {event: K}, include_history: false}"
    ),
    "other rows": "{name: Rows, key: a_rows, source: reverse_etl, rows: {where: {$.x: 2}}}",
    "another mode of rows": (
        "{name: Rows, key: a_rows, source: reverse_etl, rows: {where: {$.x: 1}}, facebook: {sync_mode: add}}"
    ),
    "rows in place of calls of Engage": (
        "{name: Engaged, key: a_engaged, source: reverse_etl, rows: {where: {$.x: 1}}}"
    ),
}


PRO = "{name: T, when: {trait: plan, equals: pro}}"
PLAIN = "{name: Plain, when: {trait: plan, equals: free}}"


@pytest.mark.parametrize("audience", FILLED.values(), ids=FILLED.keys())
def test_fills_from_history_what_needs_more_than_is_kept(audience: str) -> None:
    before = published(BASE)
    record = to_apply(before, of(audience, PRO), 2, START, allow_delete=True)
    assert record is not None
    key = next(key for key in record.definitions if key.startswith("a"))
    assert record.generations == {key: 2}, "pro asks for nothing that is not kept"
    after = Published({**before.versions, 2: record}, {0: 2, 1: 1})
    assert after.is_filling(2)
    with pytest.raises(InvalidInputError, match="version 2 is still being filled from history"):
        to_apply(after, of(ONE), 2, START, allow_delete=True)
    assert to_publish_at_start(after, of(audience, PRO, PLAIN), "f.yaml", 2, START)[0] is None
    assert Published(after.versions, {0: 2, 1: 2}, frozenset({1})).is_filling(2)
    done = Published(after.versions, {0: 2, 1: 2})
    assert not done.is_filling(2)
    third = to_apply(done, of(audience, PRO, PLAIN), 2, START, allow_delete=True)
    assert third is not None
    assert third.generations == {key: 2}, "what was filled stays as it is"


def test_what_is_taken_with_and_without_history_is_never_the_same() -> None:
    """An audience that was filled begins anew without history, and is filled again with it."""
    with_history = "{name: N, when: {event: B}}"
    without = "{name: N, when: {event: B}, include_history: false}"
    known, generations = published(of(ONE)), []
    for number, audience in enumerate((with_history, without, with_history), 2):
        record = to_apply(known, of(ONE, audience), 1, START, allow_delete=True)
        assert record is not None
        generations.append(record.generations)
        known = Published({**known.versions, number: record}, {0: number})
    assert generations == [{"n": 2}, {}, {"n": 4}]


TAKEN = {
    "less of the same": "{name: A, when: {event: A, within: 3d, count: {at_least: 2}}}",
    "as many within less": "{name: N, when: {event: A, within: 9d, count: {at_least: 3}}}",
    "a condition of the same trait": "{name: N, when: {trait: plan, equals: free}}",
    "membership of another": "{name: N, when: {audience: a}}",
    "what only comes later": "{name: N, when: {event: B}, include_history: false}",
    "Engage from now on": "{name: N, source: engage, include_history: false}",
    "another sync mode of a computed audience": (
        "{name: Mode, when: {event: A, within: 9d}, facebook: {sync_mode: mirror}}"
    ),
    "another destination of rows": (
        "{name: Rows, key: a_rows, source: reverse_etl, rows: {where: {$.x: 1}}, facebook: {ad_account_id: act_9}}"
    ),
    "Engage in place of events, from now on": "{name: A, source: engage, include_history: false}",
    "not enabled": "{name: A, when: {event: A, within: 30d}, enabled: false}",
    "a name": "{name: Other, key: a, when: {event: A, within: 30d}}",
    "a beginning that is to come": (
        "{name: N, when: {event: B}, include_history: false, created_at: 2025-03-01T00:02:00Z}"
    ),
}


@pytest.mark.parametrize("audience", TAKEN.values(), ids=TAKEN.keys())
def test_takes_what_the_kept_past_answers(audience: str) -> None:
    definitions = of(audience) if "audience: a" not in audience else of(KEPT, audience)
    record = to_apply(published(BASE), definitions, 1, START, allow_delete=True)
    assert record is not None
    assert (record.number, record.generations) == (2, {})


# --- what runs where ---
