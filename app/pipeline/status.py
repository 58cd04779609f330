"""What Facebook says of a destination's audience, read now and then: sizes and state, for people to look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.domain.batching import Batcher
from app.domain.delivery import GraphRefusal, classify
from app.domain.delivery_errors import Reaction
from app.errors import UnreachableError
from app.pipeline.delivery_options import Shared
from app.pipeline.sync_record import Shown, SyncRecord
from app.pipeline.trouble import Trouble


class Status:
    """Of one destination; first read at `next_at`, an instant of the monotonic clock as all here."""

    def __init__(
        self,
        shared: Shared,
        record: SyncRecord,
        trouble: Trouble,
        batcher: Batcher,
        ready: Callable[[], Awaitable[None]],
        shown: Callable[[], Shown],
        next_at: float,
    ) -> None:
        self._graph = shared.graph
        self._clock = shared.clock
        self._options = shared.options
        self._record = record
        self._trouble = trouble
        self._batcher = batcher
        self._ready = ready
        self._shown = shown
        self.next_at = next_at

    def read_by(self, instant: float) -> None:
        """Then at the latest."""
        self.next_at = min(self.next_at, instant)

    @property
    def after_sync(self) -> float:
        """When to look, after something was sent just now."""
        return self._clock.monotonic() + self._options.status_after_sync_seconds

    async def read(self) -> None:
        """Of what goes wrong only what concerns the next batch too is heeded: raises GraphRefusal for it."""
        self.next_at = self._clock.monotonic() + self._options.status_seconds
        await self._ready()
        try:
            status = await self._graph.read_audience(self._record.state.facebook_id or "")
        except UnreachableError:
            return
        except GraphRefusal as error:
            if classify(error.refusal).reaction in (Reaction.THROTTLE, Reaction.AUDIENCE_GONE):
                raise
            self._trouble.count(error.refusal)
            return
        if self._trouble.shown is None or self._batcher.idle:
            self._trouble.answered(status.usage)
        await self._record.said(status, self._shown())
