"""The newest records of the source topic, read once and bounded."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import Brokers
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.domain.event_survey import EventSurvey
from app.errors import InvalidInputError, UnreachableError
from topics.spec import TopicSpec

# For all of the reading; what takes longer has no Kafka that answers.
READ_SECONDS = 60.0


class SourceTopic:
    """Raises UnreachableError when no broker answers within `seconds`, InvalidInputError when there is no such topic."""

    def __init__(self, bootstrap_servers: Brokers, source: TopicSpec, seconds: float) -> None:
        reachable(bootstrap_servers, seconds)
        self._topic = source.name
        self._log = LogReader(bootstrap_servers)
        self._admin = TopicAdmin(bootstrap_servers, 1, -1)
        layout = self._admin.layouts((source,))[source.name]
        if layout is None:
            raise InvalidInputError(
                f"there is no topic {source.name}: AUDIENCE_SYNC_SOURCE_TOPIC names it, `audience-sync topics` creates it"
            )
        self._partitions = range(layout.partitions)

    def require_others(self, specs: tuple[TopicSpec, ...], needed_by: Mapping[str, str]) -> None:
        """See `TopicAdmin.require`."""
        self._admin.require(specs, needed_by)

    def survey(self, most: int) -> EventSurvey:
        """Of the newest `most` records over all partitions, the same number of each as far as they have so many."""
        ends = self._log.end_offsets(self._topic, self._partitions)
        ranges = newest(self._log.first_offsets(self._topic, self._partitions), ends, most)
        survey = EventSurvey()
        stop = threading.Event()
        alarm = threading.Timer(READ_SECONDS, stop.set)
        alarm.start()
        try:
            for batch in self._log.batches(self._topic, ranges, stop):
                for message in batch:
                    survey.add(message.value())
        except InterruptedError:
            raise UnreachableError(
                f"Kafka did not give the newest records of {self._topic} within {READ_SECONDS:.0f} s"
            ) from None
        finally:
            alarm.cancel()
        return survey

    def retention_ms(self) -> int | None:
        """How long the topic keeps a record at least, as far as time says it; None: for ever."""
        return self._admin.retention_ms(self._topic)


def newest(firsts: Mapping[int, int], ends: Mapping[int, int], most: int) -> dict[int, tuple[int, int]]:
    """(first, end) of each partition, so that together they are the newest `most` offsets or all there are."""
    ranges = {}
    left = most
    by_size = sorted(ends, key=lambda partition: ends[partition] - firsts[partition])
    for place, partition in enumerate(by_size):
        share = min(ends[partition] - firsts[partition], left // (len(by_size) - place))
        ranges[partition] = (ends[partition] - share, ends[partition])
        left -= share
    return ranges
