"""How this installation reaches its Kafka: one value that every client is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import Settings


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Bootstrap servers, and librdkafka's options for security and network by their own names.

    As text it is the bootstrap servers alone: the options hold secrets.
    """

    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.bootstrap_servers


Brokers = KafkaConnection | str
"""Bare bootstrap servers: plain text, no password."""


def as_connection(brokers: Brokers) -> KafkaConnection:
    return brokers if isinstance(brokers, KafkaConnection) else KafkaConnection(brokers)


def kafka_connection(settings: Settings) -> KafkaConnection:
    """The connection that the settings describe; they have been checked for contradictions."""
    named = {
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "ssl.certificate.location": settings.kafka_ssl_certificate_location,
        "ssl.key.location": settings.kafka_ssl_key_location,
        "ssl.key.password": settings.kafka_ssl_key_password,
        "ssl.endpoint.identification.algorithm": settings.kafka_ssl_endpoint_identification_algorithm,
    }
    options = {name: secret.get_secret_value() for name, secret in settings.kafka_options.items()}
    for name, value in named.items():
        if value is not None:
            options[name] = str(value) if not hasattr(value, "get_secret_value") else value.get_secret_value()
    return KafkaConnection(settings.kafka_bootstrap_servers, options)
