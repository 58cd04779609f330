"""Settings: the only reader of the environment.

A value comes from, in this order: the environment, the file named by AUDIENCE_SYNC_SETTINGS (TOML), the default.
A secret may also be given as a file, by the same name with `_FILE` appended.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from app.adapters.kafka_options import OWN_SETTINGS, checked_options, option_of_variable
from app.adapters.kafka_settings import SASL_MECHANISMS, SECURITY_PROTOCOLS, refuse_disagreement
from app.adapters.settings_files import secret_in, settings_in
from app.domain.normalization_tables import ALPHA_2
from app.domain.room import MESSAGE_IDS, PROFILE_EVENTS, VALUE_CHARACTERS, VALUE_ITEMS
from app.errors import InvalidInputError
from topics.catalog import Catalog

PREFIX = "AUDIENCE_SYNC_"
SETTINGS_FILE = f"{PREFIX}SETTINGS"
_UNPREFIXED = (
    *OWN_SETTINGS.values(),
    "KAFKA_OPTIONS",
    "FACEBOOK_ACCESS_TOKEN",
    "FACEBOOK_APP_SECRET",
)
_WEB_TOKEN = f"{PREFIX}WEB_TOKEN"
# Each may be given as a file, by its name with `_FILE` appended.
FROM_FILES = (*(name for name in _UNPREFIXED if name != "KAFKA_OPTIONS"), _WEB_TOKEN)

Seconds = Annotated[float, Field(gt=0, le=86_400)]

_META_IN_THE_CLEAR = re.compile(r"http://([^/:?#]+\.)?facebook\.com(?![^/:?#])", re.IGNORECASE)
# Pydantic's kinds of problems, and what it would have taken instead.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "greater_than": "more than {gt:,.12g}",
    "greater_than_equal": "{ge:,.12g} or more",
    "less_than": "less than {lt:,.12g}",
    "less_than_equal": "{le:,.12g} or less",
    "string_pattern_mismatch": "text of the form {pattern}",
}
_WEB_TOKEN_FORM = re.compile(r"[\x21-\x7e]{16,1024}")


def _unprefixed(variable: str) -> AliasChoices:
    return AliasChoices(variable, variable.lower())


class Settings(BaseSettings):
    """All settings of every command; each has the environment variable of its name with the prefix."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    audiences: Path = Path("audiences.yaml")
    source_topic: str = Field(default="segment.events", pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,60}$")
    partitions: int = Field(default=8, ge=1, le=10_000)
    replication_factor: int = Field(default=-1, ge=-1, le=10)
    web_host: str = "127.0.0.1"
    web_port: int = Field(default=6066, ge=0, le=65_535)
    web_token: SecretStr | None = None
    default_country: str | None = None
    # The second readings of Meta's texts about names; see `app.domain.normalization.NormalizationOptions`.
    keep_name_blanks: bool = False
    romanise_initial: bool = False
    max_event_bytes: int = Field(default=32_768, ge=1_024, le=1_048_576)
    # Of steps of journeys that were made before their calls had a boolean.
    legacy_journeys: bool = False
    # Whether Engage calls create the audiences that they name, and how many at most.
    engage_auto_create: bool = False
    engage_auto_create_max: int = Field(default=100, ge=1, le=1_000)
    # User ids, anonymous ids, advertising ids and e-mail addresses that identify no one, with commas between;
    # `suggested` stands for those that Segment suggests.
    blocked_identifiers: str = ""
    # How many events of a profile a funnel looks at on either side; None: as many as are compared quickly.
    funnel_events: int | None = Field(default=None, ge=1, le=20_000)
    # How many events of a profile are kept of each thing that is counted, how many message ids are remembered, and how
    # much of each value that is compared later (app.domain.room).
    profile_events: int = Field(default=PROFILE_EVENTS, ge=1_000, le=500_000)
    message_ids: int = Field(default=MESSAGE_IDS, ge=1, le=100_000)
    value_characters: int = Field(default=VALUE_CHARACTERS, ge=1_024, le=1_048_576)
    value_items: int = Field(default=VALUE_ITEMS, ge=1, le=100_000)
    # Which Engage calls are written to engage.calls of each change of a membership; "off" writes none.
    engage_calls: str = Field(default="off", pattern=r"^(off|identify|track|both)$")
    # The worker ends where so many records of a partition in a row, or this part of the newest so many, are dead
    # letters; 0: never.
    dead_letters_in_a_row: int = Field(default=1_000, ge=0)
    dead_letters_ratio: float = Field(default=0.5, ge=0, le=1)
    dead_letters_window: int = Field(default=10_000, ge=1, le=1_000_000)
    # Whether letters hold the source record itself, so that they outlive it; it holds whatever the call held.
    dead_letters_keep_raw: bool = False
    batch_rows: int = Field(default=10_000, ge=1, le=10_000)
    batch_seconds: Seconds = 30.0
    facebook_api_url: str = Field(default="https://graph.facebook.com", pattern=r"^https?://")
    facebook_api_version: str = Field(default="v25.0", pattern=r"^v\d+\.\d+$")
    facebook_ad_account_id: str | None = None
    facebook_timeout_seconds: Seconds = 90.0
    # Of the app that the token is of; with its secret, tokens that end are exchanged for new ones in time.
    facebook_app_id: str | None = Field(default=None, pattern=r"^[0-9]{1,40}$")
    # Whether the proof made of the app's secret ages within minutes, as Meta asks today, or is of the token alone.
    facebook_proof: str = Field(default="timed", pattern=r"^(timed|plain)$")
    # How often Facebook is asked about the token, daily at least, and from when before its end it is spoken of.
    facebook_token_check_seconds: Seconds = 86_400.0
    facebook_token_warn_days: int = Field(default=14, ge=1, le=59)
    # Sent with people who are added, where a definition says nothing; None: not sent.
    facebook_customer_consent: bool | None = None
    # LDU, LDU with Meta's numbers of a country and a state, or none: not limited.
    facebook_data_processing_options: str | None = Field(
        default=None, pattern=r"^(none|LDU(,[0-9]{1,9},[0-9]{1,9})?)$"
    )
    # How often a destination that waits for a person asks Facebook whether the cause is gone.
    facebook_probe_seconds: Seconds = 300.0
    # The safety brake: an audience is paused when within an hour more than so many percent of its members, and more
    # than so many of them, would be removed.
    brake_percent: float = Field(default=20.0, ge=0, le=100)
    brake_members: int = Field(default=1_000, ge=0)
    # Hours between two looks at whether all that is known of members agrees, as `reconcile` does; 0: never.
    reconcile_hours: float = Field(default=24.0, ge=0, le=744)
    facebook_mode: str = Field(default="live", pattern=r"^(live|dry_run)$")
    # A worker with the same instance id takes its predecessor's place without a rebalance.
    instance_id: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    session_timeout_seconds: Seconds = 10.0
    poll_records: int = Field(default=10_000, ge=1, le=100_000)
    kafka_bootstrap_servers: str = Field(
        default="localhost:9092", validation_alias=_unprefixed("KAFKA_BOOTSTRAP_SERVERS")
    )
    kafka_security_protocol: str = Field(
        default="plaintext", validation_alias=_unprefixed("KAFKA_SECURITY_PROTOCOL")
    )
    kafka_sasl_mechanism: str | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SASL_MECHANISM")
    )
    kafka_sasl_username: str | None = Field(default=None, validation_alias=_unprefixed("KAFKA_SASL_USERNAME"))
    kafka_sasl_password: SecretStr | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SASL_PASSWORD")
    )
    kafka_ssl_ca_location: str | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SSL_CA_LOCATION")
    )
    kafka_ssl_certificate_location: str | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SSL_CERTIFICATE_LOCATION")
    )
    kafka_ssl_key_location: str | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SSL_KEY_LOCATION")
    )
    kafka_ssl_key_password: SecretStr | None = Field(
        default=None, validation_alias=_unprefixed("KAFKA_SSL_KEY_PASSWORD")
    )
    kafka_ssl_endpoint_identification_algorithm: str | None = Field(
        default=None,
        pattern=r"^(https|none)$",
        validation_alias=_unprefixed("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM"),
    )
    # Further options of librdkafka by its own names; also each as a variable, see app.adapters.kafka_options.
    kafka_options: dict[str, SecretStr] = Field(
        default_factory=dict, validation_alias=_unprefixed("KAFKA_OPTIONS")
    )
    facebook_access_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("FACEBOOK_ACCESS_TOKEN", "facebook_access_token")
    )
    facebook_app_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("FACEBOOK_APP_SECRET", "facebook_app_secret")
    )

    @property
    def blocked(self) -> tuple[str, ...]:
        """The blocked identifiers one by one."""
        return tuple(value.strip() for value in self.blocked_identifiers.split(",") if value.strip())

    @property
    def catalog(self) -> Catalog:
        return Catalog(prefix=self.topic_prefix, source_topic=self.source_topic)

    @field_validator("facebook_api_url")
    @classmethod
    def _never_in_the_clear(cls, value: str) -> str:
        if _META_IN_THE_CLEAR.match(value):
            raise ValueError("expected https: the access token would travel in the clear")
        return value

    @field_validator("default_country")
    @classmethod
    def _known_country(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in ALPHA_2:
            raise ValueError(
                "expected a two-letter country code of ISO 3166-1, such as US, GB (not UK) or DE"
            )
        return value

    @field_validator("facebook_ad_account_id")
    @classmethod
    def _ad_account_form(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digits = value.removeprefix("act_")
        if not digits.isdigit():
            raise ValueError("expected act_ and digits, such as act_1234567890")
        return f"act_{digits}"

    @field_validator("kafka_security_protocol")
    @classmethod
    def _known_protocol(cls, value: str) -> str:
        if value.lower() not in SECURITY_PROTOCOLS:
            raise ValueError(f"expected one of {', '.join(SECURITY_PROTOCOLS)}")
        return value.lower()

    @field_validator("kafka_sasl_mechanism")
    @classmethod
    def _known_mechanism(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.upper() == "GSSAPI":
            raise ValueError(f"GSSAPI is not supported: choose one of {', '.join(SASL_MECHANISMS)}")
        if value.upper() not in SASL_MECHANISMS:
            raise ValueError(f"expected one of {', '.join(SASL_MECHANISMS)}")
        return value.upper()

    @field_validator("kafka_options", mode="before")
    @classmethod
    def _known_options(cls, value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError("expected names and values")  # noqa: TRY004 - pydantic takes no other for a problem
        try:
            return checked_options(value)
        except InvalidInputError as exc:
            raise ValueError(str(exc)) from None

    @field_validator("web_token")
    @classmethod
    def _token_form(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _WEB_TOKEN_FORM.fullmatch(value.get_secret_value()):
            raise ValueError("expected 16 to 1024 printable ASCII characters without spaces")
        return value

    @model_validator(mode="after")
    def _kafka_settings_agree(self) -> Self:
        refuse_disagreement(
            self.kafka_security_protocol,
            sasl={
                "KAFKA_SASL_MECHANISM": self.kafka_sasl_mechanism,
                "KAFKA_SASL_USERNAME": self.kafka_sasl_username,
                "KAFKA_SASL_PASSWORD": self.kafka_sasl_password,
            },
            tls={
                "KAFKA_SSL_CA_LOCATION": self.kafka_ssl_ca_location,
                "KAFKA_SSL_CERTIFICATE_LOCATION": self.kafka_ssl_certificate_location,
                "KAFKA_SSL_KEY_LOCATION": self.kafka_ssl_key_location,
                "KAFKA_SSL_KEY_PASSWORD": self.kafka_ssl_key_password,
                "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": self.kafka_ssl_endpoint_identification_algorithm,
            },
            options={name: value.get_secret_value() for name, value in self.kafka_options.items()},
        )
        return self

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in FROM_FILES:
            path = os.environ.get(f"{name}_FILE")
            if path and not os.environ.get(name):
                values = {**values, name.lower().removeprefix(PREFIX.lower()): secret_in(name, path)}
        return values

    @model_validator(mode="before")
    @classmethod
    def _options_from_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for variable, value in os.environ.items():
            option = option_of_variable(variable.removesuffix("_FILE"))
            if option is None or variable.removesuffix("_FILE") in OWN_SETTINGS.values() or not value:
                continue
            if not variable.endswith("_FILE"):
                found[option] = value
            elif not os.environ.get(variable.removesuffix("_FILE")):
                found[option] = secret_in(variable.removesuffix("_FILE"), value)
        if not found:
            return values
        key = "KAFKA_OPTIONS" if "KAFKA_OPTIONS" in values else "kafka_options"
        given = values.get(key)
        return {**values, key: {**(given if isinstance(given, dict) else {}), **found}}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        path = os.environ.get(SETTINGS_FILE)
        if not path:
            return (init_settings, env_settings)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=Path(path)))


def load_settings(**overrides: Any) -> Settings:
    """Settings of this process; `overrides` are a command's own options, None meaning not given.

    Raises InvalidInputError naming the variable, never showing a secret's value.
    """
    path = os.environ.get(SETTINGS_FILE)
    if path and not Path(path).is_file():
        raise InvalidInputError(f"{SETTINGS_FILE}: there is no file {path}")
    try:
        _refuse_unknown()
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as exc:
        raise InvalidInputError("\n".join(map(_words, exc.errors(include_input=False)))) from None
    except SettingsError:
        raise InvalidInputError("KAFKA_OPTIONS: expected a JSON object of names and values") from None
    except ValueError as exc:
        raise InvalidInputError(f"{SETTINGS_FILE}: {path} is not TOML: {exc}") from None


def _words(problem: ErrorDetails) -> str:
    """A problem as pydantic found it, in words that need no knowledge of pydantic."""
    limits = problem.get("ctx", {})
    kind = problem["type"]
    if kind == "value_error":
        text = str(limits["error"])
    elif kind in _EXPECTED:
        text = f"expected {_EXPECTED[kind].format(**limits)}"
    else:
        text = problem["msg"]
    # What is wrong with several of them together names them.
    return f"{variable_of(problem['loc'])}: {text}" if problem["loc"] else text


def access_token_file() -> Path | None:
    """The file that the access token comes from; None: it comes from elsewhere."""
    path = os.environ.get("FACEBOOK_ACCESS_TOKEN_FILE")
    return Path(path) if path and not os.environ.get("FACEBOOK_ACCESS_TOKEN") else None


def _refuse_unknown() -> None:
    """A misspelt name would silently leave the default in force."""
    fields = set(Settings.model_fields)
    given = [name for name in os.environ if name.startswith(PREFIX)]
    _refuse_but(
        {f"{PREFIX}{name.upper()}" for name in fields} | {SETTINGS_FILE, f"{_WEB_TOKEN}_FILE"}, given, ""
    )
    path = os.environ.get(SETTINGS_FILE)
    if path:
        _refuse_but(fields, settings_in(SETTINGS_FILE, path), f"{path}: ")


def _refuse_but(known: set[str], given: Iterable[str], where: str) -> None:
    for name in sorted(set(given) - known):
        nearest = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InvalidInputError(f"{where}{name}: there is no such setting{hint}")


def variable_of(location: tuple[int | str, ...]) -> str:
    """The environment variable of a setting, by the place of its value."""
    name = str(location[0]).upper() if location else "settings"
    return name if name in _UNPREFIXED or name == "settings" else f"{PREFIX}{name}"
