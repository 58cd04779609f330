"""Year, month and day of birth, from their parts or from one text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Final, NamedTuple

from app.domain.normalization_remembered import FEW, remembered
from app.domain.normalization_tables import MONTHS, ascii_digits, bare
from app.domain.normalization_text import (
    MAX_CHARACTERS,
    Normalized,
    Outcome,
    Unusable,
    hashed,
    is_hash,
    text_of,
)

EARLIEST_YEAR: Final = 1900  # Meta takes none before
_LAST_MONTH: Final = 12
_LAST_DAY: Final = 31
_LEAP_YEAR: Final = 2000  # stands in where the year is unknown, so that 29 February exists

_YEAR: Final = re.compile(r"[0-9]{4}")
_ONE_OR_TWO_DIGITS: Final = re.compile(r"[0-9]{1,2}")
_DATE: Final = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})(?:[T ][0-9].*)?", re.DOTALL)
_DATE_COMPACT: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T[0-9].*)?", re.DOTALL)
_DATE_WITHOUT_YEAR: Final = re.compile(r"--([0-9]{2})-?([0-9]{2})")


class Birth(NamedTuple):
    year: Outcome = None
    month: Outcome = None
    day: Outcome = None


_UNKNOWN: Final = Birth()


@remembered(FEW)
def normalize_year(value: object, today_year: int) -> Outcome:
    """Four digits, from 1900 to `today_year`."""

    def rule(text: str) -> str | Unusable:
        year = ascii_digits(text)
        if _YEAR.fullmatch(year) and EARLIEST_YEAR <= int(year) <= today_year:
            return year
        return Unusable(f"not a year of four digits from {EARLIEST_YEAR} to {today_year}")

    return hashed(value, rule)


@remembered(FEW)
def normalize_month(value: object) -> Outcome:
    """01 to 12, from a number or an English name."""
    return hashed(value, _month)


def _month(text: str) -> str | Unusable:
    number = _two_digits(text, _LAST_MONTH) or MONTHS.get(bare(text))
    return number or Unusable("not a month: 1 to 12 or an English name")


@remembered(FEW)
def normalize_day(value: object) -> Outcome:
    """01 to 31."""
    return hashed(value, lambda text: _two_digits(text, _LAST_DAY) or Unusable("not a day: 1 to 31"))


def _two_digits(text: str, largest: int) -> str | None:
    digits = ascii_digits(text)
    if not _ONE_OR_TWO_DIGITS.fullmatch(digits) or not 1 <= int(digits) <= largest:
        return None
    return f"{int(digits):02d}"


def normalize_birthday(value: object, today_year: int) -> Birth:
    """A birthday in one text: a date with the year first (`1990-05-04`, `1990/5/4`, `19900504`), a date-time,
    whose date counts as written, a date without year (`--05-04`), or the bare day, 1 to 31.

    A hash is taken for the day's. 04/05/1990 is refused: day and month cannot be told apart. A year out of
    range costs only the year: address books write 1604 where they know none.
    """
    text = text_of(value)
    if text is None:
        return Birth()
    if isinstance(text, Unusable):
        return Birth(text, text, text)
    if len(text) > MAX_CHARACTERS:
        return _refused("not a date: write YYYY-MM-DD, or the day alone")
    text = ascii_digits(text)
    if is_hash(text) or _ONE_OR_TWO_DIGITS.fullmatch(text):
        return Birth(day=normalize_day(text))
    parts = _date_parts(text)
    if parts is None:
        return _refused("not a date: write YYYY-MM-DD, or the day alone")
    year, month, day = parts
    if not _in_calendar(year, month, day):
        return _refused("no day of the calendar: write YYYY-MM-DD")
    return Birth(normalize_year(year, today_year), normalize_month(month), normalize_day(day))


def _date_parts(text: str) -> tuple[str | None, str, str] | None:
    if match := _DATE.fullmatch(text):
        return match[1], match[3], match[4]
    if match := _DATE_COMPACT.fullmatch(text):
        return match[1], match[2], match[3]
    if match := _DATE_WITHOUT_YEAR.fullmatch(text):
        return None, match[1], match[2]
    return None


def _in_calendar(year: str | None, month: str, day: str) -> bool:
    try:
        date(int(year or 0) or _LEAP_YEAR, int(month), int(day))
    except ValueError:
        return False
    return True


def _refused(reason: str) -> Birth:
    return Birth(Unusable(reason), Unusable(reason), Unusable(reason))


def normalize_birth(birth: object, birthday: object, today_year: int) -> Birth:
    """What `birth`, an object of year, month and day, gives beats what `birthday` gives, part by part."""
    whole = _UNKNOWN if birthday is None else normalize_birthday(birthday, today_year)
    if isinstance(birth, Mapping):
        year = normalize_year(birth.get("year"), today_year)
        month = normalize_month(birth.get("month"))
        day = normalize_day(birth.get("day"))
    elif text_of(birth) is None:
        return whole
    else:  # spoils only what `birthday` does not give
        year, month, day = whole
        whole = _refused("birth must be an object with year, month and day")
    found = Birth(year or whole.year, month or whole.month, day or whole.day)
    known = [part.normalized if isinstance(part, Normalized) else None for part in found]
    if all(isinstance(part, str) for part in known) and not _in_calendar(*map(str, known)):
        return _refused("year, month and day together are no day of the calendar")
    return found
