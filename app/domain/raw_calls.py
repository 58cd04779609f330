"""Whom a call names that could not be read: letters may keep it as it came, and a forgotten person's have to go.

It may be cut off, be no JSON, or hold identifiers where they do not belong: that is why it became a letter. So it is
looked through as text, for values that are an identifier as a whole.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from app.domain.normalization import Normalized, normalize_email
from app.domain.normalization_text import normalize_device_id
from app.domain.profile_ids import EMAIL, MOBILE, anonymous_profile, user_profile

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

# A string, or what stands between the signs of JSON: a number, or the rest of a string that never ends.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"{}\[\],:]+', re.DOTALL)
_COLON: Final = re.compile(r"\s*:")
# Under such a key any value may be an identifier: userId, anonymous_id, advertisingId, ids.
_OF_IDS: Final = re.compile(r"(?:^|[^a-zA-Z])(?i:ids?)$|[a-z]I[dD]s?$|^(?i:(?:user|anonymous)ids?)$")
# A shorter value under another key is rather a number or a word that somebody's id happens to be.
_DISTINCTIVE: Final = 6


def names_any(raw: bytes, profiles: Container[str]) -> bool:
    """Whether the call has an identifier of one of these profiles (profile ids), wherever it stands."""
    return any(profile in profiles for text in _values(raw) for profile in _profiles_of(text))


def _values(raw: bytes) -> Iterator[str]:
    """What may be an identifier."""
    text, under_id = raw.decode("utf-8", "replace"), False
    for found in _TOKEN.finditer(text):
        value = _read(found.group())
        is_key = _COLON.match(text, found.end()) is not None
        if is_key:
            under_id = _OF_IDS.search(value) is not None
        if len(value) >= _DISTINCTIVE or (under_id and not is_key):
            yield value


def _read(token: str) -> str:
    if not token.startswith('"'):
        return token
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token[1:-1]


def _profiles_of(text: str) -> Iterator[str]:
    """The profiles that it may stand for."""
    for profile in (user_profile(text), anonymous_profile(text)):
        if profile is not None:
            yield profile
    for prefix, normalize in ((EMAIL, normalize_email), (MOBILE, normalize_device_id)):
        found = normalize(text)
        if isinstance(found, Normalized):
            yield f"{prefix}{found.value}"
