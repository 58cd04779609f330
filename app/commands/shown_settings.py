"""The settings in force as people may see them: where each comes from, and no secret."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.adapters.kafka_options import SECRET_OPTIONS, checked_options
from app.settings import FROM_FILES, PREFIX, SETTINGS_FILE, Settings, variable_of

HIDDEN = "(hidden)"
# A user and password in an address.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """`source`: environment, a variable that names a file, the settings file, or default."""

    variable: str
    value: str | int | float | bool | None
    source: str


def shown_settings(settings: Settings) -> list[ShownSetting]:
    """All settings as they are in force in this process, secrets hidden, in the order of the documentation."""
    path = os.environ.get(SETTINGS_FILE)
    in_file: dict[str, Any] = {}
    if path:
        with Path(path).open("rb") as file:
            in_file = tomllib.load(file)
    rows = []
    for name in Settings.model_fields:
        if name == "kafka_options":
            rows += _shown_options(settings, in_file, path)
            continue
        variable = variable_of((name,))
        value = getattr(settings, name)
        source = _source(variable, name, name in in_file, path)
        rows.append(ShownSetting(variable, _shown(value), source))
    return rows


def _source(variable: str, name: str, in_file: bool, path: str | None) -> str:
    if os.environ.get(variable) or os.environ.get(f"{PREFIX}{name.upper()}"):
        return "environment"
    if variable in FROM_FILES and os.environ.get(f"{variable}_FILE"):
        return f"{variable}_FILE"
    return str(path) if in_file else "default"


def _shown(value: Any) -> str | int | float | bool | None:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, str):
        return _CREDENTIALS.sub(f"{HIDDEN}@", value)
    return value if value is None or isinstance(value, int | float) else str(value)


def _shown_options(settings: Settings, in_file: dict[str, Any], path: str | None) -> list[ShownSetting]:
    """One row for each of librdkafka's options, and one where there is none."""
    if not settings.kafka_options:
        return [ShownSetting("KAFKA_OPTIONS", None, "default")]
    from_file = checked_options(in_file.get("kafka_options", {}))
    rows = []
    for option, value in sorted(settings.kafka_options.items()):
        variable = f"KAFKA_{option.replace('.', '_').upper()}"
        named = next((name for name in (variable, f"{variable}_FILE") if os.environ.get(name)), None)
        source = {None: "KAFKA_OPTIONS", variable: "environment"}.get(named, str(named))
        if named is None and not os.environ.get("KAFKA_OPTIONS") and option in from_file:
            source = str(path)
        shown = HIDDEN if option in SECRET_OPTIONS else value.get_secret_value()
        rows.append(ShownSetting(f"KAFKA_OPTIONS {option}", shown, source))
    return rows
