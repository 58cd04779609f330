"""Control records: what every worker must agree on. audience.control has one partition and is compacted."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from schemas.base import StoredMessage

DEFINITIONS = "definitions"
RUNNING = "running"
WANTED = "wanted"


class DefinitionsRecord(StoredMessage):
    """One version of the whole set of definitions, under the key `definitions|VERSION`. Versions grow by one.

    `definitions` are published forms with all defaults merged: of audiences by key, of computed traits by
    `traits.KEY`, of the defaults for audiences that Engage names by `defaults.engage`. `cleared` are audiences deleted from the set whose Facebook audiences are to be emptied: they have
    no members any more and are delivered to all the same. `digest` is that of `definitions`; `earlier` are the
    digests of the versions before, the newest last. `generations` is by audience the version that filled it from the
    history of the source topic, of those for which there was one; where it is this one, that is under way or done.
    `created` are the keys of audiences that nobody defined and calls of Engage named.
    """

    number: int
    digest: str
    definitions: dict[str, dict[str, Any]]
    cleared: dict[str, dict[str, Any]] = Field(default_factory=dict)
    generations: dict[str, int] = Field(default_factory=dict)
    earlier: tuple[str, ...] = ()
    published_at: int
    created: tuple[str, ...] = ()
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
