"""Rows of a warehouse: which calls they are, what they say in each sync mode, and what is sent of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.definitions import published_form
from app.domain.normalization import normalize_email
from app.domain.reverse_etl import refuse_unread_topics, row_membership
from app.errors import InvalidInputError
from schemas.audience import AudienceDefinition, AudienceSource, Rows, SyncMode
from schemas.dead_letter import DropReason, Reason
from tests.unit.domain.plans import call
from tests.unit.domain.warehouse_rows import (
    FROM_SOURCE,
    accounts,
    claims,
    problems,
    read,
    resolve,
    row,
    warehouse,
)

CASES = json.loads((Path(__file__).parent / "membership_vectors.json").read_text("utf-8"))["cases"]
ROW_CASES = [case for case in CASES if case["id"].startswith("retl-")]
BOTH_KINDS = [
    case for case in CASES if case["id"] in ("engage-track-named-deleted", "engage-undefined-then-retl")
]


# --- what a row says ---


@pytest.mark.parametrize("case", ROW_CASES, ids=[case["id"] for case in ROW_CASES])
def test_a_row_says_what_segments_own_destination_reads(case: dict[str, Any]) -> None:
    raw, mode = case["raw"], case["sync_mode"]
    modes = [] if mode is None else [SyncMode(mode)]
    if raw["type"] == "track":
        assert row_membership(raw["event"], modes) is case["expected"]
    if mode is None:  # without a mode there is no audience here: mirror is the default
        return
    where = {"where": {"$.userId": "user_1"}}
    resolution = resolve(call(**{"event": ..., **raw}), warehouse(mode, rows=where))
    expected = [] if case["expected"] is None else [("user_1", {"leads": case["expected"]})]
    assert claims(resolution) == expected
    if case["expected"] is None:
        named_as_row = raw["type"] == "track" and raw["event"] in ("new", "updated", "deleted")
        assert resolution.dropped is (DropReason.NOT_IN_SYNC_MODE if named_as_row else DropReason.NOT_NEEDED)


@pytest.mark.parametrize("case", BOTH_KINDS, ids=[case["id"] for case in BOTH_KINDS])
def test_a_boolean_of_engage_goes_first_and_without_one_the_call_is_a_row(case: dict[str, Any]) -> None:
    where = {"where": {"$.context.personas.computation_key": "k"}}
    resolution = resolve(
        call(**case["raw"]), warehouse(rows=where), {"key": "k", "source": "engage", "facebook": []}
    )
    by_engage = case["id"] == "engage-track-named-deleted"
    assert claims(resolution) == [("user_1", {"k" if by_engage else "leads": case["expected"]})]


def test_only_calls_that_match_are_rows_and_those_are_no_events() -> None:
    counted = {"when": {"event": "new"}}
    ((_, event),) = resolve(row(), warehouse(), counted).records
    assert (event.claims, event.hits) == ({"leads": True}, [])
    other = row(context={"protocols": {"sourceId": "src_1"}})
    ((_, event),) = resolve(other, warehouse(), counted).records
    assert (event.claims, len(event.hits)) == (None, 1)
    assert resolve(other).dropped is DropReason.NOT_NEEDED


@pytest.mark.parametrize("kind", ["identify", "page", "screen", "group"])
def test_other_calls_from_the_same_source_stay_what_they_are(kind: str) -> None:
    raw = row(type=kind, name="new", groupId="g")
    assert resolve(raw).dropped is DropReason.NOT_NEEDED


def test_a_row_outside_the_sync_mode_has_no_effect_not_even_by_its_identifiers() -> None:
    resolution = resolve(row("updated", properties={"email": "a@example.com"}), warehouse("add"))
    assert (resolution.dropped, resolution.records) == (DropReason.NOT_IN_SYNC_MODE, [])


def test_a_dropped_row_makes_its_profile_known_where_that_matters() -> None:
    never = {"when": {"event": "E", "count": {"exactly": 0}}}
    resolution = resolve(row("updated", properties={"email": "a@example.com"}), warehouse("add"), never)
    ((profile, event),) = resolution.records
    assert (profile, event.claims, event.identifiers) == ("user_1", None, None)
    assert resolution.dropped is DropReason.NOT_IN_SYNC_MODE


@pytest.mark.parametrize(
    ("integrations", "dropped"),
    [
        ({"All": False}, DropReason.FILTERED_BY_INTEGRATIONS),
        ({"All": True, "Facebook Custom Audiences (Actions)": False}, DropReason.FILTERED_BY_INTEGRATIONS),
        ({"All": False, "Personas Facebook Custom Audiences": True}, None),
        (None, None),
    ],
)
def test_rows_are_gated_by_the_integrations_object(integrations: Any, dropped: DropReason | None) -> None:
    resolution = resolve(row(integrations=integrations, properties={"email": "a@example.com"}))
    assert resolution.dropped is dropped
    assert bool(resolution.records) is (dropped is None)
    outside = resolve(row("deleted", integrations={"All": False}), warehouse("upsert"))
    assert outside.dropped is DropReason.FILTERED_BY_INTEGRATIONS


# --- whom it is about ---


IDS = [
    # id, fields of the call, the profile, why
    (None, {"userId": "u"}, "u", "the user id"),
    (None, {"userId": None, "anonymousId": "a"}, "anonymous_id:a", "as for any call"),
    ("$.userId", {"userId": "u"}, "u", "the default, said"),
    ("$.properties.id", {"userId": "u", "properties": {"id": "crm_1"}}, "crm_1", "a column"),
    ("$.properties.id", {"userId": None, "properties": {"id": 778}}, "778", "a number is read as text"),
    ("$.__segment_id", {"userId": ..., "__segment_id": "crm_1"}, "crm_1", "a field of Segment's own"),
    (r"$.properties.a\.b", {"properties": {"a.b": "x"}}, "x", "a dot in a name"),
    ("$.properties.id", {"properties": {"id": "anonymous_id:x"}}, "user_id:anonymous_id:x", "no forgery"),
]


@pytest.mark.parametrize(("path", "fields", "profile", "why"), IDS, ids=[item[3] for item in IDS])
def test_the_id_of_a_row(path: str | None, fields: dict[str, Any], profile: str, why: str) -> None:
    rows = FROM_SOURCE if path is None else {**FROM_SOURCE, "id": path}
    assert claims(resolve(row(**fields), warehouse(rows=rows))) == [(profile, {"leads": True})]


@pytest.mark.parametrize("value", [None, "", " ", True, 1.5, [], {}, ...])
def test_a_row_without_an_id_is_refused_by_the_path(value: Any) -> None:
    properties = {} if value is ... else {"id": value}
    rows = {**FROM_SOURCE, "id": "$.properties.id"}
    resolution = resolve(row(properties=properties), warehouse(rows=rows))
    assert resolution.refused is not None
    assert resolution.refused.reason is Reason.NO_IDENTITY
    assert "$.properties.id" in resolution.refused.detail
    held_back = resolve(row(properties=properties, integrations={"All": False}), warehouse(rows=rows))
    assert held_back.dropped is DropReason.FILTERED_BY_INTEGRATIONS


def test_one_row_may_be_of_several_audiences_and_profiles() -> None:
    resolution = resolve(
        row("updated", properties={"id": "p2", "email": "a@example.com"}),
        warehouse(),
        warehouse(key="same"),
        warehouse("add", key="outside"),
        warehouse(key="other", rows={**FROM_SOURCE, "id": "$.properties.id"}),
    )
    assert claims(resolution) == [("user_1", {"leads": True, "same": True}), ("p2", {"other": True})]
    assert [(event.offset, event.index) for _, event in resolution.records] == [(3, 0), (3, 1)]
    assert all(event.identifiers for _, event in resolution.records)
    assert resolution.dropped is None


def test_what_a_row_outside_the_mode_of_one_audience_says_stays_with_the_other_profile() -> None:
    resolution = resolve(
        row("updated", properties={"id": "p2", "email": "a@example.com"}),
        warehouse("add"),
        warehouse(key="other", rows={**FROM_SOURCE, "id": "$.properties.id"}),
    )
    assert claims(resolution) == [("p2", {"other": True})]


# --- identifiers ---


def test_identifiers_of_a_row_are_its_columns() -> None:
    properties = {"email": "Sam@Example.org", "phone": "+1 (415) 555-0100", "first_name": "Sam"}
    ((_, event),) = resolve(row(properties=properties)).records
    assert event.identifiers is not None
    assert list(event.identifiers) == ["EMAIL", "PHONE", "FN"]
    assert event.identifiers["EMAIL"] == getattr(normalize_email("sam@example.org"), "value", None)
    assert "am" not in json.dumps(event.identifiers)


def test_a_null_column_takes_away_unless_the_row_is_deleted() -> None:
    properties = {"email": None, "city": None, "country": "US"}
    ((_, event),) = resolve(row("updated", properties=properties)).records
    assert event.identifiers is not None
    assert (event.identifiers["EMAIL"], event.identifiers["CT"]) == (None, None)
    ((_, event),) = resolve(row("deleted", properties=properties)).records
    assert event.identifiers is not None
    assert list(event.identifiers) == ["COUNTRY"]
    ((_, event),) = resolve(row("deleted", properties={"email": None})).records
    assert event.identifiers is None


# --- definitions ---


WRONG = [
    # keys of the audience, what is said
    ({"source": "reverse_etl"}, "`rows` is missing"),
    (
        {"rows": FROM_SOURCE, "when": {"event": "E"}},
        "`rows` belongs to an audience with `source: reverse_etl`",
    ),
    ({"rows": FROM_SOURCE, "source": "engage"}, "`rows` belongs to an audience with"),
    (warehouse(when={"event": "E"}), "has no `when`: the rows of the warehouse decide"),
    (warehouse(rows={}), "chosen by one of `topic` and `where`"),
    (warehouse(rows={**FROM_SOURCE, "topic": "t"}), "chosen by one of `topic` and `where`"),
    (warehouse(rows="t"), "expected rows such as"),
    (warehouse(rows={"were": {}}), "unknown key 'were'; did you mean `where`?"),
    (warehouse(rows={"topic": ""}), "expected the name of a topic"),
    (warehouse(rows={"where": {}}), "at least one path"),
    (warehouse(rows={"where": {"context.a": 1}}), "starts at the whole call, such as $.properties.id"),
    (warehouse(rows={"where": {"$": 1}}), "starts at the whole call"),
    (warehouse(rows={"where": {"$.a..b": 1}}), "two in a row"),
    (warehouse(rows={"where": {"$.a": {"trait": "b"}}}), "what is in the call alone"),
    (warehouse(rows={"where": {"$.a": {"equals": {"trait": "b"}}}}), "what is in the call alone"),
    (warehouse(rows={"where": {"$.a": None}}), "{exists: false}"),
    (warehouse(rows={**FROM_SOURCE, "id": "userId"}), "starts at the whole call"),
    (warehouse(rows={**FROM_SOURCE, "id": "$.a.$"}), "a path to one value is needed"),
    (warehouse("both"), "expected mirror or upsert or add or update or delete, got 'both'"),
    ({"when": {"event": "E"}, "facebook": {"sync_mode": "add"}}, "a computed audience has mirror or upsert"),
    (
        {"when": {"event": "E"}, "facebook": {"sync_mode": "delete"}},
        "a computed audience has mirror or upsert",
    ),
    (warehouse(facebook=accounts("mirror", "add")), "the sync modes add and mirror add by different rows"),
    (warehouse(facebook=accounts("update", "add")), "the sync modes add and update add by different rows"),
]


@pytest.mark.parametrize(("audience", "said"), WRONG, ids=[item[1] for item in WRONG])
def test_what_is_wrong_with_rows_is_said(audience: dict[str, Any], said: str) -> None:
    found = problems(audience)
    assert len(found) == 1
    assert said in found[0]


def test_rows_are_read() -> None:
    rows = {
        "where": {"$.context.protocols.sourceId": {"any_of": ["a", "b"]}, "$.properties.x": 1},
        "id": "$.a",
    }
    definition = read(warehouse("upsert", rows=rows))
    assert definition.source is AudienceSource.REVERSE_ETL
    assert definition.rows is not None
    assert [item.path for item in definition.rows.where] == ["context.protocols.sourceId", "properties.x"]
    assert definition.rows.id == "a"
    assert definition.destinations[0].sync_mode is SyncMode.UPSERT
    assert read({"source": "reverse_etl", "rows": {"topic": "t"}}).rows == Rows(topic="t")
    assert AudienceDefinition.model_validate(published_form(definition)) == definition


def test_modes_that_go_together() -> None:
    for modes in (("mirror", "upsert"), ("mirror", "delete"), ("add", "delete"), ("add", "add")):
        assert problems(warehouse(facebook=accounts(*modes))) == []
    assert problems({"when": {"event": "E"}, "facebook": accounts("mirror", "upsert")}) == []


def test_every_call_of_the_source_topic_that_is_named_so_is_a_row_and_other_topics_are_refused() -> None:
    definition = read(warehouse(rows={"topic": "segment.events"}))
    refuse_unread_topics([definition], "segment.events")
    assert claims(resolve(call(event="new"), warehouse(rows={"topic": "segment.events"}))) == [
        ("user_1", {"leads": True})
    ]
    with pytest.raises(
        InvalidInputError, match=r"audience leads: .*topic: segment.events.* not supported yet"
    ):
        refuse_unread_topics([definition], "other.events")
