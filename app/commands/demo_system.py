"""The whole local system of the demo: a broker, the Graph sandbox and a worker, each a process of its own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_embedded import HOST, EmbeddedKafka, free_port
from app.adapters.kafka_topics import TopicAdmin
from app.commands.demo_events import AUDIENCES_FILE
from app.commands.demo_processes import EXECUTABLE, Program, WorkerSlot, clean_environment
from app.commands.demo_readings import is_ready
from app.errors import AudienceSyncError, PermanentError
from topics.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from app.commands.demo_events import Call

AD_ACCOUNT: Final = "act_1000000001"
PARTITIONS: Final = 8


class DemoSystem:
    """Started part by part, in this order: `start_kafka`, `fill`, `start_sandbox`, `start_worker`; then `tend`.

    `stop` ends whatever runs, also half a start. `report` receives a line now and then. Every call may raise
    AudienceSyncError with the last lines of the program that failed.
    """

    def __init__(self, folder: Path, kill_every: float | None, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._kill_every = kill_every
        self._report = report
        self._catalog = Catalog()
        self._kafka = EmbeddedKafka(report=report)
        self._sandbox: Program | None = None
        self._worker: WorkerSlot | None = None
        self.sandbox_url = ""
        self.worker_url = ""

    @property
    def bootstrap_servers(self) -> str:
        return self._kafka.bootstrap_servers

    @property
    def worker(self) -> WorkerSlot:
        if self._worker is None:
            raise RuntimeError("start_worker() starts it")
        return self._worker

    def start_kafka(self) -> None:
        """Returns when all topics are there."""
        self._kafka.start()
        TopicAdmin(self.bootstrap_servers, PARTITIONS, replication_factor=1).ensure(self._catalog.all())

    def fill(self, calls: Iterable[Call]) -> int:
        """Put all calls into the source topic, keyed by user; returns how many, all of them durable.

        Before a worker is there: one that has caught up takes the wall for the time, and the past for late.
        """
        producer = DurableProducer(self.bootstrap_servers, linger_ms=20)
        count = 0
        for call in calls:
            producer.produce(self._catalog.source.name, call.body, call.user_id.encode())
            count += 1
        self._await_durable(producer)
        return count

    def _await_durable(self, producer: DurableProducer) -> None:
        """In a thread: a client waits minutes for a broker that is gone, and no signal reaches it meanwhile."""
        durable: Future[None] = Future()

        def flush() -> None:
            try:
                producer.flush()
            except AudienceSyncError as exc:
                durable.set_exception(exc)
            else:
                durable.set_result(None)

        threading.Thread(target=flush, daemon=True).start()
        while True:
            try:
                return durable.result(0.1)
            except TimeoutError:
                self._require_kafka()

    def start_sandbox(self) -> None:
        self._sandbox = self._program("sandbox", {})
        self._sandbox.start()
        self.sandbox_url = self._sandbox.await_line("http://")

    def start_worker(self) -> None:
        """Returns at once; `tend` follows the worker from then on."""
        port = free_port()
        self.worker_url = f"http://{HOST}:{port}"
        program = self._program("worker", self._worker_settings(port))
        self._worker = WorkerSlot(program, lambda: is_ready(self.worker_url), self._kill_every, self._report)
        self._worker.start()

    def _program(self, name: str, settings: Mapping[str, str]) -> Program:
        # What a killed program leaves behind in its temporary folder goes with ours.
        environment = clean_environment({**settings, "TMPDIR": str(self._folder)})
        return Program(name, [str(EXECUTABLE), name], environment, self._folder)

    def _worker_settings(self, port: int) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "FACEBOOK_ACCESS_TOKEN": "demo",
            "AUDIENCE_SYNC_AUDIENCES": str(AUDIENCES_FILE),
            "AUDIENCE_SYNC_PARTITIONS": str(PARTITIONS),
            "AUDIENCE_SYNC_FACEBOOK_API_URL": self.sandbox_url,
            "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID": AD_ACCOUNT,
            # A killed worker's successor waits this long for requests that may still be under way.
            "AUDIENCE_SYNC_FACEBOOK_TIMEOUT_SECONDS": "3",
            "AUDIENCE_SYNC_BATCH_SECONDS": "2",
            "AUDIENCE_SYNC_WEB_HOST": HOST,
            "AUDIENCE_SYNC_WEB_PORT": str(port),
            # Its successor takes the place of a killed worker at once.
            "AUDIENCE_SYNC_INSTANCE_ID": "worker-1",
        }

    def tend(self, *, may_kill: bool) -> None:
        """To be called several times a second: keeps the worker running, fails when anything else has ended."""
        self._require_kafka()
        if self._sandbox is not None and not self._sandbox.running():
            status = self._sandbox.exit_status()
            raise PermanentError(
                f"the sandbox ended by itself with status {status}{self._sandbox.last_lines()}"
            )
        self.worker.tend(may_kill=may_kill)

    def urls(self) -> dict[str, str]:
        """Where to look at it while it runs."""
        return {
            "worker": f"{self.worker_url}/stats",
            "sandbox": f"{self.sandbox_url}/_sandbox/audiences",
            "Kafka": self.bootstrap_servers,
        }

    def _require_kafka(self) -> None:
        try:
            os.kill(self._kafka.pid, 0)
        except ProcessLookupError:
            # Returns at once, with the broker's last words.
            self._kafka.watch()

    def stop(self) -> None:
        """What depends on the others first. Harmless when nothing runs."""
        for part in (self._worker, self._sandbox, self._kafka):
            if part is not None:
                part.stop()
