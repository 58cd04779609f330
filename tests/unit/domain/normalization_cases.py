"""What the tests of normalisation share: a year, fields for each key, and hashes."""

import hashlib
import re
from typing import Any

from app.domain.normalization import (
    NormalizationOptions,
    Normalized,
    Unusable,
)

TODAY_YEAR = 2026
OPTIONS = NormalizationOptions(today_year=TODAY_YEAR)
HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LOWER_HEX = re.compile(r"[0-9a-f]{64}")
FIELDS_OF_KEY: dict[str, tuple[str, ...]] = {
    "EXTERN_ID": ("external_id",),
    "EMAIL": ("email",),
    "PHONE": ("phone",),
    "GEN": ("gender",),
    "DOBY": ("birth", "year"),
    "DOBM": ("birth", "month"),
    "DOBD": ("birth", "day"),
    "LN": ("name", "last"),
    "FN": ("name", "first"),
    "FI": ("name", "first_initial"),
    "CT": ("city",),
    "ST": ("state",),
    "ZIP": ("zip",),
    "COUNTRY": ("country",),
    "MADID": ("mobile_advertiser_id",),
    "LOOKALIKE_VALUE": ("value",),
}


def fields_with(key: str, value: object) -> dict[str, Any]:
    outer, *inner = FIELDS_OF_KEY[key]
    return {outer: {inner[0]: value}} if inner else {outer: value}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(outcome: Normalized | Unusable | None) -> str | None:
    """The normalised text; "" for what cannot be used, None for a blank."""
    if outcome is None:
        return None
    if isinstance(outcome, Unusable):
        assert outcome.error
        return ""
    assert outcome.normalized is not None
    assert outcome.value == sha256(outcome.normalized)
    return outcome.normalized
