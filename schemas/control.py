"""Control records: what every worker must agree on. audience.control has one partition and is compacted."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from schemas.base import StoredMessage

DEFINITIONS = "definitions"
RUNNING = "running"
WANTED = "wanted"
DESIRED = "desired"
PLACED = "placed"
REPARTITION = "repartition"
SET_ASIDE = "set_aside"


class Place(StoredMessage):
    """Where Facebook has an audience: the ad account as act_ and digits, and the digits of its id; None: not said."""

    ad_account_id: str | None = None
    audience_id: str | None = None


class DefinitionsRecord(StoredMessage):
    """One version of the whole set of definitions, under the key `definitions|VERSION`. Versions grow by one.

    `definitions` are published forms with all defaults merged: of audiences by key, of computed traits by
    `traits.KEY`, of the defaults for audiences that Engage names by `defaults.engage`. `cleared` are audiences
    deleted from the set whose Facebook audiences are to be emptied: they have no members any more and are delivered
    to all the same. `digest` is that of `definitions`; `earlier` are the digests of the versions before, the newest
    last. `generations` is by audience the version that filled it from the history of the source topic, of those for
    which there was one; where it is this one, that is under way or done. Computed traits stand there as `traits.KEY`,
    and as `fields.KEY` the audiences of which this version fills mapped fields. `created` are the keys of audiences
    that nobody defined and calls of Engage named. `placed` is, by audience, where calls of Engage say that it is; of
    an audience that is placed elsewhere by its definition, that holds.
    """

    number: int
    digest: str
    definitions: dict[str, dict[str, Any]]
    cleared: dict[str, dict[str, Any]] = Field(default_factory=dict)
    generations: dict[str, int] = Field(default_factory=dict)
    earlier: tuple[str, ...] = ()
    published_at: int
    created: tuple[str, ...] = ()
    placed: dict[str, Place] = Field(default_factory=dict)
    version: int = 1

    @property
    def key(self) -> str:
        return f"{DEFINITIONS}|{self.number}"


class WantedRecord(StoredMessage):
    """A call of Engage has named an audience that nobody defined, under `wanted|AUDIENCE`, until there is one."""

    audience: str
    version: int = 1

    @property
    def key(self) -> str:
        return f"{WANTED}|{self.audience}"


class PlacedRecord(StoredMessage):
    """The newest place that a call of Engage has named for an audience, of the instant `at`, under `placed|AUDIENCE`."""

    audience: str
    place: Place
    at: int
    version: int = 1

    @property
    def key(self) -> str:
        return f"{PLACED}|{self.audience}"


class RunningRecord(StoredMessage):
    """The version of the definitions that a partition of profile.events runs by, under `running|PARTITION`.

    `filling`: some audiences of it change nothing yet, as history is still to be read for them.
    """

    partition: int
    number: int
    filling: bool = False
    version: int = 1

    @property
    def key(self) -> str:
        return f"{RUNNING}|{self.partition}"


class DesiredRecord(StoredMessage):
    """What a person wants of the destinations of an audience, or of one of them, under `desired|TARGET`.

    `target` is the audience's key or the destination's id; of the two, the greater `number` holds of whether they are
    paused, and `reason` says why. `accepted_at` is when a person last let the shrink through that the safety brake held
    back, or is to hold back, `resync_at` when one last asked for everything to be sent again, in epoch milliseconds;
    0: never. `replace`: everybody in the Facebook audience is to be replaced then. `recreate_at` is when a person last
    asked for a new Facebook audience in place of one that is gone.
    """

    target: str
    number: int
    paused: bool
    reason: str | None = None
    accepted_at: int = 0
    resync_at: int = 0
    replace: bool = False
    recreate_at: int = 0
    written_at: int
    version: int = 1

    @property
    def key(self) -> str:
        return f"{DESIRED}|{self.target}"


class SetAsideRecord(StoredMessage):
    """A person says that the record there is no release's of ours: it becomes a dead letter where it would end every
    worker, under `set_aside|TOPIC/PARTITION/OFFSET`. `topic` is the full name.
    """

    topic: str
    partition: int
    offset: int
    written_at: int
    version: int = 1

    @property
    def key(self) -> str:
        return f"{SET_ASIDE}|{self.topic}/{self.partition}/{self.offset}"


class RepartitionStep(StrEnum):
    """How far `topics repartition` has come: until `swapping` the topics are as they were, and from then on the
    copies are what counts, until all topics have been made anew (`finishing`).
    """

    COPYING = "copying"
    SWAPPING = "swapping"
    FINISHING = "finishing"


class TopicSettings(StoredMessage):
    """What a topic is to be made anew with: replicas of each partition, and the settings that are the topic's own."""

    replication: int
    config: dict[str, str]


class RepartitionRecord(StoredMessage):
    """Our topics are on their way from `before` partitions to `after`, under `repartition|topics`: no worker may start.

    `topics` are by name those that are made anew. `started_at` is in epoch milliseconds.
    """

    before: int
    after: int
    step: RepartitionStep
    topics: dict[str, TopicSettings]
    started_at: int
    version: int = 1

    @property
    def key(self) -> str:
        return f"{REPARTITION}|topics"


ControlRecord = DefinitionsRecord | DesiredRecord | RepartitionRecord | SetAsideRecord
