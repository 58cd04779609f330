"""What `reconcile` reads of the topics: members by the state's counters, and by audience.memberships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from confluent_kafka import Message

from app.adapters.kafka_log import LogReader
from app.domain.formats import UNDECODABLE, refuse_newer_json, refuse_newer_packed
from app.domain.reconciling import AudienceTally
from app.domain.state import CLOCK_KEY, PartitionRecord, decode_record
from schemas.membership import MembershipDelta
from topics.catalog import Catalog

# A partition that is in use writes its record with every commit: where it is not among the newest, all are read.
_NEWEST = 50_000

_decode_delta = msgspec.json.Decoder(MembershipDelta).decode


class TallyReader:
    """Blocking; for one reading."""

    def __init__(self, reader: LogReader, catalog: Catalog, partitions: int) -> None:
        self._reader = reader
        self._memberships = catalog.memberships.name
        self._changelog = catalog.profiles_changelog.name
        self._partitions = range(partitions)

    def read(self, tallies: Mapping[str, AudienceTally]) -> list[PartitionRecord]:
        """Fill the tallies, by audience key, and return the record of each partition that has one.

        Whatever the records and the tallies differ by was written while this looked at the ends of the topics, and is
        in `AudienceTally.moved`: each end is settled before the next is asked for.
        """
        before = self._reader.settled_ends(self._memberships, self._partitions)
        changelog = self._reader.settled_ends(self._changelog, self._partitions)
        after = self._reader.settled_ends(self._memberships, self._partitions)
        records = self._records(changelog)

        def take(batch: list[Message]) -> None:
            for message in batch:
                key, value = message.key() or b"", message.value()
                tally = tallies.get(_audience(key))
                if tally is not None:
                    tally.take(key, _delta(value), message.offset() or 0, message.timestamp()[1])

        def note(batch: list[Message]) -> None:
            for message in batch:
                tally = tallies.get(_audience(message.key() or b""))
                if tally is not None:
                    tally.moved += 1

        self._reader.read(self._memberships, {p: (0, end) for p, end in before.items()}, take)
        self._reader.read(self._memberships, {p: (before[p], end) for p, end in after.items()}, note)
        return records

    def _records(self, ends: Mapping[int, int]) -> list[PartitionRecord]:
        found = self._newest(ends, {p: max(0, end - _NEWEST) for p, end in ends.items()})
        missing = [p for p, end in ends.items() if p not in found and end > _NEWEST]
        found |= self._newest({p: ends[p] for p in missing}, dict.fromkeys(missing, 0))
        return list(found.values())

    def _newest(self, ends: Mapping[int, int], first: Mapping[int, int]) -> dict[int, PartitionRecord]:
        found: dict[int, bytes] = {}

        def keep(batch: Sequence[Message]) -> None:
            for message in batch:
                value = message.value()
                if message.key() == CLOCK_KEY and value is not None:
                    found[int(message.partition() or 0)] = value

        self._reader.read(self._changelog, {p: (first[p], end) for p, end in ends.items()}, keep)
        records = {}
        for partition, value in found.items():
            refuse_newer_packed("record of a partition", value)
            records[partition] = decode_record(value)
        return records


def _audience(key: bytes) -> str:
    return key.partition(b"|")[0].decode(errors="replace")


def _delta(value: bytes | None) -> MembershipDelta | None:
    try:
        return None if value is None else _decode_delta(value)
    except UNDECODABLE:
        refuse_newer_json(MembershipDelta.__name__, value or b"")
        return None
