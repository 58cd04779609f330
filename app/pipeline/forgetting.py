"""Forgetting people: asking for it, and what is done once Facebook has let go of them.

    forget, or a call of type delete ──► profile.events ──► evaluate: out of every audience, state erased
                                                                │
       audience.memberships, dead.letters: tombstones ◄── every destination has confirmed (audience.syncs)

The newest membership of a forgotten person is their removal, which a paused or held destination still has to read. Who
owns the person's partition of profile.events looks where the destinations stand, and writes the tombstones through
evaluate when all are behind it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.domain.dead_letters import key_digest, raw_of
from app.domain.forgetting import Removal
from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE, external_id_of
from app.domain.raw_calls import names_any
from app.domain.sync_states import read_sync_states
from app.errors import UnreachableError
from app.pipeline.evaluate import EvaluateStage
from app.ports import Record, RecordWriter, TopicLog
from schemas.dead_letter import DeadLetter
from schemas.profile import FORGET, VERSION, ProfileEvent
from schemas.sync import SyncState
from topics.catalog import Catalog
from topics.partitioning import membership_key, partition_for

# How often is looked for people who are to be forgotten.
WATCH_SECONDS: Final = 1.0
# Offsets of audience.memberships before its end among which removals are looked for that have just been written.
_TAIL: Final = 10_000
# How long an audience that is defined no longer, and still stands at Facebook, is expected back, by the partition's
# clock: as long as what was said in profile.events is kept.
COMES_BACK_MS: Final = 7 * 24 * 3_600_000
# While a destination does not come on, and somebody waits for it.
MOST_PAUSE_SECONDS: Final = 10.0

_LANE: Final = "forget/"

_encode = msgspec.msgpack.Encoder().encode


def requests(
    profiles: Sequence[str], catalog: Catalog, topic_id: str, position: int, now_ms: int
) -> list[Record]:
    """What asks to forget whoever has one of these identifiers; to be written in one transaction.

    `position` grows from one request to the next of the topic with that id.
    """
    lane, topic = f"{_LANE}{topic_id}", catalog.profile_events.name
    return [
        Record(
            topic,
            -1,
            profile.encode(),
            _encode(ProfileEvent(VERSION, FORGET, lane, position, index, now_ms, now_ms)),
        )
        for index, profile in enumerate(profiles)
    ]


def is_letter_of(letter: DeadLetter, removals: Mapping[str, Removal], keys: frozenset[str]) -> bool:
    """Whether the letter is about one of these people, by profile, by the digest of a source record's key, or by what it
    has kept of the record itself.

    Those of the removal itself are not: somebody has to hear of it when Facebook refuses to let go.
    """
    removal = None if letter.profile is None else removals.get(letter.profile)
    if removal is None:
        if letter.profile is not None:
            return False
        kept = raw_of(letter)
        return letter.origin.key in keys or (kept is not None and names_any(kept[0], removals))
    last = removal.audiences.get(letter.audience or "", 0)
    return not last or letter.sequence is None or letter.sequence < last


@dataclass(slots=True)
class _Waiting:
    """A removal, and the offsets of audience.memberships that destinations have to reach, by audience."""

    removal: Removal
    ends: Mapping[str, int]


@dataclass(slots=True)
class Removals:
    """The people who leave the partitions of one worker. `letters` gives the newest dead letters that meet a condition;
    it blocks, as `log` does, which `in_thread` awaits.
    """

    evaluate: EvaluateStage
    log: TopicLog
    letters: Callable[[Callable[[DeadLetter], bool]], Sequence[DeadLetter]]
    writer: RecordWriter
    catalog: Catalog
    partitions: int
    in_thread: Callable[..., Awaitable[Any]]
    _waiting: dict[tuple[int, bytes], _Waiting] = field(default_factory=dict)

    async def run(self) -> None:
        """Finish what destinations have confirmed, for ever."""
        pause = WATCH_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                moved = await self.step()
            except UnreachableError:
                continue
            pause = WATCH_SECONDS if moved else min(MOST_PAUSE_SECONDS, 2 * pause)

    async def step(self) -> bool:
        """Whether there is nothing to wait for, or something has come on."""
        removals = self._removals()
        self._waiting = {
            place: waiting
            for place, waiting in self._waiting.items()
            if removals.get(place) == waiting.removal
        }
        if not removals:
            return True
        fresh = {place: one for place, one in removals.items() if place not in self._waiting}
        if fresh:
            await self._note(fresh)
        done = await self._confirmed()
        if done:
            await self._finish(done)
        return bool(fresh or done)

    def _removals(self) -> dict[tuple[int, bytes], Removal]:
        return {
            (number, key): removal
            for number, partition in self.evaluate.partitions.items()
            for key, removal in partition.forgotten.removals.items()
        }

    async def _note(self, fresh: Mapping[tuple[int, bytes], Removal]) -> None:
        """The records of these removals are in the topic after the commit."""
        await self.evaluate.flush()
        ends = await self.in_thread(self._ends, list(fresh.values()))
        for (place, removal), own in zip(fresh.items(), ends, strict=True):
            self._waiting[place] = _Waiting(removal, own)

    def _ends(self, removals: Sequence[Removal]) -> list[dict[str, int]]:
        """By audience the offset behind its record, where that is among the newest of its partition; else the offset
        behind whatever is there. Blocks.
        """
        wanted = {membership_key(key, one.profile) for one in removals for key in one.audiences}
        numbers = sorted({self._partition_of(key) for one in removals for key in one.audiences})
        found: dict[bytes, int] = {}
        last: dict[int, int] = {}
        if numbers:
            topic = self.catalog.memberships.name
            ends = self.log.settled_ends(topic, numbers)
            last = {number: max(0, end - _TAIL) for number, end in ends.items()}

            def keep(batch: Sequence[Any]) -> None:
                for message in batch:
                    last[message.partition()] = behind = message.offset() + 1
                    if message.key() in wanted:
                        found[message.key()] = behind

            self.log.read(topic, {number: (last[number], end) for number, end in ends.items()}, keep)
        return [
            {
                key: found.get(membership_key(key, one.profile), last[self._partition_of(key)])
                for key in one.audiences
            }
            for one in removals
        ]

    async def _confirmed(self) -> dict[tuple[int, bytes], Removal]:
        records = await self.in_thread(self.log.latest_values, self.catalog.syncs.name, self.partitions)
        syncs = read_sync_states(records, self.catalog.syncs.name)
        stands: defaultdict[str, list[str]] = defaultdict(list)
        for destination, state in syncs.items():
            if state.facebook_id is not None:
                stands[state.audience].append(destination)
        return {
            place: waiting.removal
            for place, waiting in self._waiting.items()
            if self._is_confirmed(place, waiting, syncs, stands)
        }

    def _is_confirmed(
        self,
        place: tuple[int, bytes],
        waiting: _Waiting,
        syncs: Mapping[str, SyncState],
        stands: Mapping[str, Sequence[str]],
    ) -> bool:
        """`stands`: by audience the destinations that have a Facebook audience. Of one that is defined no longer nobody
        reads, and it may come back, to where it was; for some days it is waited for.
        """
        partition = self.evaluate.partitions.get(place[0])
        if partition is None:
            return False
        audiences = partition.full_plan.audiences
        until, now = partition.forgotten.until.get(place[1]), partition.clock.now
        absent = stands if until is None or now is None or now - until < COMES_BACK_MS else {}
        return all(
            destination in syncs and syncs[destination].cursor >= waiting.ends[key]
            for key in waiting.removal.audiences
            for destination in (audiences[key].destinations if key in audiences else absent.get(key, ()))
        )

    async def _finish(self, done: Mapping[tuple[int, bytes], Removal]) -> None:
        """Letters first: should this process end in between, all of it is done again."""
        people = {removal.profile: removal for removal in done.values()}
        keys = frozenset(digest for profile in people for digest in _digests_of(profile))
        found = await self.in_thread(self.letters, lambda letter: is_letter_of(letter, people, keys))
        for letter in found:
            self.writer.produce(self.catalog.dead_letters.name, None, letter.id.encode())
        if found:
            await self.in_thread(self.writer.flush)
        groups: defaultdict[int, list[tuple[bytes, Removal]]] = defaultdict(list)
        for (number, key), removal in done.items():
            groups[number].append((key, removal))
        for number, group in groups.items():
            partition = self.evaluate.partitions.get(number)
            if partition is not None:
                for key, removal in group:
                    partition.confirm_removal(key, removal)

    def _partition_of(self, audience: str) -> int:
        return partition_for(audience.encode(), self.partitions)


def _digests_of(profile: str) -> list[str]:
    """As letters name the key of a source record that was keyed by the identifier. An identifier that is a hash here, as it
    was an e-mail address or a phone number, is that digest itself.
    """
    identifier = external_id_of(profile)
    if identifier is None:
        identifier = profile.removeprefix(ANONYMOUS).removeprefix(EMAIL).removeprefix(MOBILE)
    return [key_digest(identifier.encode()) or "", identifier]
