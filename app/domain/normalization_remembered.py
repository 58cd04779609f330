"""Values that many people share (names, cities, months) are normalised once.

What is remembered is bounded, lies in memory alone, and only where raw values are: in whatever normalises them.
"""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.normalization_text import Outcome

# Longer ones, hashes among them, do not come again.
_LONGEST: Final = 40
FEW: Final = 512
MANY: Final = 4_096


def remembered(most: int) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """For a rule whose answer depends on its arguments alone, the first of which is the raw value."""

    def decorate(rule: Callable[..., Outcome]) -> Callable[..., Outcome]:
        known = lru_cache(most)(rule)

        @wraps(rule)
        def ask(value: object, *guides: object, **switches: object) -> Outcome:
            if value is None:  # most fields of most people
                return None
            # Only text: 1, 1.0 and True are equal, and are not the same.
            if type(value) is str and len(value) <= _LONGEST:
                return known(value, *guides, **switches)
            return rule(value, *guides, **switches)

        return ask

    return decorate
