"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.adapters.facebook_connection import data_use
from app.adapters.settings_options import resolve_options, room
from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.room import Cuts, Room
from app.errors import InvalidInputError
from app.settings import Settings, access_token_file, load_settings, variable_of
from schemas.data_use import DataProcessing

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


def test_the_readings_of_names_reach_what_reads_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, blanks, initial in (("KEEP_NAME_BLANKS", True, False), ("ROMANISE_INITIAL", False, True)):
        with monkeypatch.context() as patch:
            patch.setenv(f"AUDIENCE_SYNC_{name}", "true")
            options = resolve_options(load_settings())
        assert (options.keep_name_blanks, options.romanise_initial) == (blanks, initial)


def test_the_room_there_is_for_a_profile_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(load_settings()) == Room()
    wanted = Room(7, profile_events=1_001, message_ids=8, value_characters=1_025, value_items=9)
    for name in ("funnel_events", "profile_events", "message_ids", "value_characters", "value_items"):
        monkeypatch.setenv(f"AUDIENCE_SYNC_{name.upper()}", str(getattr(wanted, name)))
    cuts = Cuts()
    found = room(load_settings(), cuts)
    assert found == wanted
    assert found.cuts is cuts


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AUDIENCE_SYNC_PARTITIONS", "0", "AUDIENCE_SYNC_PARTITIONS: "),
        ("AUDIENCE_SYNC_PARTITIONS", "many", "AUDIENCE_SYNC_PARTITIONS: "),
        ("AUDIENCE_SYNC_BATCH_ROWS", "10001", "AUDIENCE_SYNC_BATCH_ROWS: "),
        ("AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID", "act_x", "expected act_ and digits"),
        ("AUDIENCE_SYNC_DEFAULT_COUNTRY", "UK", "AUDIENCE_SYNC_DEFAULT_COUNTRY: expected a two-letter country code of ISO 3166-1"),
        ("AUDIENCE_SYNC_DEFAULT_COUNTRY", "Germany", "AUDIENCE_SYNC_DEFAULT_COUNTRY: "),
        ("AUDIENCE_SYNC_FACEBOOK_API_VERSION", "25", "AUDIENCE_SYNC_FACEBOOK_API_VERSION: "),
        ("AUDIENCE_SYNC_SETTINGS", "/nowhere.toml", "AUDIENCE_SYNC_SETTINGS: there is no file"),
        ("AUDIENCE_SYNC_PARTITION", "4", "AUDIENCE_SYNC_PARTITION: there is no such setting; did you mean AUDIENCE_SYNC_PARTITIONS?"),
        ("AUDIENCE_SYNC_FACEBOOK_API_URL", "http://graph.facebook.com", "AUDIENCE_SYNC_FACEBOOK_API_URL: "),
        ("AUDIENCE_SYNC_FACEBOOK_API_URL", "HTTP://Facebook.com:80/x", "AUDIENCE_SYNC_FACEBOOK_API_URL: "),
        ("AUDIENCE_SYNC_FACEBOOK_APP_ID", "my app", "AUDIENCE_SYNC_FACEBOOK_APP_ID: "),
        ("AUDIENCE_SYNC_FACEBOOK_PROOF", "none", "AUDIENCE_SYNC_FACEBOOK_PROOF: "),
        ("AUDIENCE_SYNC_FACEBOOK_TOKEN_CHECK_SECONDS", "86401", "AUDIENCE_SYNC_FACEBOOK_TOKEN_CHECK_SECONDS: "),
        ("AUDIENCE_SYNC_FACEBOOK_TOKEN_WARN_DAYS", "60", "AUDIENCE_SYNC_FACEBOOK_TOKEN_WARN_DAYS: "),
        ("AUDIENCE_SYNC_FACEBOOK_CUSTOMER_CONSENT", "perhaps", "AUDIENCE_SYNC_FACEBOOK_CUSTOMER_CONSENT: "),
        ("AUDIENCE_SYNC_FACEBOOK_DATA_PROCESSING_OPTIONS", "LDU,1", "AUDIENCE_SYNC_FACEBOOK_DATA_PROCESSING_OPTIONS: "),
        ("FACEBOOK_ACCESS_TOKEN_FILE", "/nowhere", "FACEBOOK_ACCESS_TOKEN_FILE: /nowhere cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as caught:
        load_settings()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AUDIENCE_SYNC_BATCH_ROWS", "10001", "AUDIENCE_SYNC_BATCH_ROWS: expected 10,000 or less"),
        ("AUDIENCE_SYNC_BATCH_SECONDS", "0", "AUDIENCE_SYNC_BATCH_SECONDS: expected more than 0"),
        ("AUDIENCE_SYNC_BATCH_SECONDS", "soon", "AUDIENCE_SYNC_BATCH_SECONDS: expected a number"),
        ("AUDIENCE_SYNC_PARTITIONS", "1.5", "AUDIENCE_SYNC_PARTITIONS: expected a whole number"),
        ("AUDIENCE_SYNC_LEGACY_JOURNEYS", "perhaps", "AUDIENCE_SYNC_LEGACY_JOURNEYS: expected true or false"),
        (
            "AUDIENCE_SYNC_ENGAGE_CALLS",
            "all",
            "AUDIENCE_SYNC_ENGAGE_CALLS: expected text of the form ^(off|identify|track|both)$",
        ),
        # Of what is wrong with several together no one is to be named first.
        (
            "KAFKA_SASL_USERNAME",
            "ann",
            "KAFKA_SASL_USERNAME is set, and KAFKA_SECURITY_PROTOCOL is plaintext, ",
        ),
    ],
)
def test_a_wrong_setting_is_told_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as caught:
        load_settings()
    assert str(caught.value).startswith(said)


def test_no_words_of_pydantic_reach_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        for value in ("\u00e4 ?", "-99", "1e99"):
            with monkeypatch.context() as patch:
                patch.setenv(variable_of((name,)), value)
                try:
                    load_settings()
                except InvalidInputError as error:
                    said = str(error)
                else:
                    continue
            assert not any(word in said for word in ("Value error", "should", "Input", "valid")), said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("partition = 4", "did you mean partitions?"),
        ("partitions = ", "is not TOML"),
        ("[x]", "no such setting"),
        ("partitions = 4\n" + "#" * 1_048_576, "is longer than 1,048,576 bytes"),
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
        InvalidInputError, match=r"^AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX: expected 1 or more$"
    ):
        load_settings()
    monkeypatch.setenv("AUDIENCE_SYNC_ENGAGE_AUTO_CREATE_MAX", "7")
    settings = load_settings()
    assert (settings.engage_auto_create, settings.engage_auto_create_max) == (True, 7)


@pytest.mark.parametrize("url", ["https://graph.facebook.com", "http://127.0.0.1:9", "http://facebook.community", "http://sandbox:8080/facebook.com"])  # fmt: skip
def test_only_facebook_itself_has_to_be_asked_with_tls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_FACEBOOK_API_URL", url)
    assert load_settings().facebook_api_url == url


@pytest.mark.parametrize(
    ("consent", "options", "use"),
    [
        ("", "", NOTHING_SAID),
        ("true", "", DataUse(True)),
        ("false", "none", DataUse(False, DataProcessing(options=[]))),
        ("", "LDU", DataUse(None, DataProcessing(options=["LDU"]))),
        ("", "LDU,1,1000", DataUse(None, DataProcessing(options=["LDU"], country=1, state=1000))),
    ],
)
def test_what_is_said_of_people_where_a_definition_says_nothing(
    monkeypatch: pytest.MonkeyPatch, consent: str, options: str, use: DataUse
) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_FACEBOOK_CUSTOMER_CONSENT", consent)
    monkeypatch.setenv("AUDIENCE_SYNC_FACEBOOK_DATA_PROCESSING_OPTIONS", options)
    assert data_use(load_settings()) == use


def test_the_token_s_file_is_known_only_where_the_token_comes_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert access_token_file() is None
    file = tmp_path / "token"
    file.write_text(TOKEN)
    monkeypatch.setenv("FACEBOOK_ACCESS_TOKEN_FILE", str(file))
    assert access_token_file() == file
    monkeypatch.setenv("FACEBOOK_ACCESS_TOKEN", "EAAother")
    assert access_token_file() is None
