"""Topics that Kafka does not create."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from app.adapters.kafka_topics import TopicAdmin
from app.errors import AudienceSyncError, InvalidInputError, UnreachableError
from topics.catalog import Catalog


class Broker:
    """Has no topics, and refuses to create any for this reason."""

    def __init__(self, code: int) -> None:
        self._code = code

    def create_topics(self, topics: list[NewTopic], **how: Any) -> dict[str, Future[None]]:
        del how
        return {topic.topic: self._refused(self._code) for topic in topics}

    def describe_topics(self, topics: Any, **how: Any) -> dict[str, Future[None]]:
        del topics, how
        return {spec.name: self._refused(KafkaError.UNKNOWN_TOPIC_OR_PART) for spec in Catalog().all()}

    @staticmethod
    def _refused(code: int) -> Future[None]:
        refused: Future[None] = Future()
        refused.set_exception(KafkaException(KafkaError(code)))
        return refused


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError._TIMED_OUT, UnreachableError),
        (KafkaError.REQUEST_TIMED_OUT, UnreachableError),
        (KafkaError.NOT_CONTROLLER, UnreachableError),
        (KafkaError.POLICY_VIOLATION, InvalidInputError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, InvalidInputError),
    ],
)
def test_a_broker_that_does_not_answer_is_told_from_one_that_refuses(
    code: int, error: type[AudienceSyncError]
) -> None:
    topics = TopicAdmin("127.0.0.1:1", 2, 1)
    topics._admin = cast("Any", Broker(code))
    with pytest.raises(error, match="cannot be created"):
        topics.ensure(Catalog().all())
