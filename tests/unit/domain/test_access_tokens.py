from __future__ import annotations

import pytest

from app.domain.access_tokens import DAY_MS, TokenFacts, concern, instant_of, is_near_its_end, lifetime

NOW = 1_767_225_600_000
GOOD = ("ads_management", "ads_read")


def facts(**what: object) -> TokenFacts:
    return TokenFacts(**{"valid": True, "scopes": GOOD, **what})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "instant"),
    [(0, None), (None, None), (-1, None), (1, 1_000), (1_570_820_400, 1_570_820_400_000), (10**15, None)],
)
def test_facebook_s_seconds(seconds: int | None, instant: int | None) -> None:
    """0 is never, as is what no calendar has."""
    assert instant_of(seconds) == instant


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (facts(), None),
        (facts(expires_at=NOW + 14 * DAY_MS + 1), None),
        (facts(expires_at=NOW + 14 * DAY_MS), "ends on 2026-01-15, in 14 days"),
        (facts(expires_at=NOW + 1), "in 0 days"),
        (facts(expires_at=NOW), "not valid any more"),
        (facts(valid=False, expires_at=NOW + 90 * DAY_MS), "not valid any more"),
        (facts(scopes=("ads_read",)), "lacks the permission ads_management"),
        (facts(app_id="2"), "of app 2, and AUDIENCE_SYNC_FACEBOOK_APP_ID is 1"),
        (facts(app_id="1"), None),
        (facts(data_access_expires_at=NOW + 20 * DAY_MS), None),
        (facts(data_access_expires_at=NOW + 3 * DAY_MS), "right to data ends on 2026-01-04, in 3 days"),
        # The gravest first.
        (facts(valid=False, scopes=()), "not valid any more"),
        (facts(scopes=(), expires_at=NOW + 1), "lacks the permission"),
    ],
)
def test_what_a_person_is_told(known: TokenFacts, said: str | None) -> None:
    found = concern(known, NOW, 14, "1")
    assert found is None if said is None else said in str(found)


def test_only_a_valid_token_that_ends_is_near_its_end() -> None:
    assert is_near_its_end(facts(expires_at=NOW + DAY_MS), NOW, 1)
    assert not is_near_its_end(facts(expires_at=NOW + DAY_MS + 1), NOW, 1)
    assert not is_near_its_end(facts(), NOW, 59)
    assert not is_near_its_end(facts(valid=False, expires_at=NOW), NOW, 1)


def test_its_lifetime_in_words() -> None:
    assert lifetime(facts()) == "it does not end by itself"
    assert lifetime(facts(expires_at=NOW)) == "it lasts until 2026-01-01T00:00:00Z"
