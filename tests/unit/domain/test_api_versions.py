"""When a version of the API is spoken of; the dates are Meta's, as the reference has them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from app.domain.api_versions import LIVES, VersionState, expected_end, version_state
from app.settings import Settings

TODAY = date(2026, 11, 30)


@pytest.mark.parametrize(
    ("version", "today", "ended", "said"),
    [
        ("v24.0", date(2026, 7, 7), False, None),  # 91 days before
        ("v24.0", date(2026, 7, 8), False, "v24.0 ends on 2026-10-06, in 90 days"),
        ("v24.0", date(2026, 10, 5), False, "in 1 days"),
        ("v24.0", date(2026, 10, 6), True, "v24.0 ended on 2026-10-06"),  # the day itself is no day of it
        ("v24.0", TODAY, True, "newer one, such as v26.0"),
        ("v21.0", TODAY, True, "ended on 2025-09-09"),
        ("v20.0", TODAY, True, "ended before 2025-09-09"),
        ("v9.0", TODAY, True, "ended before"),  # numbers, not text: 9 is less than 21
        ("v25.0", TODAY, False, None),
        ("v25.0", date(2027, 1, 18), False, None),  # 31 days before a year is over
        ("v25.0", date(2027, 1, 19), False, "may end soon"),
        ("v25.0", date(2030, 1, 1), False, "may end soon"),  # nobody has said that it has ended
        ("v26.0", TODAY, False, None),
        ("v27.0", TODAY, False, None),
        ("v100.1", TODAY, False, None),
    ],
)
def test_what_is_said_when(version: str, today: date, ended: bool, said: str | None) -> None:
    state = version_state(version, today)
    assert state.ended is ended
    assert version in state.text
    if said is None:
        assert (state.warning, state.fix, state.said) == (None, None, None)
    else:
        assert said in str(state.said)
        assert "AUDIENCE_SYNC_FACEBOOK_API_VERSION" in str(state.fix)


def test_an_unannounced_end_is_a_year_after_the_release_or_90_days_beside_the_successor() -> None:
    assert expected_end("v25.0") == date(2027, 2, 18)
    assert expected_end("v26.0") == date(2027, 7, 29)
    for version, life in LIVES.items():
        # What Meta has announced is within four months of what would have been expected.
        if life.marketing_end is not None:
            assert abs(life.marketing_end - expected_end(version)) < timedelta(days=120), version


def test_the_default_was_not_about_to_end_when_it_was_chosen() -> None:
    default = Settings.model_fields["facebook_api_version"].default
    assert version_state(default, TODAY) == VersionState(version_state(default, TODAY).text)
