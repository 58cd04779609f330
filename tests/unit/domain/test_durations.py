from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.durations import MAX_DURATION_MS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 90_000),
        ("15m", 900_000),
        ("12h", 43_200_000),
        ("30d", 2_592_000_000),  # 720 hours of 3600 seconds, never calendar days
        ("2w", 1_209_600_000),
        ("0s", 0),  # whoever needs a span of time says so
        ("007d", 604_800_000),
        ("P30D", 2_592_000_000),
        ("P2W", 1_209_600_000),
        ("PT12H", 43_200_000),
        ("PT15M", 900_000),  # M after T is minutes
        ("P1DT2H3M4S", 93_784_000),
        ("P1W2D", 777_600_000),  # ISO 8601-2 lets weeks stand with other units
        ("PT1.5H", 5_400_000),
        ("PT0,25S", 250),  # ISO 8601 allows a comma
        ("36525d", MAX_DURATION_MS),
    ],
)
def test_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "such as 30d"),
        ("thirty days", "such as 30d"),
        ("30", "such as 30d"),  # no unit is guessed
        ("30 d", "such as 30d"),
        ("30D", "such as 30d"),  # upper case is ISO's, with a P
        ("-5d", "such as 30d"),
        ("1.5h", "such as 30d"),
        ("1d12h", "such as 30d"),
        ("٣d", "such as 30d"),  # digits of other scripts are not ours
        ("30d\n", "such as 30d"),
        ("P", "such as 30d"),
        ("P1DT", "such as 30d"),  # ISO wants something after T
        ("PT", "such as 30d"),
        ("p30d", "such as 30d"),
        ("3mo", "months and years"),
        ("1y", "months and years"),
        ("P1M", "months and years"),
        ("P1Y2D", "months and years"),
        ("PT1.5H3M", "only the last number"),
        ("PT0.0001S", "whole number of milliseconds"),
        ("36526d", "a hundred years"),
        ("999999999999999w", "a hundred years"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_duration(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (2_592_000_000, "30d"),
        (1_209_600_000, "14d"),  # weeks are spelt in days
        (129_600_000, "36h"),
        (90_000, "90s"),
        (1_500, "PT1.500S"),
        (0, "0d"),
    ],
)
def test_written(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


@given(st.integers(min_value=0, max_value=MAX_DURATION_MS))
def test_written_form_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@given(st.text(alphabet="PT0123456789.,smhdwWDHMSY ", max_size=20))
def test_only_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(text) <= MAX_DURATION_MS
