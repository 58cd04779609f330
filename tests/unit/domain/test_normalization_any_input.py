"""Normalisation of whatever comes: hashes of something or reasons, and never the input."""

import json
import math
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.normalization import (
    HASHED_KEYS,
    INPUT_KEYS,
    MetaKey,
    NormalizationOptions,
    Normalized,
    Unusable,
    normalize_fields,
    normalize_phone,
)
from tests.unit.domain.normalization_cases import (
    HASH_OF_NOTHING,
    LOWER_HEX,
    OPTIONS,
    TODAY_YEAR,
    fields_with,
    sha256,
)

# Every character JSON can bring, halves of surrogate pairs included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
WORDS = st.sampled_from(
    ["mary@example.com", "+49 (0)30 901820", "New York", "1990-05-04", HASH_OF_NOTHING, "-"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | WORDS
JSON_VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(ANY_TEXT, v, max_size=3)
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        key: JSON_VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(inner, JSON_VALUES))
        for key, inner in INPUT_KEYS.items()
    },
)
MANY = settings(deadline=None, max_examples=300)


@MANY
@given(
    ROWS,
    st.builds(
        NormalizationOptions,
        today_year=st.just(TODAY_YEAR),
        default_country=st.sampled_from([None, "US", "DE", "AQ"]),
        keep_name_blanks=st.booleans(),
        romanise_initial=st.booleans(),
    ),
)
def test_any_row_gives_hashes_of_something_or_reasons(
    row: dict[str, Any], options: NormalizationOptions
) -> None:
    columns = normalize_fields(row, options)
    assert list(columns) == [key for key in MetaKey if key in columns]
    for key, column in columns.items():
        if isinstance(column, Unusable):
            assert column.error
            continue
        assert column.value not in ("", HASH_OF_NOTHING)
        if key in HASHED_KEYS:
            assert LOWER_HEX.fullmatch(str(column.value))
            assert column.normalized is None or sha256(column.normalized) == column.value
        elif key is MetaKey.LOOKALIKE_VALUE:
            assert isinstance(column.value, float)
            assert math.isfinite(column.value)
            assert column.value >= 0
        json.dumps(column.value, allow_nan=False).encode()


@MANY
@given(st.sampled_from(sorted(HASHED_KEYS)), st.text("0123456789abcdefABCDEF", min_size=64, max_size=64))
def test_any_hash_is_passed_on(key: MetaKey, digest: str) -> None:
    once = normalize_fields(fields_with(key, digest), OPTIONS)
    assert once == {key: Normalized(digest.lower(), None)}
    assert normalize_fields(fields_with(key, digest.lower()), OPTIONS) == once


@MANY
@given(st.sampled_from(["EMAIL", "PHONE", "GEN", "LN", "FI", "CT", "ST", "ZIP", "COUNTRY"]), ANY_TEXT | WORDS)
def test_normalised_text_is_normal(key: str, text: str) -> None:
    column = normalize_fields(fields_with(key, text), OPTIONS).get(MetaKey(key))
    if isinstance(column, Normalized) and column.normalized is not None:
        again = normalize_fields(fields_with(key, column.normalized), OPTIONS)
        assert again == {MetaKey(key): column}


@MANY
@given(
    st.text("0123456789+()-. x", min_size=1, max_size=24),
    st.sampled_from([None, "US", "DE", "GB", "IT", "RU", "AR", "MX", "AQ"]),
)
def test_no_numbering_plan_rejects_a_phone(text: str, country: str | None) -> None:
    outcome = normalize_phone(text, country)
    assert isinstance(outcome, Normalized) == bool(re.search("[1-9]", text))
    if isinstance(outcome, Normalized):
        assert re.fullmatch("[1-9][0-9]*", outcome.normalized or "")


@MANY
@given(st.sampled_from(list(MetaKey)), ANY_TEXT)
def test_no_reason_holds_the_input(key: MetaKey, text: str) -> None:
    mark = "qzjx"
    for value in (f"{mark}{text}", f"{text}{mark}", [mark], {mark: text}):
        column = normalize_fields(fields_with(key, value), OPTIONS)[key]
        assert not isinstance(column, Unusable) or mark not in column.error
