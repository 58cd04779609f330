"""What a topic is: the value that the catalog lists and that commands create topics from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Cleanup(StrEnum):
    """Kafka's cleanup.policy."""

    DELETE = "delete"
    COMPACT = "compact"
    COMPACT_DELETE = "compact,delete"


DAY_MS = 86_400_000

# A profile's state, and a membership with many identifiers, may outgrow Kafka's default of 1 MiB.
MAX_RECORD_BYTES = 16 * 1024 * 1024

COMPACTION_LAG_MS = 7 * DAY_MS
"""`max.compaction.lag.ms` of compacted topics. By default nothing bounds how long an older record of a key stays: one of a
forgotten person would for as long as too little else is written. Of such a topic the segment that is written to ends
after this time, too, or after `segment.ms` where that is less.
"""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic of the system.

    `partitions` None: the configured number, the same for all such topics. `ours` is False for the source topic,
    which is only created when it does not exist. `retention_ms` None: the broker's default.
    """

    name: str
    key: str
    value: str
    cleanup: Cleanup
    partitions: int | None = None
    retention_ms: int | None = None
    ours: bool = True

    @property
    def compacted(self) -> bool:
        """Whether Kafka is to delete older records of the same key; never so of a topic that is the user's."""
        return self.ours and self.cleanup is not Cleanup.DELETE

    def kafka_config(self) -> dict[str, str]:
        """The topic-level configuration to create it with."""
        config = {"cleanup.policy": self.cleanup.value}
        if self.ours:
            config["max.message.bytes"] = str(MAX_RECORD_BYTES)
        if self.compacted:
            config["max.compaction.lag.ms"] = str(COMPACTION_LAG_MS)
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        return config


def staging(spec: TopicSpec) -> TopicSpec:
    """Where the records of a topic stand while it is made anew with another number of partitions; nothing is cleaned up
    there, so that the offsets are those that the topic will have.
    """
    return replace(spec, name=f"{spec.name}.repartition", cleanup=Cleanup.DELETE, retention_ms=-1)
