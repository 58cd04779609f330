"""None"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.domain.normalization import (
    HASHED_KEYS,
    MetaKey,
    NormalizationOptions,
    Normalized,
    Unusable,
    normalize_city,
    normalize_external_id,
    normalize_fields,
    normalize_mobile_id,
)
from tests.unit.domain.normalization_cases import (
    FIELDS_OF_KEY,
    HASH_OF_NOTHING,
    OPTIONS,
    TODAY_YEAR,
    fields_with,
    sha256,
    text_of,
)

VECTORS = json.loads(Path(__file__).with_name("normalization_vectors.json").read_text(encoding="utf-8"))


# --- the vectors


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['key']}-{v['input'].strip()}-{v['basis']}")
def test_vector(vector: dict[str, Any]) -> None:
    key = MetaKey(vector["key"])
    options = NormalizationOptions(today_year=TODAY_YEAR, **vector.get("options", {}))
    outcome = normalize_fields(fields_with(key, vector["input"]), options).get(key)
    if vector["sent"] == "":
        assert not isinstance(outcome, Normalized)
        assert (outcome is None) == (vector["input"] == "")
        return
    assert isinstance(outcome, Normalized)
    assert str(outcome.value) == vector["sent"]
    already_hashed = key in HASHED_KEYS and vector["input"].lower() == vector["sent"]
    assert outcome.normalized == (None if already_hashed else vector["normalised"])


def test_the_vectors_own_hashes_belong_to_their_texts() -> None:
    for vector in VECTORS:
        hashed = vector["key"] in HASHED_KEYS and vector["sent"] and vector["normalised"] != vector["sent"]
        assert not hashed or sha256(vector["normalised"]) == vector["sent"]


# --- text, for every key


@pytest.mark.parametrize("key", list(MetaKey))
@pytest.mark.parametrize("blank", [None, "", "  \t\n", "/", "-", "null", "NULL", " n/A ", "\u200b", "\ufeff"])
def test_blank_is_left_out(key: MetaKey, blank: object) -> None:
    assert normalize_fields(fields_with(key, blank), OPTIONS) == {}


@pytest.mark.parametrize("blank", [None, "", "N/A", {}, {"first": None, "last": " "}])
def test_blank_objects_are_left_out(blank: object) -> None:
    assert normalize_fields({"name": blank, "birth": blank, "birthday": "-"}, OPTIONS) == {}


@pytest.mark.parametrize("key", list(MetaKey))
@pytest.mark.parametrize(
    "value", [True, False, [], ["a@b.co"], {}, {"a": 1}, math.nan, math.inf, 10**4000, b"a"]
)
def test_what_is_no_text_is_unusable(key: MetaKey, value: object) -> None:
    assert isinstance(normalize_fields(fields_with(key, value), OPTIONS)[key], Unusable)


@pytest.mark.parametrize("key", [key for key in MetaKey if key is not MetaKey.LOOKALIKE_VALUE])
@pytest.mark.parametrize(
    "value", ["\ud800", "mary\udc00@example.com", "1\x00", "\x00", "mary\x7f@example.com"]
)
def test_what_no_byte_can_carry_is_unusable(key: MetaKey, value: str) -> None:
    assert isinstance(normalize_fields(fields_with(key, value), OPTIONS)[key], Unusable)


@pytest.mark.parametrize("key", sorted(HASHED_KEYS))
def test_a_hash_is_passed_on_and_never_hashed_twice(key: MetaKey) -> None:
    digest = sha256("mary@example.com")
    for given_hash in (digest, digest.upper(), f" {digest}\n"):
        assert normalize_fields(fields_with(key, given_hash), OPTIONS) == {key: Normalized(digest, None)}


@pytest.mark.parametrize("key", sorted(HASHED_KEYS))
@pytest.mark.parametrize(
    "digest",
    [
        "d41d8cd98f00b204e9800998ecf8427e",  # MD5: this endpoint matches only SHA-256
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",  # SHA-1
        hashlib.sha512(b"mary@example.com").hexdigest(),
    ],
)
def test_a_hash_that_cannot_match_is_unusable(key: MetaKey, digest: str) -> None:
    assert isinstance(normalize_fields(fields_with(key, digest), OPTIONS)[key], Unusable)


@pytest.mark.parametrize("key", list(MetaKey))
@pytest.mark.parametrize("digest", [HASH_OF_NOTHING, f" {HASH_OF_NOTHING.upper()} "])
def test_the_hash_of_nothing_is_unusable(key: MetaKey, digest: str) -> None:
    assert isinstance(normalize_fields(fields_with(key, digest), OPTIONS)[key], Unusable)


def test_keys_in_the_clear_are_no_hashes() -> None:
    digest = sha256("x").upper()
    assert normalize_external_id(digest) == Normalized(digest, digest)
    assert isinstance(normalize_mobile_id(digest), Unusable), "and no advertising id either"


def test_endless_text_is_unusable() -> None:
    # Composing a long run of marks takes time with the square of its length.
    assert isinstance(normalize_city("a" + "\u0301\u0316" * 100_000), Unusable)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345, "12345"),
        (94035.0, "94035"),
        (1.5, "1.5"),
        (-7, "-7"),
        (2**63, "9223372036854775808"),  # an integer is exact
        (2.0**53, None),  # a float of this size may be another integer
        (2**200, None),
    ],
)
def test_numbers_are_read_as_text(value: float, text: str | None) -> None:
    outcome = normalize_external_id(value)
    assert (outcome.normalized if isinstance(outcome, Normalized) else None) == text


def test_the_external_id_is_sent_as_is() -> None:
    assert normalize_external_id(" User 0042 ") == Normalized(" User 0042 ", " User 0042 ")


# --- one row


@pytest.mark.parametrize(
    ("country", "default", "phone", "state", "zip_code"),
    [
        ("US", None, "16505551212", "ga", "94035"),
        ("usa", "DE", "16505551212", "ga", "94035"),  # the row's own country first
        (sha256("us"), "DE", "16505551212", "ga", "94035"),  # also when it is hashed
        (None, "US", "16505551212", "ga", "94035"),
        ("Narnia", "US", "16505551212", "ga", "94035"),
        ("GE", "US", "6505551212", "georgia", "940351234"),
        (None, None, "6505551212", "ga", "94035"),
    ],
)
def test_which_country_guides(
    country: str | None, default: str | None, phone: str, state: str, zip_code: str
) -> None:
    options = NormalizationOptions(today_year=TODAY_YEAR, default_country=default)
    fields = {"country": country, "phone": "650-555-1212", "state": "Georgia", "zip": "94035-1234"}
    columns = normalize_fields(fields, options)
    assert [text_of(columns[key]) for key in (MetaKey.PHONE, MetaKey.ST, MetaKey.ZIP)] == [
        phone,
        state,
        zip_code,
    ]


def test_the_default_country_is_never_sent() -> None:
    options = NormalizationOptions(today_year=TODAY_YEAR, default_country="US")
    assert list(normalize_fields({"phone": "650-555-1212"}, options)) == [MetaKey.PHONE]


@pytest.mark.parametrize("code", ["us", "UK", "USA", "XX", ""])
def test_the_default_country_is_a_code(code: str) -> None:
    with pytest.raises(ValueError, match="alpha-2"):
        NormalizationOptions(today_year=TODAY_YEAR, default_country=code)


def test_columns_come_in_the_order_of_the_keys_and_unknown_fields_are_ignored() -> None:
    fields: dict[str, Any] = {"nickname": "Mo"}
    for key in reversed(MetaKey):
        outer, *inner = FIELDS_OF_KEY[key]
        if inner:
            fields.setdefault(outer, {})[inner[0]] = "5"
        else:
            fields[outer] = "5"
    assert list(normalize_fields(fields, OPTIONS)) == list(MetaKey)
