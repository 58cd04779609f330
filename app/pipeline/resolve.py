"""segment.events, topics of rows → profile.events: each record becomes zero, one or more events of one profile.

The stage keeps nothing. Its input counts as done once its output is durable; a crash in between writes some of
the output twice, which evaluate's lane filter removes.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import msgspec
import orjson
from msgspec.structs import replace

from app.domain.dead_letters import shape_of, with_raw
from app.domain.letter_limits import LetterLimits, LetterPolicy
from schemas.dead_letter import DeadLetter, DropReason, Origin, dead_letter_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.calls import Refusal
    from app.domain.clock import SourcePartition
    from app.domain.counters import Counters
    from app.domain.resolution import Resolver
    from app.pipeline.expire import LaneProgress
    from app.ports import Clock, RawRecord, RecordWriter
    from schemas.control import Place
    from topics.catalog import Catalog

_encode = msgspec.msgpack.Encoder().encode


class ResolveStage:
    """Runs on the event loop; only `writer.flush`, which the caller awaits in a thread, blocks.

    `resolver_of` makes the resolver of a topic, by its name.
    """

    def __init__(
        self,
        resolver_of: Callable[[str], Resolver],
        writer: RecordWriter,
        lanes: LaneProgress,
        clock: Clock,
        counters: Counters,
        catalog: Catalog,
        limits: LetterLimits | None = None,
        *,
        keep_raw: bool = False,
    ) -> None:
        # Is told of each audience that an Engage call names and nobody has defined.
        self.want: Callable[[str], None] | None = None
        # Is told of each place that an Engage call names for its audience, and of the call's timestamp.
        self.place: Callable[[str, Place, int], None] | None = None
        self._resolver_of = functools.cache(resolver_of)
        self._writer = writer
        self._lanes = lanes
        self._clock = clock
        self._counters = counters
        self._output = catalog.profile_events.name
        self._dead_letters = catalog.dead_letters.name
        self._limits = limits or LetterLimits(LetterPolicy())
        self._keep_raw = keep_raw

    def project_for(self, resolver_of: Callable[[str], Resolver], definitions: int) -> None:
        """From the next record on; the markers of all lanes say so behind what has been written before."""
        self._resolver_of = functools.cache(resolver_of)
        self._lanes.project_for(definitions)

    def process(self, partition: SourcePartition, records: Sequence[RawRecord]) -> str:
        """Queue what the records of one partition become; durable after the next flush.

        Returns what is to be committed with the offset behind them, for `resume`. Raises FatalError when too many of them
        could not be used.
        """
        wall = self._clock.now_ms()
        lane = self._lanes.lane(partition)
        resolver = self._resolver_of(partition.topic)
        resolve = resolver.resolve
        produce, output = self._writer.produce, self._output
        counters = self._counters.stages["resolve"]
        # Where the lane stands: what was received before what came before it moves no clock back, and must not
        # depend on which other profiles share its partition of the output.
        stands_at = self._lanes.progress(partition)
        definitions = self._lanes.definitions
        forwarded = not_needed = 0
        buried: list[int] = []
        for record in records:
            outcome = resolve(record.value, record.timestamp, wall, lane, record.offset)
            if outcome.received is not None and outcome.received > stands_at:
                stands_at = outcome.received
            for profile, event in outcome.records:
                said = replace(event, received=max(event.received, stands_at), definitions=definitions)
                produce(output, _encode(said), profile.encode())
                forwarded += 1
            if outcome.dropped is DropReason.NOT_NEEDED:
                not_needed += 1
            elif outcome.dropped is not None:
                counters.dropped[outcome.dropped] += 1
            if outcome.refused is not None:
                self._bury(partition, record, outcome.refused, wall)
                buried.append(record.offset)
            if outcome.unknown_audience is not None:
                self._counters.count_unknown_audience(outcome.unknown_audience)
                if self.want is not None:
                    self.want(outcome.unknown_audience)
            if outcome.placed is not None and self.place is not None:
                self.place(*outcome.placed)
        counters.dropped[DropReason.NOT_NEEDED] += not_needed
        self._counters.blocked_identifiers += resolver.take_blocked()
        self._counters.left_blank += resolver.take_left_blank()
        counters.records_in += len(records)
        counters.records_out += forwarded
        self._limits.note(*partition, len(records), _places(buried, records) if buried else ())
        self._lanes.processed(partition, records[0].offset, records[-1].offset + 1, stands_at)
        return self._limits.standing(*partition)

    def resume(self, partition: SourcePartition, standing: str) -> None:
        """The next records are those behind the offset that this was committed with."""
        self._limits.resume(*partition, standing)

    def _bury(self, partition: SourcePartition, record: RawRecord, refusal: Refusal, wall: int) -> None:
        key = hashlib.sha256(record.key).hexdigest() if record.key is not None else None
        origin = Origin(topic=partition.topic, partition=partition.number, offset=record.offset, key=key)
        shape = shape_of(record.value)
        if self._keep_raw:
            shape = with_raw(shape, record.value, record.timestamp)
        letter = DeadLetter(
            id=dead_letter_id("resolve", origin),
            stage="resolve",
            reason=refusal.reason,
            detail=refusal.detail,
            origin=origin,
            first_failed_at=wall,
            last_failed_at=wall,
            record=shape,
        )
        self._writer.produce(
            self._dead_letters, orjson.dumps(letter.model_dump(mode="json")), letter.id.encode()
        )
        self._counters.stages["resolve"].dead += 1
        self._counters.dead_letters[refusal.reason] += 1


def _places(offsets: Sequence[int], records: Sequence[RawRecord]) -> list[int]:
    """Where in a batch the records with these offsets stand."""
    wanted = set(offsets)
    return [place for place, record in enumerate(records) if record.offset in wanted]
