"""Calls of Engage resolved: claims, and what else they say."""

import json
from typing import Any

import pytest

from app.domain.normalization import normalize_email
from schemas.dead_letter import DropReason, Reason
from tests.unit.domain.resolved_calls import DEVICE, ENGAGED, ORDERED, engage, only_record, resolve

CLAIMS = [
    (engage("identify", claim=True), True, "entered by identify"),
    (engage("identify", claim=False), False, "left by identify"),
    (engage("track", claim=True, event="Audience Exited"), True, "the name of the event means nothing"),
    (engage("track", claim=False, event=...), False, "nor that there is one"),
    (engage(personas={"computation_class": "journey_step"}), True, "a journey's step claims as well"),
    (engage(integrations={"All": False, "Facebook Custom Audiences (Actions)": True}), True, "let through"),
    (
        engage(integrations={"All": False, "PERSONAS - Facebook Ads": {}}),
        True,
        "by an older name, with options",
    ),
    (engage(integrations=None), True, "no integrations"),
    (engage(integrations={"All": None}), True, "only false keeps back"),
]


@pytest.mark.parametrize(("raw", "member", "why"), CLAIMS, ids=[row[2] for row in CLAIMS])
def test_an_engage_call_claims_a_membership(raw: bytes, member: bool, why: str) -> None:
    _, event = only_record(resolve(raw, ENGAGED, {"when": {"event": "Audience Exited"}}))
    assert event.claims == {"vips": member}
    assert event.hits == []


UNRESOLVABLE = [
    (engage(claim="true"), "a text is no boolean"),
    (engage(claim=1), "nor is a number"),
    (engage(claim=...), "nothing said"),
    (engage("track", claim=..., traits={"vips": True}), "track says it in properties"),
    (engage("identify", claim=..., properties={"vips": True}), "identify says it in traits"),
    (engage("page", claim=True, traits={"vips": True}), "a page claims nothing"),
    (engage(personas={"computation_key": ""}), "no key"),
    (engage(personas={"computation_key": 5}), "a key that is no text"),
]


@pytest.mark.parametrize(("raw", "why"), UNRESOLVABLE, ids=[row[1] for row in UNRESOLVABLE])
def test_a_claim_that_says_nothing_is_refused(raw: bytes, why: str) -> None:
    resolution = resolve(raw, ENGAGED)
    assert resolution.refused is not None
    assert resolution.refused.reason is Reason.INVALID_AUDIENCE_MEMBERSHIP
    assert resolution.records == ()


DROPPED_CLAIMS = [
    (engage(personas={"computation_key": "others"}), DropReason.UNKNOWN_AUDIENCE, "others"),
    (engage(personas={"computation_key": "others"}, claim=...), DropReason.UNKNOWN_AUDIENCE, "others"),
    (engage(personas={"computation_key": "audience_1"}, claim=...), DropReason.COMPUTED_HERE, None),
    (engage(integrations={"All": False}), DropReason.FILTERED_BY_INTEGRATIONS, None),
    (
        engage(integrations={"All": True, "Personas Facebook Custom Audiences": False}),
        DropReason.FILTERED_BY_INTEGRATIONS,
        None,
    ),
    (
        engage(integrations={"All": True, "Facebook Custom Audiences (Actions)": False}, claim="x"),
        DropReason.FILTERED_BY_INTEGRATIONS,
        None,
    ),
]


@pytest.mark.parametrize(("raw", "reason", "unknown"), DROPPED_CLAIMS)
def test_a_dropped_claim_keeps_identifiers_and_traits(
    raw: bytes, reason: DropReason, unknown: str | None
) -> None:
    resolution = resolve(raw, ENGAGED, ORDERED)
    assert (resolution.dropped, resolution.unknown_audience) == (reason, unknown)
    assert resolution.records == ()
    body = json.loads(raw)
    body["traits"]["email"] = "jane@example.com"
    body["traits"]["plan"] = "x"
    kept = resolve(json.dumps(body).encode(), ENGAGED, {"when": {"trait": "plan", "equals": "x"}})
    assert kept.dropped is reason
    _, event = kept.records[0]
    assert event.claims is None
    assert event.traits == {"plan": "x"}
    assert event.identifiers is not None
    assert event.identifiers["EMAIL"]


def test_identifiers_of_an_engage_call_come_from_properties_and_context_as_well() -> None:
    context = {"traits": {"email": "b@example.com", "city": "Lyon"}, "device": {"advertisingId": DEVICE}}
    raw = engage("track", properties={"vips": True, "email": "a@example.com"}, context=context)
    _, event = only_record(resolve(raw, ENGAGED))
    assert event.identifiers is not None
    assert event.identifiers["EMAIL"] == getattr(normalize_email("a@example.com"), "value", None)
    assert set(event.identifiers) == {"EMAIL", "CT", "MADID"}


def test_the_claim_is_no_trait() -> None:
    _, event = only_record(resolve(engage(), ENGAGED, {"when": {"trait": "vips", "equals": True}}))
    assert event.traits is None


@pytest.mark.parametrize("kind", ["trait", "computed_trait", None, 5])
def test_other_computations_are_ordinary_calls(kind: Any) -> None:
    raw = engage("track", personas={"computation_class": kind}, event="Order Completed")
    _, event = only_record(resolve(raw, ENGAGED, ORDERED))
    assert len(event.hits) == 1
    assert event.claims is None
