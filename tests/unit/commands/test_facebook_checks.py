"""Which ad accounts are asked, and what is said where there are none."""

from __future__ import annotations

import pytest

from app.commands.facebook_checks import accounts_of, not_asked
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.settings import Settings, load_settings

NAMED = "audiences: [{name: A, when: {event: E}, facebook: {ad_account_id: act_5}}]"
OPEN = "audiences: [{name: A, when: {event: E}}]"
NOWHERE = "audiences: [{name: A, when: {event: E}, facebook: []}]"
UNREADABLE = None


def read(text: str | None) -> DefinitionSet | None:
    return None if text is None else parse_definitions([Document("a.yaml", text)])


def settings_with(account: str | None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID", account or "")
    return load_settings()


@pytest.mark.parametrize(
    ("text", "account", "asked", "said"),
    [
        (NAMED, "act_1", ["act_5"], None),
        (OPEN, "act_1", ["act_1"], None),
        (UNREADABLE, "act_1", ["act_1"], None),
        (
            UNREADABLE,
            None,
            [],
            "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID names no ad account, and the definitions",
        ),
        (OPEN, None, [], "no ad account is named, by definitions or AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID"),
        (NOWHERE, "act_1", [], "no audience is delivered anywhere, so act_1 is not asked"),
    ],
)
def test_what_is_said_is_so(
    text: str | None, account: str | None, asked: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, definitions = settings_with(account, monkeypatch), read(text)
    accounts = accounts_of(settings, definitions)
    assert accounts == asked
    findings = not_asked(settings, definitions, accounts)
    assert [finding.text.startswith(said or "") for finding in findings] == [True] * (said is not None)
