"""Versions of the definitions: who may publish what, and which changes are refused by name."""

from __future__ import annotations

import pytest

from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.published import (
    MAX_EARLIER,
    Published,
    changes,
    cleared_by,
    definitions_of,
    next_version,
    read_published,
    to_apply,
    to_publish_at_start,
)
from app.errors import InvalidInputError
from schemas.audience import AudienceSource
from schemas.control import DefinitionsRecord, DesiredRecord, RunningRecord
from tests.unit.domain.plans import HOUR, START

ONE = "{name: One, when: {event: A, within: 30d}}"
TWO = "{name: Two, when: {event: A, within: 20d}}"
THREE = "{name: Three, when: {event: A, within: 10d}}"


def of(*audiences: str, traits: str = "{}") -> DefinitionSet:
    text = f"audiences: [{', '.join(audiences)}]\ntraits: {traits}"
    return parse_definitions([Document("audiences.yaml", text)])


def published(*sets: DefinitionSet) -> Published:
    versions: dict[int, DefinitionsRecord] = {}
    newest = None
    for definitions in sets:
        newest = next_version(newest, definitions, START)
        versions[newest.number] = newest
    return Published(versions)


# --- apply ---


def test_the_first_version_is_taken_as_it_is() -> None:
    record = to_apply(Published(), of(ONE, TWO), 1, START, allow_delete=False)
    assert record is not None
    assert (record.number, list(record.definitions), record.earlier) == (1, ["one", "two"], ())
    assert definitions_of(record).audiences == of(ONE, TWO).audiences


def test_the_same_set_in_other_words_is_not_published_again() -> None:
    assert to_apply(published(of(ONE, TWO)), of(TWO, ONE), 1, START, allow_delete=True) is None


def test_a_deletion_needs_to_be_allowed() -> None:
    before = published(of(ONE, TWO))
    with pytest.raises(InvalidInputError, match=r"^two: .*--allow-delete") as refused:
        to_apply(before, of(ONE), 1, START, allow_delete=False)
    assert refused.value.exit_status == 2
    record = to_apply(before, of(ONE), 1, START, allow_delete=True)
    assert record is not None
    assert (record.number, list(record.definitions)) == (2, ["one"])
    assert before.newest is not None
    assert record.earlier == (before.newest.digest,)


def test_says_what_changes() -> None:
    before = published(of(ONE, TWO, traits="{t: {event: A, count: true}}")).newest
    edited = ONE.replace("30d", "29d")
    after = next_version(before, of(edited, THREE), START)
    found = changes(before, after.definitions)
    assert (found.added, found.changed, found.removed) == (("three",), ("one",), ("traits.t", "two"))


def test_earlier_digests_are_bounded() -> None:
    record = next_version(None, of(ONE), START).model_copy(update={"earlier": ("x",) * MAX_EARLIER})
    assert len(next_version(record, of(TWO), START).earlier) == MAX_EARLIER


def test_a_set_that_is_too_large_for_a_record_is_refused() -> None:
    many = [f"{{name: Audience {n}, description: {'d' * 900}, when: {{event: A}}}}" for n in range(1_000)]
    with pytest.raises(InvalidInputError, match="larger than 900,000 bytes"):
        next_version(None, of(*many), START)


# --- the file of a worker that starts ---


def test_a_worker_publishes_only_what_is_new() -> None:
    first, second = of(ONE), of(ONE, TWO)
    record, said = to_publish_at_start(Published(), first, "f.yaml", 1, START)
    assert record is not None
    assert said is None
    record, said = to_publish_at_start(published(first), second, "f.yaml", 1, START)
    assert record is not None
    assert record.number == 2
    assert said is not None
    assert "f.yaml: published as version 2" in said
    assert "two" in said
    assert to_publish_at_start(published(first, second), second, "f.yaml", 1, START) == (None, None)


def test_a_worker_with_an_old_file_takes_nothing_back() -> None:
    record, said = to_publish_at_start(published(of(ONE), of(ONE, TWO)), of(ONE), "f.yaml", 1, START)
    assert record is None
    assert said is not None
    assert "published before" in said
    assert "version 2" in said


def test_a_worker_deletes_nothing() -> None:
    record, said = to_publish_at_start(published(of(ONE, TWO)), of(ONE, THREE), "f.yaml", 1, START)
    assert record is None
    assert said is not None
    assert "leaves out two" in said
    assert "--allow-delete" in said


# --- deleted audiences ---

CLEARED = (
    "{name: Two, when: {event: A, within: 20d}, facebook: ["
    "{ad_account_id: act_1, on_delete: clear, sync_mode: upsert}, {ad_account_id: act_2}]}"
)


def test_a_deleted_audience_is_cleared_where_it_says_so_until_it_is_back() -> None:
    first = next_version(None, of(ONE, CLEARED), START)
    second = next_version(first, of(ONE), START)
    (audience,) = cleared_by(second)
    assert (audience.key, audience.enabled, audience.source) == ("two", False, AudienceSource.ENGAGE)
    assert [destination.id for destination in audience.destinations] == ["two@act_1"]
    third = next_version(second, of(ONE, THREE), START)
    assert third.cleared == second.cleared
    assert next_version(third, of(ONE, CLEARED), START).cleared == {}
    assert next_version(first, of(CLEARED), START).cleared == {}, "one keeps its people at Facebook"


# --- what is refused ---

BASE = of(
    "{name: A, when: {event: A, within: 30d, count: {at_least: 3}}}",
    "{name: T, when: {trait: plan, equals: pro}}",
    "{name: Engaged, key: a_engaged, source: engage}",
    "{name: Rows, key: a_rows, source: reverse_etl, rows: {where: {$.x: 1}}}",
    "{name: Later, key: a_later, when: {event: L}, include_history: false}",
    "{name: Mode, when: {event: A, within: 9d}, facebook: {sync_mode: upsert}}",
    "{name: Emptied, when: {event: A, within: 9d}, facebook: {on_delete: clear}}",
    "{name: Several, when: {event: A, within: 9d}, facebook: [{ad_account_id: act_1}, {ad_account_id: act_2, on_delete: clear}]}",
)
KEPT = "{name: A, when: {event: A, within: 30d}}"
REFUSED = {
    "one of several that is to be emptied, and nobody knows which": (
        "{name: Emptied, when: {event: A, within: 9d}, facebook: [{ad_account_id: act_1}, {ad_account_id: act_2}]}",
        "audience emptied: with `on_delete: clear`, going from one ad account to a list of several",
    ),
    "one ad account in place of several, of which one is to be emptied": (
        "{name: Several, when: {event: A, within: 9d}, facebook: {ad_account_id: act_1, on_delete: clear}}",
        "audience several: several@act_2 is left out",
    ),
    "what people are worth, in one of several": (
        (
            "{name: A, when: {event: A, within: 9d}, facebook: [{ad_account_id: act_1, value_based: true, "
            "fields: {value: $.a}}, {ad_account_id: act_2}]}"
        ),
        "audience a: changing `facebook.value_based`",
    ),
    "a Facebook audience that is to be emptied": (
        "{name: Emptied, when: {event: A, within: 9d}, facebook: []}",
        "audience emptied: emptied is left out",
    ),
    "what people are worth": (
        (
            "{name: Mode, when: {event: A, within: 9d}, "
            "facebook: {sync_mode: upsert, value_based: true, fields: {value: $.a}}}"
        ),
        "audience mode: changing `facebook.value_based`",
    ),
    "external ids that Facebook does not know": (
        "{name: Mode, when: {event: A, within: 9d}, facebook: {sync_mode: upsert, external_id: sha256}}",
        "audience mode: changing `facebook.external_id`",
    ),
}


@pytest.mark.parametrize(("audience", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_by_name_what_cannot_be_had(audience: str, words: str) -> None:
    before = published(BASE)
    with pytest.raises(InvalidInputError, match=words):
        to_apply(before, of(audience), 1, START, allow_delete=True)
    merged = {definition.key: definition for definition in BASE.audiences}
    merged |= {definition.key: definition for definition in of(audience).audiences}
    with pytest.raises(InvalidInputError, match=words):
        to_publish_at_start(before, DefinitionSet(tuple(merged.values()), ()), "f.yaml", 1, START)


ACCOUNTS = {
    "several in place of one": (
        "{ad_account_id: act_1, on_delete: clear}",
        "[{ad_account_id: act_2}, {ad_account_id: act_1}]",
    ),
    "one in place of several": ("[{ad_account_id: act_2}, {ad_account_id: act_1}]", "{ad_account_id: act_1}"),
    "of the settings": ("{}", "[{ad_account_id: act_2}, {ad_account_id: act_1}]"),
    "worth in the other": (
        "{ad_account_id: act_1}",
        "[{ad_account_id: act_1}, {ad_account_id: act_2, value_based: true, fields: {value: $.a}}]",
    ),
}


@pytest.mark.parametrize(("before", "after"), ACCOUNTS.values(), ids=ACCOUNTS.keys())
def test_one_ad_account_may_become_several_and_several_one(before: str, after: str) -> None:
    known = published(of(f"{{name: A, when: {{event: A}}, facebook: {before}}}"))
    record = to_apply(
        known, of(f"{{name: A, when: {{event: A}}, facebook: {after}}}"), 1, START, allow_delete=False
    )
    assert record is not None
    fields = {"fields.a": 2} if "fields" in after else {}
    assert record.generations == fields, "nothing is read again but for what is sent of people"


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


def test_reads_versions_and_partitions_and_passes_over_what_is_unknown() -> None:
    record = next_version(None, of(ONE), START + HOUR)
    running = RunningRecord(partition=3, number=1)
    desired = DesiredRecord(target="one", number=1, paused=True, reason="r", written_at=START)
    found = read_published(
        {
            record.key.encode(): record.model_dump_json().encode(),
            desired.key.encode(): desired.model_dump_json().encode(),
            running.key.encode(): running.model_dump_json().encode(),
            b"forget|someone": b"{}",
            b"\xff": b"",
        }
    )
    assert found == Published({1: record}, {3: 1}, desired={"one": desired})


def test_versions_stay_in_force_while_a_partition_may_come_to_them() -> None:
    versions = published(of(ONE), of(TWO), of(THREE)).versions
    assert Published(versions).in_force(2) == (1, 2, 3)
    assert Published(versions, {0: 3}).in_force(2) == (1, 2, 3), "the other one may begin with any"
    assert Published(versions, {0: 3, 1: 2}).in_force(2) == (2, 3)
    assert Published(versions, {0: 3, 1: 3}).in_force(2) == (3,)
