"""Which letters a filter means, and how a record is known again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from app.domain.dead_letters import (
    LetterFilter,
    as_resolved,
    failed_again,
    is_record_of,
    key_digest,
    shape_of,
)
from schemas.dead_letter import DeadLetter, FacebookRefusal, Origin, Reason

RESOLVE = DeadLetter(
    id="aa11",
    stage="resolve",
    reason=Reason.TOO_LARGE,
    detail="too large",
    origin=Origin(topic="source", partition=2, offset=50, key=hashlib.sha256(b"ann").hexdigest()),
    first_failed_at=900,
    last_failed_at=1_000,
    record=shape_of(b"what it said"),
)
DELIVER = DeadLetter(
    id="bb22",
    stage="deliver",
    reason=Reason.REJECTED_ROW,
    detail="no",
    origin=Origin(topic="audience.memberships", partition=0, offset=7, key="vips|ann"),
    facebook=FacebookRefusal(code=100, subcode=5),
    audience="vips",
    destination="vips",
    profile="ann",
    sequence=3,
    first_failed_at=2_000,
    last_failed_at=2_000,
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "both"),
        ({"ids": ("aa",)}, "resolve"),
        ({"ids": ("aa", "bb22")}, "both"),
        ({"ids": ("a1",)}, "none"),
        ({"stages": ("deliver",)}, "deliver"),
        ({"reasons": ("too_large", "invalid_json")}, "resolve"),
        ({"audiences": ("vips",)}, "deliver"),
        ({"audiences": ("vip",)}, "none"),
        ({"codes": (100,)}, "deliver"),
        ({"codes": (5,)}, "none"),
        ({"since": 1_000}, "both"),
        ({"since": 1_001}, "deliver"),
        ({"until": 1_000}, "none"),
        ({"until": 2_000}, "resolve"),
        ({"offsets": (7, 7)}, "deliver"),
        ({"offsets": (8, 49)}, "none"),
        ({"offsets": (7, 50)}, "both"),
        ({"partition": 0}, "deliver"),
        ({"profiles": ("ann",), "keys": ("x",)}, "deliver"),
        ({"profiles": ("ann",), "keys": (key_digest(b"ann") or "",)}, "both"),
        ({"profiles": ("bob",), "keys": (key_digest(b"bob") or "",)}, "none"),
        ({"stages": ("resolve",), "codes": (100,)}, "none"),
    ],
)
def test_filter(wanted: dict[str, Any], expected: str) -> None:
    found = LetterFilter(**wanted)
    names = {"resolve": found.meets(RESOLVE), "deliver": found.meets(DELIVER)}
    everything = {"both": {"resolve", "deliver"}, "none": set[str]()}
    assert {name for name, meets in names.items() if meets} == everything.get(expected, {expected})


def test_a_failure_adds_up_and_a_resolved_letter_is_the_same_but_for_that() -> None:
    again = failed_again(RESOLVE, Reason.INVALID_JSON, "not JSON", 5_000)
    changed = {"reason": Reason.INVALID_JSON, "detail": "not JSON", "attempts": 2, "last_failed_at": 5_000}
    assert again == RESOLVE.model_copy(update=changed)
    assert as_resolved(again, "replayed") == again.model_copy(update={"resolved": "replayed"})


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        (b"ann", b"what it said", True),
        (b"ann", b"what it sais", False),
        (b"ann", b"what", False),
        (b"bob", b"what it said", False),
        (None, b"what it said", False),
        (b"ann", None, False),
    ],
)
def test_a_record_is_known_by_its_key_and_content(key: bytes | None, value: bytes | None, same: bool) -> None:
    assert is_record_of(RESOLVE, key, value) is same


def test_a_letter_of_an_earlier_release_is_known_by_its_length() -> None:
    older = RESOLVE.model_copy(update={"record": {"bytes": 12}})
    assert is_record_of(older, b"ann", b"what it said")
    assert not is_record_of(older, b"ann", b"what it says now")


def test_a_tombstone_without_a_key() -> None:
    origin = RESOLVE.origin.model_copy(update={"key": None})
    letter = RESOLVE.model_copy(update={"origin": origin, "record": shape_of(None)})
    assert is_record_of(letter, None, None)
    assert not is_record_of(letter, b"", None)
