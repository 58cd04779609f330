"""What reconciling reads of the topics, once: for the command as fast as it goes, for a worker beside its work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka import IsolationLevel, Message

from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_tallies import TallyReader
from app.domain.pausing import shown_state
from app.domain.published import Published
from app.domain.reconciling import (
    AudienceFinding,
    AudienceTally,
    Bounds,
    compare_audience,
    compare_destination,
)
from app.domain.replacing import why_never
from app.domain.state import PartitionRecord
from app.domain.sync_states import read_sync_states
from schemas.audience import AudienceDefinition
from schemas.dead_letter import DeadLetter
from schemas.sync import SyncState
from topics.catalog import Catalog


class TopicReading:
    """One reading of what is known of members. Blocking; takes about 130 bytes of memory for each of them."""

    def __init__(self, reader: LogReader, catalog: Catalog, partitions: int) -> None:
        self._reader = reader
        self._catalog = catalog
        self._partitions = partitions
        self.states: dict[str, SyncState] = {}

    def read(self, published: Published, audiences: Sequence[AudienceDefinition]) -> None:
        """Everything is read once, cursors first: what is confirmed meanwhile only looks younger than it is."""
        catalog, partitions = self._catalog, self._partitions
        self._published, self._audiences = published, audiences
        syncs = catalog.syncs.name
        self.states = read_sync_states(self._reader.latest_values(syncs, partitions), syncs)
        self._tallies = {
            audience.key: AudienceTally({d.id: self._cursor(d.id) for d in audience.destinations})
            for audience in audiences
        }
        tallies = TallyReader(self._reader, catalog, partitions, published.set_aside)
        self._records = tallies.read(self._tallies)
        self._letters = _waiting_letters(self._reader, catalog.dead_letters.name, partitions)

    def _cursor(self, destination: str) -> int:
        state = self.states.get(destination)
        return 0 if state is None else state.cursor

    def compare(self, bounds: Mapping[str, Bounds], now_ms: int, batch_ms: int) -> list[AudienceFinding]:
        """After `read`. `bounds` by destination; `now_ms` by the wall, `batch_ms` how long a batch fills."""
        unsettled = _unsettled(self._published, self._records, self._partitions)
        counted: Counter[str] = Counter()
        for record in self._records:
            counted.update(record.members)
        findings = []
        for audience in self._audiences:
            tally = self._tallies[audience.key]
            destinations = tuple(
                compare_destination(
                    d.id,
                    tally.destinations[d.id],
                    self.states.get(d.id),
                    shown_state(self._published, self.states, audience.key, d.id),
                    self._letters[d.id],
                    bounds.get(d.id, Bounds()),
                    connected=d.audience_id is not None,
                    irreplaceable=why_never(audience, d),
                    now_ms=now_ms,
                    batch_ms=batch_ms,
                )
                for d in audience.destinations
            )
            findings.append(compare_audience(audience, counted[audience.key], tally, unsettled, destinations))
        return findings


class UnhurriedReader(LogReader):
    """Reads no more than half of the time, so that the thread leaves the processor to the others of its process.

    With `stop` set whatever reads or waits raises InterruptedError.
    """

    def __init__(self, brokers: Brokers, stop: threading.Event) -> None:
        super().__init__(brokers)
        self._stop = stop

    def settled_ends(
        self, topic: str, partitions: Sequence[int], stop: threading.Event | None = None
    ) -> dict[int, int]:
        return super().settled_ends(topic, partitions, stop or self._stop)

    def batches(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], stop: threading.Event | None = None
    ) -> Iterator[list[Message]]:
        stop = stop or self._stop
        for batch in super().batches(topic, ranges, stop):
            began = time.monotonic()
            yield batch
            if stop.wait(time.monotonic() - began):
                raise InterruptedError("reading was stopped")


def reading_beside(
    brokers: Brokers, catalog: Catalog, partitions: int
) -> Callable[[threading.Event], TopicReading]:
    """Makes a worker's reading, that the event ends. Raises UnreachableError when Kafka does not answer now."""

    def begin(stop: threading.Event) -> TopicReading:
        reader = UnhurriedReader(brokers, stop)
        # What follows waits for Kafka as long as it takes.
        reader.end_offsets(catalog.memberships.name, range(partitions), IsolationLevel.READ_COMMITTED)
        return TopicReading(reader, catalog, partitions)

    return begin


def _waiting_letters(reader: LogReader, topic: str, partitions: int) -> Counter[str]:
    """By destination, the rows that Facebook has refused and nobody has seen to."""

    def waits(letter: DeadLetter) -> bool:
        return letter.stage == "deliver" and letter.resolved is None and letter.destination is not None

    found = newest_letters(reader, topic, partitions, waits).letters
    return Counter(letter.destination or "" for letter in found)


def _unsettled(published: Published, records: list[PartitionRecord], partitions: int) -> str | None:
    newest = published.newest
    number = 0 if newest is None else newest.number
    late = [str(p) for p in range(partitions) if published.running.get(p, 0) < number]
    if late:
        return f"version {number} is not taken up yet by partitions {', '.join(late)}"
    if published.is_filling(partitions):
        return f"version {number} is being filled from history"
    return "profiles are being gone over" if any(not record.plan for record in records) else None
