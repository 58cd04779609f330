"""Files that settings name: each is read as far as a file of its kind may be long, whatever stands there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from app.errors import InvalidInputError

# A chain of certificates is the longest of them.
_MOST_SECRET_BYTES: Final = 65_536
# As much as definitions may have.
_MOST_SETTINGS_BYTES: Final = 1_048_576


def secret_in(name: str, path: str) -> str:
    """A secret's content, without what is around it. Raises ValueError naming the variable."""
    try:
        content = _beginning(path, _MOST_SECRET_BYTES)
        text = content.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{name}_FILE: {path} cannot be read ({type(exc).__name__})") from None
    if len(content) > _MOST_SECRET_BYTES:
        raise ValueError(f"{name}_FILE: {path} is longer than {_MOST_SECRET_BYTES:,} bytes")
    return text


def settings_in(name: str, path: str) -> dict[str, Any]:
    """What a file of settings sets. Raises InvalidInputError for one that is too long, ValueError for what is no TOML."""
    content = _beginning(path, _MOST_SETTINGS_BYTES)
    if len(content) > _MOST_SETTINGS_BYTES:
        raise InvalidInputError(
            f"{name}: {path} is longer than {_MOST_SETTINGS_BYTES:,} bytes: name a file that has settings and nothing else"
        )
    return tomllib.loads(content.decode("utf-8"))


def _beginning(path: str, most: int) -> bytes:
    """One byte more than `most` says that there is more."""
    with Path(path).open("rb") as file:
        return file.read(most + 1)
