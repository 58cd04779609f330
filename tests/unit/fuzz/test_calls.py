"""Segment's events and Engage's payloads: whatever the bytes, a decision, and what is forwarded can be folded."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import msgspec
import orjson

from app.domain.call_times import MAX_AHEAD_MS
from app.domain.counters import Counters
from app.domain.dead_letters import shape_of
from app.domain.partition import AudiencePartition
from app.domain.resolution import Resolution, ResolveOptions, Resolver
from app.pipeline.evaluate import fits
from schemas.dead_letter import DeadLetter, Origin
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import START, plan_of
from tests.unit.fuzz.inputs import CANARY, as_json, fuzzed, mutated

WALL = START + 40 * 86_400_000
RECORD_TIME = START + 60_000
FACEBOOK = {
    "ad_account_id": "act_1",
    "fields": {
        "email": ["$.traits.work_email", "$.properties.email"],
        "name": {"first": "$.context.traits.first"},
        "city": {"const": "Bonn"},
        "value": {"trait": "spent"},
    },
    "value_based": True,
}
PLAN = plan_of(
    {
        "when": {
            "event": "Order Completed",
            "within": "30d",
            "where": {"currency": {"any_of": ["EUR"]}, "products.$.sku": {"contains": "a"}, "store": {"trait": "home"}},
            "context": {"page.path": {"starts_with": "/"}},
            "sum": {"property": "revenue", "at_least": 5},
        },
        "facebook": FACEBOOK,
    },
    {"when": {"event": "Order Completed", "count": {"exactly": 0}}},
    {"when": {"event": "Product Added", "then": {"event": "Order Completed", "within": "1d", "where": {"cart": {"same_as": "cart"}}}}},
    {"when": {"all": [{"trait": "plan.name", "equals": "pro"}, {"trait": "born", "within_last": "30d"}, {"trait": "spent", "at_least": 3}]}},
    {"when": {"event": "Page Viewed", "where": {"page_name": "Home"}, "min": {"property": "depth", "at_most": 4}}},
    {"name": "Accounts", "entity": "account", "when": {"users": {"any": {"event": "Order Completed"}}}},
    {"key": "vips", "source": "engage", "facebook": {"ad_account_id": "act_2"}},
    {"key": "order_completed_last_30_days", "source": "engage"},
    {"key": "spring_promo__ads_8943l", "source": "engage"},
    {"key": "leads", "source": "reverse_etl", "rows": {"where": {"$.__segment_id": {"exists": True}}}},
    traits={
        "spent": {"event": "Order Completed", "sum": "revenue"},
        "favourite": {"event": "Product Added", "most_frequent": "category"},
        "run": {"event": "Order Completed", "unique_list": "products.$.sku", "session": "30m"},
    },
)  # fmt: skip
PEOPLE = {
    "email": f"{CANARY}@example.com",
    "phone": f"+49 30 {CANARY}",
    "firstName": CANARY,
    "lastName": CANARY,
    "birthday": "1990-02-29",
    "address": {"city": CANARY, "postalCode": "53113", "country": "DE", "street": CANARY},
    "gender": "f",
}
COMMON = {
    "messageId": "m1",
    "userId": "user_1",
    "anonymousId": "a1",
    "timestamp": "2025-03-01T00:00:00.000Z",
    "originalTimestamp": "2025-03-01T00:00:00.000Z",
    "sentAt": "2025-03-01T00:00:00.100Z",
    "receivedAt": "2025-03-01T00:00:01.000Z",
    "context": {
        "device": {
            "advertisingId": "7D92078A-8246-4BA4-AE5B-76104861E7DC",
            "type": "ios",
            "adTrackingEnabled": True,
        },
        "traits": PEOPLE,
        "page": {"path": "/x"},
        "protocols": {"sourceId": "src_9"},
        "ip": "192.0.2.1",
    },
    "integrations": {"All": True, "Facebook Custom Audiences (Actions)": False},
}
ORDER = {
    "revenue": 9.5,
    "currency": "EUR",
    "cart": "c1",
    "store": "Bonn",
    "email": f"{CANARY}@example.com",
    "products": [{"sku": "a1", "price": 1}, {"sku": "b", "price": "2.50"}],
    "depth": 3,
    "category": "hats",
}
CALLS = [
    {"type": "track", "event": "Order Completed", "properties": ORDER, **COMMON},
    {"type": "track", "event": "Product Added", "properties": ORDER, **COMMON},
    {
        "type": "identify",
        "traits": {**PEOPLE, "plan": {"name": "pro"}, "home": "Bonn", "born": "2025-02-20"},
        **COMMON,
    },
    {"type": "page", "name": "Home", "properties": ORDER, **COMMON},
    {"type": "screen", "name": "Home", "properties": ORDER, **COMMON},
    {"type": "group", "groupId": "g1", "traits": PEOPLE, **COMMON},
    {"type": "alias", "previousId": "a0", **COMMON},
    {"type": "delete", **COMMON},
]
PAYLOADS = json.loads(
    (Path(__file__).parent.parent / "domain" / "engage_and_retl_payloads.json")
    .read_text("utf-8")
    .replace("jane.roe", CANARY)
)
ENGAGE = [payload for payload in PAYLOADS.values() if isinstance(payload, dict)]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ProfileEvent).decode


@cache
def _country(country: str | None) -> ResolveOptions:
    return ResolveOptions(default_country=country, blocked=("user_1", f"{CANARY}@blocked.example"))


def resolve(raw: bytes, country: str | None = "DE") -> Resolution:
    return Resolver(PLAN, _country(country)).resolve(raw, RECORD_TIME, WALL, "lane", 7)


def decided(raw: bytes) -> str:
    resolution = resolve(raw)
    # The same again, also for what has seen other calls before.
    assert resolve(raw) == resolution
    assert resolution.received is not None
    assert 0 <= resolution.received <= WALL
    if resolution.refused is not None:
        assert not resolution.records
        assert resolution.dropped is None
        assert CANARY not in resolution.refused.detail
        assert len(resolution.refused.detail) < 200
        letter = DeadLetter(
            id="x",
            stage="resolve",
            reason=resolution.refused.reason,
            detail=resolution.refused.detail,
            origin=Origin(topic="t", partition=0, offset=7),
            first_failed_at=0,
            last_failed_at=0,
            record=shape_of(raw),
        )
        assert CANARY.encode() not in orjson.dumps(letter.model_dump(mode="json"))
        return "refused"
    assert resolution.records or resolution.dropped is not None
    folded(resolution)
    return "accepted" if resolution.records else "dropped"


def folded(resolution: Resolution) -> None:
    """What is forwarded comes back as it was from its bytes, is no longer in the clear, and can be evaluated."""
    partition = AudiencePartition(PLAN, 0, Counters())
    partition.finish_recovery()
    partition.set_wall(WALL)
    partition.set_expected(["lane"])
    partition.apply_marker(ProfileEvent(VERSION, MARKER, "", 0, 0, START, START, progress={"lane": START}))
    for profile, event in resolution.records:
        packed = _encode(event)
        again = _decode(packed)
        assert _encode(again) == packed
        assert fits(again, PLAN.feeds)
        assert event.timestamp <= event.received + MAX_AHEAD_MS
        partition.apply(profile.encode().decode(), again)
    outcome = partition.drain()
    for delta in outcome.deltas:
        assert msgspec.json.decode(msgspec.json.encode(delta), type=type(delta)) == delta


@fuzzed(as_json(mutated(CALLS)))
def test_segment_events(raw: bytes) -> str:
    return decided(raw)


@fuzzed(as_json(mutated(ENGAGE)))
def test_engage_payloads(raw: bytes) -> str:
    return decided(raw)
