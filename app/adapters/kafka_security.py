"""librdkafka's security options in the words of Faust and aiokafka, so that both clients trust and are trusted alike.

Both verify a broker's certificate and its name unless told otherwise, as librdkafka does by default.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any

from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

from app.adapters.kafka_connection import KafkaConnection
from app.adapters.kafka_oauth import OidcTokens
from app.errors import InvalidInputError

_TRUE = frozenset({"true", "t", "1", "yes"})
# Of Faust's settings, by the option that says the same.
_FAUST_SETTINGS = {"client.id": "broker_client_id"}
_AIOKAFKA_NUMBERS = {
    "metadata.max.age.ms": "metadata_max_age_ms",
    "connections.max.idle.ms": "connections_max_idle_ms",
}


def faust_settings(connection: KafkaConnection) -> dict[str, Any]:
    """Settings of a Faust application: credentials for its consumer and its producer, and the client's name.

    Raises InvalidInputError for certificates and keys that cannot be used.
    """
    options = connection.options
    settings = {ours: options[name] for name, ours in _FAUST_SETTINGS.items() if name in options}
    return {**settings, "broker_credentials": _credentials(options)}


def aiokafka_settings(connection: KafkaConnection) -> dict[str, int]:
    """What aiokafka's consumer is told beyond what Faust can pass on."""
    options = connection.options
    return {ours: int(options[name]) for name, ours in _AIOKAFKA_NUMBERS.items() if name in options}


def _credentials(options: Mapping[str, str]) -> SASLCredentials | OAuthCredentials | SSLCredentials | None:
    protocol = options.get("security.protocol", "plaintext")
    context = tls_context(options) if protocol in ("ssl", "sasl_ssl") else None
    if protocol in ("sasl_plaintext", "sasl_ssl"):
        if options["sasl.mechanism"] == "OAUTHBEARER":
            return OAuthCredentials(oauth_cb=OidcTokens(options), ssl_context=context)
        return SASLCredentials(
            username=options["sasl.username"],
            password=options["sasl.password"],
            mechanism=options["sasl.mechanism"],
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """Python's TLS context for librdkafka's `ssl.` options."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, options)
    _own_certificate(context, options)
    ciphers = options.get("ssl.cipher.suites")
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as exc:
            raise InvalidInputError(f"ssl.cipher.suites: none of them can be used ({_why(exc)})") from None
    verified = options.get("enable.ssl.certificate.verification", "true").lower() in _TRUE
    named = options.get("ssl.endpoint.identification.algorithm", "https") == "https"
    context.check_hostname = verified and named
    if not verified:
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust(context: ssl.SSLContext, options: Mapping[str, str]) -> None:
    location, text = options.get("ssl.ca.location"), options.get("ssl.ca.pem")
    revoked = options.get("ssl.crl.location")
    try:
        if text is not None:
            context.load_verify_locations(cadata=text)
        elif location in (None, "probe"):
            context.load_default_certs()
        elif os.path.isdir(location or ""):  # noqa: PTH112 - a text as librdkafka takes it
            context.load_verify_locations(capath=location)
        else:
            context.load_verify_locations(cafile=location)
        if revoked is not None:
            context.load_verify_locations(cafile=revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as exc:
        raise InvalidInputError(
            f"KAFKA_SSL_CA_LOCATION (ssl.ca.pem, ssl.crl.location): no certificates can be read ({_why(exc)})"
        ) from None


def _own_certificate(context: ssl.SSLContext, options: Mapping[str, str]) -> None:
    certificate, key = (
        options.get(f"ssl.{part}.location") or _as_file(options.get(f"ssl.{part}.pem"))
        for part in ("certificate", "key")
    )
    if certificate is None:
        return
    password = options.get("ssl.key.password", "")
    try:
        # Always a password: for a locked key without one OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, key, lambda: password)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(
            "KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION, KAFKA_SSL_KEY_PASSWORD: they do not open, or do "
            f"not belong together ({_why(exc)})"
        ) from None
    finally:
        for part, path in (("certificate", certificate), ("key", key)):
            if path is not None and path != options.get(f"ssl.{part}.location"):
                os.unlink(path)  # noqa: PTH108 - what `_as_file` made


def _as_file(text: str | None) -> str | None:
    """Python reads certificates and keys from files alone; readable by this user only, and gone at once."""
    if text is None:
        return None
    handle, path = tempfile.mkstemp(prefix="audience-sync-", suffix=".pem")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _why(error: Exception) -> str:
    """Neither OpenSSL's place in its source nor anything of the key."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
