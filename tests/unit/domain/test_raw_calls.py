"""Whom a call names that could not be read."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.profile_ids import anonymous_profile, user_profile
from app.domain.raw_calls import names_any

DEVICE = "38400000-8cf0-11bd-b23e-10b96e400000"
EMAIL = hashlib.sha256(b"frida@example.com").hexdigest()
PHONE = hashlib.sha256(b"+491701234567").hexdigest()


@pytest.mark.parametrize(
    ("raw", "profile"),
    [
        (b'{"type":"track","event":6,"userId":"frida-zq9"}', "frida-zq9"),
        (b'{"userId":"7"}', "7"),
        (b'{"user_id":7}', "7"),
        (b'{"USER_ID":7}', "7"),
        (b'{"userid": "7"}', "7"),
        (b'{"context":{"ids":["1","7"]}}', "7"),
        (b'{"previousId":"7"}', "anonymous_id:7"),
        (b'{"userId":"email:x"}', "user_id:email:x"),
        (b'{"userId":"fr\\u0069da"}', "frida"),
        (b'{"userId":"fri\\"da"}', 'fri"da'),
        (b'{"userId":"two words"}', "two words"),
        (b'{"userId":" "," userId ": 1,"properties":{"customer":"frida-zq9"}}', "frida-zq9"),
        (b'{"userId":"frida-zq9","userId":null}', "frida-zq9"),  # a reader that keeps the last sees nobody
        (b'{"type":"track","userId":"frida-zq9', "frida-zq9"),
        (b'{"type":"track","userId: "frida-zq9", "event":"A"}', "frida-zq9"),
        (b'{"event":"\xff\xfe","anonymousId":"frida-zq9"}', "anonymous_id:frida-zq9"),
        (b"frida-zq9", "frida-zq9"),
        (b'{"traits":{"email":" Frida@Example.COM "}}', f"email:{EMAIL}"),
        (b'{"traits":{"email":"%b"}}' % EMAIL.encode(), f"email:{EMAIL}"),
        (b'{"userId":"frida@example.com"}', EMAIL),
        (b'{"userId":"+491701234567"}', PHONE),
        (b'{"context":{"device":{"advertisingId":"%b"}}}' % DEVICE.upper().encode(), f"madid:{DEVICE}"),
        (b'{"context":{"device":{"advertisingId":"AB-1"}}}', "madid:ab-1"),
    ],
)
def test_an_identifier_is_found_wherever_it_stands(raw: bytes, profile: str) -> None:
    assert names_any(raw, {profile})
    assert not names_any(raw, {f"{profile}0", "somebody", f"madid:{DEVICE[:-1]}1"})


@pytest.mark.parametrize(
    ("raw", "profile"),
    [
        (b'{"event":6,"userId":"bob"}', "6"),  # a number, not whom it names
        (b'{"userId":"bob","type":"track"}', "track"),
        (b'{"properties":{"paid":"7","valid":7}}', "7"),
        (b'{"userId":"frida-zq99"}', "frida-zq9"),
        (b"", ""),
        (b'""', ""),
    ],
)
def test_what_is_no_identifier_is_nobody(raw: bytes, profile: str) -> None:
    assert not names_any(raw, {profile})


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["userId", "anonymousId"]),
    st.booleans(),
)
def test_every_id_is_found(identifier: str, key: str, ascii_only: bool) -> None:
    profile = user_profile(identifier) if key == "userId" else anonymous_profile(identifier)
    raw = json.dumps({"event": 6, key: identifier}, ensure_ascii=ascii_only).encode()
    assert names_any(raw, {profile}) if profile is not None else identifier.isspace()


@given(st.binary(max_size=200))
def test_whatever_it_is_it_is_looked_through(raw: bytes) -> None:
    assert not names_any(raw, ())
