"""Durations: `90s 15m 12h 30d 2w`, or ISO 8601 without months and years, which have no fixed length."""

from __future__ import annotations

import re
from decimal import Decimal

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
MAX_DURATION_MS = 36_525 * DAY_MS  # a hundred years: no window needs more, and instants stay in range

_UNITS_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": WEEK_MS}
_SHORT = re.compile(r"([0-9]{1,15})([smhdw])")
_NUMBER = r"([0-9]{1,15}(?:[.,][0-9]{1,9})?)"
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_ISO_UNITS_MS = (WEEK_MS, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS)
_CALENDAR = re.compile(r"[0-9]+ ?(?:mo|month|months|y|yr|year|years)|P[0-9.,]+[YM].*", re.IGNORECASE)


def parse_duration(text: str) -> int:
    """The milliseconds of a duration, 0 or more.

    Raises ValueError, worded for whoever wrote the text.
    """
    milliseconds = _short_form(text)
    if milliseconds is None:
        milliseconds = _iso_form(text)
    if milliseconds is None and _CALENDAR.fullmatch(text):
        raise ValueError("months and years differ in length: give days, such as 30d or 365d")
    if milliseconds is None:
        raise ValueError("expected a duration such as 30d")
    if milliseconds > MAX_DURATION_MS:
        raise ValueError("a duration may be at most 36525d, a hundred years")
    return milliseconds


def format_duration(milliseconds: int) -> str:
    """The shortest text with one unit up to days: 2592000000 -> `30d`; `parse_duration` reads it back.

    Durations with a rest below a second are written in ISO 8601.
    """
    for unit in ("d", "h", "m", "s"):
        if milliseconds % _UNITS_MS[unit] == 0:
            return f"{milliseconds // _UNITS_MS[unit]}{unit}"
    return f"PT{milliseconds // SECOND_MS}.{milliseconds % SECOND_MS:03}S"


def _short_form(text: str) -> int | None:
    match = _SHORT.fullmatch(text)
    return int(match[1]) * _UNITS_MS[match[2]] if match else None


def _iso_form(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    given = [(number, unit) for number, unit in zip(match.groups(), _ISO_UNITS_MS, strict=True) if number]
    if any(not number.isdigit() for number, _ in given[:-1]):
        raise ValueError("only the last number of an ISO 8601 duration may have a fraction")
    total = sum(Decimal(number.replace(",", ".")) * unit for number, unit in given)
    if total != int(total):
        raise ValueError("a duration is a whole number of milliseconds")
    return int(total)
