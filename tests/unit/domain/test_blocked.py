"""Identifiers that identify no one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from app.domain.resolution import Resolution, ResolveOptions, Resolver
from app.domain.simulation import simulate
from schemas.dead_letter import Reason
from tests.unit.domain.plans import FAR_WALL

TEXT = """
audiences:
  - {name: Twice, when: {event: A, count: {at_least: 2}}, include_anonymous: true}
  - {name: Rows, source: reverse_etl, rows: {where: {$.context.rows: true}}}
"""
DEFINED = parse_definitions([Document("audiences.yaml", TEXT)])
PLAN = compile_audiences(DEFINED.audiences)
INSTANT = "2026-01-01T00:00:00Z"


def call(**fields: Any) -> bytes:
    named = {"type": "track", "event": "A", "timestamp": INSTANT, "receivedAt": INSTANT}
    return json.dumps({**named, **fields}).encode()


class Calls:
    """Resolved one after the other."""

    def __init__(self, *blocked: str) -> None:
        self.resolver = Resolver(PLAN, ResolveOptions(blocked=blocked))

    def __call__(self, **fields: Any) -> Resolution:
        return self.resolver.resolve(call(**fields), None, FAR_WALL, "lane", 1)

    def named(self, **fields: Any) -> list[str]:
        """The profile of the call and those linked to it."""
        [(profile, event)] = self(**fields).records
        return [profile, *(event.linking.links if event.linking else [])]


@pytest.mark.parametrize("value", ["null", "anonymous", "-1", "0", "0000", "00-00", "-"])
def test_what_segment_suggests(value: str) -> None:
    calls = Calls("suggested")
    assert calls.named(userId=value, anonymousId="a1") == ["anonymous_id:a1"]
    assert calls.named(userId="u1", anonymousId=value) == ["u1"]
    assert calls.resolver.take_blocked() == 2
    assert calls.resolver.take_blocked() == 0
    refused = calls(userId=value, anonymousId=value).refused
    assert refused is not None
    assert refused.reason is Reason.NO_IDENTITY
    assert Calls().named(userId=value, anonymousId="a1") == [value, "anonymous_id:a1"], "only where asked for"


@pytest.mark.parametrize("value", ["NULL", "null ", "1", "u-1", "000a", "unknown", "anonymous1"])
def test_only_a_whole_value_is_blocked(value: str) -> None:
    calls = Calls("suggested")
    assert calls.named(userId=value) == [value]
    assert calls.resolver.take_blocked() == 0


def test_values_of_ones_own() -> None:
    calls = Calls("unknown", "kiosk-7")
    assert calls.named(userId="unknown", anonymousId="a1") == ["anonymous_id:a1"]
    assert calls.named(userId="u1", anonymousId="kiosk-7") == ["u1"]
    assert calls.named(userId="null") == ["null"], "what Segment suggests was not asked for"


def test_a_blocked_address_links_nobody_and_is_sent_all_the_same() -> None:
    calls = Calls("Shared@Shop.example")
    digest = hashlib.sha256(b"shared@shop.example").hexdigest()
    [(profile, event)] = calls(userId="u1", context={"traits": {"email": " SHARED@shop.example"}}).records
    assert (profile, event.linking) == ("u1", None)
    assert event.identifiers == {"EMAIL": digest}
    assert calls.named(anonymousId="a1", context={"traits": {"email": "shared@shop.example"}}) == [
        "anonymous_id:a1"
    ]
    assert calls.resolver.take_blocked() == 2
    own = Calls("other@shop.example")
    assert own.named(userId="u1", context={"traits": {"email": "shared@shop.example"}}) == [
        "u1",
        f"email:{digest}",
    ]


def test_a_blocked_device_links_nobody() -> None:
    device = {"type": "ios", "advertisingId": "ABCD-1", "adTrackingEnabled": True}
    assert Calls("abcd-1").named(userId="u1", context={"device": device}) == ["u1"]
    assert Calls("ABCD-1").named(userId="u1", context={"device": device}) == ["u1"]
    assert Calls("abcd").named(userId="u1", context={"device": device}) == ["u1", "madid:abcd-1"]


def test_a_row_about_nobody_is_refused() -> None:
    rows = {"event": "new", "context": {"rows": True}}
    refused = Calls("suggested")(userId="null", **rows).refused
    assert refused is not None
    assert refused.reason is Reason.NO_IDENTITY
    assert Calls("suggested").named(userId="u1", **rows) == ["u1"]


def test_people_who_share_a_blocked_value_stay_apart() -> None:
    lines = [call(userId="null", anonymousId=f"a{n}", messageId=str(n)) for n in (1, 2, 3)]
    lines.append(call(userId="null", anonymousId="a3", messageId="4"))
    options = ResolveOptions(blocked=("suggested",))
    assert [item.profile for item in simulate(PLAN, lines, None, options)] == ["a3"]  # type: ignore[union-attr]
    assert [item.profile for item in simulate(PLAN, lines)] == ["null"]  # type: ignore[union-attr]
