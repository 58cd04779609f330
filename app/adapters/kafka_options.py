"""Names of librdkafka's configuration: which of them an installation may set, and as which environment variable.

librdkafka is one of two Kafka clients here, the other is aiokafka within Faust. A name that decides how to reach
brokers or whom to trust must hold for both (see `app.adapters.kafka_security`), or it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.errors import InvalidInputError

# Settings of their own, by librdkafka's name.
OWN_SETTINGS: Final = {
    name: f"KAFKA_{name.replace('.', '_').upper()}"
    for name in (
        "bootstrap.servers",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
    )
}
# librdkafka knows these by two names.
_OTHER_NAMES: Final = {"metadata.broker.list": "bootstrap.servers", "sasl.mechanisms": "sasl.mechanism"}

# Never shown.
SECRET_OPTIONS: Final = frozenset(
    {"sasl.oauthbearer.client.secret", "sasl.password", "ssl.key.password", "ssl.key.pem"}
)

# Client credentials, exchanged for a token at an endpoint; the first four are needed.
OIDC: Final = (
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
)
OIDC_NEEDED: Final = OIDC[:4]

# What aiokafka is told in its own words.
TRANSLATED: Final = frozenset(
    {
        "client.id",
        "connections.max.idle.ms",
        *OIDC,
        "https.ca.location",
        "enable.ssl.certificate.verification",
        "metadata.max.age.ms",
        "ssl.ca.pem",
        "ssl.certificate.pem",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.key.pem",
    }
)

_PEM: Final = (
    "Faust's client reads PEM alone: convert it with `openssl pkcs12`, and set KAFKA_SSL_CERTIFICATE_LOCATION and "
    "KAFKA_SSL_KEY_LOCATION"
)
_NO_TWIN: Final = "Faust's client has nothing like it"
_DECIDED: Final = "Audience Sync decides it itself, as its guarantees rest on it"
# By the beginning of the name.
_REFUSED: Final = {
    "sasl.kerberos.": "GSSAPI is not supported: choose PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
    "sasl.oauthbearer.": "tokens come from an endpoint for client credentials alone",
    "enable.sasl.oauthbearer.": "tokens come from an endpoint for client credentials alone",
    "https.": _NO_TWIN,
    "sasl.": _NO_TWIN,
    "ssl.keystore.": _PEM,
    "ssl_": _NO_TWIN,
    "ssl.": _NO_TWIN,
    "plugin.": "no code is loaded by a setting",
    "acks": _DECIDED,
    "auto.": _DECIDED,
    "batch.": _DECIDED,
    "check.crcs": _DECIDED,
    "debug": "what it would write may hold what an event held",
    "delivery.": _DECIDED,
    "enable.auto.": _DECIDED,
    "enable.gapless.": _DECIDED,
    "enable.idempotence": _DECIDED,
    "enable.partition.eof": _DECIDED,
    "fetch.": _DECIDED,
    "group.": _DECIDED,
    "heartbeat.": _DECIDED,
    "isolation.": _DECIDED,
    "linger.": _DECIDED,
    "max.": _DECIDED,
    "message.": _DECIDED,
    "partition": _DECIDED,
    "queue": _DECIDED,
    "receive.message.": _DECIDED,
    "request.": _DECIDED,
    "retries": _DECIDED,
    "session.": _DECIDED,
    "transaction": _DECIDED,
}

# A variable is taken for librdkafka's when it begins so; others, such as those that Kubernetes sets for a service
# called kafka, are somebody else's.
OPTION_VARIABLES: Final = (
    "KAFKA_SASL_",
    "KAFKA_SSL_",
    "KAFKA_HTTPS_",
    "KAFKA_ENABLE_SSL_",
    "KAFKA_SOCKET_",
    "KAFKA_BROKER_ADDRESS_",
    "KAFKA_RECONNECT_BACKOFF_",
    "KAFKA_RETRY_BACKOFF_",
    "KAFKA_METADATA_MAX_",
    "KAFKA_CONNECTIONS_MAX_",
    "KAFKA_CLIENT_ID",
    "KAFKA_CLIENT_RACK",
)


def option_of_variable(variable: str) -> str | None:
    """The option that an environment variable stands for; None when it is none, or a setting of its own."""
    if variable in OWN_SETTINGS.values() or not variable.startswith(OPTION_VARIABLES):
        return None
    return variable.removeprefix("KAFKA_").lower().replace("_", ".")


def checked_options(given: Mapping[str, Any]) -> dict[str, str]:
    """The options by librdkafka's names, as text; tables within tables, as TOML makes them of dots, are flattened.

    Raises InvalidInputError for one that is a setting of its own, or that cannot hold for both clients. Whether
    librdkafka knows the others, it says itself.
    """
    found: dict[str, str] = {}
    for name, value in _flat(given, ""):
        known = _OTHER_NAMES.get(name, name)
        if known in OWN_SETTINGS:
            raise InvalidInputError(f"{name}: set {OWN_SETTINGS[known]} instead")
        if name not in TRANSLATED:
            why = next((why for start, why in _REFUSED.items() if name.startswith(start)), None)
            if why is not None:
                raise InvalidInputError(f"{name}: cannot be set: {why}")
        if not isinstance(value, str | int | float):
            raise InvalidInputError(f"{name}: expected a text, a number or true or false")
        found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _flat(table: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{name}.")
        else:
            found.append((f"{above}{name}", value))
    return found
