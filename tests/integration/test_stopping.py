"""SIGTERM, whatever the worker is in the middle of: status 0, the group left, and the next one goes on as if nothing
had been."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_client import producer_config
from app.adapters.kafka_embedded import EmbeddedKafka
from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.purchases import AUDIENCES, NAMES, Order, as_events, expected_members, make_orders

# 10 s are promised, of which a worker itself waits 7 at most; here is a margin for a busy machine.
STOPPED_SECONDS = 30.0
# Whoever does not leave the group stays in it for so long.
SESSION = {"AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS": "60"}

# Right after a broker's start.
NO_COORDINATOR_YET = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


@pytest.fixture
def orders() -> list[Order]:
    return make_orders(count=1_500, users=200, days=150)


@pytest.fixture
def installation(bootstrap_servers: str, topic_prefix: str, orders: list[Order]) -> Iterator[Installation]:
    with closing(Installation(bootstrap_servers, topic_prefix, AUDIENCES)) as made:
        made.produce(as_events(orders))
        yield made


def stop(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGTERM)
    try:
        status = worker.process.wait(STOPPED_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it does not stop:\n{worker.said}") from None
    assert status == 0, worker.said
    assert "ended" not in worker.said
    assert "Traceback" not in worker.said


def in_group(installation: Installation) -> int:
    """How many workers the group of the installation has."""
    admin = AdminClient({"bootstrap.servers": installation.bootstrap_servers})
    group = installation.catalog.app_id
    while True:
        try:
            return len(admin.describe_consumer_groups([group])[group].result().members)
        except KafkaException as exc:
            if exc.args[0].code() not in NO_COORDINATOR_YET:
                raise


def assert_the_next_one_goes_on(installation: Installation, orders: list[Order]) -> None:
    worker = installation.start_worker()
    installation.wait_until_idle(worker)
    expected, deltas = expected_members(orders), installation.memberships()
    assert_unbroken(deltas)
    assert members_of(deltas) == expected
    assert installation.facebook_members() == {NAMES[key]: members for key, members in expected.items()}


def test_while_it_recovers(installation: Installation, orders: list[Order]) -> None:
    """It waits for a transaction that is open in what it has to load."""
    topic = installation.catalog.profiles_changelog.name
    open_one = Producer(
        producer_config(
            installation.bootstrap_servers,
            transactional_id=f"{uuid.uuid4().hex}",
            transaction_timeout_ms=300_000,
        )
    )
    open_one.init_transactions(30)
    open_one.begin_transaction()
    for partition in range(installation.partitions):
        open_one.produce(topic, b"never", b"seen", partition)
    assert open_one.flush(30) == 0
    worker = installation.start_worker(settings=SESSION)
    wait_until(lambda: in_group(installation) == 1, lambda: worker.said)
    wait_until(lambda: worker.stats() is not None, lambda: worker.said)
    assert not worker.ready()
    stop(worker)
    assert in_group(installation) == 0
    open_one.abort_transaction(30)
    assert_the_next_one_goes_on(installation, orders)


def test_while_facebook_does_not_answer(installation: Installation, orders: list[Order]) -> None:
    installation.fault({"delay_ms": 120_000}, path="/users$", times=None)
    slow = {**SESSION, "AUDIENCE_SYNC_FACEBOOK_TIMEOUT_SECONDS": "90"}
    worker = installation.start_worker(settings=slow)

    def waits() -> bool:
        states = [
            destination
            for audience in (worker.stats() or {"audiences": {}})["audiences"].values()
            for destination in audience["destinations"]
        ]
        return len(states) == len(NAMES) and all(d["facebook_id"] and d["pending"] for d in states)

    wait_until(waits, lambda: worker.said)
    stop(worker)
    assert in_group(installation) == 0
    installation.clear_faults()
    assert_the_next_one_goes_on(installation, orders)


def test_while_kafka_is_gone(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str, orders: list[Order]
) -> None:
    kafka = embedded_kafka_factory()
    stop_without_kafka(kafka, topic_prefix, orders, kafka.kill, kafka.start)


def stop_without_kafka(
    kafka: EmbeddedKafka,
    topic_prefix: str,
    orders: list[Order],
    leave: Callable[[], object],
    come_back: Callable[[], object],
) -> None:
    installation = Installation(kafka.bootstrap_servers, topic_prefix, AUDIENCES)
    try:
        events = as_events(orders)
        installation.produce(events[:500])
        worker = installation.start_worker()
        installation.wait_until_idle(worker)
        installation.produce(events[500:])
        leave()
        stop(worker)
        # One that has not even begun.
        beginner = installation.start_worker()
        wait_until(lambda: "Trying again" in beginner.said, lambda: beginner.said)
        stop(beginner)
        come_back()
        assert_the_next_one_goes_on(installation, orders)
    finally:
        installation.close()
