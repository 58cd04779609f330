"""Which calls claim a membership, and which: the cases that Segment's own code was run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.engage import (
    audience_key,
    claimed_membership,
    claims_membership,
    is_journey_step,
    may_reach_facebook,
)
from app.domain.resolution import Resolution, ResolveOptions, Resolver
from schemas.dead_letter import DropReason, Reason
from tests.unit.domain.plans import FAR_WALL, call, plan_of

CASES = json.loads((Path(__file__).parent / "membership_vectors.json").read_text("utf-8"))["cases"]
ROW_NAMES = ("new", "updated", "deleted")
ENGAGE_CASES = [
    case
    for case in CASES
    # What rows of a warehouse say is another matter, as is a call of both kinds.
    if not case["id"].startswith("retl-") and case["id"] != "engage-undefined-then-retl"
]


def resolved(raw: dict[str, Any], *, legacy_journeys: bool = False, key: str = "k") -> Resolution:
    plan = plan_of({"key": key, "source": "engage"}, {"when": {"event": "x"}})
    one = Resolver(plan, ResolveOptions(legacy_journeys=legacy_journeys))
    return one.resolve(call(**{"type": ..., "event": ..., **raw}), 0, FAR_WALL, "lane", 0)


@pytest.mark.parametrize("case", ENGAGE_CASES, ids=[case["id"] for case in ENGAGE_CASES])
def test_a_membership_is_claimed_as_segments_own_destination_reads_it(case: dict[str, Any]) -> None:
    """By the rules alone, whatever the form of the key and whether any audience has it."""
    raw = case["raw"]
    personas = raw.get("context", {}).get("personas")
    member = None
    if claims_membership(personas):
        key = audience_key(personas)
        if key is not None:
            member = claimed_membership(raw["type"], key, raw.get("properties"), raw.get("traits"))
        if member is None and case["legacy_journeys_flag"] and is_journey_step(personas):
            member = True
    assert member is case["expected"]


# Neither names an audience: one has no key at all, the other one that no audience can have.
NAMELESS = ("journey-no-key-flag-on", "dotted-key-literal")
WITH_AUDIENCE = [case for case in ENGAGE_CASES if case["id"] not in NAMELESS]


@pytest.mark.parametrize("case", WITH_AUDIENCE, ids=[case["id"] for case in WITH_AUDIENCE])
def test_a_call_is_resolved_to_the_claim_it_makes(case: dict[str, Any]) -> None:
    resolution = resolved(case["raw"], legacy_journeys=case["legacy_journeys_flag"])
    claims = [event.claims for _, event in resolution.records if event.claims is not None]
    expected = case["expected"]
    assert claims == ([] if expected is None else [{"k": expected}])
    if expected is None and claims_membership(case["raw"].get("context", {}).get("personas")):
        assert resolution.refused is not None
        assert resolution.refused.reason is Reason.INVALID_AUDIENCE_MEMBERSHIP


STEP = {"computation_class": "journey_step", "computation_key": "k"}
LEGACY = [
    # call, what is claimed, why
    ({"type": "track", "event": "Spring", "properties": {}}, {"k": True}, "there at all"),
    ({"type": "group", "groupId": "g", "traits": {"k": False}}, {"k": True}, "of any type"),
    ({"type": "identify", "traits": {"k": False}}, {"k": False}, "a boolean counts first"),
    ({"type": "identify", "traits": {"k": None}}, {"k": True}, "null is no boolean"),
]


@pytest.mark.parametrize(("raw", "claims", "why"), LEGACY, ids=[row[2] for row in LEGACY])
def test_a_legacy_journeys_step_enters_without_a_boolean(
    raw: dict[str, Any], claims: dict[str, bool], why: str
) -> None:
    ((_, event),) = resolved(raw | {"context": {"personas": STEP}}, legacy_journeys=True).records
    assert event.claims == claims


def test_a_legacy_step_without_a_key_goes_by_its_id() -> None:
    personas = {"computation_class": "journey_step", "computation_id": "k"}
    raw = {"type": "track", "event": "Spring", "context": {"personas": personas}}
    ((_, event),) = resolved(raw, legacy_journeys=True).records
    assert event.claims == {"k": True}
    personas = {"computation_class": "audience", "computation_id": "k"}
    for legacy, other in (
        (False, raw),
        (True, raw | {"context": {"personas": {**STEP, "computation_key": None}}}),
        (True, raw | {"context": {"personas": personas}, "properties": {"k": True}}),
    ):
        refused = resolved(other, legacy_journeys=legacy).refused
        assert refused is not None
        assert refused.reason is Reason.INVALID_AUDIENCE_MEMBERSHIP


def test_a_legacy_step_of_an_unknown_audience_or_held_back_is_dropped() -> None:
    raw = {"type": "track", "event": "Spring", "context": {"personas": STEP}}
    unknown = resolved(raw, legacy_journeys=True, key="other")
    assert (unknown.dropped, unknown.unknown_audience) == (DropReason.UNKNOWN_AUDIENCE, "k")
    back = resolved(raw | {"integrations": {"All": False}}, legacy_journeys=True)
    assert back.dropped is DropReason.FILTERED_BY_INTEGRATIONS


INTEGRATIONS = [
    # the integrations object, whether Facebook is among the destinations, why
    (None, True, "absent"),
    ({}, True, "empty"),
    ({"All": True}, True, "everywhere"),
    ({"All": False}, False, "nowhere"),
    ({"All": False, "Facebook Custom Audiences (Actions)": True}, True, "only here"),
    ({"All": False, "Facebook Custom Audiences (Actions)": {"a": 1}}, True, "options enable"),
    ({"All": True, "Facebook Custom Audiences (Actions)": False}, False, "everywhere but here"),
    ({"All": False, "Personas Facebook Custom Audiences": True}, True, "by an older name"),
    ({"PERSONAS - Facebook Ads": False}, False, "by the oldest name"),
    (
        {"Facebook Custom Audiences (Actions)": True, "Personas Facebook Custom Audiences": False},
        True,
        "the newest name first",
    ),
    ({"Facebook Custom Audiences": False}, True, "a title is no name"),
    ({"facebook custom audiences (actions)": False}, True, "names are exact"),
    ({"all": False}, True, "All too"),
    ({"All": None}, True, "null is not false"),
    ({"All": "false"}, True, "nor is a text"),
    ({"All": 0}, True, "nor is zero"),
    ([False], True, "no object says nothing"),
]


@pytest.mark.parametrize(
    ("integrations", "let_through", "why"), INTEGRATIONS, ids=[i[2] for i in INTEGRATIONS]
)
def test_the_integrations_object(integrations: Any, let_through: bool, why: str) -> None:
    assert may_reach_facebook(integrations) is let_through


@pytest.mark.parametrize("kind", ["trait", "computed_trait"])
def test_a_computed_traits_call_counts_whatever_its_integrations_say(kind: str) -> None:
    personas = {"computation_class": kind, "computation_key": "k"}
    raw = {"type": "track", "event": "x", "integrations": {"All": False}, "context": {"personas": personas}}
    resolution = resolved(raw | {"properties": {"k": True}})
    ((_, event),) = resolution.records
    assert (len(event.hits), event.claims, resolution.dropped) == (1, None, None)


@pytest.mark.parametrize(
    "context", [None, {}, {"personas": None}, {"personas": []}, {"personas": "audience"}, {"personas": {}}]
)
def test_a_context_without_a_computation_is_an_ordinary_calls(context: Any) -> None:
    raw = {"type": "track", "event": "x", "properties": {"k": True}, "context": context}
    ((_, event),) = resolved(raw).records
    assert (len(event.hits), event.claims) == (1, None)
