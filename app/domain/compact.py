"""Compact forms of what profiles are named by: hashes and UUIDs as raw bytes, which halves them.

Every function has an inverse, whatever the text: what would not come back as it was is kept as it is.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from functools import cache
from typing import Final

from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE, WITHOUT_USER

_HASH_DIGITS: Final = 64
_UUID_LENGTH: Final = 36
_UUID_BYTES: Final = 16
_DASHES: Final = "-"
_RAW_LENGTHS: Final = (_HASH_DIGITS, _UUID_LENGTH)

# Bytes that no UTF-8 text has, each for a beginning of profile ids and what follows it: a hash, a UUID, or text.
_HASHES: Final = {EMAIL: b"\xf8", "": b"\xf9"}
_UUIDS: Final = {ANONYMOUS: b"\xfa", MOBILE: b"\xfb", "": b"\xfc"}
_TEXTS: Final = {ANONYMOUS: b"\xfd", MOBILE: b"\xfe"}
_MEANINGS: Final = {tag[0]: prefix for tags in (_HASHES, _UUIDS, _TEXTS) for prefix, tag in tags.items()}
_OF_TEXT: Final = frozenset(tag[0] for tag in _TEXTS.values())
_FIRST_TAG: Final = min(_MEANINGS)


_AUDIENCE_CHARACTERS: Final = 6
# In the keys of what no definition has under its own name (see app.domain.account_plan), and before what stands for them.
_UNNAMED: Final = "/"


@cache
def audience_id(key: str) -> str:
    """What stands for an audience in the states of its members: 36 bits of a digest of its key.

    Two audiences of one set that had the same would be refused where they are compiled. A slash in the key is one before
    the digest, too.
    """
    mark = _UNNAMED if _UNNAMED in key else ""
    return mark + urlsafe_b64encode(hashlib.sha256(key.encode()).digest())[:_AUDIENCE_CHARACTERS].decode()


def raw_of(text: str) -> bytes | None:
    """The bytes of a SHA-256 in lower-case hexadecimal (32) or of a UUID in its usual form (16); None: it is neither."""
    length = len(text)
    try:
        if length == _HASH_DIGITS:
            raw = bytes.fromhex(text)
            return raw if raw.hex() == text else None
        if length == _UUID_LENGTH:
            raw = bytes.fromhex(text.replace(_DASHES, ""))
            return raw if text_of(raw) == text else None
    except ValueError:
        pass
    return None


def text_of(raw: bytes) -> str:
    """The inverse of `raw_of`."""
    digits = raw.hex()
    if len(raw) != _UUID_BYTES:
        return digits
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def compact(text: str) -> bytes:
    """A profile id or message id in as few bytes as can be told from those of all others."""
    prefix = ""
    if text.startswith(WITHOUT_USER):
        prefix = text[: text.index(":") + 1]
        rest = text[len(prefix) :]
    else:
        rest = text
    if len(rest) in _RAW_LENGTHS and (raw := raw_of(rest)) is not None:
        tag = (_UUIDS if len(raw) == _UUID_BYTES else _HASHES).get(prefix)
        if tag is not None:
            return tag + raw
    tag = _TEXTS.get(prefix) if prefix else None
    return text.encode() if tag is None else tag + rest.encode()


def restored(form: bytes) -> str:
    """The inverse of `compact`."""
    if not form or form[0] < _FIRST_TAG:
        return form.decode()
    prefix, rest = _MEANINGS[form[0]], form[1:]
    return prefix + (rest.decode() if form[0] in _OF_TEXT else text_of(rest))
