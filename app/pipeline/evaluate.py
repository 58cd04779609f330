"""profile.events → audience.memberships: fold, evaluate, and commit all of it at once.

Deltas, the Engage calls that they stand for where these are asked for, profile states, what profiles say to those of
other partitions (in profile.events again), lane positions and input offsets of everything folded since the last commit
go into one Kafka transaction. While it is under way the next batches are folded already; should it fail, the process
ends and recovery starts from what the last successful one left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from app.domain.dead_letters import shape_of
from app.domain.formats import (
    UNDECODABLE,
    is_packed,
    may_be_set_aside,
    nothing_set_aside,
    refuse_newer_packed,
)
from app.domain.identity import holds_a_profile
from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.errors import NewerFormatError
from app.ports import GroupOffset, Record
from schemas.control import RunningRecord
from schemas.dead_letter import DeadLetter, DropReason, Origin, Reason, dead_letter_id
from schemas.profile import FORGET, MARKER, MERGE, MOVED, PAST_END, REPEAT, ProfileEvent
from topics.partitioning import membership_key, partition_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from app.domain.counters import Counters
    from app.domain.feeds import Feed
    from app.domain.partition import AudiencePartition
    from app.ports import Clock, RawRecord
    from topics.catalog import Catalog

# Records folded and not yet committed, over all partitions: bounds memory and the size of a transaction.
MAX_UNCOMMITTED = 40_000
# Timers that fire between two commits at most: a clock that jumps by days makes most profiles due at once.
MAX_FIRED = 5_000
# How long the clocks alone may run ahead of what is committed: a restart would only hear of them again.
IDLE_COMMIT_SECONDS = 5.0

# In place of a partition: the producer finds it by the key, with the same murmur2.
_BY_KEY = -1

_decode = msgspec.msgpack.Decoder(ProfileEvent).decode
_encode = msgspec.msgpack.Encoder().encode
_encode_delta = _encode_call = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """The content of one transaction."""

    records: list[Record]
    offsets: list[GroupOffset]


def fits(event: ProfileEvent, feeds: Mapping[str, Feed]) -> bool:
    """Whether its values are those that the feeds keep; of a feed that is no longer there they are anything."""
    for hit in event.hits:
        feed = feeds.get(hit.feed)
        if feed is not None and not feed.fits(hit.values):
            return False
    return event.kind not in (MERGE, FORGET) or holds_a_profile(event)


class EvaluateStage:
    """The partitions of profile.events that this worker owns.

    `partitions` are those that it works on, with all their state. `new_partition` makes an empty one of that number, to
    load recovered state into before it is added; `commit` makes a GroupCommit visible and raises when it cannot.
    `is_set_aside` (topic, partition, offset) says whether a person wants that record to be a dead letter.
    """

    def __init__(
        self,
        new_partition: Callable[[int], AudiencePartition],
        commit: Callable[[GroupCommit], Awaitable[None]],
        clock: Clock,
        counters: Counters,
        catalog: Catalog,
        partitions: int,
        limits: LetterLimits | None = None,
        is_set_aside: Callable[[str, int, int], bool] = nothing_set_aside,
    ) -> None:
        self.partitions: dict[int, AudiencePartition] = {}
        self.new_partition = new_partition
        self._commit = commit
        self._clock = clock
        self._counters = counters
        self._catalog = catalog
        self._partition_count = partitions
        self._audience_partitions: dict[str, int] = {}
        self._uncommitted = 0
        # Of these the commit is under way.
        self._in_commit = 0
        self._letters: list[DeadLetter] = []
        self._limits = limits or LetterLimits(LetterPolicy())
        self._is_set_aside = is_set_aside
        self._offsets: dict[int, int] = {}
        # Offset behind the last folded record, per partition; for the lag.
        self.folded: dict[int, int] = {}
        # The version of the definitions that each partition was last said to run by.
        self._running: dict[int, tuple[int, bool]] = {}
        self._acks: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._committing = asyncio.Lock()
        self._committed_at = clock.monotonic()
        # The wall when the monotonic clock was zero, in epoch milliseconds.
        self._began = clock.now_ms() - round(clock.monotonic() * 1_000)

    # -- ownership ---------------------------------------------------------------------------------------------

    def keep_only(self, kept: set[int]) -> None:
        """Forget every partition but these."""
        for number in set(self.partitions) - kept:
            self.partitions.pop(number).release()
            self._running.pop(number, None)
        self._offsets.clear()
        self.folded.clear()
        self._acks.clear()
        self._uncommitted = 0

    def add(self, number: int, partition: AudiencePartition) -> None:
        """Recovered, and this worker's from now on."""
        self.partitions[number] = partition

    def resume(self, number: int, standing: str) -> None:
        """The next records are those behind the offset that this was committed with, as its note."""
        self._limits.resume(self._catalog.profile_events.name, number, standing)

    # -- folding -----------------------------------------------------------------------------------------------

    async def process(self, number: int, records: Sequence[RawRecord], ack: Callable[[], None]) -> None:
        """Fold one batch; `ack` is called once it is committed."""
        while self._uncommitted >= MAX_UNCOMMITTED:
            self._room.clear()
            await self._room.wait()
        calls = await self._fold(number, records)
        self._offsets[number] = self.folded[number] = records[-1].offset + 1
        if calls or self._letters or self.partitions[number].has_changes:
            self._uncommitted += len(records)
            self._acks.append(ack)
            self._changed.set()
        else:
            # Only clocks moved: hearing of it again after a crash changes nothing.
            ack()
            if self._clock.monotonic() - self._committed_at >= IDLE_COMMIT_SECONDS:
                self._changed.set()

    async def _fold(self, number: int, records: Sequence[RawRecord]) -> int:
        partition = self.partitions[number]
        steady = self._began + round(self._clock.monotonic() * 1_000)
        partition.set_wall(self._clock.now_ms(), steady)
        feeds, shown = partition.plan.feeds, partition.shown
        counters = self._counters.stages["evaluate"]
        calls = 0
        # Places of what could not be read among all that are no markers, behind `noted` that were read.
        buried: list[int] = []
        noted = 0
        for record in records:
            event: ProfileEvent | None
            try:
                event = _decode(record.value or b"")
                profile = (record.key or b"").decode()
            except UNDECODABLE:
                event = None
            if event is not None and 0 < event.definitions < shown:
                # Whoever has its lane now has read the same once more, for the newer version: this must neither move the
                # lane on nor its clock.
                counters.dropped[DropReason.DUPLICATE.value] += 1
                continue
            # Nobody but resolve should write here: whoever did is told by the letter, and the rest goes on.
            if event is None or not fits(event, feeds):
                self._bury(number, record, event)
                buried.append(calls - noted + len(buried))
                continue
            if partition.may_fire(event):
                while not partition.foresee(event, MAX_FIRED):
                    self._note(number, calls - noted, buried)
                    noted, buried = calls, []
                    self._offsets[number] = record.offset
                    await self.flush()
                feeds, shown = partition.plan.feeds, partition.shown
            if event.kind == MARKER:
                partition.apply_marker(event)
            elif event.kind <= MOVED or REPEAT < event.kind <= FORGET:
                partition.apply(profile, event)
                calls += 1
            elif event.kind == REPEAT:
                partition.apply_repeat(profile, event)
                calls += 1
            elif event.kind <= PAST_END:
                partition.apply_past(profile, event)
                calls += 1
            else:
                self._bury(number, record, event)
                buried.append(calls - noted + len(buried))
        self._note(number, calls - noted, buried)
        return calls

    def _note(self, number: int, calls: int, buried: list[int]) -> None:
        if calls or buried:
            self._limits.note(self._catalog.profile_events.name, number, calls + len(buried), buried)

    def _bury(self, number: int, record: RawRecord, event: ProfileEvent | None) -> None:
        """What cannot be read, unless a newer release has written it: that ends the worker, until a person says
        otherwise.
        """
        topic, value = self._catalog.profile_events.name, record.value or b""
        reason, detail = Reason.INVALID_FIELD, "the record is no ProfileEvent"
        try:
            self._refuse_newer(value, event)
        except NewerFormatError as error:
            if not self._is_set_aside(topic, number, record.offset):
                raise may_be_set_aside(error, topic, number, record.offset) from error
            reason, detail = Reason.NEWER_FORMAT, "the record is of a newer format, and was set aside"
        wall = self._clock.now_ms()
        origin = Origin(topic=topic, partition=number, offset=record.offset)
        letter = DeadLetter(
            id=dead_letter_id("evaluate", origin),
            stage="evaluate",
            reason=reason,
            detail=detail,
            origin=origin,
            first_failed_at=wall,
            last_failed_at=wall,
            record=shape_of(value),
        )
        self._letters.append(letter)
        self._counters.stages["evaluate"].dead += 1
        self._counters.dead_letters[letter.reason] += 1

    @staticmethod
    def _refuse_newer(value: bytes, event: ProfileEvent | None) -> None:
        if is_packed(value):
            refuse_newer_packed(ProfileEvent.__name__, value)
        if event is not None and event.linking is not None and event.linking.state is not None:
            refuse_newer_packed("record of a profile", event.linking.state)

    @property
    def uncommitted(self) -> int:
        """Records that have been folded and not committed yet, those of a commit that is under way included."""
        return self._uncommitted + self._in_commit

    # -- committing --------------------------------------------------------------------------------------------

    async def run_commits(self) -> None:
        """Commit whenever something has changed, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.flush()

    async def flush(self) -> None:
        """Commit everything folded so far."""
        async with self._committing:
            if not self._offsets:
                return
            acks, self._acks = self._acks, []
            commit = self._drain()
            self._in_commit, self._uncommitted = self._uncommitted, 0
            self._room.set()
            await self._commit(commit)
            self._in_commit = 0
            self._committed_at = self._clock.monotonic()
            for ack in acks:
                ack()

    def _drain(self) -> GroupCommit:
        records: list[Record] = []
        changelog = self._catalog.profiles_changelog.name
        memberships = self._catalog.memberships.name
        offsets, self._offsets = self._offsets, {}
        events, calls = self._catalog.profile_events.name, self._catalog.engage_calls.name
        for number in offsets:
            outcome = self.partitions[number].drain()
            records += [
                Record(memberships, self._partition_of(audience), membership_key(audience, profile), None)
                for audience, profile in outcome.left
            ]
            records += [Record(changelog, number, key, None) for key in outcome.erased]
            for delta in outcome.deltas:
                key = membership_key(delta.audience, delta.profile)
                records.append(
                    Record(memberships, self._partition_of(delta.audience), key, _encode_delta(delta))
                )
            records += [Record(changelog, number, key, value) for key, value in outcome.states]
            for profile, event in outcome.records:
                records.append(Record(events, _BY_KEY, profile.encode(), _encode(event)))
            records += [
                Record(calls, _BY_KEY, profile.encode(), _encode_call(call))
                for profile, call in outcome.calls
            ]
            records += self._running_record(number)
        for letter in self._letters:
            key = letter.id.encode()
            value = letter.model_dump_json().encode()
            records.append(
                Record(self._catalog.dead_letters.name, partition_for(key, self._partition_count), key, value)
            )
        self._letters.clear()
        standing = self._limits.standing
        return GroupCommit(
            records,
            [
                GroupOffset(events, number, offset, standing(events, number))
                for number, offset in offsets.items()
            ],
        )

    def _running_record(self, number: int) -> list[Record]:
        """In the same transaction as the state that says so."""
        partition = self.partitions[number]
        running = partition.definitions, partition.is_filling
        if not partition.definitions or self._running.get(number) == running:
            return []
        self._running[number] = running
        record = RunningRecord(partition=number, number=partition.definitions, filling=partition.is_filling)
        return [Record(self._catalog.control.name, 0, record.key.encode(), record.model_dump_json().encode())]

    def _partition_of(self, audience: str) -> int:
        partition = self._audience_partitions.get(audience)
        if partition is None:
            partition = partition_for(audience.encode(), self._partition_count)
            self._audience_partitions[audience] = partition
        return partition
