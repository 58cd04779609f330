"""Making topics anew: what they are made with, deleting, creating, and whether anybody is at work on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic

from app.adapters.kafka_client import client_config, kafka_reason
from app.adapters.kafka_connection import Brokers
from app.errors import FatalError, InvalidInputError
from schemas.control import TopicSettings

_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
# Kafka says so of a group that has never been.
_NO_GROUP = frozenset({KafkaError.GROUP_ID_NOT_FOUND, KafkaError.INVALID_GROUP_ID})


class TopicMaker:
    """Blocking. Raises FatalError for what Kafka refuses: to be tried again when the cause is gone."""

    def __init__(self, bootstrap_servers: Brokers) -> None:
        self._admin = AdminClient(client_config(bootstrap_servers))

    def settings(self, topics: Sequence[str]) -> dict[str, TopicSettings]:
        """Of each topic, all of which exist: replicas, and what is set for it and not the broker's default."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        configs = self._results(self._admin.describe_configs(resources, request_timeout=_SECONDS))
        described = self._results(
            self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_SECONDS)
        )
        replicas = {
            topic: len(description.partitions[0].replicas) for topic, description in described.items()
        }
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {
            resource.name: TopicSettings(
                replication=replicas[resource.name],
                config={
                    name: str(entry.value)
                    for name, entry in config.items()
                    if getattr(entry.source, "value", entry.source) == own and entry.value is not None
                },
            )
            for resource, config in configs.items()
        }

    @staticmethod
    def _results(futures: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            return {key: future.result() for key, future in futures.items()}
        except KafkaException as exc:
            raise FatalError(f"Kafka did not describe the topics ({kafka_reason(exc)})") from exc

    def delete(self, topic: str) -> None:
        """Returns when it is gone, also where it was not there."""
        (future,) = self._admin.delete_topics([topic], operation_timeout=_SECONDS).values()
        try:
            future.result()
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise FatalError(
                    f"topic {topic} cannot be deleted ({kafka_reason(exc)}): the user needs the right to, and the brokers "
                    "delete.topic.enable"
                ) from exc
        self._until(lambda: topic not in self._names(), f"topic {topic} is not gone after {_SECONDS:.0f} s")

    def create(self, topic: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        """Returns when it can be used. Raises InvalidInputError when Kafka makes no such topic."""
        new = NewTopic(topic, partitions, replication, config=dict(config))

        def created() -> bool:
            (future,) = self._admin.create_topics([new], operation_timeout=_SECONDS).values()
            try:
                future.result()
            except KafkaException as exc:
                # One of that name is on its way out.
                if exc.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    return False
                raise InvalidInputError(f"topic {topic} cannot be created ({kafka_reason(exc)})") from exc
            return True

        self._until(created, f"topic {topic} is not gone after {_SECONDS:.0f} s")
        self._until(
            lambda: self._names().get(topic) == partitions,
            f"topic {topic} is not there after {_SECONDS:.0f} s",
        )

    def _names(self) -> dict[str, int]:
        """How many partitions each topic has whose leaders are known."""
        try:
            topics = self._admin.list_topics(timeout=_SECONDS).topics
        except KafkaException as exc:
            raise FatalError(f"Kafka did not list its topics ({kafka_reason(exc)})") from exc
        return {
            name: sum(partition.leader >= 0 for partition in topic.partitions.values())
            for name, topic in topics.items()
            if topic.error is None
        }

    @staticmethod
    def _until(done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise FatalError(otherwise)
            time.sleep(_PAUSE_SECONDS)

    # -- the workers' group ------------------------------------------------------------------------------------

    def members(self, group: str) -> int:
        """How many consumers are in the group now, or were within their session."""
        (future,) = self._admin.describe_consumer_groups([group], request_timeout=_SECONDS).values()
        try:
            description = future.result()
        except KafkaException as exc:
            if exc.args[0].code() in _NO_GROUP:
                return 0
            raise FatalError(f"Kafka did not describe group {group} ({kafka_reason(exc)})") from exc
        if description.state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
            return 0
        return max(1, len(description.members))

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The group's offsets in a topic, of those partitions that have one."""
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in partitions])
        (future,) = self._admin.list_consumer_group_offsets([wanted], request_timeout=_SECONDS).values()
        try:
            found = future.result().topic_partitions
        except KafkaException as exc:
            if exc.args[0].code() in _NO_GROUP:
                return {}
            raise FatalError(
                f"Kafka did not say how far group {group} has come ({kafka_reason(exc)})"
            ) from exc
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set the group's offsets; it must be empty."""
        positions = [TopicPartition(topic, number, offset) for number, offset in sorted(offsets.items())]
        request = ConsumerGroupTopicPartitions(group, positions)
        (future,) = self._admin.alter_consumer_group_offsets([request], request_timeout=_SECONDS).values()
        try:
            future.result()
        except KafkaException as exc:
            raise FatalError(
                f"the offsets of group {group} in {topic} cannot be set ({kafka_reason(exc)}): is a worker running?"
            ) from exc
