"""The embedded broker is a real Kafka, keeps what it is told to keep, and never outlives its owner."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from app.adapters import kafka_embedded
from app.adapters.kafka_embedded import free_port
from app.errors import InvalidInputError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.adapters.kafka_embedded import EmbeddedKafka

    Factory = Callable[..., EmbeddedKafka]

# The test itself is the owner in most tests; this is one that can be killed.
OWNER = """
import sys, time
from app.adapters.kafka_embedded import EmbeddedKafka
kafka = EmbeddedKafka()
kafka.start()
print(kafka.pid, kafka._folder, flush=True)
time.sleep(120)
"""


def create_topic(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)


def produce(address: str, topic: str, *values: str) -> None:
    producer = Producer({"bootstrap.servers": address})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def read(address: str, topic: str) -> list[str]:
    """All committed values of a topic of one partition, in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    values: list[str] = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while (message := consumer.poll(30)) is not None and message.error() is None:
            values.append((message.value() or b"").decode())
        assert message is not None, "no end of the partition within 30 s"
        return values
    finally:
        consumer.close()


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """A process that nobody has waited for yet is over all the same."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_records_and_transactions_are_served_and_nothing_stays(embedded_kafka_factory: Factory) -> None:
    kafka = embedded_kafka_factory()
    address, pid, folder = kafka.bootstrap_servers, kafka.pid, kafka._folder
    watchdog = psutil.Process(pid).ppid()
    assert folder
    create_topic(address, "orders")
    produce(address, "orders", "plain")
    producer = Producer({"bootstrap.servers": address, "transactional.id": "orders-1", "log_level": 0})
    producer.init_transactions(30)
    for value, committed in (("committed", True), ("aborted", False), ("last", True)):
        producer.begin_transaction()
        producer.produce("orders", value)
        producer.commit_transaction(30) if committed else producer.abort_transaction(30)
    assert read(address, "orders") == ["plain", "committed", "last"]

    kafka.stop()

    assert not runs(pid)
    assert not runs(watchdog)
    assert not folder.exists()


def test_a_misspelt_topic_is_not_created(embedded_kafka_factory: Factory) -> None:
    address = embedded_kafka_factory().bootstrap_servers
    producer = Producer({"bootstrap.servers": address, "topic.metadata.propagation.max.ms": 500})
    failures: list[KafkaError | None] = []
    producer.produce("ordres", "value", on_delivery=lambda error, _message: failures.append(error))
    assert producer.flush(30) == 0
    assert [failure and failure.code() for failure in failures] == [KafkaError.UNKNOWN_TOPIC_OR_PART]


def test_topics_and_records_survive_a_crash_and_a_stop(
    embedded_kafka_factory: Factory, tmp_path: Path
) -> None:
    # A name that a properties file could not hold as it is.
    folder = tmp_path / "donn\u00e9es, \u6f22 = kafka\\1"
    kafka = embedded_kafka_factory(data_dir=folder)
    address = kafka.bootstrap_servers
    create_topic(address, "orders")
    produce(address, "orders", "before the crash")

    kafka.kill()
    assert kafka.start() == address
    assert read(address, "orders") == ["before the crash"]
    produce(address, "orders", "before the restart")
    assert kafka.restart() == address
    assert read(address, "orders") == ["before the crash", "before the restart"]
    kafka.stop()

    again = embedded_kafka_factory(port=int(address.split(":")[1]), data_dir=folder)
    assert again.bootstrap_servers == address
    assert read(address, "orders") == ["before the crash", "before the restart"]
    with pytest.raises(InvalidInputError, match="in use by another broker"):
        embedded_kafka_factory(data_dir=folder)


@pytest.mark.parametrize("place", ["broker", "controller"])
def test_a_port_that_another_process_took_meanwhile_is_replaced(
    embedded_kafka_factory: Factory, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        chosen = [taken, free_port()] if place == "broker" else [free_port(), taken]
        monkeypatch.setattr(
            kafka_embedded, "free_port", lambda _but=None: chosen.pop(0) if chosen else free_port()
        )
        kafka = embedded_kafka_factory()
        assert chosen == []
        create_topic(kafka.bootstrap_servers, "orders")


def test_a_killed_owner_leaves_neither_broker_nor_folder() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        pid, folder = owner.stdout.readline().split(maxsplit=1)
        assert runs(int(pid))
        assert Path(folder.strip()).is_dir()
        owner.kill()
        owner.wait(30)
    until(lambda: not runs(int(pid)))
    until(lambda: not Path(folder.strip()).exists())


def test_a_broker_that_dies_at_its_start_is_quoted(embedded_kafka_factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n", encoding="ascii")
    with pytest.raises(PermanentError, match=r"(?s)Kafka did not start; its last lines:.*Stored node id 7"):
        embedded_kafka_factory(data_dir=tmp_path)


def test_an_owner_that_ends_after_a_crash_leaves_no_folder() -> None:
    owner = OWNER.replace("time.sleep(120)", "kafka.kill()")
    output = subprocess.run([sys.executable, "-c", owner], capture_output=True, check=True, text=True).stdout
    assert not Path(output.split(maxsplit=1)[1].strip()).exists()


def test_a_broker_that_dies_later_ends_the_watch(embedded_kafka_factory: Factory) -> None:
    kafka = embedded_kafka_factory()
    psutil.Process(kafka.pid).kill()
    with pytest.raises(PermanentError, match="ended by itself with status 137"):
        kafka.watch()


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    (tmp_path / "thesis.txt").write_text("not to be touched", encoding="ascii")
    return tmp_path


def test_a_folder_of_something_else_is_refused(embedded_kafka_factory: Factory, foreign_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither empty nor a data folder of Kafka"):
        embedded_kafka_factory(data_dir=foreign_folder)
    assert [path.name for path in foreign_folder.iterdir()] == ["thesis.txt"]
    with pytest.raises(InvalidInputError, match="is not a folder"):
        embedded_kafka_factory(data_dir=foreign_folder / "thesis.txt")
