"""Identifiers of a person as Meta's customer lists want them: normalised, then hashed where the key asks for it.

Each key follows Meta's customer-list guide. Where the guide is silent:

- text is trimmed of white space and invisible marks, then composed (NFC);
- 64 hexadecimal digits are a hash already made: passed on in lower case, never hashed twice;
- what cannot be used is an `Unusable` with a reason, sent blank; a blank is left out. Neither is ever hashed;
- the row's own country, else the default one, guides phone, state and ZIP. The default never becomes COUNTRY.

No error text holds any part of the input.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.domain.normalization_birth import (
    normalize_birth,
    normalize_birthday,
    normalize_day,
    normalize_month,
    normalize_year,
)
from app.domain.normalization_phone import phone_digits, plain_international
from app.domain.normalization_remembered import FEW, MANY, remembered
from app.domain.normalization_tables import (
    ALPHA_2,
    COUNTRIES,
    GENDERS,
    US_STATE_COUNTRIES,
    US_STATES,
    US_ZIP_COUNTRIES,
    ascii_digits,
    bare,
    bare_with_digits,
    country_key,
)
from app.domain.normalization_text import (
    EXACT_FLOAT,
    MAX_CHARACTERS,
    MAX_INTEGER_BITS,
    Normalized,
    Outcome,
    Unusable,
    hashed,
    is_mobile_id,
    normalize_device_id,
    sha256_hex,
    text_of,
)

if TYPE_CHECKING:
    from app.domain.left_blank import LeftBlank

__all__ = [
    "ALPHA_2",
    "HASHED_KEYS",
    "INPUT_KEYS",
    "MetaKey",
    "NormalizationOptions",
    "Normalized",
    "Outcome",
    "Unusable",
    "normalize_birthday",
    "normalize_city",
    "normalize_country",
    "normalize_day",
    "normalize_email",
    "normalize_external_id",
    "normalize_fields",
    "normalize_gender",
    "normalize_initial",
    "normalize_mobile_id",
    "normalize_month",
    "normalize_name",
    "normalize_phone",
    "normalize_state",
    "normalize_value",
    "normalize_year",
    "normalize_zip",
]


class MetaKey(StrEnum):
    """Columns of a customer list, in the order in which rows and results name them."""

    EXTERN_ID = "EXTERN_ID"
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    GEN = "GEN"
    DOBY = "DOBY"
    DOBM = "DOBM"
    DOBD = "DOBD"
    LN = "LN"
    FN = "FN"
    FI = "FI"
    CT = "CT"
    ST = "ST"
    ZIP = "ZIP"
    COUNTRY = "COUNTRY"
    MADID = "MADID"
    LOOKALIKE_VALUE = "LOOKALIKE_VALUE"


_KEYS: Final = tuple(MetaKey)
HASHED_KEYS: Final[frozenset[MetaKey]] = frozenset(MetaKey) - {
    MetaKey.EXTERN_ID,
    MetaKey.MADID,
    MetaKey.LOOKALIKE_VALUE,
}

# The keys `normalize_fields` reads, each with the keys inside it where it is an object.
INPUT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "external_id": (),
    "email": (),
    "phone": (),
    "birth": ("year", "month", "day"),
    "birthday": (),
    "name": ("first", "last", "first_initial"),
    "gender": (),
    "city": (),
    "state": (),
    "zip": (),
    "country": (),
    "mobile_advertiser_id": (),
    "value": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizationOptions:
    """`today_year` bounds years of birth: the domain reads no clock. `default_country` is ISO alpha-2, in capitals.

    Meta's texts leave two readings of some names; the fields' defaults are the first one.
    """

    today_year: int
    default_country: str | None = None
    keep_name_blanks: bool = False  # "mary ann" instead of "maryann"
    romanise_initial: bool = False  # "e" instead of "é"
    # Hears of fields of calls that are left blank; None: nobody wants to know.
    left_blank: LeftBlank | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.default_country is not None and self.default_country not in ALPHA_2:
            raise ValueError("default_country must be a country code of ISO 3166-1 alpha-2, in capitals")


_COUNTRY_OF_HASH: Final = {sha256_hex(code.lower()): code for code in ALPHA_2}

_DASHES: Final = re.compile(r"[\u2010-\u2015\u2212]")
_ZIP_PLUS_4: Final = re.compile(r"[0-9]{5} ?- ?[0-9]{4}")
_US_ZIP: Final = re.compile(r"[0-9]{5}(?:[0-9]{4}|[ -][ 0-9-]*)?")
_ZIP_DIGITS: Final = 5

_PLAIN_EMAIL: Final = re.compile(r"[a-z0-9._%+-]+@(?:[a-z0-9-]+\.)+[a-z0-9-]+")
_NEVER_IN_DOMAIN: Final = re.compile(r"[!-,/:-@\[-^`{-~]")  # ASCII punctuation but - . _
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

_NO_LETTER: Final = Unusable("holds no letter")
_NO_ROMAN_LETTER: Final = Unusable("holds no letter a-z, with or without accents")


def normalize_external_id(value: object) -> Outcome:
    """As is, blanks around it included: it has to be the same text everywhere."""
    if value is None:
        return None
    text = text_of(value)
    if text is None or isinstance(text, Unusable):
        return text
    as_is = value if isinstance(value, str) else text
    return Normalized(as_is, as_is)


def normalize_email(value: object) -> Outcome:
    """Lower case; dots and +tags stay."""
    if type(value) is str and len(value) <= MAX_CHARACTERS:
        plain = value.strip().lower()
        if _PLAIN_EMAIL.fullmatch(plain):  # as the rule would have it, for most people
            return Normalized(sha256_hex(plain), plain)
    return hashed(value, _email)


def _email(text: str) -> str | Unusable:
    address = text.lower()
    local, at, domain = address.partition("@")
    if not at or "@" in domain or not local:
        return Unusable("an e-mail address needs exactly one @ and a name before it")
    if " " in address or not address.isprintable():
        return Unusable("an e-mail address holds no blank and no invisible character")
    labels = domain.split(".")
    if len(labels) == 1 or not all(labels) or _NEVER_IN_DOMAIN.search(domain):
        return Unusable("an e-mail address needs a domain with a dot inside and none at its end")
    return address


def normalize_phone(value: object, country: str | None = None) -> Outcome:
    """Digits with the country code; `country` (alpha-2, capitals) is where a number without one is dialled."""
    plain = plain_international(value) if type(value) is str else None
    if plain is not None:
        return Normalized(sha256_hex(plain), plain)

    def rule(text: str) -> str | Unusable:
        return phone_digits(text, country) or Unusable("holds no digit but zero")

    return hashed(value, rule)


@remembered(FEW)
def normalize_gender(value: object) -> Outcome:
    """Gender as m or f, from words of some languages; Meta has no value for any other."""
    return hashed(value, lambda text: GENDERS.get(bare(text)) or Unusable("no word for male or female"))


@remembered(MANY)
def normalize_name(value: object, *, keep_blanks: bool = False) -> Outcome:
    """First or last name: letters of every alphabet in lower case, and nothing between them."""
    return hashed(value, lambda text: _name(text, keep_blanks) or _NO_LETTER)


def _name(text: str, keep_blanks: bool) -> str:
    words = (_letters(word) for word in text.lower().split())
    return unicodedata.normalize("NFC", (" " if keep_blanks else "").join(word for word in words if word))


def _letters(word: str) -> str:
    if word.isascii() and word.isalpha():
        return word
    kept: list[str] = []
    for character in word:
        # A mark belongs to the letter before it: Indic vowels, accents that have no composed form.
        if _is_letter(character) or (kept and _is_mark(character)):
            kept.append(character)
    return "".join(kept)


def _is_letter(character: str) -> bool:
    # U+02B9 to U+02BF are apostrophes that Unicode files under letters: Kaʻahumanu, Dʼangelo.
    return unicodedata.category(character).startswith("L") and not "\u02b9" <= character <= "\u02bf"


def _is_mark(character: str) -> bool:
    # Variation selectors choose a glyph, not a letter.
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return unicodedata.category(character).startswith("M") and not selector


@remembered(FEW)
def normalize_initial(value: object, *, romanised: bool = False) -> Outcome:
    """The first letter of what is given, be it a letter or the whole first name."""

    def rule(text: str) -> str | Unusable:
        initial = _name(text, keep_blanks=False)[:1]
        return (bare(initial)[:1] if romanised else "") or initial or _NO_LETTER

    return hashed(value, rule)


@remembered(MANY)
def normalize_city(value: object) -> Outcome:
    """a-z only, accents taken off."""
    return hashed(value, lambda text: bare(text) or _NO_ROMAN_LETTER)


@remembered(FEW)
def normalize_state(value: object, country: str | None = None) -> Outcome:
    """a-z and 0-9 only. A state's name becomes its code in the United States and where no country is known;
    elsewhere never: Western Australia is no WA, and Georgia a country too.
    """

    def rule(text: str) -> str | Unusable:
        state = bare_with_digits(text)
        if country is None or country in US_STATE_COUNTRIES:
            state = US_STATES.get(state, state)
        return state or Unusable("holds no letter a-z, with or without accents, and no digit")

    return hashed(value, rule)


@remembered(MANY)
def normalize_zip(value: object, country: str | None = None) -> Outcome:
    """The code without blanks and dashes; in the United States its first five digits, and where no country is
    known if it has the form of ZIP+4.
    """

    def rule(text: str) -> str | Unusable:
        written = _DASHES.sub("-", ascii_digits(text))
        code = bare_with_digits(written)
        american = _US_ZIP if country in US_ZIP_COUNTRIES else _ZIP_PLUS_4 if country is None else None
        if american and american.fullmatch(written):
            return code[:_ZIP_DIGITS]
        return code or Unusable("holds no letter a-z and no digit")

    return hashed(value, rule)


@remembered(FEW)
def normalize_country(value: object) -> Outcome:
    """ISO alpha-2, from a code or English name of ISO 3166-1 or a name people use beside them."""

    def rule(text: str) -> str | Unusable:
        code = COUNTRIES.get(country_key(text))
        return code.lower() if code else Unusable("no country of ISO 3166-1: give its alpha-2 code")

    return hashed(value, rule)


def normalize_mobile_id(value: object) -> Outcome:
    """Lower case, hyphens kept. Sent in the clear, so only what has the form of such an id gets through: a phone number,
    a name, or 32 letters and digits, which are as likely the MD5 of something else, do not.
    """
    outcome = normalize_device_id(value)
    if isinstance(outcome, Normalized) and not is_mobile_id(outcome.value):
        return Unusable("a mobile advertising id is 8-4-4-4-12 letters a-z and digits, with hyphens between")
    return outcome


def normalize_value(value: object) -> Outcome:
    """What a person is worth, for value-based lookalike audiences: a number of 0 or more, sent as such."""
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS):
        number = float(value) if isinstance(value, float) else math.inf
    else:
        text = text_of(value)
        if text is None or isinstance(text, Unusable):
            return text
        digits = ascii_digits(text) if len(text) <= MAX_CHARACTERS else ""
        number = float(digits) if _DECIMAL.fullmatch(digits) else math.nan
    if not math.isfinite(number):
        return Unusable("not a finite number")
    if number < 0:
        return Unusable("negative: a value is 0 or more")
    number = abs(number)  # -0.0 is 0
    whole = number.is_integer() and number < EXACT_FLOAT
    return Normalized(number, str(int(number)) if whole else repr(number))


def guiding_country(own: Outcome, options: NormalizationOptions) -> str | None:
    """The country (alpha-2, capitals) that guides a person's phone number, state and postal code.

    `own` is what `normalize_country` made of the person's.
    """
    known = _COUNTRY_OF_HASH.get(str(own.value)) if isinstance(own, Normalized) else None
    return known or options.default_country


def normalize_fields(
    fields: Mapping[str, object], options: NormalizationOptions
) -> dict[MetaKey, Normalized | Unusable]:
    """One person's fields, named as in `INPUT_KEYS`, as columns in the order of `MetaKey`; blank ones left out.

    Raises nothing for any JSON value. Keys it does not know are ignored.
    """
    get = fields.get
    country = normalize_country(get("country"))
    guide = guiding_country(country, options)
    birth = normalize_birth(get("birth"), get("birthday"), options.today_year)
    last, first, initial = _names(get("name"), options)
    outcomes = (  # in the order of `MetaKey`
        normalize_external_id(get("external_id")),
        normalize_email(get("email")),
        normalize_phone(get("phone"), guide),
        normalize_gender(get("gender")),
        birth.year,
        birth.month,
        birth.day,
        last,
        first,
        initial,
        normalize_city(get("city")),
        normalize_state(get("state"), guide),
        normalize_zip(get("zip"), guide),
        country,
        normalize_mobile_id(get("mobile_advertiser_id")),
        normalize_value(get("value")),
    )
    return {key: outcome for key, outcome in zip(_KEYS, outcomes, strict=True) if outcome is not None}


def _names(name: object, options: NormalizationOptions) -> tuple[Outcome, Outcome, Outcome]:
    """Last name, first name and initial."""
    if isinstance(name, Mapping):
        return (
            normalize_name(name.get("last"), keep_blanks=options.keep_name_blanks),
            normalize_name(name.get("first"), keep_blanks=options.keep_name_blanks),
            normalize_initial(name.get("first_initial"), romanised=options.romanise_initial),
        )
    if text_of(name) is None:
        return None, None, None
    reason = Unusable("name must be an object with first, last and first_initial")
    return reason, reason, None
