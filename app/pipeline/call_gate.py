"""When one destination may call Facebook, and how it waits until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.domain.delivery import UsageMeter
from app.pipeline.delivery_options import Shared
from app.pipeline.limits import Limits
from app.pipeline.pausing import Pausing


class StoppedError(Exception):
    """The destination is another worker's by now, or the process ends."""


class ClosedError(Exception):
    """A scope was closed, or the destination paused, between two requests."""


class CallGate:
    """One destination. Its task alone calls `pause`, `turn` and `ready`; the others may be called at any time."""

    def __init__(self, shared: Shared, limits: Limits, pausing: Pausing) -> None:
        self._shared = shared
        self._limits = limits
        self._pausing = pausing
        self._wake = asyncio.Event()
        self._stopping = False
        self._calling = False

    def wake(self) -> None:
        """What a pause was for may have changed."""
        self._wake.set()

    def stop(self) -> bool:
        """The next wait ends with StoppedError. False: no call is under way, the task may be cancelled at once."""
        self._stopping = True
        self._wake.set()
        return self._calling

    async def pause(self, seconds: float) -> None:
        """Until then, or until something changes."""
        if not self._stopping:
            self._wake.clear()
            await self._shared.clock.wait(self._wake, seconds)
        if self._stopping:
            raise StoppedError

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a place among the destinations; inside, calls may be made as soon as `ready` returns."""
        async with self._shared.permits.hold(self._limits.account_key):
            self._limits.enter()
            try:
                yield
            finally:
                self._calling = False
                self._limits.leave()

    def heed(self, usage: Sequence[UsageMeter]) -> None:
        """A call was answered with these headers: rest when a limit is near."""
        self._limits.heed(usage)

    async def ready(self) -> None:
        """Returns when a request may be started now. Raises StoppedError, or ClosedError: not in this turn."""
        self._calling = False
        while not self._shared.liveness.may_start_request():
            await self.pause(self._shared.options.liveness_poll_seconds)
        if self._stopping:
            raise StoppedError
        if self._pausing.reason is not None or self._limits.closed() is not None:
            raise ClosedError
        self._calling = True
