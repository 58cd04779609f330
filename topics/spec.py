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

# What a newer record of the same key has replaced, of somebody who was forgotten too, is gone so soon at the latest.
MAX_COMPACTION_LAG_MS = 7 * DAY_MS

# A profile's state, and a membership with many identifiers, may outgrow Kafka's default of 1 MiB.
MAX_RECORD_BYTES = 16 * 1024 * 1024


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

    def kafka_config(self) -> dict[str, str]:
        """The topic-level configuration to create it with."""
        config = {"cleanup.policy": self.cleanup.value}
        if self.ours:
            config["max.message.bytes"] = str(MAX_RECORD_BYTES)
        if self.cleanup is not Cleanup.DELETE:
            config["max.compaction.lag.ms"] = str(MAX_COMPACTION_LAG_MS)
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        return config


def staging(spec: TopicSpec) -> TopicSpec:
    """Where the records of a topic stand while it is made anew with another number of partitions; nothing is cleaned up
    there, so that the offsets are those that the topic will have.
    """
    return replace(spec, name=f"{spec.name}.repartition", cleanup=Cleanup.DELETE, retention_ms=-1)
