"""Fields of calls that name a person and say nothing that could be sent: counted by column and reason, until taken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from app.domain.normalization_text import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.normalization_text import Outcome

# What stands for a blank, as `/`, `-`, `null` and `N/A` do; an empty text is one, and not counted.
PLACEHOLDER: Final = "placeholder"
# What was given cannot be sent; `audience-sync normalize` says why.
UNUSABLE: Final = "unusable"


class LeftBlank:
    """(column, reason) -> how often. A value that many calls share may be looked at, and counted, once."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, str]] = Counter()

    def blank(self, columns: Iterable[str], value: Any) -> None:
        """A value that is blank; of a list each item."""
        for item in value if type(value) is list else (value,):
            if type(item) is str and item.strip():
                self._counted.update((column, PLACEHOLDER) for column in columns)

    def unusable(self, outcomes: Mapping[Any, Outcome]) -> None:
        """Of the outcomes by column, those that have no form to be sent in."""
        self._counted.update(
            (str(key), UNUSABLE) for key, one in outcomes.items() if isinstance(one, Unusable)
        )

    def take(self) -> Counter[tuple[str, str]]:
        """What has come since this was last asked."""
        taken, self._counted = self._counted, Counter()
        return taken
