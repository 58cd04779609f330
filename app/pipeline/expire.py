"""What moves the clocks: the progress of the live lanes, told to every partition of profile.events.

People leave a window without any event arriving, so somebody must say that time has passed, and may say so only
when nothing older can still be on its way. A live lane is one partition of the source topic, or of a topic of
rows. Resolve tells how far each
lane it reads has come; a partition of profile.events takes the least of them as its clock, and fires what is due
(app.domain.partition) before it applies the next record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.domain.clock import SourcePartition, lane_name
from schemas.profile import MARKER, VERSION, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MARKER_SECONDS = 0.2

_encode = msgspec.msgpack.Encoder().encode


class LaneProgress:
    """How far this worker has come in each partition that resolve reads here; instants are epoch milliseconds.

    Two things move a lane: a processed record moves it to its received time; and when everything below the end
    offset that was asked for at some wall time has been processed, to that wall time, as whatever is older had
    been appended by then. Both stay true when another worker has taken the lane over, so a late marker of a
    worker that was frozen does no harm.
    """

    def __init__(self, source_topic: str) -> None:
        self._first = SourcePartition(source_topic, 0)
        self._definitions = 0
        self._topic_ids: Mapping[str, str] = {}
        self._progress: dict[SourcePartition, int] = {}
        self._done: dict[SourcePartition, int] = {}
        # The offset from which on this worker has projected each lane for that version.
        self._since: dict[SourcePartition, int] = {}

    @property
    def definitions(self) -> int:
        """The version of the definitions that all these lanes are projected for."""
        return self._definitions

    def project_for(self, definitions: int) -> None:
        """From the next record on."""
        self._definitions = definitions
        self._since |= self._done

    def lane(self, partition: SourcePartition) -> str:
        return lane_name(self._topic_ids[partition.topic], partition.number)

    def assign(self, topic_ids: Mapping[str, str], partitions: Collection[SourcePartition]) -> None:
        """This worker reads exactly these partitions from now on; `topic_ids` are Kafka's own, by the topic's name."""
        self._topic_ids = topic_ids
        self._progress = dict.fromkeys(partitions, 0)
        self._done = {}
        self._since = {}

    @property
    def partitions(self) -> tuple[SourcePartition, ...]:
        return tuple(self._progress)

    @property
    def has_first(self) -> bool:
        """Whether the source topic's first partition is among them: what one of all workers has to do is its own."""
        return self._first in self._progress

    def done_offset(self, partition: SourcePartition) -> int:
        """The offset behind the last processed record; -1 before the first."""
        return self._done.get(partition, -1)

    def progress(self, partition: SourcePartition) -> int:
        """The instant the lane stands at; 0 before the first."""
        return self._progress.get(partition, 0)

    def processed(self, partition: SourcePartition, first: int, next_offset: int, received: int) -> None:
        """The records from `first` on and below `next_offset` have been written on, the newest of them received at
        `received`; what is before `first` has been before.
        """
        self._since.setdefault(partition, first)
        self._done[partition] = next_offset
        self._move(partition, received)

    def caught_up(self, partition: SourcePartition, end: int, asked_at: int) -> None:
        """Everything that was in the partition at wall time `asked_at`, all below `end`, has been processed."""
        self._since.setdefault(partition, end)
        self._move(partition, asked_at)

    def _move(self, partition: SourcePartition, instant: int) -> None:
        if partition in self._progress and instant > self._progress[partition]:
            self._progress[partition] = instant

    def marker(self, wall: int) -> bytes | None:
        """The record to put behind everything written so far, in every partition; None when no lane has moved yet."""
        progress = {self.lane(p): instant for p, instant in self._progress.items() if instant}
        since = {self.lane(p): offset for p, offset in self._since.items()}
        if not progress:
            return None
        return _encode(
            ProfileEvent(
                version=VERSION,
                kind=MARKER,
                lane="",
                offset=0,
                index=0,
                timestamp=wall,
                received=wall,
                progress=progress,
                definitions=self.definitions,
                since=since,
            )
        )
