"""The short ways that most values take through normalisation end where the long ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain import normalization
from app.domain.normalization import NormalizationOptions, normalize_fields
from app.domain.normalization_phone import phone_digits, plain_international
from app.domain.normalization_remembered import remembered
from app.domain.normalization_text import Normalized, Outcome, Unusable, hashed

if TYPE_CHECKING:
    from collections.abc import Callable

emails = st.one_of(
    st.emails(),
    st.text("aB.@-+_ \u200b\n\u212aß", max_size=14),
    st.from_regex(r"[a-zA-Z.]{1,5}@[a-z-]{1,5}(\.[a-z0-9-]{0,4}){0,3}", fullmatch=True),
)


@settings(max_examples=500, deadline=None)
@given(emails)
@example("a@b.co")
@example("a@b.co ")
@example("\u212a@b.co")
@example("a" * 64 + "@b.co")
def test_an_address_is_the_same_either_way(text: str) -> None:
    assert normalization.normalize_email(text) == hashed(text, normalization._email)


numbers = st.one_of(
    st.from_regex(r"\+[1-9][0-9 .()-]{0,16}", fullmatch=True),
    st.text("+0123456789 .()-x", max_size=16),
    st.sampled_from(["+49 (0)30 901820", "+7 8 912 345 67 89", "+39 06 123456", "+1", "+0", "+1 650 ext 7"]),
)


@settings(max_examples=500, deadline=None)
@given(numbers, st.sampled_from([None, "DE", "US", "IT"]))
def test_a_number_is_the_same_either_way(text: str, country: str | None) -> None:
    plain = plain_international(text)
    assert plain is None or plain == phone_digits(text, country)


@pytest.mark.parametrize("text", ["+16505551212", "+1 (650) 555-1212", "+4930901820"])
def test_stored_numbers_take_the_short_way(text: str) -> None:
    assert plain_international(text) is not None


RULES: dict[str, Callable[..., Outcome]] = {
    "gender": normalization.normalize_gender,
    "city": normalization.normalize_city,
    "name": normalization.normalize_name,
    "zip": normalization.normalize_zip,
    "country": normalization.normalize_country,
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.text(max_size=60), st.none(), st.integers(), st.booleans(), st.floats())))
def test_what_is_remembered_is_what_the_rule_says(name: str, values: list[Any]) -> None:
    ask = RULES[name]
    rule: Callable[..., Outcome] = ask.__wrapped__  # type: ignore[attr-defined]
    for value in [*values, *values]:
        assert ask(value) == rule(value)


def test_guides_and_switches_are_part_of_what_is_remembered() -> None:
    for country, sent in (("US", "94035"), ("DE", "940351234"), ("US", "94035")):
        outcome = normalize_fields(
            {"zip": "94035 1234", "country": country}, NormalizationOptions(today_year=2026)
        )[normalization.MetaKey.ZIP]
        assert not isinstance(outcome, Unusable)
        assert outcome.normalized == sent
    for keep, sent in ((True, "mary ann"), (False, "maryann"), (True, "mary ann")):
        name = normalization.normalize_name("Mary Ann", keep_blanks=keep)
        assert isinstance(name, Normalized)
        assert name.normalized == sent


def test_equal_values_of_other_types_are_told_apart_and_long_ones_not_kept() -> None:
    asked: list[object] = []

    @remembered(2)
    def rule(value: object) -> Outcome:
        asked.append(value)
        return Unusable(repr(value))

    texts = ["1", 1, True, 1.0, "1", "x" * 41, "x" * 41]
    assert [rule(one) for one in texts] == [Unusable(repr(one)) for one in texts]
    assert [repr(one) for one in asked] == ["'1'", "1", "True", "1.0", repr("x" * 41), repr("x" * 41)]
    for one in ("a", "b", "c", "a"):
        rule(one)
    assert asked[-4:] == ["a", "b", "c", "a"], "no more is kept than it says"
