"""Unknown Engage audiences → audience.control: a version of the definitions that has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.domain.auto_create import is_dealt_with, may_be_created, to_create
from app.pipeline.watching import keep_doing
from schemas.control import WantedRecord

if TYPE_CHECKING:
    from app.pipeline.expire import LaneProgress
    from app.pipeline.follow import Follower
    from app.ports import Clock, RecordWriter

# Between two versions at least, so that audiences that come together are filled together.
WATCH_SECONDS = 2.0


@dataclass(slots=True)
class AutoCreate:
    """One worker's part; `most` audiences are created at most. The owner of the first source partition publishes.

    `writer` is the one that resolve writes with: what is noted is durable before the call that named it counts as done.
    """

    follower: Follower
    lanes: LaneProgress
    writer: RecordWriter
    clock: Clock
    partitions: int
    control_topic: str
    most: int
    _noted: set[str] = field(default_factory=set)

    def note(self, key: str) -> None:
        """An Engage call speaks of an audience that nobody defined."""
        if may_be_created(self.follower.published, key, self.most, self._noted):
            self._noted.add(key)
            record = WantedRecord(audience=key)
            self.writer.produce(self.control_topic, record.model_dump_json().encode(), record.key.encode(), 0)

    def has_noted(self, key: str) -> bool:
        """Whether this worker has asked for it, and it may not be known yet."""
        return key in self._noted

    async def run(self) -> None:
        """Create whatever is wanted, for ever."""
        await keep_doing(self.step, WATCH_SECONDS)

    async def step(self) -> None:
        """Publish what is wanted now."""
        published = self.follower.published
        now, most, partitions = self.clock.now_ms(), self.most, self.partitions
        # Known without being noted; and noted once more, should it be deleted later.
        self._noted = {key for key in self._noted if not is_dealt_with(published, key)}
        if self.lanes.has_first and to_create(published, most, partitions, now) is not None:
            await self.follower.publish(lambda known: to_create(known, most, partitions, now))
