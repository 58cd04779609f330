"""What `reconcile` and `audiences show` read of the topics: members by the state's counters, and by
audience.memberships.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from confluent_kafka import Message

from app.adapters.kafka_log import LogReader
from app.domain.formats import (
    UNDECODABLE,
    may_be_set_aside,
    refuse_newer_json,
    refuse_newer_packed,
    standing_at,
)
from app.domain.reconciling import AudienceTally
from app.domain.sizes import SizeTally
from app.domain.state import CLOCK_KEY, PartitionRecord, decode_record
from app.errors import NewerFormatError
from schemas.membership import MembershipDelta
from topics.catalog import Catalog

# A partition that is in use writes its record with every commit: where it is not among the newest, all are read.
_NEWEST = 50_000

_decode_delta = msgspec.json.Decoder(MembershipDelta).decode


class TallyReader:
    """Blocking; for one reading."""

    def __init__(
        self,
        reader: LogReader,
        catalog: Catalog,
        partitions: int,
        set_aside: Collection[tuple[str, int, int]] = (),
    ) -> None:
        """`set_aside` are the topic, partition and offset of records that are dead letters whatever they look like."""
        self._reader = reader
        self._memberships = catalog.memberships.name
        self._changelog = catalog.profiles_changelog.name
        self._partitions = range(partitions)
        self._set_aside = set_aside

    def read(self, tallies: Mapping[str, AudienceTally]) -> list[PartitionRecord]:
        """Fill the tallies, by audience key, and return the record of each partition that has one.

        Whatever the records and the tallies differ by was written while this looked at the ends of the topics, and is
        in `AudienceTally.moved`: each end is settled before the next is asked for.
        """
        before = self._reader.settled_ends(self._memberships, self._partitions)
        changelog = self._reader.settled_ends(self._changelog, self._partitions)
        after = self._reader.settled_ends(self._memberships, self._partitions)
        records = self.records(changelog)

        def take(batch: list[Message]) -> None:
            for message in batch:
                key = message.key() or b""
                tally = tallies.get(_audience(key))
                if tally is not None:
                    tally.take(key, self._delta(message), message.offset() or 0, message.timestamp()[1])

        def note(batch: list[Message]) -> None:
            for message in batch:
                tally = tallies.get(_audience(message.key() or b""))
                if tally is not None:
                    tally.moved += 1

        self._reader.read(self._memberships, {p: (0, end) for p, end in before.items()}, take)
        self._reader.read(self._memberships, {p: (before[p], end) for p, end in after.items()}, note)
        return records

    def read_sizes(self, partition: int, audience: str, tallies: Sequence[SizeTally]) -> None:
        """Fill the tallies of destinations of one audience, from the partition of audience.memberships that it is in."""

        def take(batch: list[Message]) -> None:
            for message in batch:
                key = message.key() or b""
                if _audience(key) == audience:
                    delta = self._delta(message)
                    for tally in tallies:
                        tally.take(key, delta)

        ends = self._reader.settled_ends(self._memberships, (partition,))
        self._reader.read(self._memberships, {partition: (0, ends[partition])}, take)

    def records(self, ends: Mapping[int, int]) -> list[PartitionRecord]:
        """The newest record of each partition of the state table that has one, of what is below these offsets."""
        found = self._newest(ends, {p: max(0, end - _NEWEST) for p, end in ends.items()})
        missing = [p for p, end in ends.items() if p not in found and end > _NEWEST]
        found |= self._newest({p: ends[p] for p in missing}, dict.fromkeys(missing, 0))
        return list(found.values())

    def _newest(self, ends: Mapping[int, int], first: Mapping[int, int]) -> dict[int, PartitionRecord]:
        found: dict[int, bytes] = {}
        offsets: dict[int, int] = {}

        def keep(batch: Sequence[Message]) -> None:
            for message in batch:
                value = message.value()
                if message.key() == CLOCK_KEY and value is not None:
                    found[int(message.partition() or 0)] = value
                    offsets[int(message.partition() or 0)] = int(message.offset() or 0)

        self._reader.read(self._changelog, {p: (first[p], end) for p, end in ends.items()}, keep)
        records = {}
        for partition, value in found.items():
            try:
                refuse_newer_packed("record of a partition", value)
            except NewerFormatError as error:
                raise standing_at(error, self._changelog, partition, offsets[partition]) from error
            records[partition] = decode_record(value)
        return records

    def _delta(self, message: Message) -> MembershipDelta | None:
        value = message.value()
        try:
            return None if value is None else _decode_delta(value)
        except UNDECODABLE:
            place = self._memberships, int(message.partition() or 0), int(message.offset() or 0)
            try:
                refuse_newer_json(MembershipDelta.__name__, value or b"")
            except NewerFormatError as error:
                if place not in self._set_aside:
                    raise may_be_set_aside(error, *place) from error
            return None


def _audience(key: bytes) -> str:
    return key.partition(b"|")[0].decode(errors="replace")
