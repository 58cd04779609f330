"""What is written of the values of calls that are compared later than where they come in.

A value is written whole. One that has more than there is room for is cut off and counted: of a text the beginning and
a digest of the whole are kept, so that unequal texts stay unequal; of a list the first items.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from app.domain.room import VALUE_CHARACTERS, VALUE_ITEMS
from app.domain.values import COMPOSITE, text_of

if TYPE_CHECKING:
    from app.domain.room import Cuts, Room

# Of a cut text, at least so many are kept however many values a call has.
LEAST_CHARACTERS: Final = 1_024
# Of all values that are kept of one call: at three bytes each, and with those of two versions of the definitions, they
# fit into one record of Kafka (topics.spec.MAX_RECORD_BYTES).
_MOST_OF_A_CALL: Final = 2 * 1024 * 1024

_MAX_INTEGER: Final = 2**63
_DIGEST_BYTES: Final = 8
# A digest is written in characters for private use, which texts do not have and operands do not ask for.
_FIRST_PRIVATE: Final = 0xE000


class Keeping:
    """How values are kept, for `app.domain.values.restored` to read: free of what MessagePack cannot say, and no larger
    than there is room for.
    """

    __slots__ = ("_characters", "_cuts", "_items")

    def __init__(self, cuts: Cuts, characters: int = VALUE_CHARACTERS, items: int = VALUE_ITEMS) -> None:
        self._cuts = cuts
        self._characters = characters
        self._items = items

    @classmethod
    def of(cls, room: Room, values: int) -> Keeping:
        """For calls of each of which at most so many values are kept."""
        share = max(LEAST_CHARACTERS, _MOST_OF_A_CALL // max(1, values))
        return cls(room.cuts, min(room.value_characters, share), room.value_items)

    def one(self, value: Any) -> Any:
        """A value, as it is kept."""
        kind = type(value)
        if kind is str:
            return value if len(value) <= self._characters else self._cut(value)
        if kind is list or kind is dict:
            text = text_of(value) or ""
            return {COMPOSITE: text if len(text) <= self._characters else self._cut(text)}
        if kind is int and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            return self.one(repr(value))
        return value

    def several(self, values: list[Any] | None) -> list[Any] | None:
        """As `one`, for what `extractor` finds in an array: the first items, as many as there is room for."""
        if values is None:
            return None
        result: list[Any] = []
        room = self._characters
        for value in values:
            item = self.one(value)
            room -= characters_of(item)
            if len(result) == self._items or (room < 0 and result):
                self._cuts.number += 1
                break
            result.append(item)
        return result

    def _cut(self, text: str) -> str:
        self._cuts.number += 1
        return cut_text(text, self._characters)


def characters_of(value: Any) -> int:
    """How much room a kept value takes."""
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is dict:
        return len(value.get(COMPOSITE, ""))
    return 1


def cut_text(text: str, characters: int) -> str:
    """The beginning of a text and what tells it from others that begin so, in so many characters."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    return text[: characters - _DIGEST_BYTES] + "".join(chr(_FIRST_PRIVATE + byte) for byte in digest)
