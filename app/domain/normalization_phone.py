"""Phone numbers: digits with the country code in front and no leading zeros.

The digits as written are always an answer. The numbering plans of phonenumbers are asked only where they
can better it: a trunk zero between country code and number, and a national number whose country is known.
They cost some 20 us a number, and they know no fictitious, very new or very old numbers, so they never reject.
"""

from __future__ import annotations

import re
from typing import Final

import phonenumbers
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    ValidationResult,
)

from app.domain.normalization_tables import ascii_digits

_NOT_DIGIT: Final = re.compile(r"[^0-9]+")
# An extension at the end. The longest word comes first; `x` after another letter is part of a word.
_EXTENSION: Final = re.compile(
    r"(?<![a-z])(?:;?ext=|extension|extn?\.?|xtn|x|#|~|int\.?|anexo|доб\.?)[\s.:#=]*[0-9]{1,6}[\s.)]*$",
    re.IGNORECASE,
)
_INTERNATIONAL: Final = re.compile(r"\+[1-9][0-9 .()-]*")
_LONGEST_PLAIN: Final = 30
_BETWEEN_DIGITS: Final = dict.fromkeys(map(ord, "+ .()-"))
_PLUS_FIRST: Final = re.compile(r"[^0-9]*\+")
# 49 (0)30 ...: what stands before the bracket can only be a country code.
_TRUNK_ZERO_IN_BRACKETS: Final = re.compile(r"[^0-9]*(?:00[ .-]?)?[1-9][0-9]{0,2}[ .)-]*\(0\)")

_COUNTRY_CODES: Final = frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))
_LONGEST_COUNTRY_CODE: Final = 3
_NORTH_AMERICA: Final = 1  # country code; ten digits without it, the area code and exchange from 2 up
_NORTH_AMERICAN: Final = re.compile(r"1?[2-9][0-9]{2}[2-9][0-9]{6}")
_NORTH_AMERICAN_DIGITS: Final = 10
_RUSSIA: Final = "7"  # its trunk digit is 8, and ten digits follow
_RUSSIAN_DIGITS_WITH_TRUNK: Final = 11


def plain_international(text: str) -> str | None:
    """What `phone_digits` says wherever it is dialled, of a number that has nothing in it but a plus, digits and what
    stands between them, as most have that are stored; None: it is not one.
    """
    if len(text) > _LONGEST_PLAIN or not _INTERNATIONAL.fullmatch(text):
        return None
    return _without_trunk_digit(text.translate(_BETWEEN_DIGITS))


def phone_digits(text: str, country: str | None) -> str:
    """The number as Meta matches it; "" when there is no digit but zero.

    `country` (alpha-2, capitals) is where a number without a country code is dialled.
    """
    dialled = ascii_digits(text)
    without_extension = _EXTENSION.sub("", dialled)
    digits = _NOT_DIGIT.sub("", without_extension)
    if not digits.strip("0"):  # what looked like an extension was all there is
        without_extension = dialled
        digits = _NOT_DIGIT.sub("", dialled)
    if not digits.strip("0"):
        return ""
    if _PLUS_FIRST.match(without_extension) or _TRUNK_ZERO_IN_BRACKETS.match(without_extension):
        return _without_trunk_digit(digits.lstrip("0"))
    if country is not None:
        return _national(without_extension, digits, country)
    if digits.startswith("00"):
        return _without_trunk_digit(digits.lstrip("0"))
    return digits.lstrip("0")


def _without_trunk_digit(digits: str) -> str:
    """A number that begins with its country code, less the trunk digit some write after the code.

    Not every zero there is one: Italy's, say, belongs to the number. The numbering plan knows.
    """
    for length in range(1, _LONGEST_COUNTRY_CODE + 1):
        if digits[:length] in _COUNTRY_CODES:
            code, number = digits[:length], digits[length:]
            break
    else:
        return digits
    russian_trunk = code == _RUSSIA and number.startswith("8") and len(number) == _RUSSIAN_DIGITS_WITH_TRUNK
    if not number.startswith("0") and not russian_trunk:
        return digits
    parsed = _parsed(f"+{digits}", None)
    return _international(parsed) if parsed and _is_complete(parsed) else digits


def _national(text: str, digits: str, country: str) -> str:
    """A number written without `+`: national to `country`, or international with the plus left out.

    Both readings can be valid numbers. The national one comes first where it is what people there write:
    with the trunk zero, or in a country that has none.
    """
    plan = PhoneMetadata.metadata_for_region(country)
    if plan is None:
        return _without_trunk_digit(digits.lstrip("0")) if digits.startswith("00") else digits.lstrip("0")
    if plan.country_code == _NORTH_AMERICA and _NORTH_AMERICAN.fullmatch(digits):
        return f"1{digits[-_NORTH_AMERICAN_DIGITS:]}"

    national = _parsed(text, country)
    valid = national is not None and phonenumbers.is_valid_number(national)
    trunk_zero = (plan.national_prefix or "").startswith("0")
    if national and valid and (digits.startswith("0") or not trunk_zero):
        return _international(national)
    if digits.startswith("00"):
        return _without_trunk_digit(digits.lstrip("0"))
    if digits.startswith("0"):
        possible = national is not None and _is_complete(national)
        return _international(national) if national and possible else digits.lstrip("0")

    plus_left_out = _parsed(f"+{digits}", None)
    if plus_left_out and phonenumbers.is_valid_number(plus_left_out):
        return digits
    if national and valid:
        return _international(national)
    if plus_left_out and _is_complete(plus_left_out):
        return digits
    return _international(national) if national and _is_complete(national) else digits


def _parsed(text: str, country: str | None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(text, country)
    except NumberParseException:
        return None


def _is_complete(number: PhoneNumber) -> bool:
    """Whether it has a length its country uses, area code included; looser than valid."""
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _international(number: PhoneNumber) -> str:
    return f"{number.country_code}{phonenumbers.national_significant_number(number)}"
