"""Versions of the definitions: who may publish what, and which changes are refused by name."""

from __future__ import annotations

import pytest

from app.domain.definitions import DefinitionSet
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
from schemas.control import DesiredRecord, RunningRecord
from tests.unit.domain.plans import HOUR, START
from tests.unit.domain.published_sets import BASE, ONE, THREE, TWO, of, published


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
