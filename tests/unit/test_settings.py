"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import InvalidInputError
from app.settings import load_settings

TOKEN = "EAAtoken-that-nobody-may-see"


def test_the_environment_beats_the_file_and_the_file_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('partitions = 4\nbatch_rows = 500\nkafka_bootstrap_servers = "kafka:9092"\n')
    monkeypatch.setenv("AUDIENCE_SYNC_SETTINGS", str(file))
    monkeypatch.setenv("AUDIENCE_SYNC_BATCH_ROWS", "700")
    settings = load_settings()
    assert (settings.partitions, settings.batch_rows, settings.batch_seconds) == (4, 700, 30.0)
    assert settings.kafka_bootstrap_servers == "kafka:9092"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AUDIENCE_SYNC_PARTITIONS", "0", "AUDIENCE_SYNC_PARTITIONS: "),
        ("AUDIENCE_SYNC_PARTITIONS", "many", "AUDIENCE_SYNC_PARTITIONS: "),
        ("AUDIENCE_SYNC_BATCH_ROWS", "10001", "AUDIENCE_SYNC_BATCH_ROWS: "),
        ("AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID", "act_x", "expected act_ and digits"),
        ("AUDIENCE_SYNC_DEFAULT_COUNTRY", "UK", "AUDIENCE_SYNC_DEFAULT_COUNTRY: Value error, expected a two-letter country code of ISO 3166-1"),
        ("AUDIENCE_SYNC_DEFAULT_COUNTRY", "Germany", "AUDIENCE_SYNC_DEFAULT_COUNTRY: "),
        ("AUDIENCE_SYNC_FACEBOOK_API_VERSION", "25", "AUDIENCE_SYNC_FACEBOOK_API_VERSION: "),
        ("AUDIENCE_SYNC_SETTINGS", "/nowhere.toml", "AUDIENCE_SYNC_SETTINGS: there is no file"),
        ("AUDIENCE_SYNC_PARTITION", "4", "AUDIENCE_SYNC_PARTITION: there is no such setting; did you mean AUDIENCE_SYNC_PARTITIONS?"),
        ("FACEBOOK_ACCESS_TOKEN_FILE", "/nowhere", "FACEBOOK_ACCESS_TOKEN_FILE: /nowhere cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as caught:
        load_settings()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("partition = 4", "did you mean partitions?"),
        ("partitions = ", "is not TOML"),
        ("[x]", "no such setting"),
    ],
)
def test_a_wrong_settings_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(content)
    monkeypatch.setenv("AUDIENCE_SYNC_SETTINGS", str(file))
    with pytest.raises(InvalidInputError, match=said) as caught:
        load_settings()
    assert str(file) in str(caught.value)


def test_a_secret_may_be_a_file_and_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("FACEBOOK_ACCESS_TOKEN_FILE", str(file))
    settings = load_settings()
    assert settings.facebook_access_token is not None
    assert settings.facebook_access_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)


def test_an_error_beside_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBOOK_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("AUDIENCE_SYNC_PARTITIONS", "none")
    with pytest.raises(InvalidInputError) as caught:
        load_settings()
    assert TOKEN not in str(caught.value)


def test_an_ad_account_id_gets_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID", "123")
    assert load_settings().facebook_ad_account_id == "act_123"


def test_engage_creates_audiences_only_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().engage_auto_create is False
    monkeypatch.setenv("AUDIENCE_SYNC_ENGAGE_AUTO_CREATE", "true")
    monkeypatch.setenv("AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX", "0")
    with pytest.raises(
        InvalidInputError, match=r"AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX: .* greater than or equal to 1"
    ):
        load_settings()
    monkeypatch.setenv("AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX", "7")
    settings = load_settings()
    assert (settings.engage_auto_create, settings.engage_auto_create_max) == (True, 7)
