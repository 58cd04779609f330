"""None"""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.call_times import MAX_AHEAD_MS
from app.domain.normalization import normalize_email
from schemas.dead_letter import DropReason, Reason
from schemas.profile import FeedHit
from tests.unit.domain.plans import FAR_WALL, START, call, plan_of
from tests.unit.domain.resolved_calls import (
    DEVICE,
    ENGAGED,
    NEVER_ORDERED,
    ORDERED,
    RECORD_TIME,
    engage,
    only_record,
    resolve,
    resolver,
)


def test_a_needed_event_is_forwarded_with_its_place_and_times() -> None:
    resolution = resolve(call())
    profile, event = only_record(resolution)
    assert resolution.received == START + 1_000
    assert profile == "user_1"
    assert (event.lane, event.offset, event.index) == ("lane", 7, 0)
    assert (event.timestamp, event.received, event.message_id) == (START, START + 1_000, "m1")
    assert [hit.feed for hit in event.hits] == list(plan_of(ORDERED).feeds)
    assert (event.traits, event.identifiers, event.claims) == (None, None, None)


def test_only_what_a_condition_compares_later_is_kept_of_an_event() -> None:
    audience = {
        "when": {
            "event": "Order Completed",
            "where": {"currency": "EUR", "store": {"trait": "home"}},
            "context": {"page.path": {"equals": {"trait": "home"}}},
            "sum": {"property": "revenue", "at_least": 1},
        }
    }
    properties = {"currency": "EUR", "store": "Lyon", "revenue": "9.5", "email": "someone@example.com"}
    _, event = only_record(
        resolve(call(properties=properties, context={"page": {"path": "/a"}, "ip": "x"}), audience)
    )
    assert event.hits == [FeedHit(event.hits[0].feed, ["/a", 9.5, "Lyon"])]


NOT_UTF8 = call().replace(b"user_1", b"us\xffer")
REFUSED = [
    # raw record, reason, what the detail names, why
    (b"", Reason.INVALID_JSON, "JSON", "an empty record"),
    (b"{", Reason.INVALID_JSON, "JSON", "cut off"),
    (call() + b"x", Reason.INVALID_JSON, "JSON", "more behind it"),
    (b'{"a": NaN}', Reason.INVALID_JSON, "JSON", "NaN is no JSON"),
    (b"\xef\xbb\xbf" + call(), Reason.INVALID_JSON, "JSON", "a byte order mark"),
    (call(userId=1).replace(b"1,", b"1e999,"), Reason.INVALID_JSON, "range", "no float holds it"),
    (
        b'{"properties":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
        Reason.INVALID_JSON,
        "deep",
        "nested too deeply",
    ),
    (call(userId="\ud800"), Reason.INVALID_JSON, "JSON", "half a character in an id"),
    (NOT_UTF8, Reason.INVALID_UTF8, "UTF-8", "in a field that is read"),
    (call(extra="?").replace(b"?", b"\xff"), Reason.INVALID_UTF8, "UTF-8", "in a field that is not read"),
    (b"[]", Reason.NOT_AN_OBJECT, "object", "a list"),
    (b"null", Reason.NOT_AN_OBJECT, "object", "null"),
    (None, Reason.NOT_AN_OBJECT, "no value", "a tombstone"),
    (call(properties={"a": "x" * 32_768}), Reason.TOO_LARGE, "32,768", "larger than Segment lets in"),
    (call(userId=...), Reason.NO_IDENTITY, "userId", "nobody"),
    (call(userId="", anonymousId=" \t"), Reason.NO_IDENTITY, "anonymousId", "blank ids"),
    (call(userId=None, anonymousId=None), Reason.NO_IDENTITY, "userId", "null ids"),
    (call(userId=17), Reason.INVALID_FIELD, "userId", "a number"),
    (call(anonymousId=["a"]), Reason.INVALID_FIELD, "anonymousId", "a list, though there is a user id"),
    (call(messageId={}), Reason.INVALID_FIELD, "messageId", "an object"),
    (call(event=...), Reason.INVALID_FIELD, "event", "a track call without event"),
    (call(event=" "), Reason.INVALID_FIELD, "event", "a blank event"),
    (call(event=5), Reason.INVALID_FIELD, "event", "a number"),
    (call(properties=[1]), Reason.INVALID_FIELD, "properties", "a list"),
    (call(event="Not Needed", properties="x"), Reason.INVALID_FIELD, "properties", "wrong, needed or not"),
    (call(type="identify", traits="x"), Reason.INVALID_FIELD, "traits", "a text"),
    (call(context=7), Reason.INVALID_FIELD, "context", "a number"),
    (call(type="page", name=5), Reason.INVALID_FIELD, "name", "a page's name"),
    (call(type="group"), Reason.INVALID_FIELD, "groupId", "a group call without group"),
    (call(type="group", groupId=[]), Reason.INVALID_FIELD, "groupId", "a list"),
    (call(type=...), Reason.UNKNOWN_TYPE, "type", "no type"),
    (call(type="Track"), Reason.UNKNOWN_TYPE, "type", "types are written in lower case"),
    (call(type=1), Reason.UNKNOWN_TYPE, "type", "a number"),
    (call(timestamp="2025-03-01T00:00:00"), Reason.INVALID_TIMESTAMP, "timestamp", "no zone"),
    (call(timestamp="yesterday"), Reason.INVALID_TIMESTAMP, "timestamp", "no instant"),
    (call(timestamp=1_740_787_200), Reason.INVALID_TIMESTAMP, "timestamp", "a number"),
    (call(timestamp="1969-12-31T23:59:59.999Z"), Reason.INVALID_TIMESTAMP, "timestamp", "before 1970"),
    (call(receivedAt="soon"), Reason.INVALID_TIMESTAMP, "receivedAt", "no instant"),
    (call(receivedAt="1960-01-01T00:00:00Z"), Reason.INVALID_TIMESTAMP, "receivedAt", "before 1970"),
    (call(timestamp="2025-03-02T00:00:01.001Z"), Reason.FUTURE_TIMESTAMP, "24 hours", "a ms too far ahead"),
]


@pytest.mark.parametrize(("raw", "reason", "named", "why"), REFUSED, ids=[row[3] for row in REFUSED])
def test_a_broken_record_is_refused_by_name(raw: bytes | None, reason: Reason, named: str, why: str) -> None:
    resolution = resolve(raw)
    assert resolution.refused is not None
    assert resolution.refused.reason is reason
    assert named in resolution.refused.detail
    assert resolution.records == ()
    assert resolution.dropped is None
    assert resolution.received is not None


ACCEPTED = [
    (
        call(timestamp="2025-03-02T00:00:01.000Z"),
        START + MAX_AHEAD_MS + 1_000,
        "24 h ahead, to the millisecond",
    ),
    (call(timestamp="2025-03-01T02:00:00+02:00"), START, "another zone"),
    (call(timestamp="2025-03-01T00:00Z"), START, "no seconds"),
    (call(timestamp="2025-03-01 00:00:00.0009Z"), START, "below a millisecond nothing counts"),
    (call(timestamp="1970-01-01T00:00:00Z"), 0, "the first instant there is"),
    (call(timestamp=...), START + 1_000, "no timestamp: when it was received"),
    (call(timestamp=None), START + 1_000, "null is no timestamp"),
    (
        call(timestamp=..., sentAt="2030-01-01T00:00:05Z", originalTimestamp="2030-01-01T00:00:03Z"),
        START - 1_000,
        "received less the time between making and sending, by a device that is years ahead",
    ),
    (
        call(timestamp=..., sentAt="later", originalTimestamp="2030-01-01T00:00:03Z"),
        START + 1_000,
        "a device's instant that is none says nothing",
    ),
    (call(timestamp=..., sentAt=5, originalTimestamp=6), START + 1_000, "nor do numbers"),
    (call(name=5, groupId=[], integrations=7), START, "wrong types in fields that mean nothing here"),
    (call(extra={"deep": [None]}), START, "fields of no meaning"),
    (call(properties={"n": 10**400}), START, "a huge whole number"),
    (call(properties=None, traits=None, context=None), START, "null objects"),
]


@pytest.mark.parametrize(("raw", "timestamp", "why"), ACCEPTED, ids=[row[2] for row in ACCEPTED])
def test_what_may_be_odd_and_is_accepted(raw: bytes, timestamp: int, why: str) -> None:
    _, event = only_record(resolve(raw))
    assert event.timestamp == timestamp


def test_a_needed_part_that_no_number_fits_is_refused() -> None:
    raw = call(properties={"n": 1}).replace(b"1}", b"1e999}")
    filtered = {"when": {"event": "Order Completed", "where": {"m": 1}}}
    refused = resolve(raw, filtered).refused
    assert refused is not None
    assert (refused.reason, refused.detail) == (Reason.INVALID_JSON, "a number is out of range")


def test_received_time_is_the_records_without_receivedat_and_never_after_the_wall() -> None:
    assert resolve(call(receivedAt=...)).received == RECORD_TIME
    assert resolve(call(), wall=START + 500).received == START + 500
    assert resolve(b"nonsense").received == RECORD_TIME
    assert resolve(call(userId=7)).received == START + 1_000
    beyond_wall = resolve(
        call(timestamp="2025-03-03T00:00:00Z", receivedAt="2025-03-03T00:00:00Z"), wall=START
    )
    assert beyond_wall.refused is not None
    assert beyond_wall.refused.reason is Reason.FUTURE_TIMESTAMP


def test_without_a_record_time_the_timestamp_is_the_received_time() -> None:
    assert resolver().resolve(call(receivedAt=...), None, FAR_WALL, "lane", 0).received == START
    nothing = resolver().resolve(call(receivedAt=..., timestamp=...), None, FAR_WALL, "lane", 0)
    assert nothing.received is None
    assert nothing.refused is not None
    assert nothing.refused.reason is Reason.INVALID_TIMESTAMP


DROPPED = [
    (call(type="alias", previousId="a1"), DropReason.ALIAS),
    (call(event="Something Else"), DropReason.NOT_NEEDED),
    (call(event="order completed"), DropReason.NOT_NEEDED),
    (call(type="identify", traits={"plan": "x"}), DropReason.NOT_NEEDED),
    (call(type="group", groupId="g1"), DropReason.NOT_NEEDED),
    (call(type="page", name="Order Completed"), DropReason.NOT_NEEDED),
]


@pytest.mark.parametrize(("raw", "reason"), DROPPED)
def test_what_no_audience_needs_is_dropped_under_its_reason(raw: bytes, reason: DropReason) -> None:
    resolution = resolve(raw)
    assert (resolution.dropped, resolution.records, resolution.refused) == (reason, (), None)
    assert resolution.received == START + 1_000


def test_ids() -> None:
    def profile(**ids: Any) -> str:
        return only_record(resolve(call(**{"userId": ..., **ids})))[0]

    hashed = "b4c9a289323b21a01c3e940f150eb9b8c542587f1abfd8f0e1cc1ffc5e475514"
    assert profile(userId="u", anonymousId="a") == "u"
    assert profile(userId=None, anonymousId="a") == "anonymous_id:a"
    assert profile(userId="anonymous_id:a") == "user_id:anonymous_id:a"
    assert profile(userId="\x00clock") == "user_id:\x00clock"
    assert profile(userId="user@example.com") == hashed
    assert profile(userId=..., anonymousId="user@example.com") == f"anonymous_id:{hashed}"
    assert len(profile(userId="+14155550123")) == 64
    assert profile(userId="+12345") == "+12345"


def test_a_blank_message_id_is_none_and_a_long_one_is_cut_and_still_its_own() -> None:
    def message_id(text: str | None) -> str | None:
        return only_record(resolve(call(messageId=text)))[1].message_id

    assert message_id("") is message_id(" ") is message_id(None) is None
    assert message_id("x" * 100) == "x" * 100
    first, second = message_id("x" * 20_000), message_id("x" * 20_001)
    assert first is not None
    assert first.startswith("x" * 100)
    assert len(first) == 164
    assert first != second


# --- existence ---


def test_a_first_sight_is_forwarded_once_where_some_audience_holds_for_an_empty_profile() -> None:
    one = resolver(NEVER_ORDERED)
    first = one.resolve(call(event="Anything"), RECORD_TIME, FAR_WALL, "lane", 0)
    profile, event = only_record(first)
    assert (profile, event.hits, event.traits) == ("user_1", [], None)
    again = one.resolve(call(type="page", messageId="m2"), RECORD_TIME, FAR_WALL, "lane", 1)
    assert again.dropped is DropReason.NOT_NEEDED
    device = call(event="Anything", userId=None, anonymousId="a")
    assert one.resolve(device, RECORD_TIME, FAR_WALL, "lane", 2).dropped is DropReason.NOT_NEEDED


def test_anonymous_profiles_are_seen_where_such_an_audience_includes_them() -> None:
    device = call(event="Anything", userId=None, anonymousId="a")
    assert only_record(resolve(device, {**NEVER_ORDERED, "include_anonymous": True}))[0] == "anonymous_id:a"


@pytest.mark.parametrize(
    "when",
    [
        {"event": "Order Completed"},
        {"trait": "plan", "exists": True},
        {"event": "Order Completed", "count": {"at_most": 2}, "sum": {"property": "p", "at_least": 0}},
        {"all": [{"not": {"event": "A"}}, {"event": "B"}]},
    ],
)
def test_no_bare_sight_where_every_audience_needs_something(when: dict[str, Any]) -> None:
    assert resolve(call(event="Anything"), {"when": when}).dropped is DropReason.NOT_NEEDED


# --- traits and identifiers ---


def test_identify_forwards_used_traits_by_their_path() -> None:
    audience = {
        "when": {"all": [{"trait": "address.city", "equals": "Lyon"}, {"trait": "tags.$", "equals": "a"}]}
    }
    traits = {"address": {"city": "Lyon", "street": "x"}, "tags": ["a", None, "b"], "plan": "x"}
    _, event = only_record(resolve(call(type="identify", traits=traits), audience))
    assert event.traits == {"address.city": "Lyon", "tags.$": ["a", None, "b"]}
    _, event = only_record(resolve(call(type="identify", traits={"address": {}, "tags": None}), audience))
    assert event.traits == {"address.city": None, "tags.$": None}


def test_traits_of_other_calls_are_no_traits() -> None:
    audience = {"when": {"trait": "plan", "equals": "x"}}
    for kind in ("track", "page", "group"):
        raw = call(type=kind, groupId="g", traits={"plan": "x"}, context={"traits": {"plan": "x"}})
        assert resolve(raw, audience).dropped is DropReason.NOT_NEEDED


def test_identify_forwards_identifiers_normalised_and_hashed() -> None:
    traits = {"email": " Jane@Example.com ", "phone": "06 12 34 56 78", "country": "FR", "firstName": "Jane"}
    _, event = only_record(resolve(call(type="identify", traits=traits)))
    assert event.identifiers is not None
    assert list(event.identifiers) == ["EMAIL", "PHONE", "FN", "COUNTRY"]
    normalized = normalize_email("jane@example.com")
    assert event.identifiers["EMAIL"] == getattr(normalized, "value", None)
    # The country of the same call makes the number international.
    assert event.identifiers["PHONE"] == hashlib.sha256(b"33612345678").hexdigest()
    assert "ane" not in json.dumps(event.identifiers)


def test_a_blank_or_unusable_field_says_that_there_is_nothing_to_send() -> None:
    traits = {"city": "", "email": "nobody", "gender": None, "plan": 1}
    _, event = only_record(resolve(call(type="identify", traits=traits)))
    assert event.identifiers == {"EMAIL": None, "GEN": None, "CT": None}


def test_the_device_id_of_any_call_is_an_identifier_where_tracking_is_allowed() -> None:
    one = resolver()
    device = {"advertisingId": DEVICE.upper(), "adTrackingEnabled": True}
    _, event = only_record(one.resolve(call(event="x", context={"device": device}), 0, FAR_WALL, "lane", 0))
    assert event.identifiers == {"MADID": DEVICE}
    again = one.resolve(call(event="x", context={"device": device}), 0, FAR_WALL, "lane", 1)
    assert again.dropped is DropReason.NOT_NEEDED
    for refused in (
        {"adTrackingEnabled": False},
        {"adTrackingEnabled": None},
        {"advertisingId": "0000-0000"},
    ):
        raw = call(event="x", userId="u2", context={"device": {**device, **refused}})
        assert one.resolve(raw, 0, FAR_WALL, "lane", 2).dropped is DropReason.NOT_NEEDED


# --- hostile input ---


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("type", "event", "name", "userId", "anonymousId", "groupId", "messageId", "timestamp", "receivedAt"),
    *("sentAt", "originalTimestamp", "properties", "traits", "context", "integrations"),
]
hostile_calls = st.dictionaries(st.sampled_from(FIELDS), json_values).map(
    lambda odd: {**json.loads(engage("track", claim=True)), **odd}
) | st.dictionaries(st.sampled_from(FIELDS), json_values).map(
    lambda odd: {**json.loads(call(event="new", properties={"email": ["a@b.co"]})), **odd}
)
HOSTILE = resolver(
    ENGAGED,
    NEVER_ORDERED,
    {
        "source": "reverse_etl",
        "rows": {"where": {"$.properties.a.$": {"not_contains": "x"}}, "id": "$.context.b"},
    },
    {"source": "reverse_etl", "rows": {"topic": "segment.events"}},
    {"when": {"event": "Order Completed", "where": {"a.$.b": {"contains": "x"}, "c": {"trait": "t.$"}}}},
    {
        "when": {
            "event": "Page Viewed",
            "context": {"a": {"not_equals": 1}},
            "sum": {"property": "p", "equals": 1},
        }
    },
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        hostile_calls.map(lambda value: json.dumps(value).encode()),
        hostile_calls.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")),
        st.tuples(hostile_calls, st.integers(0, 400)).map(
            lambda pair: json.dumps(pair[0]).encode()[: pair[1]]
        ),
    )
)
def test_resolve_never_raises_and_always_decides(raw: bytes) -> None:
    resolution = HOSTILE.resolve(raw, RECORD_TIME, FAR_WALL, "lane", 0)
    assert resolution.received is not None
    assert resolution.refused is not None or resolution.records or resolution.dropped is not None
    assert not (resolution.refused is not None and (resolution.records or resolution.dropped))
