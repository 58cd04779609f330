"""Clients and a whole worker against a Kafka with TLS, client certificates and passwords."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType

from app.adapters.kafka_client import reachable
from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_embedded import HOST, EmbeddedKafka
from app.adapters.kafka_security import tls_context
from app.errors import AudienceSyncError, InvalidInputError, UnreachableError
from app.settings import load_settings
from tests.integration.installation import AUDIENCE_SYNC, ROOT, Installation, wait_until
from tests.integration.purchases import AUDIENCES, NAMES, as_events, expected_members, make_orders
from tests.integration.secured_kafka import (
    KEY_PASSWORD,
    LIMITED,
    PASSWORD,
    USER,
    Certificates,
    SecuredKafka,
    TokenEndpoint,
    with_certificate,
    with_password,
    with_tokens,
)

WRONG = "wrong-Zq7-secret"


@pytest.fixture(scope="module")
def certificates(
    tmp_path_factory: pytest.TempPathFactory, missing_part: Callable[[str], NoReturn]
) -> Certificates:
    if shutil.which("openssl") is None:
        missing_part("openssl is not installed, which makes the certificates")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kafka(certificates: Certificates, started_kafka: Callable[[EmbeddedKafka], None]) -> SecuredKafka:
    secured = SecuredKafka(certificates)
    started_kafka(secured.broker)
    secured.add_users()
    return secured


def assert_delivers(installation: Installation) -> None:
    """A worker of the installation takes events in and brings people to Facebook; nothing is said of a secret."""
    orders = make_orders(count=60, users=30, days=100)
    file = Path(installation.folder.name, "events.ndjson")
    events = as_events(orders)
    file.write_text("\n".join(map(json.dumps, events)))
    produced = installation.command("produce", str(file))
    assert (produced.returncode, produced.stdout) == (0, f"{len(events)}\n"), produced.stderr
    worker = installation.start_worker()

    def ready() -> bool:
        assert worker.process.poll() is None, worker.said
        return worker.ready()

    wait_until(ready, lambda: worker.said)
    expected = {NAMES[key]: people for key, people in expected_members(orders).items() if people}
    assert expected

    def delivered() -> bool:
        assert worker.process.poll() is None, worker.said
        return {
            name: people for name, people in installation.facebook_members().items() if people
        } == expected

    wait_until(delivered, lambda: f"{worker.said}\n{worker.stats()}")
    arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes().decode()
    stats = str(worker.stats())
    assert worker.stop() == 0
    for secret in (PASSWORD, KEY_PASSWORD):
        assert secret not in worker.said + arguments + stats


@pytest.fixture
def installed(kafka: SecuredKafka) -> Iterator[Callable[[dict[str, str]], Installation]]:
    made: list[Installation] = []

    def install(settings: dict[str, str]) -> Installation:
        # Topics are made over the plain listener; everything of the application uses `settings`.
        prefix = f"test-{uuid.uuid4().hex[:12]}."
        made.append(Installation(kafka.broker.bootstrap_servers, prefix, AUDIENCES, settings=settings))
        return made[-1]

    yield install
    for installation in made:
        installation.close()


def test_a_worker_delivers_with_a_password_over_tls(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    assert_delivers(installed(with_password(kafka, certificates)))


def test_a_worker_delivers_with_a_client_certificate(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    assert_delivers(installed(with_certificate(kafka, certificates)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_worker_delivers_with_a_password_alone(
    kafka: SecuredKafka, installed: Callable[..., Installation], tmp_path: Path, mechanism: str
) -> None:
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    assert_delivers(
        installed(
            {
                "KAFKA_BOOTSTRAP_SERVERS": kafka.address("SASL_PLAINTEXT"),
                "KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
                "KAFKA_SASL_MECHANISM": mechanism,
                "KAFKA_SASL_USERNAME": USER,
                "KAFKA_SASL_PASSWORD_FILE": str(password),
            }
        )
    )


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    made = TokenEndpoint()
    yield made
    made.close()


def test_a_worker_delivers_with_tokens(
    kafka: SecuredKafka,
    certificates: Certificates,
    endpoint: TokenEndpoint,
    installed: Callable[..., Installation],
) -> None:
    assert_delivers(installed(with_tokens(kafka, certificates, endpoint)))
    assert endpoint.given > 0


def test_a_wrong_secret_is_said_and_not_shown(
    kafka: SecuredKafka,
    certificates: Certificates,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = with_tokens(kafka, certificates, endpoint, KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET=WRONG)
    error = refused(monkeypatch, wrong)
    assert isinstance(error, UnreachableError)
    assert "KAFKA_SASL_OAUTHBEARER_" in str(error)
    assert endpoint.given == 0


def test_the_documented_rights_are_enough(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    """Those of docs/operations.md, without Create: the topics are there."""
    installation = installed(with_password(kafka, certificates, KAFKA_SASL_USERNAME=LIMITED))
    prefix, group = installation.prefix, installation.catalog.app_id
    topics = [AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS]
    kafka.allow(
        [
            (ResourceType.TOPIC, prefix, ResourcePatternType.PREFIXED, topics),
            *(
                (ResourceType.GROUP, name, ResourcePatternType.LITERAL, [AclOperation.READ])
                for name in (group, "audience-sync-reader")
            ),
            (
                ResourceType.TRANSACTIONAL_ID,
                group,
                ResourcePatternType.PREFIXED,
                [AclOperation.WRITE, AclOperation.DESCRIBE],
            ),
        ]
    )
    assert_delivers(installation)
    examined = installation.command("doctor")
    assert examined.returncode == 0, examined.stdout


# -- Faust's client alone: librdkafka would refuse first -------------------------------------------------------------


def shakes_hands(kafka: SecuredKafka, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the broker at the listener with client certificates is trusted and trusts us."""
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        context = tls_context(kafka_connection(load_settings()).options)
    with socket.create_connection((HOST, kafka.ports["SSL"]), timeout=30) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=HOST) as secured:
                # With TLS 1.3 a broker refuses a certificate only behind the handshake.
                secured.settimeout(1.0)
                return secured.recv(1) != b""
        except TimeoutError:
            return True
        except ssl.SSLError:
            return False


def test_fausts_client_trusts_and_is_trusted_alike(
    kafka: SecuredKafka, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = with_certificate(kafka, certificates)
    without = {name: value for name, value in plain.items() if "LOCATION" not in name and "KEY" not in name}
    ca = {"KAFKA_SSL_CA_LOCATION": plain["KAFKA_SSL_CA_LOCATION"]}
    texts = {
        "KAFKA_SSL_CA_PEM_FILE": certificates.path("ca.pem"),
        "KAFKA_SSL_CERTIFICATE_PEM_FILE": certificates.path("client.pem"),
        "KAFKA_SSL_KEY_PEM_FILE": certificates.path("client.locked.key"),
        "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
    }
    assert shakes_hands(kafka, plain, monkeypatch)
    assert shakes_hands(kafka, {**without, **texts}, monkeypatch)
    # By another name than its own, of another authority, and without a certificate of ours.
    named = {"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "https"}
    assert not shakes_hands(kafka, {**plain, **named}, monkeypatch)
    other = {"KAFKA_SSL_CA_LOCATION": certificates.path("other_ca.pem")}
    assert not shakes_hands(kafka, {**plain, **other}, monkeypatch)
    assert not shakes_hands(kafka, {**without, **ca}, monkeypatch)
    unverified = {**named, "KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION": "false"}
    assert shakes_hands(kafka, {**plain, **other, **unverified}, monkeypatch)
    assert [file.name for file in Path(tempfile.gettempdir()).glob("audience-sync-*.pem")] == []


WRONG_TLS = {
    "ssl.key.password": WRONG,
    "ssl.ca.location": "/nowhere",
    "ssl.ca.pem": "none",
    "ssl.certificate.location": "/nowhere",
    "ssl.cipher.suites": "ROT13",
}


@pytest.mark.parametrize("name", WRONG_TLS)
def test_fausts_client_refuses_what_it_cannot_read(
    kafka: SecuredKafka, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in with_certificate(kafka, certificates).items():
        monkeypatch.setenv(variable, value)
    options = {**kafka_connection(load_settings()).options, name: WRONG_TLS[name]}
    with pytest.raises(InvalidInputError, match="(?i)" + name.split(".")[1]) as caught:
        tls_context(options)
    assert WRONG not in str(caught.value)
    assert KEY_PASSWORD not in str(caught.value)


# -- what is not let in --------------------------------------------------------------------------------------------


def refused(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> AudienceSyncError:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AudienceSyncError) as caught:
        reachable(kafka_connection(load_settings()), 30.0)
    text = str(caught.value)
    assert [secret for secret in (PASSWORD, KEY_PASSWORD, WRONG) if secret in text] == []
    return caught.value


def test_a_wrong_password_is_said_and_not_shown(
    kafka: SecuredKafka, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        settings = with_password(
            kafka, certificates, KAFKA_SASL_PASSWORD=WRONG, KAFKA_SASL_MECHANISM=mechanism
        )
        error = refused(monkeypatch, settings)
        assert isinstance(error, UnreachableError)
        assert "does not accept the user" in str(error)
        assert "KAFKA_SASL_PASSWORD" in str(error)


NOT_TRUSTED = {
    "another authority": {"KAFKA_SSL_CA_LOCATION": "other_ca.pem"},
    "a broker by another name": {"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "https"},
}


@pytest.mark.parametrize("changed", NOT_TRUSTED.values(), ids=NOT_TRUSTED.keys())
def test_a_broker_that_cannot_be_trusted_is_not_used(
    kafka: SecuredKafka,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
) -> None:
    given = {name: certificates.path(v) if v.endswith(".pem") else v for name, v in changed.items()}
    error = refused(monkeypatch, with_certificate(kafka, certificates, **given))
    assert isinstance(error, UnreachableError)
    assert "cannot be spoken to over TLS" in str(error)


UNUSABLE = {
    "no authority": {"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.pem"},
    "a locked key without its password": {"KAFKA_SSL_KEY_PASSWORD": WRONG},
    "an option that librdkafka does not know": {"KAFKA_SOCKET_TIMEOUT": "3"},
}


@pytest.mark.parametrize("changed", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_settings_that_cannot_be_used_are_told_at_once(
    kafka: SecuredKafka,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
) -> None:
    error = refused(monkeypatch, with_certificate(kafka, certificates, **changed))
    assert isinstance(error, InvalidInputError)


def test_a_worker_refuses_certificates_that_it_cannot_read(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    installation = installed(with_certificate(kafka, certificates))
    for name in ("KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CERTIFICATE_LOCATION"):
        worker = installation.start_worker(settings={name: "/nowhere.pem"})
        assert worker.ended() == 2, worker.said
        assert worker.said.startswith("error: ")
        assert "Traceback" not in worker.said


def test_a_worker_without_rights_says_so_and_ends(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    """It does not wait for threads of its own that wait for Kafka."""
    installation = installed(with_password(kafka, certificates, KAFKA_SASL_USERNAME=LIMITED))
    prefix, group = installation.prefix, installation.catalog.app_id
    topics = [AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE]
    kafka.allow([(ResourceType.TOPIC, prefix, ResourcePatternType.PREFIXED, topics)])
    worker = installation.start_worker()
    assert worker.ended() == 1, worker.said
    assert f"error: Kafka lets {group}-control begin no transactions" in worker.said
    assert "AUTHORIZATION_FAILED" in worker.said
    assert "Traceback" not in worker.said


def test_a_worker_with_a_wrong_password_says_so_once_and_waits(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    settings = with_password(kafka, certificates, KAFKA_SASL_PASSWORD=WRONG)
    installation = installed(settings)
    worker = installation.start_worker()
    wait_until(lambda: "does not accept the user" in worker.said, lambda: worker.said)
    assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert WRONG not in worker.said
    assert worker.said.count("does not accept the user") == 1
    assert "Traceback" not in worker.said


def test_a_command_with_a_wrong_password_ends_with_status_3(
    kafka: SecuredKafka, certificates: Certificates, installed: Callable[..., Installation]
) -> None:
    installation = installed(with_password(kafka, certificates, KAFKA_SASL_PASSWORD=WRONG))
    ended = subprocess.run(
        [*AUDIENCE_SYNC, "topics"],
        cwd=ROOT,
        env=installation.environment(0, None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr
    assert "does not accept the user" in ended.stderr
    assert WRONG not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
