"""A broker that cannot write any more, at all or to a file system that is really full; the latter needs the right to
mount one."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.adapters.kafka_embedded import EmbeddedKafka
from tests.integration.installation import Installation, wait_until
from tests.integration.purchases import AUDIENCES, as_events, make_orders
from tests.integration.test_full_disk import assert_result, cannot_write

SIZE = 96 * 2**20
BLOCK = b"\0" * 4_096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_space_left_on_device(
    small_disk: Path, embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str
) -> None:
    kafka = embedded_kafka_factory(data_dir=small_disk / "data")
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(BLOCK):
                    pass
            except OSError:
                return

    try:
        run_out_of_room(kafka, topic_prefix, fill, ballast.unlink)
    finally:
        kafka.stop()


def test_the_disk_of_the_broker_is_full_for_a_while(
    embedded_kafka_factory: Callable[..., EmbeddedKafka], topic_prefix: str
) -> None:
    """A broker whose disk fails ends; what it had acknowledged is there when it comes back with room."""
    kafka = embedded_kafka_factory()
    run_out_of_room(kafka, topic_prefix, lambda: cannot_write(kafka.pid), lambda: None)


def run_out_of_room(
    kafka: EmbeddedKafka, topic_prefix: str, fill: Callable[[], None], make_room: Callable[[], None]
) -> None:
    installation = Installation(kafka.bootstrap_servers, topic_prefix, AUDIENCES)
    try:
        orders = make_orders(count=2_000, users=300, days=150)
        events = as_events(orders)
        installation.produce(events[:1_000])
        worker = installation.start_worker(instance="slot-1")
        installation.wait_until_idle(worker)
        fill()
        rest = threading.Thread(target=installation.produce, args=(events[1_000:],), daemon=True)
        rest.start()
        broker = psutil.Process(kafka.pid)
        wait_until(lambda: not broker.is_running(), lambda: "the broker still runs", every=0.5)
        kafka.kill()
        make_room()
        kafka.start()
        wait_until(lambda: not rest.is_alive(), lambda: "the calls do not get through", every=0.5)
        # Where it happened between two steps of a transaction, the worker ends and its supervisor starts it again.
        wait_until(lambda: worker.idle() or worker.process.poll() is not None, lambda: worker.said)
        if worker.process.poll() is not None:
            assert worker.ended() == 1, worker.said
            assert "worker: ended: " in worker.said
            worker = installation.start_worker(instance="slot-1")
        installation.wait_until_idle(worker)
        assert "Traceback" not in worker.said
        assert_result(installation, orders)
    finally:
        installation.close()
