"""Raw records in and out of a topic: any bytes, any partition, any record time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from app.adapters.kafka_client import client_config

WRITE_SECONDS = 60.0
# Polls in a row without any news.
MOST_EMPTY_POLLS = 300


@dataclass(frozen=True)
class RawRecord:
    """`at` in epoch milliseconds; 0 leaves the record time to Kafka."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    at: int = 0


@dataclass(frozen=True)
class Place:
    partition: int
    offset: int


def write_records(bootstrap_servers: str, topic: str, records: Iterable[RawRecord]) -> list[Place]:
    """Where each record stands, in the order given; durable."""
    producer = Producer(client_config(bootstrap_servers, enable_idempotence=True, linger_ms=20))
    records = list(records)
    places: dict[int, Place] = {}

    def noting(number: int) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            places[number] = Place(int(message.partition() or 0), int(message.offset() or 0))

        return delivered

    for number, record in enumerate(records):
        producer.produce(
            topic, record.value, record.key, record.partition, on_delivery=noting(number), timestamp=record.at
        )
        producer.poll(0)
    assert producer.flush(WRITE_SECONDS) == 0
    return [places[number] for number in range(len(records))]


def read_records(bootstrap_servers: str, topic: str, partitions: int, isolation: str) -> list[Message]:
    """Everything in the topic now, partition by partition in order; `isolation` is Kafka's isolation.level."""
    consumer = Consumer(
        client_config(
            bootstrap_servers,
            group_id="reads-without-a-group",
            enable_auto_commit=False,
            isolation_level=isolation,
            enable_partition_eof=True,
            fetch_wait_max_ms=20,
        )
    )
    found: dict[int, list[Message]] = {partition: [] for partition in range(partitions)}
    unfinished = set(found)
    empty = 0
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        while unfinished:
            messages = consumer.consume(10_000, 0.2)
            empty = 0 if messages else empty + 1
            assert empty < MOST_EMPTY_POLLS, f"{topic} could not be read"
            for message in messages:
                error = message.error()
                if error is None:
                    found[int(message.partition() or 0)].append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    unfinished.discard(int(message.partition() or 0))
    finally:
        consumer.close()
    return [message for partition in sorted(found) for message in found[partition]]
