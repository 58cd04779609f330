"""Sending one destination everything once again: from the beginning of the log, through the cursor of all other days.

Below the offset up to which changes may have been sent before, only the newest change of each profile is sent, so that
nothing older follows it. Which ones those are is found out first, by reading that part of the log once more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from app.domain.pausing import Desired
from app.domain.replacing import is_left_out
from app.pipeline.delivery_options import Shared
from schemas.membership import Change, MembershipDelta
from schemas.sync import SyncState


class Resync:
    """One destination. `end`: below it only the newest changes are sent; with `left_out` only of members of whom Facebook
    lacks rows that a replacing session could not hold.
    """

    def __init__(
        self,
        shared: Shared,
        destination: str,
        audience: str,
        partition: int,
        state: SyncState,
        desired: Desired,
    ) -> None:
        self._shared = shared
        self._destination = destination
        self._audience = audience
        self._partition = partition
        self.desired = desired
        self.end = state.resync_end if state.cursor < state.resync_end else 0
        self.left_out = state.resync_left_out
        self._newest: dict[int, int] | None = None

    def is_wanted(self, state: SyncState) -> bool:
        """Whether somebody asked for one that has not begun; while everybody is being replaced it does not."""
        return state.replace is None and self.desired.resync_at > state.resynced_at

    def begin(self, end: int, *, left_out: bool = False) -> dict[str, object]:
        """What to write to audience.syncs before the cursor is taken back."""
        self.end, self.left_out = end, left_out
        self._newest = None
        return {"cursor": 0, "resync_end": end, "resync_left_out": left_out, "replace": None}

    def settle_end(self, unconfirmed_end: int) -> int:
        """The end of what has to be read before anything is sent, as something may have been sent below."""
        return unconfirmed_end if unconfirmed_end > self.end else 0

    def forget(self) -> None:
        """Nothing is read for now."""
        self._newest = None

    async def prepare(self, first: int) -> None:
        """To be awaited before the log is read from that offset on."""
        if first >= self.end:
            self._newest = None
        elif self._newest is None:
            # One at a time, as the profiles of an audience have to find room, 100 bytes each.
            async with self._shared.looking_through:
                self._newest = await self._find_newest(first)

    async def _find_newest(self, first: int) -> dict[int, int]:
        newest: dict[int, int] = {}
        deltas = self._shared.log.read(self._partition, first, self.end, self._audience)
        try:
            async for offset, delta in deltas:
                if self._destination in delta.rows:
                    newest[hash(delta.profile)] = offset
        finally:
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()
        return newest

    def is_superseded(self, offset: int, delta: MembershipDelta) -> bool:
        """Whether a later change of the profile may have been sent before, or Facebook has all of it."""
        if offset >= self.end or self._newest is None:
            return False
        if self.left_out and (
            delta.change is Change.EXITED or not is_left_out(delta.rows.get(self._destination, []))
        ):
            return True
        return self._newest.get(hash(delta.profile), offset) != offset
