"""Whether one destination may be delivered to: what people want of it, and its safety brake.

The brake looks at every live delta of the audience, also while the destination is paused or behind. What was written
while nobody owned the destination it reads from the log before anything is sent.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence

from app.domain.brake import Brake
from app.domain.pausing import Desired, brake_reason
from app.pipeline.delivery_options import Shared
from schemas.membership import MembershipDelta
from schemas.sync import SyncState

log = logging.getLogger(__name__)


class Pausing:
    """One destination; `state` is what its owner starts from, `live_offset` where the next offer begins."""

    def __init__(
        self,
        shared: Shared,
        destination: str,
        audience: str,
        partition: int,
        state: SyncState,
        live_offset: int,
        desired: Desired,
    ) -> None:
        self._shared = shared
        self._destination = destination
        self._audience = audience
        self._partition = partition
        known = state.brake
        if known is not None and known.position > live_offset:
            known = None  # of a partition that was made anew since
        self._brake = Brake(destination, shared.options.brake, known)
        self._live_end = live_offset
        self._level = False
        self._paused = desired.paused
        self._brake.accept(desired.accepted_at)

    @property
    def reason(self) -> str | None:
        """Why nothing may be sent; None: it may."""
        if self._brake.trip is None:
            return self._paused
        tripped = brake_reason(self._audience, self._brake.trip)
        return tripped if self._paused is None else f"{tripped} | {self._paused}"

    def desire(self, desired: Desired) -> bool:
        """What people want from now on; whether it makes a difference."""
        before = self.reason
        self._paused = desired.paused
        self._brake.accept(desired.accepted_at)
        self._say(before)
        return self.reason != before

    def offer(self, records: Sequence[tuple[int, MembershipDelta]], written: Sequence[int], end: int) -> bool:
        """Live deltas of the audience and when they were written; whether the brake has tripped just now."""
        self._live_end = max(self._live_end, end)
        if not self._level:
            return False
        before, tripped = self.reason, self._brake.trip is not None
        for (offset, delta), written_at in zip(records, written, strict=True):
            self._brake.see(offset, delta, written_at)
        self._brake.seen_to(end)
        if tripped or self._brake.trip is None:
            return False
        self._say(before)
        return True

    async def catch_up(self) -> None:
        """Returns when the brake has seen everything that has been offered; nothing may be sent before."""
        while not self._level:
            first, end = self._brake.position, self._live_end
            if first < end and self._brake.dump() is None:
                # One at a time, as each has to remember who is a member of an audience that may be large.
                async with self._shared.looking_through:
                    await self._read(first, end)
            elif first < end:
                await self._read(first, end)
            self._brake.seen_to(end)
            self._level = end == self._live_end

    async def _read(self, first: int, end: int) -> None:
        before = self.reason
        deltas = self._shared.log.read_written(self._partition, first, end, self._audience)
        try:
            async for offset, delta, written_at in deltas:
                self._brake.see(offset, delta, written_at)
        finally:
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()
        if before is None:
            self._say(before)

    def record(self) -> dict[str, object]:
        """For audience.syncs; nothing before there is something to go on with."""
        brake = self._brake.dump()
        return {} if brake is None else {"brake": brake}

    def _say(self, before: str | None) -> None:
        if self.reason is not None and self.reason != before:
            log.warning("destination %s is paused: %s", self._destination, self.reason)
        elif self.reason is None and before is not None:
            log.warning("destination %s is resumed", self._destination)
