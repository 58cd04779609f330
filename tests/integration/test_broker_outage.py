"""Kafka goes away for a while under a running worker and comes back: nothing is lost, nobody has to act."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.adapters.kafka_embedded import EmbeddedKafka
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from app.errors import UnreachableError
from tests.integration.installation import Installation, assert_unbroken, members_of, wait_until
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders
from topics.catalog import Catalog

# Longer than the session, the transaction timeout and the clients' own patience for one request; `make faults` tries
# minutes.
OUTAGE_SECONDS = 15.0


def test_an_outage_in_the_middle_of_the_work(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str
) -> None:
    kafka = embedded_kafka_factory()
    work_through_an_outage(kafka, topic_prefix, OUTAGE_SECONDS, kafka.kill, kafka.start)


def work_through_an_outage(
    kafka: EmbeddedKafka,
    topic_prefix: str,
    seconds: float,
    leave: Callable[[], object],
    come_back: Callable[[], object],
) -> None:
    installation = Installation(kafka.bootstrap_servers, topic_prefix, AUDIENCES)
    try:
        orders = make_orders(count=2_000, users=300, days=150)
        events = as_events(orders)
        installation.produce(events[:1_000])
        worker = installation.start_worker(instance="slot-1")
        installation.wait_until_idle(worker)
        installation.produce(events[1_000:])
        leave()
        time.sleep(seconds)
        come_back()
        # Where the outage hit a transaction between two steps, the worker ends and its supervisor starts it again; a
        # broker that stood still remembers that the session is over.
        wait_until(lambda: worker.idle() or worker.process.poll() is not None, lambda: worker.said)
        if worker.process.poll() is not None:
            assert worker.ended() == 1
            reasons = ("did not finish a transaction", "another worker has taken over")
            assert any(reason in worker.said for reason in reasons), worker.said
            installation.wait_until_idle(installation.start_worker(instance="slot-1"))
        assert "Traceback" not in worker.said
        deltas = installation.memberships()
        expected = expected_members(orders)
        assert_unbroken(deltas)
        assert members_of(deltas) == expected
        assert installation.facebook_members() == {NAMES[key]: members for key, members in expected.items()}
    finally:
        installation.close()


def test_offsets_are_known_again_when_a_broker_has_come_back_as_leader_of_another_epoch(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str
) -> None:
    """librdkafka remembers the epoch of a leader for five minutes, and asks by it."""
    kafka = embedded_kafka_factory()
    catalog = Catalog(topic_prefix)
    TopicAdmin(kafka.bootstrap_servers, 1, 1).ensure((catalog.control,))
    reader = LogReader(kafka.bootstrap_servers)

    def answers() -> bool:
        try:
            return reader.end_offsets(catalog.control.name, (0,)) == {0: 0}
        except UnreachableError:
            return False

    # A broker reports a topic a moment before it leads its partitions.
    wait_until(answers, lambda: "no offsets of a new topic")
    kafka.kill()
    kafka.start()
    wait_until(answers, lambda: "no offsets")
