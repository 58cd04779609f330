"""In-memory twins of what delivery needs from outside, for tests and for runs without Kafka or Facebook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from app.domain.published import Published, still_noted
from app.errors import FatalError, UnreachableError
from schemas.control import ControlRecord, DesiredRecord, RepartitionRecord, SetAsideRecord
from schemas.dead_letter import DeadLetter
from schemas.membership import MembershipDelta
from schemas.sync import SyncState

# More turns of the event loop than anything here needs between two waits.
_SETTLE_ROUNDS = 200


class ManualClock:
    """Implements `app.ports.Timer`: time stands until `advance` is called."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._start_ms = now_ms
        self._now = 0.0
        self._sleepers: dict[asyncio.Future[None], float] = {}

    def now_ms(self) -> int:
        return self._start_ms + round(self._now * 1000)

    def monotonic(self) -> float:
        return self._now

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        if event.is_set():
            return
        woken = asyncio.ensure_future(event.wait())
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seconds is not None:
            self._sleepers[due] = self._now + seconds
        try:
            await asyncio.wait((woken, due), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.pop(due, None)
            due.cancel()
            woken.cancel()

    async def settle(self) -> None:
        """Let everything run that can run without time passing."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; whoever waits wakes at the instant they asked for."""
        end = self._now + seconds
        await self.settle()
        while (due := min(self._sleepers.values(), default=end)) < end:
            await self._move_to(due)
        await self._move_to(end)

    async def _move_to(self, instant: float) -> None:
        self._now = max(self._now, instant)
        for sleeper, due in list(self._sleepers.items()):
            if due <= self._now and not sleeper.done():
                sleeper.set_result(None)
        await self.settle()


class MemoryLiveness:
    """Implements `app.ports.Liveness`: as alive as it is told."""

    def __init__(self) -> None:
        self.alive = True

    def may_start_request(self) -> bool:
        return self.alive


class MemorySyncLedger:
    """Implements `app.ports.SyncLedger`. `fenced`: another worker owns everything by now."""

    def __init__(self) -> None:
        self.states: dict[str, SyncState] = {}
        self.history: list[SyncState] = []
        self.fenced = False

    async def record(self, state: SyncState) -> None:
        if self.fenced:
            raise FatalError(f"another worker owns destination {state.destination}")
        self.states[state.destination] = state
        self.history.append(state)


class MemoryDeadLetters:
    """Implements `app.ports.DeadLetterSink`; the newest letter of an id stays."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self.letters[letter.id] = letter


class MemoryMembershipLog:
    """Implements `app.ports.MembershipLog` over lists; offsets begin at 0."""

    def __init__(self) -> None:
        self._records: dict[int, dict[int, MembershipDelta]] = {}
        self._written_at: dict[tuple[int, int], int] = {}
        self._ends: dict[int, int] = {}
        self.reads: list[tuple[int, int]] = []

    def append(self, partition: int, delta: MembershipDelta, written_at: int = 0) -> int:
        offset = self.end(partition)
        self._written_at[partition, offset] = written_at
        self._records.setdefault(partition, {})[offset] = delta
        self._ends[partition] = offset + 1
        return offset

    def end(self, partition: int) -> int:
        return self._ends.get(partition, 0)

    def compact(self, partition: int) -> None:
        """Only the newest record of each audience and profile stays, at its offset."""
        newest = {
            (delta.audience, delta.profile): (offset, delta)
            for offset, delta in self._records.get(partition, {}).items()
        }
        self._records[partition] = dict(sorted(newest.values(), key=lambda record: record[0]))

    async def read(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncGenerator[tuple[int, MembershipDelta], None]:
        self.reads.append((first, end))
        await asyncio.sleep(0)
        for offset, delta in list(self._records.get(partition, {}).items()):
            if first <= offset < end and delta.audience == audience:
                yield offset, delta

    async def read_written(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncGenerator[tuple[int, MembershipDelta, int], None]:
        async for offset, delta in self.read(partition, first, end, audience):
            yield offset, delta, self._written_at[partition, offset]


class MemoryControl:
    """Implements `app.ports.ControlLog`; `unreachable` makes reading fail."""

    def __init__(self) -> None:
        self.published = Published()
        self.unreachable = False

    def refresh(self, *, settled: bool = False) -> Published:
        del settled
        if self.unreachable:
            raise UnreachableError("Kafka does not answer")
        return self.published

    def publish(self, decide: Callable[[Published], ControlRecord | None]) -> Published:
        record = decide(self.published)
        if isinstance(record, DesiredRecord):
            self.published = replace(
                self.published, desired={**self.published.desired, record.target: record}
            )
        elif isinstance(record, RepartitionRecord):
            self.published = replace(self.published, repartition=record)
        elif isinstance(record, SetAsideRecord):
            place = record.topic, record.partition, record.offset
            self.published = replace(self.published, set_aside=self.published.set_aside | {place})
        elif record is not None:
            versions = {**self.published.versions, record.number: record}
            wanted = self.published.wanted - still_noted(self.published, record)
            self.published = replace(self.published, versions=versions, wanted=wanted)
        return self.published

    def run_by(self, running: Mapping[int, int]) -> None:
        """Partitions say which version they run by."""
        self.published = replace(self.published, running={**self.published.running, **running})
