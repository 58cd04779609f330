"""SIGTERM in states that take a while to bring about; the others are in tests/integration/test_stopping.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from app.adapters.kafka_embedded import EmbeddedKafka
from tests.integration.installation import Installation, members_of, wait_until
from tests.integration.purchases import AUDIENCES, as_events, expected_members, make_orders
from tests.integration.test_stopping import SESSION, in_group, stop, stop_without_kafka


def test_while_it_reads_the_past_for_new_audiences(bootstrap_servers: str, topic_prefix: str) -> None:
    before = "audiences:\n  - {name: Recent, when: {event: Order Completed, within: 30d}}\n"
    # Batches of thousands, for the backlog to be no matter.
    settings = {"AUDIENCE_SYNC_POLL_RECORDS": "10000"}
    installation = Installation(bootstrap_servers, topic_prefix, before, settings=settings)
    try:
        orders = make_orders(count=18_000, users=300, days=150)
        installation.produce(as_events(orders))
        worker = installation.start_worker(settings=SESSION)
        installation.wait_until_idle(worker)
        assert installation.apply(AUDIENCES).returncode == 0

        def is_reading() -> bool:
            backfill = (worker.stats() or {}).get("backfill", {})
            return any(progress["read"] < progress["end"] for progress in backfill.values())

        wait_until(is_reading, lambda: worker.said, every=0.01)
        stop(worker)
        assert in_group(installation) == 0
        filled = [delta for delta in installation.memberships() if delta["audience"] != "recent"]
        assert not filled, "it was not in the middle of it"
        installation.define(AUDIENCES)
        successor = installation.start_worker()

        def is_filled() -> bool:
            return installation.facebook_members().get("Two orders") is not None and not (
                successor.stats() or {"backfill": True}
            ).get("backfill")

        wait_until(is_filled, lambda: successor.said, every=0.5)
        installation.wait_until_idle(successor)
        expected = expected_members(orders)
        assert {key: people for key, people in members_of(installation.memberships()).items() if people} == {
            key: people for key, people in expected.items() if people
        }
    finally:
        installation.close()


def test_while_kafka_stands_still(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str
) -> None:
    """Its connections stand, and nothing answers."""
    kafka, orders = embedded_kafka_factory(), make_orders(count=1_500, users=200, days=150)
    stop_without_kafka(
        kafka,
        topic_prefix,
        orders,
        lambda: os.kill(kafka.pid, signal.SIGSTOP),
        lambda: os.kill(kafka.pid, signal.SIGCONT),
    )
