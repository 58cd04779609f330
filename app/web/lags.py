"""How far the stages of this worker are behind."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from app.errors import AudienceSyncError


class Lags:
    """`find` gives the records that each stage has before it; what it says counts while `ready`.

    What is not known, or was found while partitions changed hands, is shown as unknown.
    """

    def __init__(
        self, find: Callable[[], Awaitable[Mapping[str, int | None]]], ready: Callable[[], bool]
    ) -> None:
        self._find = find
        self._ready = ready
        # Records by stage as found last: always this same mapping.
        self.by_stage: dict[str, int | None] = {}
        # Counts the changes of what this worker owns.
        self._assignment = 0

    def forget(self) -> None:
        """Partitions change hands."""
        self._assignment += 1
        self.by_stage.clear()

    async def refresh(self) -> None:
        assignment = self._assignment
        found: Mapping[str, int | None] = {}
        with contextlib.suppress(AudienceSyncError):
            found = await self._find()
        self.by_stage.clear()
        if assignment == self._assignment and self._ready():
            self.by_stage.update(found)
