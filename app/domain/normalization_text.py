"""From any JSON value to text that can be normalised, and from normalised text to the hash that is sent."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Normalized(msgspec.Struct, frozen=True, gc=False):
    """What is sent, and the text it was made of; that text is None when the input was a hash already."""

    value: str | float
    normalized: str | None


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something was given and cannot be sent; the reason never holds any of it."""

    error: str


Outcome: TypeAlias = Normalized | Unusable | None  # None: blank

MAX_CHARACTERS: Final = 1_000  # no identifier is longer; composing long runs of marks takes quadratic time
EXACT_FLOAT: Final = 2**53  # above, a JSON reader may already have changed the last digits
MAX_INTEGER_BITS: Final = 128

_BLANKS: Final = frozenset({"", "/", "-", "null", "n/a"})
_LONGEST_BLANK: Final = max(map(len, _BLANKS))
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]+")
_SHA256_DIGITS: Final = 64
_OTHER_DIGESTS: Final = frozenset({32, 40, 128})  # digits of MD5, SHA-1, SHA-512
_HASH_OF_NOTHING: Final = hashlib.sha256(b"").hexdigest()

_NOT_TEXT: Final = Unusable("a list, an object or a boolean is no identifier: give text or a number")


def text_of(value: object) -> str | Unusable | None:
    """Trimmed text, numbers as text; None when blank. What comes back can be encoded as UTF-8."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return _NOT_TEXT
    elif isinstance(value, float):
        if not abs(value) < EXACT_FLOAT:  # also true of what is no number
            return Unusable("a number too large to be exact: give it as text")
        text = str(int(value)) if value.is_integer() else repr(value)
    elif value.bit_length() > MAX_INTEGER_BITS:
        return Unusable("a number too large for an identifier")
    else:
        text = str(value)

    text = trimmed(text)
    if len(text) <= _LONGEST_BLANK and text.lower() in _BLANKS:
        return None
    if not text.isprintable() and any(_cannot_be_sent(character) for character in text):
        return Unusable("holds a control character or half a character (a lone surrogate)")
    if len(text) == _SHA256_DIGITS and text.lower() == _HASH_OF_NOTHING:  # someone hashed a blank
        return Unusable("the hash of an empty text")
    return text


def _cannot_be_sent(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()


def trimmed(text: str) -> str:
    """Without white space and invisible marks (byte order mark, direction, zero width) at both ends."""
    text = text.strip()
    if not text or (text[0].isprintable() and text[-1].isprintable()):
        return text
    start, end = 0, len(text)
    while start < end and _invisible(text[start]):
        start += 1
    while start < end and _invisible(text[end - 1]):
        end -= 1
    return text[start:end]


def _invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


def is_hash(text: str) -> bool:
    """Whether trimmed text is a SHA-256 in hexadecimal, of either case."""
    return len(text) == _SHA256_DIGITS and _HEXADECIMAL.fullmatch(text) is not None


def sha256_hex(text: str) -> str:
    """The only hash Meta matches: of the UTF-8 bytes, in 64 lower-case hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def hashed(value: object, rule: Callable[[str], str | Unusable]) -> Outcome:
    """The steps all hashed keys share around `rule`, which gets trimmed, composed text that is not blank.

    `rule` answers with the normalised text, which must not be empty, or the reason why there is none.
    """
    if value is None:  # most keys of most rows
        return None
    text = text_of(value)
    if text is None or isinstance(text, Unusable):
        return text
    length = len(text)
    if length > MAX_CHARACTERS:
        return Unusable(f"longer than {MAX_CHARACTERS:,} characters")
    if is_hash(text):
        return Normalized(text.lower(), None)
    if length in _OTHER_DIGESTS and _HEXADECIMAL.fullmatch(text) and not text.isdigit():
        return Unusable("a hash that is not SHA-256: give the plain text, or its SHA-256")
    normalized = rule(unicodedata.normalize("NFC", text))
    return normalized if isinstance(normalized, Unusable) else Normalized(sha256_hex(normalized), normalized)


_DEVICE_ID: Final = re.compile(r"[0-9a-z-]+")
# Not hexadecimal alone: advertising ids with other letters are among Meta's examples.
_MOBILE_ID: Final = re.compile(r"[0-9a-z]{8}(?:-[0-9a-z]{4}){3}-[0-9a-z]{12}")


def normalize_device_id(value: object) -> Outcome:
    """The advertising id of a device, where a library has put it: in lower case, whatever form its maker gives it."""
    text = text_of(value)
    if text is None or isinstance(text, Unusable):
        return text
    identifier = text.lower()
    if not _DEVICE_ID.fullmatch(identifier):
        return Unusable("a mobile advertising id holds only letters a-z, digits and hyphens")
    if not identifier.strip("0-"):
        return Unusable("only zeros: what every device reports whose owner opted out of tracking")
    return Normalized(identifier, identifier)


def is_mobile_id(value: object) -> bool:
    """Whether it has the form of an advertising id, in lower case: nothing else is sent in the clear under that name."""
    return isinstance(value, str) and _MOBILE_ID.fullmatch(value) is not None
