"""Creating the topics and checking that they are laid out as configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from app.adapters.kafka_client import client_config, kafka_reason
from app.adapters.kafka_connection import Brokers
from app.errors import InvalidInputError, UnreachableError
from topics.spec import TopicSpec

_SECONDS = 30.0
# Kafka's default of max.compaction.lag.ms, as good as never.
_UNBOUNDED_MS = 2**63 - 1
# Whether it was done nobody knows, or somebody else has to come up first.
_NO_ANSWER = (
    KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka's name
    KafkaError._TRANSPORT,  # noqa: SLF001 - as above
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_CONTROLLER,
)


@dataclass(frozen=True, slots=True)
class TopicLayout:
    """A topic as it is: `id` is Kafka's own, new whenever a topic of the same name is created again."""

    name: str
    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicCleanup:
    """Of a topic as it is: Kafka's cleanup.policy, and max.compaction.lag.ms."""

    policy: str
    compaction_lag_ms: int


class TopicAdmin:
    """Blocking. Raises UnreachableError when no broker answers."""

    def __init__(self, bootstrap_servers: Brokers, partitions: int, replication_factor: int) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._partitions = partitions
        self._replication_factor = replication_factor
        self._admin = AdminClient(client_config(bootstrap_servers))

    def layouts(self, specs: tuple[TopicSpec, ...]) -> dict[str, TopicLayout | None]:
        """The topics as they are, by name; None for one that does not exist."""
        names = [spec.name for spec in specs]
        try:
            futures = self._admin.describe_topics(TopicCollection(names), request_timeout=_SECONDS)
            return {name: self._layout(name, future) for name, future in futures.items()}
        except KafkaException as exc:
            raise UnreachableError(
                f"Kafka at {self._bootstrap_servers} did not describe its topics ({kafka_reason(exc)})"
            ) from exc

    @staticmethod
    def _layout(name: str, future: object) -> TopicLayout | None:
        try:
            description = future.result()  # type: ignore[attr-defined] # an untyped future
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        return TopicLayout(name, str(description.topic_id), len(description.partitions))

    def require(self, specs: tuple[TopicSpec, ...], needed_by: Mapping[str, str]) -> None:
        """Raises InvalidInputError when a topic of somebody else's is not there; `needed_by`: its name -> an audience."""
        if not specs:
            return
        for name, layout in self.layouts(specs).items():
            if layout is None:
                raise InvalidInputError(
                    f"audience {needed_by[name]}: `rows: {{topic: {name}}}`: there is no such topic. It is not created here: "
                    "create it where the rows are written, or correct its name"
                )

    def retention_ms(self, topic: str) -> int | None:
        """How long the topic keeps its records by time; None: for ever."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        try:
            (future,) = self._admin.describe_configs([resource], request_timeout=_SECONDS).values()
            found = future.result()
        except KafkaException as exc:
            raise UnreachableError(f"Kafka did not describe topic {topic} ({kafka_reason(exc)})") from exc
        kept = int(found["retention.ms"].value)
        return kept if kept >= 0 and "delete" in str(found["cleanup.policy"].value) else None

    def cleanups(self, topics: Sequence[str]) -> dict[str, TopicCleanup]:
        """How each topic, all of which exist, is cleaned up."""
        if not topics:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        try:
            futures = self._admin.describe_configs(resources, request_timeout=_SECONDS)
            return {
                resource.name: TopicCleanup(
                    str(found["cleanup.policy"].value),
                    int(lag.value)
                    if (lag := found.get("max.compaction.lag.ms")) is not None
                    else _UNBOUNDED_MS,
                )
                for resource, found in ((resource, future.result()) for resource, future in futures.items())
            }
        except KafkaException as exc:
            raise UnreachableError(
                f"Kafka at {self._bootstrap_servers} did not describe its topics ({kafka_reason(exc)})"
            ) from exc

    def ensure(self, specs: tuple[TopicSpec, ...]) -> tuple[str, ...]:
        """Create what is missing and return those names.

        Raises InvalidInputError when a topic of ours has another number of partitions than configured: the
        state of every profile is laid out by it.
        """
        found = self.layouts(specs)
        self._check(specs, found)
        missing = [spec for spec in specs if found[spec.name] is None]
        if missing:
            self._create(missing)
            self._check(specs, self.layouts(specs))
        return tuple(spec.name for spec in missing)

    def _create(self, specs: list[TopicSpec]) -> None:
        new = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions or self._partitions,
                replication_factor=self._replication_factor,
                config=spec.kafka_config(),
            )
            for spec in specs
        ]
        for name, future in self._admin.create_topics(new, operation_timeout=_SECONDS).items():
            try:
                future.result()
            except KafkaException as exc:
                error = exc.args[0]
                # Another worker that starts at the same moment creates them too.
                if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                said = f"topic {name} cannot be created ({kafka_reason(exc)})"
                if error.retriable() or error.code() in _NO_ANSWER:
                    raise UnreachableError(said) from exc
                raise InvalidInputError(said) from exc

    def _check(self, specs: tuple[TopicSpec, ...], found: dict[str, TopicLayout | None]) -> None:
        for spec in specs:
            layout = found[spec.name]
            wanted = spec.partitions or self._partitions
            if spec.ours and layout is not None and layout.partitions != wanted:
                raise InvalidInputError(
                    f"topic {spec.name} has {layout.partitions} partitions and {wanted} are configured "
                    "(AUDIENCE_SYNC_PARTITIONS): set what there is, or stop all workers and change it with "
                    f"`audience-sync topics repartition --partitions {wanted}`"
                )
