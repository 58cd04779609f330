"""Settings: the only reader of the environment.

A value comes from, in this order: the environment, the file named by AUDIENCE_SYNC_SETTINGS (TOML), the default.
A secret may also be given as a file, by the same name with `_FILE` appended.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from app.errors import InvalidInputError
from topics.catalog import Catalog

PREFIX = "AUDIENCE_SYNC_"
SETTINGS_FILE = f"{PREFIX}SETTINGS"
_UNPREFIXED = ("KAFKA_BOOTSTRAP_SERVERS", "FACEBOOK_ACCESS_TOKEN", "FACEBOOK_APP_SECRET")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


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
    default_country: str | None = Field(default=None, pattern=r"^[A-Za-z]{2}$")
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
    # How often a destination that waits for a person asks Facebook whether the cause is gone.
    facebook_probe_seconds: Seconds = 300.0
    # The safety brake: an audience is paused when within an hour more than so many percent of its members, and more
    # than so many of them, would be removed.
    brake_percent: float = Field(default=20.0, ge=0, le=100)
    brake_members: int = Field(default=1_000, ge=0)
    facebook_mode: str = Field(default="live", pattern=r"^(live|dry_run)$")
    # A worker with the same instance id takes its predecessor's place without a rebalance.
    instance_id: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    session_timeout_seconds: Seconds = 10.0
    poll_records: int = Field(default=10_000, ge=1, le=100_000)
    kafka_bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
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

    @field_validator("facebook_ad_account_id")
    @classmethod
    def _ad_account_form(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digits = value.removeprefix("act_")
        if not digits.isdigit():
            raise ValueError("expected act_ and digits, such as act_1234567890")
        return f"act_{digits}"

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in _UNPREFIXED:
            path = os.environ.get(f"{name}_FILE")
            if path and not os.environ.get(name):
                try:
                    text = Path(path).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as exc:
                    raise ValueError(f"{name}_FILE: {path} cannot be read ({type(exc).__name__})") from None
                values = {**values, name.lower(): text}
        return values

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
        lines = [
            f"{_variable(problem['loc'])}: {problem['msg']}" for problem in exc.errors(include_input=False)
        ]
        raise InvalidInputError("\n".join(lines)) from None
    except ValueError as exc:
        raise InvalidInputError(f"{SETTINGS_FILE}: {path} is not TOML: {exc}") from None


def _refuse_unknown() -> None:
    """A misspelt name would silently leave the default in force."""
    fields = set(Settings.model_fields)
    given = [name for name in os.environ if name.startswith(PREFIX)]
    _refuse_but({f"{PREFIX}{name.upper()}" for name in fields} | {SETTINGS_FILE}, given, "")
    path = os.environ.get(SETTINGS_FILE)
    if path:
        with Path(path).open("rb") as file:
            _refuse_but(fields, tomllib.load(file), f"{path}: ")


def _refuse_but(known: set[str], given: Iterable[str], where: str) -> None:
    for name in sorted(set(given) - known):
        nearest = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InvalidInputError(f"{where}{name}: there is no such setting{hint}")


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0]).upper() if location else "settings"
    return name if name in _UNPREFIXED or name == "settings" else f"{PREFIX}{name}"
