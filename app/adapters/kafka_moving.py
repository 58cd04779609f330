"""Copying our topics, one after the other, to others with another number of partitions.

Everything is written in one order by producers that write each record once, to topics from which nothing is removed: so
the offset of a record is known when it is written, and is the one that it will have at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import orjson
from confluent_kafka import Message

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_log import LogReader
from app.domain.clock import PartitionClock
from app.domain.forgetting import FORGOTTEN_KEY, ForgottenRecord
from app.domain.formats import UNDECODABLE, is_packed, may_be_set_aside, read_stored, refuse_newer_packed
from app.domain.repartitioning import (
    Members,
    Offsets,
    Waiting,
    may_live_in,
    merged_audiences,
    merged_record,
    moved_letter,
    moved_state,
    offsets_in,
)
from app.domain.state import (
    AUDIENCES_KEY,
    CLOCK_KEY,
    AudiencesRecord,
    PartitionRecord,
    decode_audiences,
    decode_record,
    decode_state,
    encode_record,
    owner_in,
)
from app.errors import FatalError, NewerFormatError, UnreadableRecordError
from schemas.dead_letter import DeadLetter
from schemas.profile import ProfileEvent
from schemas.sync import SyncState
from topics.catalog import Catalog
from topics.partitioning import partition_for
from topics.spec import TopicSpec, staging

_decode_event = msgspec.msgpack.Decoder(ProfileEvent).decode
_decode_forgotten = msgspec.msgpack.Decoder(ForgottenRecord).decode
_pack = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Moved:
    """`waiting` records of profile.events went along unread, `expired` letters cannot be replayed any more."""

    profiles: int = 0
    changes: int = 0
    destinations: int = 0
    waiting: int = 0
    letters: int = 0
    expired: int = 0


@dataclass(slots=True)
class Moving:
    """From `before` partitions to the staging topics, which are new and have `after`.

    `ends` are by topic the settled ends of what there is; `read_up_to` is where the workers stand in profile.events, and
    `committed` by live source lane where they stand in the source topic. Blocking. Raises NewerFormatError for what
    a newer release has written.
    """

    reader: LogReader
    brokers: Brokers
    catalog: Catalog
    before: int
    after: int
    ends: Mapping[str, Mapping[int, int]]
    read_up_to: Mapping[int, int]
    committed: Mapping[str, int]
    moved: Moved = field(default_factory=Moved)
    # By staging topic and partition: records written.
    written: Counter[tuple[str, int]] = field(default_factory=Counter)
    _records: dict[int, PartitionRecord] = field(default_factory=dict)

    def run(self) -> Moved:
        """All of it is durable when this returns."""
        producer = DurableProducer(self.brokers)
        self._profiles(producer)
        self._events(producer)
        offsets, states = (
            Offsets(lambda audience: partition_for(audience.encode(), self.after)),
            self._syncs(),
        )
        self._ask(offsets, states)
        newest = self._ask_for_letters(offsets)
        self._memberships(producer, offsets)
        for state in states:
            self._sync(producer, offsets, state)
        self._letters(producer, offsets, newest)
        self._calls(producer)
        producer.flush()
        return self.moved

    def _write(
        self,
        producer: DurableProducer,
        spec: TopicSpec,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        at: int = 0,
    ) -> int:
        """The offset of the record."""
        name = staging(spec).name
        producer.produce(name, value, key, partition, at)
        offset = self.written[name, partition]
        self.written[name, partition] = offset + 1
        return offset

    # -- states ------------------------------------------------------------------------------------------------

    def _profiles(self, producer: DurableProducer) -> None:
        spec = self.catalog.profiles_changelog
        audiences: list[AudiencesRecord] = []
        forgotten: dict[int, dict[bytes, ForgottenRecord]] = {number: {} for number in range(self.after)}
        members = [Members() for _ in range(self.after)]
        for number in range(self.before):
            for key, value in self._newest(spec, number).items():
                if key == CLOCK_KEY:
                    self._records[number] = decode_record(value)
                elif key == AUDIENCES_KEY:
                    audiences.append(decode_audiences(value))
                elif key.startswith(FORGOTTEN_KEY):
                    self._forgotten(number, key, _decode_forgotten(value), forgotten)
                else:
                    place = partition_for(key, self.after)
                    if owner_in(value) is None:
                        members[place].add(key, decode_state(value))
                        self.moved.profiles += 1
                    self._write(producer, spec, place, key, value)
        keys = {key for record in self._records.values() for key in record.members}
        merged = merged_audiences(audiences)
        for place in range(self.after):
            for key, record in sorted(forgotten[place].items(), key=lambda item: item[1].until):
                self._write(producer, spec, place, key, _pack(record))
            if self._records:
                own_record = merged_record(
                    list(self._records.values()), self.committed, members[place].of(keys)
                )
                self._write(producer, spec, place, CLOCK_KEY, encode_record(own_record))
            if merged is not None:
                self._write(producer, spec, place, AUDIENCES_KEY, encode_record(merged))

    def _newest(self, spec: TopicSpec, partition: int) -> dict[bytes, bytes]:
        """By key, in the order in which they were written."""
        found: dict[bytes, bytes] = {}

        def keep(batch: Sequence[Message]) -> None:
            for message in batch:
                key, value = message.key() or b"", message.value()
                found.pop(key, None)
                if value is not None:
                    refuse_newer_packed("record of a profile", value)
                    found[key] = value

        self.reader.read(spec.name, {partition: (0, self.ends[spec.name][partition])}, keep)
        return found

    def _forgotten(
        self, old: int, key: bytes, record: ForgottenRecord, found: dict[int, dict[bytes, ForgottenRecord]]
    ) -> None:
        """A digest does not say where its profile lives: it is remembered wherever that may be."""
        if record.removal is not None:
            found[partition_for(record.removal.profile.encode(), self.after)][key] = record
            return
        for place in may_live_in(old, self.before, self.after):
            known = found[place].get(key)
            if known is None or known.until < record.until:
                found[place][key] = record

    # -- what waits --------------------------------------------------------------------------------------------

    def _events(self, producer: DurableProducer) -> None:
        spec, waiting = self.catalog.profile_events, Waiting(self.committed)
        for number in range(self.before):
            clock = PartitionClock()
            if (record := self._records.get(number)) is not None:
                clock.load(record.clock)
            span = self.read_up_to.get(number, 0), self.ends[spec.name][number]
            for batch in self.reader.batches(spec.name, {number: span}):
                for message in batch:
                    self._event(producer, spec, waiting, clock, message)

    def _event(
        self,
        producer: DurableProducer,
        spec: TopicSpec,
        waiting: Waiting,
        clock: PartitionClock,
        message: Message,
    ) -> None:
        key, value = message.key() or b"", message.value()
        try:
            event = waiting.take(_decode_event(value or b""), clock)
        except UNDECODABLE:
            if is_packed(value or b""):
                self._refuse_newer(spec, message)
            # It becomes a dead letter, as it would have.
        else:
            if event is None:
                return
            value = _pack(event)
        self.moved.waiting += 1
        self._write(producer, spec, partition_for(key, self.after), key, value, message.timestamp()[1])

    def _refuse_newer(self, spec: TopicSpec, message: Message) -> None:
        try:
            refuse_newer_packed(ProfileEvent.__name__, message.value() or b"")
        except NewerFormatError as error:
            place = spec.name, int(message.partition() or 0), int(message.offset() or 0)
            raise NewerFormatError(
                f"{may_be_set_aside(error, *place)}: start the workers for that, and stop them again"
            ) from error

    # -- memberships and how far each destination has come -----------------------------------------------------

    def _syncs(self) -> list[SyncState]:
        spec = self.catalog.syncs
        values = self.reader.latest_values(spec.name, self.before)
        return [read_stored(SyncState, value) for _, value in sorted(values.items())]

    def _ask(self, offsets: Offsets, states: Sequence[SyncState]) -> None:
        for state in states:
            for offset in offsets_in(state):
                offsets.ask(state.audience, offset)

    def _memberships(self, producer: DurableProducer, offsets: Offsets) -> None:
        """Every record that is kept, in order: a destination that is behind reads what it would have read."""
        spec = self.catalog.memberships
        offsets.begin()
        for number in range(self.before):
            for batch in self.reader.batches(spec.name, {number: (0, self.ends[spec.name][number])}):
                for message in batch:
                    key = message.key()
                    audience = (key or b"").partition(b"|")[0]
                    place = partition_for(audience, self.after)
                    offset = self._write(producer, spec, place, key, message.value(), message.timestamp()[1])
                    offsets.see(
                        audience.decode(errors="replace"),
                        (number, int(message.offset() or 0)),
                        (place, offset),
                    )
                    self.moved.changes += 1
        name = staging(spec).name
        offsets.end({place: self.written[name, place] for place in range(self.after)})

    def _sync(self, producer: DurableProducer, offsets: Offsets, state: SyncState) -> None:
        old = partition_for(state.audience.encode(), self.before)
        end = self.ends[self.catalog.memberships.name][old]
        moved = moved_state(state, end, lambda offset: offsets.place(state.audience, offset)[1])
        key, value = state.destination.encode(), orjson.dumps(moved.model_dump(mode="json"))
        self._write(producer, self.catalog.syncs, partition_for(key, self.after), key, value)
        self.moved.destinations += 1

    # -- letters and calls -------------------------------------------------------------------------------------

    def _ask_for_letters(self, offsets: Offsets) -> dict[bytes, tuple[int, int]]:
        """Where the newest record of each letter stands; a tombstone is none."""
        newest: dict[bytes, tuple[int, int]] = {}

        def note(batch: Sequence[Message]) -> None:
            for message in batch:
                key, value = message.key() or b"", message.value()
                newest.pop(key, None)
                if value is not None:
                    newest[key] = int(message.partition() or 0), int(message.offset() or 0)
                    letter = _letter(value)
                    if letter is None or letter.origin.topic != self.catalog.memberships.name:
                        continue
                    if letter.audience is None:
                        offsets.ask_exactly(letter.origin.partition, letter.origin.offset)
                    else:
                        offsets.ask(letter.audience, letter.origin.offset)

        topic = self.catalog.dead_letters.name
        self.reader.read(topic, {number: (0, end) for number, end in self.ends[topic].items()}, note)
        return newest

    def _letters(
        self, producer: DurableProducer, offsets: Offsets, newest: Mapping[bytes, tuple[int, int]]
    ) -> None:
        spec = self.catalog.dead_letters
        memberships, events = self.catalog.memberships.name, self.catalog.profile_events.name
        for batch in self.reader.batches(
            spec.name, {number: (0, end) for number, end in self.ends[spec.name].items()}
        ):
            for message in batch:
                key, value = message.key() or b"", message.value()
                if newest.get(key) != (message.partition(), message.offset()):
                    continue
                letter = _letter(value)
                if letter is not None:
                    moved = moved_letter(letter, offsets, memberships, events)
                    self.moved.expired += moved.resolved == "expired" and letter.resolved is None
                    key, value = moved.id.encode(), orjson.dumps(moved.model_dump(mode="json"))
                self.moved.letters += 1
                place = partition_for(key, self.after)
                self._write(producer, spec, place, key, value, message.timestamp()[1])

    def _calls(self, producer: DurableProducer) -> None:
        """What was said of one profile stays in order."""
        spec = self.catalog.engage_calls
        for number in range(self.before):
            for batch in self.reader.batches(spec.name, {number: (0, self.ends[spec.name][number])}):
                for message in batch:
                    key = message.key() or b""
                    place = partition_for(key, self.after)
                    self._write(producer, spec, place, key, message.value(), message.timestamp()[1])


def _letter(value: bytes | None) -> DeadLetter | None:
    """None: somebody else has written it."""
    try:
        return None if value is None else read_stored(DeadLetter, value)
    except UnreadableRecordError:
        return None


def copy(reader: LogReader, brokers: Brokers, source: str, target: str, partitions: int) -> dict[int, int]:
    """Every record of one topic to the same partition and offset of another, which is new; returns the ends.

    Raises FatalError when the offsets came out otherwise.
    """
    ends = reader.settled_ends(source, range(partitions))
    producer = DurableProducer(brokers)
    for batch in reader.batches(source, {number: (0, end) for number, end in ends.items()}):
        for message in batch:
            partition, at = int(message.partition() or 0), message.timestamp()[1]
            producer.produce(target, message.value(), message.key(), partition, at)
    producer.flush()
    require_ends(reader, target, ends)
    return ends


def require_ends(reader: LogReader, topic: str, ends: Mapping[int, int]) -> None:
    """Raises FatalError when the topic ends elsewhere."""
    found = reader.settled_ends(topic, list(ends))
    if found != dict(ends):
        raise FatalError(
            f"topic {topic} ends at {sorted(found.items())} and not at {sorted(ends.items())}: does somebody else write to "
            "it? Stop that, and run the command again"
        )
