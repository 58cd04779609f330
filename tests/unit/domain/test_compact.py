"""Compact forms: everything comes back as it was, and what is frequent is short."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.compact import audience_id, compact, raw_of, restored, text_of

HASH = "0123456789abcdef" * 4
UUID = "de9086d4-a6d6-4dcf-9e22-9c3c5a7429e7"

prefixes = st.sampled_from(["", "email:", "anonymous_id:", "madid:", "user_id:"])
rests = st.one_of(
    st.text(),
    st.just(HASH),
    st.just(UUID),
    st.sampled_from(
        [HASH.upper(), UUID.upper(), HASH[:-1], HASH[:-1] + " ", f" {UUID[1:]}", UUID.replace("-", "_")]
    ),
    st.uuids().map(str),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@given(prefixes, rests)
def test_every_text_comes_back_as_it_was(prefix: str, rest: str) -> None:
    assert restored(compact(prefix + rest)) == prefix + rest


@given(prefixes, rests, prefixes, rests)
def test_different_texts_have_different_forms(one: str, rest: str, other: str, further: str) -> None:
    assert (compact(one + rest) == compact(other + further)) is (one + rest == other + further)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        pytest.param(f"email:{HASH}", 33, id="a hash"),
        pytest.param(f"anonymous_id:{UUID}", 17, id="a UUID"),
        pytest.param(f"madid:{UUID}", 17, id="an advertising id"),
        pytest.param(UUID, 17, id="a user or message id that is a UUID"),
        pytest.param(HASH, 33, id="a user id that was an e-mail address"),
        pytest.param("anonymous_id:abc", 4, id="another anonymous id"),
        pytest.param("user_1", 6, id="another user id"),
        pytest.param(f"email:{UUID}", 42, id="no hash"),
        pytest.param(UUID.upper(), 36, id="capitals would not come back"),
    ],
)
def test_the_frequent_ones_are_short(text: str, length: int) -> None:
    assert len(compact(text)) == length


def test_hashes_and_uuids_are_raw() -> None:
    assert raw_of(HASH) == bytes.fromhex(HASH)
    assert raw_of(UUID) == uuid.UUID(UUID).bytes
    assert text_of(uuid.UUID(UUID).bytes) == UUID


def test_what_stands_for_an_audience_never_changes() -> None:
    """States hold it: another one would take every membership away."""
    assert audience_id("vips") == "cIwe9t"
