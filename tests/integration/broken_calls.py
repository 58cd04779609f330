"""Source records that cannot be used, each with the reason it must get, and a canary wherever text can stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CANARY = "canary-Zk3vQ"
LIMIT_BYTES = 32_768


@dataclass(frozen=True)
class Broken:
    """`reason` of the dead letter; `says` must stand in its detail."""

    what: str
    value: bytes | None
    reason: str
    says: str


def _call(**fields: Any) -> bytes:
    """A good order but for the fields given; None leaves one out."""
    call = {
        "type": "track",
        "event": "Order Completed",
        "userId": f"{CANARY}-user",
        "messageId": f"{CANARY}-message",
        "properties": {"revenue": 1, "note": CANARY},
        **fields,
    }
    return json.dumps({name: value for name, value in call.items() if value is not None}).encode()


def _nested(field: str, depth: int) -> bytes:
    head = _call(**{field: None})[:-1].decode()
    return f'{head}, "{field}": {{"revenue": {"[" * depth}"{CANARY}"{"]" * depth}}}}}'.encode()


def _engage(**said: Any) -> bytes:
    personas = {"computation_class": "audience", "computation_key": "vips"}
    return _call(type="identify", traits=said, context={"personas": personas})


_OF_RIGHT_SIZE = _call(properties={"note": "x" * (LIMIT_BYTES - len(_call(properties={"note": ""})))})
assert len(_OF_RIGHT_SIZE) == LIMIT_BYTES

_TEXT, _OBJECT, _INSTANT = " is not a text", " is not an object", " is not an ISO 8601 instant"

BROKEN = (
    Broken("half an object", _call()[:-9], "invalid_json", "not JSON"),
    Broken("no text at all", b"", "invalid_json", "not JSON"),
    Broken("a word", CANARY.encode(), "invalid_json", "not JSON"),
    Broken("NUL bytes", b"\x00\x00" + CANARY.encode(), "invalid_json", "not JSON"),
    Broken("two objects in one record", _call() + _call(), "invalid_json", "not JSON"),
    Broken("NaN is not JSON", _call().replace(b": 1,", b": NaN,"), "invalid_json", "not JSON"),
    Broken(
        "a lone half of a surrogate pair",
        _call().replace(b'"note": "', b'"note": "\\ud800'),
        "invalid_json",
        "",
    ),
    Broken("properties nested thousands deep", _nested("properties", 15_000), "invalid_json", "deep"),
    Broken("traits nested thousands deep", _nested("traits", 15_000), "invalid_json", "deep"),
    Broken("bytes that are not UTF-8", _call().replace(b"canary", b"can\xffry"), "invalid_utf8", "UTF-8"),
    Broken("UTF-16", _call().decode().encode("utf-16"), "invalid_utf8", "UTF-8"),
    Broken("a list", b"[" + _call() + b"]", "not_an_object", "object"),
    Broken("a text", json.dumps(CANARY).encode(), "not_an_object", "object"),
    Broken("null", b"null", "not_an_object", "object"),
    Broken("a number", b"17", "not_an_object", "object"),
    Broken("a tombstone", None, "not_an_object", "no value"),
    Broken("one byte too many", _OF_RIGHT_SIZE.replace(b'"x', b'"xx', 1), "too_large", "32,768"),
    Broken("a megabyte too many", _call(properties={"note": CANARY * 70_000}), "too_large", "32,768"),
    Broken("no ids", _call(userId=None), "no_identity", "userId and anonymousId"),
    Broken("blank ids", _call(userId=" ", anonymousId="\t"), "no_identity", "userId and anonymousId"),
    Broken("a number as userId", _call(userId=17), "invalid_field", f"userId{_TEXT}"),
    Broken("a list as anonymousId", _call(anonymousId=[CANARY]), "invalid_field", f"anonymousId{_TEXT}"),
    Broken("an object as messageId", _call(messageId={"id": CANARY}), "invalid_field", f"messageId{_TEXT}"),
    Broken("a boolean as event", _call(event=True), "invalid_field", f"event{_TEXT}"),
    Broken("no event", _call(event=None), "invalid_field", "event is missing"),
    Broken("a blank event", _call(event=" "), "invalid_field", "event is missing"),
    Broken("a number as name", _call(type="page", name=5), "invalid_field", f"name{_TEXT}"),
    Broken("a list as name", _call(type="screen", name=[CANARY]), "invalid_field", f"name{_TEXT}"),
    Broken("an object as groupId", _call(type="group", groupId={}), "invalid_field", f"groupId{_TEXT}"),
    Broken("no groupId", _call(type="group"), "invalid_field", "groupId is missing"),
    Broken("a list as properties", _call(properties=[CANARY]), "invalid_field", f"properties{_OBJECT}"),
    Broken("a text as traits", _call(type="identify", traits=CANARY), "invalid_field", f"traits{_OBJECT}"),
    Broken("a number as context", _call(context=3), "invalid_field", f"context{_OBJECT}"),
    Broken("no type", _call(type=None), "unknown_type", "type"),
    Broken("a type of its own", _call(type=CANARY), "unknown_type", "type"),
    Broken("a type in capitals", _call(type="TRACK"), "unknown_type", "type"),
    Broken("a number as type", _call(type=4), "unknown_type", "type"),
    Broken("a number as timestamp", _call(timestamp=1735689600), "invalid_timestamp", f"timestamp{_TEXT}"),
    Broken("a word as timestamp", _call(timestamp=CANARY), "invalid_timestamp", f"timestamp{_INSTANT}"),
    Broken("no zone", _call(timestamp="2026-01-31T00:00:00"), "invalid_timestamp", "with a zone"),
    Broken(
        "no such day", _call(timestamp="2026-02-30T00:00:00Z"), "invalid_timestamp", f"timestamp{_INSTANT}"
    ),
    Broken("before 1970", _call(timestamp="1969-12-31T23:59:59Z"), "invalid_timestamp", "1970 or later"),
    Broken("a word as receivedAt", _call(receivedAt=CANARY), "invalid_timestamp", f"receivedAt{_INSTANT}"),
    Broken(
        "two days ahead of its receipt",
        _call(timestamp="2026-01-03T00:00:01Z", receivedAt="2026-01-01T00:00:00Z"),
        "future_timestamp",
        "24 hours",
    ),
    Broken("Engage without its boolean", _engage(), "invalid_audience_membership", "no boolean"),
    Broken("Engage with a text", _engage(vips=CANARY), "invalid_audience_membership", "no boolean"),
)

# What is dropped and only counted.
DROPPED = (
    ("alias", _call(type="alias", previousId=CANARY)),
    ("not_needed", _call(event="Clicked", userId="good_1", messageId=None, properties={"note": CANARY})),
    (
        "unknown_audience",
        _call(
            type="identify",
            userId="good_1",
            messageId=None,
            context={"personas": {"computation_class": "audience", "computation_key": "nobody_defined_it"}},
        ),
    ),
    (
        "filtered_by_integrations",
        _call(
            type="identify",
            userId="good_1",
            messageId=None,
            integrations={"All": False},
            traits={"vips": True},
            context={"personas": {"computation_class": "audience", "computation_key": "vips"}},
        ),
    ),
)
