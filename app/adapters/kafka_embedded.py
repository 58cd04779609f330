"""A real single-node Apache Kafka (KRaft) in a child process: for the demo, the tests and work on one machine.

Nothing of it survives its owner: a watchdog (see `app.adapters.kafka_watchdog`) kills the broker and removes its
temporary folder when the owner dies, even by SIGKILL. The broker runs in a session of its own, so that Ctrl-C in a
terminal reaches the owner alone, who then stops what depends on the broker first.
"""

from __future__ import annotations

import base64
import fcntl
import random
import shutil
import socket
import tempfile
import time
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_distribution import default_cache_dir, java_command, kafka_jars
from app.adapters.kafka_watchdog import Watched
from app.errors import InvalidInputError, PermanentError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

HOST = "127.0.0.1"

START_SECONDS = 60
"""How long a broker may take until it answers; 3 to 5 s is usual, a loaded machine needs more."""

_PORT_ATTEMPTS = 3

# Below the range from which Linux takes the ports of outgoing connections: a client that keeps connecting to a
# stopped broker's port inside that range can get the very port as its own, and then the broker cannot start again.
_PORTS = range(20_000, 32_000)

# Measured with produce and consume over librdkafka on 2 cores: the same throughput as with the second compiler, a
# third less processor time, 3 s instead of 3.6 s to start.
_JVM_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "--sun-misc-unsafe-memory-access=allow")
_BROKER_FLAGS = (
    "-Xmx512m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

# Beyond what a single node needs (replication of 1), short waits: a group forms at once, a crashed producer's
# transaction ends within a second of its timeout, a dead consumer may be noticed after one second. Topics are
# created on purpose only: a misspelt name must fail here as it does on a well-kept cluster.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{more_listeners}
advertised.listeners=PLAINTEXT://{host}:{port}{more_listeners}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


class EmbeddedKafka:
    """One broker on 127.0.0.1, plain text, no authentication. `listeners` are ports of others by their security
    protocol, which tests of secured connections add, with `properties` of the broker for them.

    `port` None takes a free one at the first start and keeps it from then on. `data_dir` is created when missing and
    never removed: topics survive in it; without it the broker's data lives in a temporary folder that `stop` removes.
    `report` receives a line of progress now and then (a download). One owner at a time: not thread-safe.
    """

    def __init__(
        self,
        port: int | None = None,
        data_dir: Path | None = None,
        *,
        report: Callable[[str], None] = lambda _line: None,
        cache_dir: Path | None = None,
        listeners: Mapping[str, int] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._port = port
        self._listeners = listeners or {}
        self._properties = properties or {}
        self._data_dir = data_dir.absolute() if data_dir is not None else None
        self._report = report
        self._cache_dir = cache_dir
        self._folder: Path | None = None
        self._broker: Watched | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; defined once `start` has returned."""
        if self._port is None:
            raise RuntimeError("start() gives the address")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The broker's process id, for tests that suspend or kill it."""
        if self._broker is None:
            raise RuntimeError("the broker is not running")
        return self._broker.pid

    def start(self) -> str:
        """Starts the broker and waits until it serves clients; returns the bootstrap address.

        Raises InvalidInputError (extra not installed, port taken, folder unusable), UnreachableError (the download
        failed, or no answer in time) or PermanentError (the broker died; the text ends with its last lines).
        """
        if self._broker is not None:
            raise RuntimeError("the broker is already running")
        java = java_command()
        jars = kafka_jars(self._cache_dir or default_cache_dir(), self._report)
        self._prepare_data_dir()
        try:
            self._start_on_free_port([str(java), *_JVM_FLAGS, "-cp", ":".join(map(str, jars))])
        except BaseException:
            self.stop()
            raise
        return self.bootstrap_servers

    def stop(self) -> None:
        """SIGTERM, SIGKILL when that takes too long; removes the temporary folder. Harmless when not running."""
        self._end("stop")
        if self._folder is not None:
            self._remove()
            self._folder = None

    def kill(self) -> None:
        """SIGKILL, as a crash; data and port stay, so that `start` goes on with them until `stop` is called."""
        self._end("kill")

    def restart(self) -> str:
        """An orderly stop and start on the same port and data."""
        self._end("stop")
        return self.start()

    def watch(self) -> None:
        """Blocks while the broker runs; raises PermanentError, with its last lines, when it ends by itself."""
        if self._broker is None:
            raise RuntimeError("the broker is not running")
        status = self._broker.wait(None)
        raise PermanentError(f"Kafka ended by itself with status {status}{self._last_lines()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare_data_dir(self) -> None:
        folder = self._data_dir
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(
                f"{folder} is not a folder: name one for Kafka's data, or none to keep nothing"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in folder.iterdir()}
        except OSError as exc:
            raise InvalidInputError(f"cannot use {folder} as Kafka's data folder: {exc.strerror}") from exc
        if names and not names & {"meta.properties", "bootstrap.checkpoint"}:
            raise InvalidInputError(
                f"{folder} is neither empty nor a data folder of Kafka: name another folder, it is created when missing"
            )
        if _is_locked(folder / ".lock"):
            raise InvalidInputError(
                f"the data folder {folder} is in use by another broker: stop that one or name another folder"
            )

    def _start_on_free_port(self, java: list[str]) -> None:
        wanted = self._port
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            if wanted is not None:
                _require_free(wanted)
            port = wanted or free_port()
            configuration = self._configure(port)
            self._format(java, configuration)
            self._broker = self._run(
                [*java[:1], *_BROKER_FLAGS, *java[1:], "kafka.Kafka", str(configuration)]
            )
            if self._answers(port):
                self._port = port
                return
            self._end("kill")
            # Another process was quicker to take one of the two ports.
            if "BindException" not in self._log() or attempt == _PORT_ATTEMPTS:
                raise self._died()

    def _configure(self, port: int) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="audience-sync-kafka-"))
            # For an owner that ends between `kill` and `stop`, when no watchdog runs.
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            (self._folder / "tmp").mkdir()
            if self._data_dir is not None:
                # A link: Kafka reads its properties as Latin-1 and splits the path at commas.
                (self._folder / "data").symlink_to(self._data_dir, target_is_directory=True)
        configuration = self._folder / "server.properties"
        configuration.write_text(
            _PROPERTIES.format(
                host=HOST,
                port=port,
                controller_port=free_port(port),
                data=self._folder / "data",
                more_listeners="".join(f",{name}://{HOST}:{port}" for name, port in self._listeners.items()),
            )
            + "".join(f"{name}={value}\n" for name, value in self._properties.items()),
            encoding="ascii",
        )
        return configuration

    def _format(self, java: list[str], configuration: Path) -> None:
        # Written last when a folder is formatted, so its presence means that the rest is there.
        if (configuration.parent / "data" / "meta.properties").exists():
            return
        # Any 16 bytes; a leading dash would be taken for an option.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(configuration)]
        self._broker = self._run([*java, *tool])
        status = self._broker.wait(START_SECONDS)
        self._end("kill")
        if status != 0:
            raise self._died()

    def _run(self, command: list[str]) -> Watched:
        folder = self._require_folder()
        command = [command[0], f"-Djava.io.tmpdir={folder / 'tmp'}", *command[1:]]
        with (folder / "broker.log").open("w", encoding="utf-8") as log:
            try:
                return Watched(command, folder, log)
            except ChildProcessError as exc:
                raise PermanentError(f"the Java runtime {command[0]} could not be started") from exc

    def _answers(self, port: int) -> bool:
        """Waits until the broker lists itself as alive; False when its process ended before."""
        broker = self._broker
        deadline = time.monotonic() + START_SECONDS
        while broker is not None and broker.running():
            if _is_listed(port):
                return True
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"Kafka on {HOST}:{port} did not answer within {START_SECONDS} s{self._last_lines()}"
                )
            time.sleep(0.05)
        return False

    def _end(self, how: Literal["stop", "kill"]) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.end(how)

    def _require_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the broker has no folder before it is configured")
        return self._folder

    def _log(self) -> str:
        return (self._require_folder() / "broker.log").read_text(encoding="utf-8", errors="replace")

    def _last_lines(self) -> str:
        # Without Java's stack frames, which would leave no room for the sentence that says why.
        lines = [line for line in self._log().splitlines() if line.strip() and not line.startswith("\t")][
            -10:
        ]
        return "; its last lines:\n" + "\n".join(lines) if lines else " and wrote nothing"

    def _died(self) -> PermanentError:
        return PermanentError(f"Kafka did not start{self._last_lines()}")


def _is_locked(lock: Path) -> bool:
    """Whether a broker holds the lock file of its data folder.

    A second broker would notice too, but only after it has disturbed the first one, which then does not stop any more.
    """
    try:
        with lock.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_listed(port: int) -> bool:
    try:
        # First without Kafka's client, which logs every refused connection and then waits longer and longer.
        socket.create_connection((HOST, port), timeout=1).close()
        admin = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0})
        return bool(admin.list_topics(timeout=5).brokers)
    except (OSError, KafkaException):
        return False


def _require_free(port: int) -> None:
    try:
        _bind(port)
    except PermissionError as exc:
        raise InvalidInputError(f"port {port} needs more rights: choose one above 1023") from exc
    except OSError as exc:
        raise InvalidInputError(
            f"port {port} on {HOST} is already in use: stop what listens there, or choose another port"
        ) from exc


def free_port(but: int | None = None) -> int:
    """A port that nobody listens on now; it may be taken by the time it is used."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        try:
            _bind(port)
        except OSError:
            continue
        if port != but:
            return port
    raise UnreachableError(f"no free port on {HOST} among {_PORTS.start} to {_PORTS.stop - 1}")


def _bind(port: int) -> None:
    with socket.socket() as candidate:
        # As the broker does: connections of a former broker that are still winding down do not count.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind((HOST, port))
