"""Sights: what has been seen lately, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

# At least so many are remembered, at most twice as many.
REMEMBERED: Final = 100_000


class Sights:
    """Two generations, so that room is made without keeping an order."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: set[Hashable] = set()
        self._old: set[Hashable] = set()

    def __contains__(self, sight: Hashable) -> bool:
        return sight in self._new or sight in self._old

    def is_first(self, sight: Hashable) -> bool:
        """Whether it has not been seen lately; from now on it has."""
        if sight in self._new:
            return False
        known = sight in self._old
        self._new.add(sight)
        if len(self._new) >= REMEMBERED:
            self._old, self._new = self._new, set()
        return not known
