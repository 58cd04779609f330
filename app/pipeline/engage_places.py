"""What Engage calls say of where an audience is → audience.control: a version of the definitions that goes by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.domain.engage_places import is_news
from app.domain.placing import may_be_placed, to_place
from app.pipeline.watching import keep_doing
from schemas.control import PlacedRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.pipeline.expire import LaneProgress
    from app.pipeline.follow import Follower
    from app.ports import Clock, RecordWriter
    from schemas.control import Place

# Between two versions at least, so that places that are named together are published together.
WATCH_SECONDS = 2.0


def nothing_comes(key: str) -> bool:
    """Where calls create no audiences."""
    del key
    return False


@dataclass(slots=True)
class EngagePlaces:
    """One worker's part; the owner of the first source partition publishes.

    `writer` is the one that resolve writes with: what is noted is durable before the call that said it counts as done.
    """

    follower: Follower
    lanes: LaneProgress
    writer: RecordWriter
    clock: Clock
    partitions: int
    control_topic: str
    # Whether an audience of this key is about to be.
    is_coming: Callable[[str], bool] = nothing_comes
    # What has been written and may not be read yet, and when the place that holds was said last.
    _noted: dict[str, PlacedRecord] = field(default_factory=dict)
    _said: dict[str, int] = field(default_factory=dict)

    def note(self, key: str, place: Place, at: int) -> None:
        """An Engage call of the instant `at` says that the audience is there."""
        published = self.follower.published
        if not may_be_placed(published, key) and not self.is_coming(key):
            return
        known = published.placed.get(key)
        noted = self._noted.get(key)
        if noted is not None and (known is None or noted.at > known.at):
            known = noted
        if known is not None and known.place == place:
            self._said[key] = max(at, self._said.get(key, 0))
        elif is_news(known, place, at, self._said.get(key, 0)):
            record = PlacedRecord(audience=key, place=place, at=at)
            self._noted[key], self._said[key] = record, at
            self.writer.produce(self.control_topic, record.model_dump_json().encode(), record.key.encode(), 0)

    async def run(self) -> None:
        """Publish whatever is news, for ever."""
        await keep_doing(self.step, WATCH_SECONDS)

    async def step(self) -> None:
        """Publish what is news now."""
        published, partitions = self.follower.published, self.partitions
        now = self.clock.now_ms()
        if self.lanes.has_first and to_place(published, partitions, now) is not None:
            await self.follower.publish(lambda known: to_place(known, partitions, now))
