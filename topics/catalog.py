"""All topics in flow order: the map of the system on one screen."""

from __future__ import annotations

from dataclasses import dataclass

from topics.spec import DAY_MS, Cleanup, TopicSpec

APP_ID = "audience-sync"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The topics of one installation; `prefix` is put before every name of ours, as is."""

    prefix: str = ""
    source_topic: str = "segment.events"

    @property
    def app_id(self) -> str:
        """Kafka consumer group and Faust application id."""
        return f"{self.prefix}{APP_ID}"

    @property
    def source(self) -> TopicSpec:
        return TopicSpec(
            name=self.source_topic,
            key="any",
            value="Segment call, JSON",
            cleanup=Cleanup.DELETE,
            partitions=4,
            ours=False,
        )

    def rows(self, name: str) -> TopicSpec:
        """A topic that some audience's rows come from; like the source topic it is the user's, and never created here."""
        return TopicSpec(
            name=name,
            key="any",
            value="Segment track call of Reverse ETL, JSON",
            cleanup=Cleanup.DELETE,
            ours=False,
        )

    @property
    def profile_events(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}profile.events",
            key="profile id",
            value="ProfileEvent, MessagePack",
            cleanup=Cleanup.DELETE,
            retention_ms=7 * DAY_MS,
        )

    @property
    def profiles_changelog(self) -> TopicSpec:
        """Faust's own name for the changelog of the table `profiles`."""
        return TopicSpec(
            name=f"{self.app_id}-profiles-changelog",
            key="profile id",
            value="ProfileState, MessagePack",
            cleanup=Cleanup.COMPACT,
        )

    @property
    def memberships(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}audience.memberships",
            key="audience key | profile id, partitioned by audience key",
            value="MembershipDelta, JSON",
            cleanup=Cleanup.COMPACT,
        )

    @property
    def syncs(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}audience.syncs",
            key="destination id",
            value="SyncState, JSON",
            cleanup=Cleanup.COMPACT,
        )

    @property
    def control(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}audience.control",
            key="kind | id",
            value="control record, JSON",
            cleanup=Cleanup.COMPACT,
            partitions=1,
        )

    @property
    def engage_calls(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}engage.calls",
            key="profile id",
            value="EngageCall: a Segment call, JSON",
            cleanup=Cleanup.DELETE,
            retention_ms=7 * DAY_MS,
        )

    @property
    def dead_letters(self) -> TopicSpec:
        return TopicSpec(
            name=f"{self.prefix}dead.letters",
            key="dead letter id",
            value="DeadLetter, JSON",
            cleanup=Cleanup.COMPACT_DELETE,
            retention_ms=30 * DAY_MS,
        )

    def all(self) -> tuple[TopicSpec, ...]:
        return (
            self.source,
            self.profile_events,
            self.profiles_changelog,
            self.memberships,
            self.syncs,
            self.control,
            self.engage_calls,
            self.dead_letters,
        )

    @property
    def own_names(self) -> tuple[str, ...]:
        """Of the topics that only this installation writes to."""
        return tuple(spec.name for spec in self.all() if spec.ours)
