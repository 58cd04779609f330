"""Settings of Kafka that belong together: which of them must be there with which, and which would be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.adapters.kafka_options import OIDC_NEEDED

SECURITY_PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


def refuse_disagreement(
    protocol: str, sasl: Mapping[str, object], tls: Mapping[str, object], options: Mapping[str, str]
) -> None:
    """`sasl` and `tls` are the settings of their own by their variables, None where not given; `options` are
    librdkafka's by its names.

    Raises ValueError naming the variable.
    """
    mechanism = sasl["KAFKA_SASL_MECHANISM"]
    of_tls = {**tls, **{name: True for name in options if name.startswith(("ssl.", "enable.ssl."))}}
    tokens = [name for name in options if name.startswith("sasl.oauthbearer.")]
    if mechanism == "OAUTHBEARER" and protocol.startswith("sasl_"):
        _require_oidc(options)
        others = {name: value for name, value in sasl.items() if name != "KAFKA_SASL_MECHANISM"}
        _refuse_unused(others, f"{protocol} with OAUTHBEARER", "PLAIN or SCRAM")
        tokens = []
    elif protocol.startswith("sasl_"):
        for name, value in sasl.items():
            if value is None:
                raise ValueError(f"KAFKA_SECURITY_PROTOCOL is {protocol}: set {name} too")
    else:
        _refuse_unused(sasl, protocol, "sasl_ssl or sasl_plaintext")
    _refuse_unused(dict.fromkeys(tokens, True), protocol, "sasl_ssl with OAUTHBEARER")
    if not protocol.endswith("ssl"):
        _refuse_unused(of_tls, protocol, "ssl or sasl_ssl")
    if tls["KAFKA_SSL_KEY_LOCATION"] and not tls["KAFKA_SSL_CERTIFICATE_LOCATION"]:
        raise ValueError("KAFKA_SSL_KEY_LOCATION is set: set KAFKA_SSL_CERTIFICATE_LOCATION too")


def _require_oidc(options: Mapping[str, str]) -> None:
    for name in OIDC_NEEDED:
        if name not in options:
            raise ValueError(f"OAUTHBEARER needs {name}: set KAFKA_{name.replace('.', '_').upper()}")
    if options["sasl.oauthbearer.method"] != "oidc":
        raise ValueError(
            "sasl.oauthbearer.method: expected oidc, client credentials for tokens of an endpoint"
        )


def _refuse_unused(values: Mapping[str, object], protocol: str, wanted: str) -> None:
    """What is meant to protect must never be ignored in silence."""
    unused = [name for name, value in values.items() if value is not None]
    if unused:
        raise ValueError(
            f"{unused[0]} is set, and KAFKA_SECURITY_PROTOCOL is {protocol}, which makes no use of it: "
            f"expected {wanted}"
        )
