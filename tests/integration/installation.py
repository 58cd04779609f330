"""A whole installation for one test: topics, a Graph sandbox and worker processes, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from app.adapters.kafka_client import DurableProducer
from app.adapters.kafka_embedded import free_port
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_topics import TopicAdmin
from tests.integration.topic_records import Place, RawRecord, read_records, write_records
from topics.catalog import Catalog

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_SECONDS = 90.0
AUDIENCE_SYNC = [sys.executable, "-c", "from app.commands import main; main()"]


@dataclass
class WorkerProcess:
    """One worker; its stderr goes to `log`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    # Of its pages.
    token: str = ""

    def stats(self) -> dict[str, Any] | None:
        """Its /stats, None while it does not answer."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/stats", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (urllib.error.URLError, OSError):
            return None

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ready(self) -> bool:
        stats = self.stats()
        return stats is not None and bool(stats["worker"]["ready"])

    def idle(self) -> bool:
        """Nothing to read, nothing to send, and the clocks are at the wall."""
        stats = self.stats()
        if stats is None or not stats["worker"]["ready"]:
            return False
        stages = stats["stages"]
        destinations = [d for a in stats["audiences"].values() for d in a["destinations"]]
        return (
            all(stages[name]["lag"] == 0 for name in ("resolve", "evaluate", "batch"))
            and stats["clock_lag_seconds"] is not None
            and stats["clock_lag_seconds"] < 3
            and all(d["state"] == "live" and d["pending"] == 0 for d in destinations)
        )


@dataclass
class Installation:
    """Topics under their own prefix; `close` ends every process it started."""

    bootstrap_servers: str
    prefix: str
    audiences: str
    partitions: int = 4
    source_partitions: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    # False: workers find none and create them.
    with_topics: bool = True
    workers: list[WorkerProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = Catalog(self.prefix, f"{self.prefix}source")
        self._definitions = Path(self.folder.name, "audiences.yaml")
        self._definitions.write_text(self.audiences)
        if self.with_topics:
            self._create_topics()
        self.graph_port = free_port()
        self.start_sandbox()

    def _create_topics(self) -> None:
        specs = list(self.catalog.all())
        sources = TopicAdmin(self.bootstrap_servers, self.source_partitions, -1)
        source = specs.pop(0)
        sources.ensure(
            (type(source)(source.name, "k", "v", source.cleanup, self.source_partitions, ours=False),)
        )
        TopicAdmin(self.bootstrap_servers, self.partitions, -1).ensure(tuple(specs))

    def start_sandbox(self) -> None:
        """At the same port each time, with what it held when it was stopped."""
        state = Path(self.folder.name, "sandbox.json")
        self.sandbox = subprocess.Popen(
            [*AUDIENCE_SYNC, "sandbox", "--port", str(self.graph_port), "--state", str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert self.sandbox.stdout is not None
        self.graph_url = self.sandbox.stdout.readline().decode().strip()
        self.sandbox.stdout.close()

    def stop_sandbox(self) -> None:
        self.sandbox.terminate()
        assert self.sandbox.wait(PATIENCE_SECONDS) == 0

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait()
        self.sandbox.kill()
        self.sandbox.wait()
        self.folder.cleanup()

    # -- what goes in ------------------------------------------------------------------------------------------

    def produce(self, events: list[dict[str, Any]]) -> None:
        producer = DurableProducer(self.bootstrap_servers)
        for event in events:
            producer.produce(self.catalog.source_topic, json.dumps(event).encode(), event["userId"].encode())
        producer.flush()

    def produce_raw(self, records: Iterable[RawRecord]) -> list[Place]:
        """To the source topic; where each record stands."""
        return write_records(self.bootstrap_servers, self.catalog.source_topic, records)

    def create_audience(self, name: str) -> str:
        """A Facebook audience that was there before; returns its id."""
        request = urllib.request.Request(
            f"{self.graph_url}/v25.0/act_1/customaudiences",
            data=json.dumps({"name": name, "subtype": "CUSTOM"}).encode(),
            headers={"Authorization": "Bearer token", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["id"])

    def define(self, audiences: str) -> None:
        """Definitions for workers that are started from now on."""
        self._definitions.write_text(audiences)

    def apply(self, audiences: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`audiences apply` of a file that no worker is started with."""
        file = Path(self.folder.name, "applied.yaml")
        file.write_text(audiences)
        return self.command("audiences", "apply", str(file), *options)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the installation to its end."""
        return self.execute(*AUDIENCE_SYNC, *arguments)

    def execute(self, *program: str) -> subprocess.CompletedProcess[str]:
        """Run any program with the settings of the installation to its end."""
        return subprocess.run(
            program,
            cwd=ROOT,
            env=self.environment(0, None),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of the installation that is under way; it is waited for, or killed, by whoever asked."""
        return subprocess.Popen(
            [*AUDIENCE_SYNC, *arguments],
            cwd=ROOT,
            env=self.environment(0, None),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # -- workers -----------------------------------------------------------------------------------------------

    def environment(self, port: int, instance: str | None) -> dict[str, str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "FACEBOOK_ACCESS_TOKEN": "token",
            "AUDIENCE_SYNC_AUDIENCES": str(self._definitions),
            "AUDIENCE_SYNC_SOURCE_TOPIC": self.catalog.source_topic,
            "AUDIENCE_SYNC_TOPIC_PREFIX": self.prefix,
            "AUDIENCE_SYNC_PARTITIONS": str(self.partitions),
            "AUDIENCE_SYNC_WEB_PORT": str(port),
            "AUDIENCE_SYNC_FACEBOOK_API_URL": self.graph_url,
            "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID": "act_1",
            "AUDIENCE_SYNC_FACEBOOK_TIMEOUT_SECONDS": "2",
            "AUDIENCE_SYNC_BATCH_SECONDS": "0.2",
            "AUDIENCE_SYNC_POLL_RECORDS": "100",
            "AUDIENCE_SYNC_SESSION_TIMEOUT_SECONDS": "3",
            **self.settings,
        }
        if instance is not None:
            environment["AUDIENCE_SYNC_INSTANCE_ID"] = instance
        return environment

    def start_worker(
        self,
        *,
        instance: str | None = None,
        at: tuple[str, int, signal.Signals | str] | None = None,
        settings: dict[str, str] | None = None,
    ) -> WorkerProcess:
        """`at`: send the signal to itself, or raise, behind the n-th time of that step (see crashing_worker).

        `settings` are this worker's own.
        """
        if at is None:
            command = [*AUDIENCE_SYNC, "worker"]
        else:
            what = at[2].name if isinstance(at[2], signal.Signals) else at[2]
            command = [sys.executable, str(HERE / "crashing_worker.py"), at[0], str(at[1]), what]
        port = free_port()
        log = Path(self.folder.name, f"worker-{len(self.workers)}.log")
        environment = {**self.environment(port, instance), **(settings or {})}
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=stderr,
                stderr=stderr,
            )
        worker = WorkerProcess(process, port, log, environment.get("AUDIENCE_SYNC_WEB_TOKEN", ""))
        self.workers.append(worker)
        return worker

    def wait_until_idle(self, *workers: WorkerProcess) -> None:
        """Raises AssertionError with what the workers said when they do not come to rest."""

        def all_idle() -> bool:
            for worker in workers:
                assert worker.process.poll() is None, f"a worker ended:\n{worker.said}"
            return all(worker.idle() for worker in workers)

        quiet = 0

        def at_rest() -> bool:
            nonlocal quiet
            quiet = quiet + 1 if all_idle() else 0
            return quiet >= 4

        wait_until(
            at_rest, lambda: "\n".join(f"{w.said}\n{json.dumps(w.stats())}" for w in workers), every=0.4
        )

    # -- what came of it ---------------------------------------------------------------------------------------

    def memberships(self) -> list[dict[str, Any]]:
        """Every visible delta, partition by partition in order."""
        reader = LogReader(self.bootstrap_servers)
        topic = self.catalog.memberships.name
        deltas: list[dict[str, Any]] = []

        def keep(batch: list[Message]) -> None:
            deltas.extend(json.loads(message.value() or b"") for message in batch)

        ends = reader.settled_ends(topic, range(self.partitions))
        reader.read(topic, {p: (0, end) for p, end in ends.items()}, keep)
        return deltas

    def records(self, topic: str, isolation: str = "read_committed") -> list[Message]:
        partitions = 1 if topic == self.catalog.control.name else self.partitions
        return read_records(self.bootstrap_servers, topic, partitions, isolation)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Every record of dead.letters, those of one id in order."""
        return [
            json.loads(message.value() or b"") for message in self.records(self.catalog.dead_letters.name)
        ]

    def sandbox_get(self, path: str) -> Any:
        return self._sandbox("GET", path)

    def fault(self, respond: dict[str, Any], **matchers: Any) -> str:
        """Its id; see the sandbox's faults."""
        return str(self._sandbox("POST", "faults", {**matchers, "respond": respond})["id"])

    def clear_faults(self) -> None:
        self._sandbox("DELETE", "faults")

    def _sandbox(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.graph_url}/_sandbox/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def facebook_members(self) -> dict[str, set[str]]:
        """External ids at the sandbox, by the Facebook audience's name; asserts that no name occurs twice."""
        audiences = self.sandbox_get("audiences")
        names = [audience["name"] for audience in audiences]
        assert len(names) == len(set(names)), f"an audience was created twice:\n{self._account_requests()}"
        return {
            audience["name"]: {
                member["EXTERN_ID"]
                for member in self.sandbox_get(f"audiences/{audience['id']}/members")["members"]
            }
            for audience in audiences
        }

    def _account_requests(self) -> str:
        requests = self.sandbox_get("requests")
        return "\n".join(json.dumps(r) for r in requests if "customaudiences" in r["path"])


def wait_until(condition: Callable[[], bool], explain: Callable[[], str], every: float = 0.1) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(every)


def assert_unbroken(deltas: list[dict[str, Any]]) -> None:
    """Each (audience, profile) enters and leaves in turn, its sequence growing by one: nothing was done twice."""
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for delta in deltas:
        key = (delta["audience"], delta["profile"])
        sequence, change = last.get(key, (0, "exited"))
        assert delta["sequence"] == sequence + 1, (key, sequence, delta)
        if delta["change"] != "updated":
            assert delta["change"] != change, (key, delta)
            change = delta["change"]
        last[key] = (delta["sequence"], change)


def members_of(deltas: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Who is a member by the newest delta of each."""
    members: dict[str, set[str]] = {}
    for delta in deltas:
        audience = members.setdefault(delta["audience"], set())
        if delta["change"] == "exited":
            audience.discard(delta["profile"])
        else:
            audience.add(delta["profile"])
    return members
