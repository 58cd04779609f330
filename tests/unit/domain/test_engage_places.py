"""Where calls of Engage say that an audience is, and what goes before that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.definitions import Document, parse_definitions
from app.domain.engage_places import SILENT_MS, is_news, place_of, with_place
from app.domain.resolution import ResolveOptions, Resolver
from schemas.control import Place, PlacedRecord
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of

ACCOUNT, AUDIENCE = "1500000000000000", "120210000000000001"
SAID = {"external_audience_id": AUDIENCE, "audience_settings": {"engageAdAccountId": ACCOUNT}}
PLACE = Place(ad_account_id=f"act_{ACCOUNT}", audience_id=AUDIENCE)

PLACES: list[tuple[dict[str, Any], Place | None, str]] = [
    (SAID, PLACE, "as Segment's destination writes it"),
    ({**SAID, "external_audience_id": int(AUDIENCE)}, PLACE, "a number is its digits"),
    ({**SAID, "audience_settings": {"engageAdAccountId": f"act_{ACCOUNT}"}}, PLACE, "with the prefix"),
    ({"external_audience_id": AUDIENCE}, Place(audience_id=AUDIENCE), "no settings"),
    ({"audience_settings": {"engageAdAccountId": 7}}, Place(ad_account_id="act_7"), "no audience yet"),
    ({"external_audience_id": "", "audience_settings": {"engageAdAccountId": ""}}, None, "blank"),
    ({"external_audience_id": "act_1", "audience_settings": {"engageAdAccountId": "x"}}, None, "no ids"),
    ({"external_audience_id": 1.5, "audience_settings": ["x"]}, None, "of other types"),
    ({"external_audience_id": True, "audience_settings": {"engageAdAccountId": True}}, None, "booleans"),
    ({}, None, "nothing"),
]


@pytest.mark.parametrize(("personas", "place", "why"), PLACES, ids=[row[2] for row in PLACES])
def test_what_a_call_says(personas: dict[str, Any], place: Place | None, why: str) -> None:
    assert place_of(personas) == place, why


def placed(facebook: str, source: str = "source: engage", place: Place = PLACE) -> list[tuple[Any, Any]]:
    text = f"audiences: [{{name: Vips, {source}{facebook}}}]"
    (audience,) = parse_definitions([Document("audiences.yaml", text)]).audiences
    return [(one.ad_account_id, one.audience_id) for one in with_place(audience, place).destinations]


ACT = f"act_{ACCOUNT}"
PRECEDENCE = [
    ("", [(ACT, AUDIENCE)], "the definition says nothing"),
    (", facebook: {ad_account_id: act_7}", [("act_7", None)], "another account: its audience is not meant"),
    (f", facebook: {{ad_account_id: {ACT}}}", [(ACT, AUDIENCE)], "the same account"),
    (", facebook: {audience_id: '5'}", [(ACT, "5")], "the definition's audience"),
    (
        f", facebook: [{{ad_account_id: act_7}}, {{ad_account_id: {ACT}}}]",
        [("act_7", None), (ACT, AUDIENCE)],
        "of several the one in that account",
    ),
]


@pytest.mark.parametrize(("facebook", "expected", "why"), PRECEDENCE, ids=[row[2] for row in PRECEDENCE])
def test_the_definition_goes_before_what_calls_say(
    facebook: str, expected: list[tuple[Any, Any]], why: str
) -> None:
    assert placed(facebook) == expected, why


def test_an_audience_without_an_account_beside_it_is_that_of_the_one_destination() -> None:
    only = Place(audience_id=AUDIENCE)
    assert placed(", facebook: {ad_account_id: act_7}", place=only) == [("act_7", AUDIENCE)]
    several = ", facebook: [{ad_account_id: act_7}, {ad_account_id: act_8}]"
    assert placed(several, place=only) == [("act_7", None), ("act_8", None)]


def test_what_is_computed_here_is_not_placed_by_calls() -> None:
    assert placed("", "when: {event: A}") == [(None, None)]


def test_another_place_is_news_once_the_first_is_silent() -> None:
    known = PlacedRecord(audience="vips", place=PLACE, at=1_000)
    other = Place(audience_id="2")
    assert is_news(None, PLACE, 0, 0)
    assert not is_news(known, PLACE, 10**12, 0)
    assert not is_news(known, other, 1_000 + SILENT_MS, 0)
    assert is_news(known, other, 1_001 + SILENT_MS, 0)
    assert not is_news(known, other, 1_001 + SILENT_MS, 2_000), "the first one has spoken since"


def test_a_call_that_counts_is_resolved_with_its_place() -> None:
    resolver = Resolver(plan_of({"key": "vips", "source": "engage"}), ResolveOptions())

    def resolved(key: str, **more: Any) -> Any:
        personas = {"computation_class": "audience", "computation_key": key, **SAID}
        raw = call(**{"context": {"personas": personas}, "properties": {key: True}, **more})
        return resolver.resolve(raw, START, FAR_WALL, "lane", 7).placed

    assert resolved("vips") == ("vips", PLACE, START)
    assert resolved("others") == ("others", PLACE, START), "which may be created for it"
    assert resolved("vips", integrations={"All": False}) is None
    assert resolved("vips", properties={}) is None, "no membership"
    assert resolver.resolve(call(), START, FAR_WALL, "lane", 8).placed is None
    assert json.loads(call())["type"] == "track"
