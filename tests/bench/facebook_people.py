"""The people of the benchmark of deliveries: raw as Meta's client and ours take them, and as deltas to be sent."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any, Final

from app.domain.normalization import NormalizationOptions, Normalized, normalize_fields
from schemas.membership import Cause, Change, MembershipDelta

if TYPE_CHECKING:
    from collections.abc import Collection

SCHEMA: Final = (
    *("EXTERN_ID", "EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD"),
    *("LN", "FN", "CT", "ST", "ZIP", "COUNTRY"),
)
_OPTIONS: Final = NormalizationOptions(today_year=2026)
# Plain names, so that both make the same of them.
_FIRST: Final = [
    "mary",
    "john",
    "anna",
    "peter",
    "olga",
    "luis",
    "emma",
    "noah",
    "mia",
    "paul",
    "lea",
    "tom",
    "ida",
    "ben",
    "eva",
    "max",
]
_ENDS: Final = ["son", "sen", "man", "berg", "field", "ton", "ford", "well", "land", "wood"]
_CITIES: Final = [
    "paris",
    "london",
    "berlin",
    "madrid",
    "rome",
    "vienna",
    "dublin",
    "oslo",
    "boston",
    "dallas",
]
_STATES: Final = ("CA", "NY", "TX", "WA", "IL")


def raw(number: int, draw: random.Random) -> list[str]:
    """One person's cells, in the order of `SCHEMA`, in the clear."""
    return [
        f"user-{number}",
        f"Person{number}@Example.com",
        f"+1 650 {draw.randrange(200, 1000)} {number % 10_000:04}",
        draw.choice(("Male", "Female", "f")),
        str(draw.randrange(1940, 2005)),
        str(draw.randrange(1, 13)),
        str(draw.randrange(1, 29)),
        draw.choice(_FIRST).title() + draw.choice(_ENDS),
        draw.choice(_FIRST).title(),
        draw.choice(_CITIES).title(),
        draw.choice(_STATES),
        str(draw.randrange(10_000, 100_000)),
        "US",
    ]


def fields(cells: list[str]) -> dict[str, Any]:
    """The same for `normalize_fields`."""
    external, email, phone, gender, year, month, day, last, first, city, state, code, country = cells
    return {
        "external_id": external,
        "email": email,
        "phone": phone,
        "gender": gender,
        "birth": {"year": year, "month": month, "day": day},
        "name": {"last": last, "first": first},
        "city": city,
        "state": state,
        "zip": code,
        "country": country,
    }


def row_of(person: dict[str, Any]) -> list[str | float]:
    """What is sent of the person, in the order of `SCHEMA`."""
    outcomes = normalize_fields(person, _OPTIONS)
    sent = {key.value: one.value for key, one in outcomes.items() if isinstance(one, Normalized)}
    return [sent.get(key, "") for key in SCHEMA]


def delta(number: int, audience: str, destinations: Collection[str]) -> MembershipDelta:
    """Somebody known by user id, e-mail and phone, who enters."""
    row: dict[str, str | float] = {
        "EXTERN_ID": f"user-{number}",
        "EMAIL": hashlib.sha256(b"e%d" % number).hexdigest(),
        "PHONE": hashlib.sha256(b"p%d" % number).hexdigest(),
    }
    rows = {key: [row] for key in destinations}
    return MembershipDelta(audience, f"user-{number}", Change.ENTERED, 1, rows, 0, 0, Cause.EVENT)
