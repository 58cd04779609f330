"""A Kafka that asks for certificates and passwords, and the certificates for it, made by openssl."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from app.adapters.kafka_embedded import HOST, EmbeddedKafka, free_port

USER = "audience-sync"
LIMITED = "limited"
PASSWORD = "pw-Zq7-secret"
CLIENT = "client-of-the-endpoint"
KEY_PASSWORD = "key-Zq7-secret"
MECHANISMS = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}


@dataclass(frozen=True)
class Certificates:
    """`broker` is for 127.0.0.1, `stranger` for another host, both signed by `ca`; `other_ca` has signed nothing."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("ca", "other_ca"):
            self._openssl(
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem",
            )  # fmt: skip
        self._sign("broker", "IP:127.0.0.1")
        self._sign("stranger", "DNS:broker.example.com")
        self._sign("client", "DNS:client.example.com")
        self._openssl(
            "pkcs8", "-topk8", "-in", "client.key", "-out", "client.locked.key",
            "-passout", f"pass:{KEY_PASSWORD}",
        )  # fmt: skip

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _sign(self, name: str, host: str) -> None:
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
        both = (self.folder / f"{name}.key").read_text() + (self.folder / f"{name}.pem").read_text()
        (self.folder / f"{name}.both.pem").write_text(both)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


class SecuredKafka:
    """Listeners: SASL_PLAINTEXT and SASL_SSL with PLAIN and SCRAM, SSL with client certificates, whose own
    certificate is for another host.
    """

    def __init__(self, certificates: Certificates) -> None:
        self.ports = {protocol: free_port() for protocol in ("SASL_PLAINTEXT", "SASL_SSL", "SSL")}
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        own = {name: name for name in ("PLAINTEXT", *self.ports)} | {"CONTROLLER": "PLAINTEXT"}
        properties = {
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in own.items()
            ),
            # Everybody but LIMITED may do everything.
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
            "sasl.enabled.mechanisms": ",".join(("PLAIN", "OAUTHBEARER", *MECHANISMS)),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": certificates.path("broker.both.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": certificates.path("ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.ssl.ssl.keystore.type": "PEM",
            "listener.name.ssl.ssl.keystore.location": certificates.path("stranger.both.pem"),
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
                f'{plain} required user_{USER}="{PASSWORD}";'
            )
            # Takes tokens that nobody has signed.
            properties[f"listener.name.{listener}.oauthbearer.sasl.jaas.config"] = (
                f'{bearer} required unsecuredLoginStringClaim_sub="broker";'
            )
            for mechanism in MECHANISMS:
                properties[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = (
                    f"{scram} required;"
                )
        self.broker = EmbeddedKafka(listeners=self.ports, properties=properties)

    def add_users(self) -> None:
        """Of SCRAM, over the plain listener, which stays open for what tests look at."""
        admin = self.admin()
        users = [
            UserScramCredentialUpsertion(
                user, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode(), b"salt-of-the-user"
            )
            for mechanism in MECHANISMS.values()
            for user in (USER, LIMITED)
        ]
        for user in users:
            for future in admin.alter_user_scram_credentials([user]).values():
                future.result(30)

    def allow(self, rights: list[tuple[ResourceType, str, ResourcePatternType, list[AclOperation]]]) -> None:
        """Let LIMITED do these operations, and no other."""
        bindings = [
            AclBinding(kind, name, pattern, f"User:{LIMITED}", "*", operation, AclPermissionType.ALLOW)
            for kind, name, pattern, operations in rights
            for operation in operations
        ]
        admin = self.admin()
        for future in admin.create_acls(bindings).values():
            future.result(30)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.broker.bootstrap_servers})

    def address(self, protocol: str) -> str:
        return f"{HOST}:{self.ports[protocol]}"


class TokenEndpoint:
    """Gives tokens for USER to whoever knows CLIENT and PASSWORD, and counts them."""

    def __init__(self) -> None:
        self.given = 0
        endpoint = self

        class Page(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = b64encode(f"{CLIENT}:{PASSWORD}".encode()).decode()
                allowed = self.headers["Authorization"] == f"Basic {known}"
                allowed = allowed and form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}
                endpoint.given += allowed
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                token = {"access_token": _token(), "token_type": "Bearer", "expires_in": 3600}
                self.wfile.write(json.dumps(token if allowed else {"error": "invalid_client"}).encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://{HOST}:{self.server.server_port}/token"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _token() -> str:
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": USER, "iat": now, "exp": now + 3600})
    return ".".join([*(urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), ""])


def with_password(kafka: SecuredKafka, certificates: Certificates, **changed: str) -> dict[str, str]:
    """Settings of an installation; `changed` over them, here and below."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.address("SASL_SSL"),
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_SSL_CA_LOCATION": certificates.path("ca.pem"),
        **changed,
    }


def with_certificate(kafka: SecuredKafka, certificates: Certificates, **changed: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.address("SSL"),
        "KAFKA_SECURITY_PROTOCOL": "ssl",
        "KAFKA_SSL_CA_LOCATION": certificates.path("ca.pem"),
        "KAFKA_SSL_CERTIFICATE_LOCATION": certificates.path("client.pem"),
        "KAFKA_SSL_KEY_LOCATION": certificates.path("client.locked.key"),
        "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
        "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none",
        **changed,
    }


def with_tokens(
    kafka: SecuredKafka, certificates: Certificates, endpoint: TokenEndpoint, **changed: str
) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.address("SASL_SSL"),
        "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_SASL_OAUTHBEARER_METHOD": "oidc",
        "KAFKA_SASL_OAUTHBEARER_CLIENT_ID": CLIENT,
        "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": PASSWORD,
        "KAFKA_SASL_OAUTHBEARER_SCOPE": "kafka",
        "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": endpoint.url,
        "KAFKA_SSL_CA_LOCATION": certificates.path("ca.pem"),
        **changed,
    }
