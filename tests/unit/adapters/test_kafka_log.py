"""What is made of answers that a broker gives only while it is coming back."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from app.adapters.kafka_log import LogReader
from app.errors import UnreachableError


class Broker:
    """Knows the offset of each partition but the last one, at first."""

    def __init__(self) -> None:
        self.answers = 0
        self.looked_up: list[str] = []

    def list_offsets(
        self, request: Mapping[TopicPartition, Any], **how: Any
    ) -> dict[TopicPartition, Future[Any]]:
        del how
        self.answers += 1
        found: dict[TopicPartition, Future[Any]] = {}
        for partition in request:
            found[partition] = Future()
            is_known = self.answers > 1 or partition.partition < len(request) - 1
            found[partition].set_result(
                SimpleNamespace(offset=100 + partition.partition if is_known else OFFSET_INVALID)
            )
        return found

    def list_topics(self, topic: str, timeout: float) -> None:
        del timeout
        self.looked_up.append(topic)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def reader(broker: Broker) -> LogReader:
    made = LogReader("127.0.0.1:1")
    made._admin = cast("Any", broker)
    return made


def test_a_partition_that_a_broker_leaves_out_has_no_end(reader: LogReader, broker: Broker) -> None:
    with pytest.raises(UnreachableError, match="all partitions of topic"):
        reader.end_offsets("topic", [0, 1])
    assert broker.looked_up == ["topic"]
    assert reader.end_offsets("topic", [0, 1]) == {0: 100, 1: 101}


def test_recovery_reads_no_partition_before_all_ends_are_known(reader: LogReader) -> None:
    assert reader.settled_ends("topic", [0, 1]) == {0: 100, 1: 101}
