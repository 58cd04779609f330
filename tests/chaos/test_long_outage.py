"""Kafka is away, or stands still, for OUTAGE_SECONDS (330): longer than any patience that a client has."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from app.adapters.kafka_embedded import EmbeddedKafka
from tests.integration.test_broker_outage import work_through_an_outage

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "330"))


@pytest.mark.timeout(300 + OUTAGE_SECONDS)
def test_away(embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str) -> None:
    kafka = embedded_kafka_factory()
    work_through_an_outage(kafka, topic_prefix, OUTAGE_SECONDS, kafka.kill, kafka.start)


@pytest.mark.timeout(300 + OUTAGE_SECONDS)
def test_standing_still(embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str) -> None:
    """Its connections stand, and nothing answers."""
    kafka = embedded_kafka_factory()
    work_through_an_outage(
        kafka,
        topic_prefix,
        OUTAGE_SECONDS,
        lambda: os.kill(kafka.pid, signal.SIGSTOP),
        lambda: os.kill(kafka.pid, signal.SIGCONT),
    )
