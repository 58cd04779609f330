"""What every librdkafka client of this system shares, and the translation of its errors."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from app.adapters.kafka_connection import Brokers, as_connection
from app.adapters.kafka_options import SECRET_OPTIONS
from app.adapters.kafka_security import faust_settings
from app.errors import FatalError, InvalidInputError, UnreachableError
from topics.spec import MAX_RECORD_BYTES

_T = TypeVar("_T")

FLUSH_SECONDS = 30.0
# Three times the transaction timeout.
COMMIT_SECONDS = 30.0

# librdkafka reports what it could not reach through a logger; its own retries are its own business.
_quiet = logging.getLogger("librdkafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def _ignore_error(error: object) -> None:
    del error


def client_config(bootstrap_servers: Brokers, **options: Any) -> dict[str, Any]:
    """Configuration of a librdkafka client; `options` use librdkafka's names with `_` for `.`."""
    connection = as_connection(bootstrap_servers)
    return {
        **connection.options,
        "bootstrap.servers": connection.bootstrap_servers,
        "logger": _quiet,
        # Without a callback of its own, librdkafka's Python client breaks off whatever call is under way with a
        # SystemError. What cannot be retried is said by the call that needs it.
        "error_cb": _ignore_error,
        **{name.replace("_", "."): value for name, value in options.items()},
    }


def producer_config(bootstrap_servers: Brokers, **options: Any) -> dict[str, Any]:
    """An idempotent producer that keeps order; keys are partitioned as everywhere, by murmur2."""
    return client_config(
        bootstrap_servers,
        **{
            "enable_idempotence": True,
            "partitioner": "murmur2_random",
            "compression_type": "lz4",
            "linger_ms": 5,
            "queue_buffering_max_messages": 2_000_000,
            "retry_backoff_ms": 5,
            # Callbacks only ask for failures; one call into Python for every record would cost as much as queueing it.
            "delivery_report_only_error": True,
            "message_max_bytes": MAX_RECORD_BYTES,
            **options,
        },
    )


def kafka_reason(error: KafkaException) -> str:
    """Librdkafka's words for an error, without its Python wrapping."""
    kafka_error = error.args[0]
    return f"{kafka_error.name()}: {kafka_error.str()}"


# What librdkafka goes on trying by itself, and what waiting alone does not mend.
_NOT_LET_IN = {
    KafkaError._AUTHENTICATION: "does not accept the user: are KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (with OAUTHBEARER: KAFKA_SASL_OAUTHBEARER_...) and "  # noqa: SLF001 - librdkafka's name
    "KAFKA_SASL_MECHANISM right?",
    KafkaError._SSL: "cannot be spoken to over TLS: are KAFKA_SECURITY_PROTOCOL and the KAFKA_SSL_ settings right?",  # noqa: SLF001 - as above
}
# Until librdkafka has said why it is not let in.
_TRY_SECONDS = 1.0


def reachable(bootstrap_servers: Brokers, timeout_seconds: float) -> None:
    """Return once a broker has answered; raise UnreachableError after `timeout_seconds`, or as soon as brokers
    refuse the user or TLS fails, which commands need not wait for.

    Raises InvalidInputError for options that librdkafka does not know, and for certificates it cannot read.
    """
    refusals: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        if error.code() in _NOT_LET_IN:
            refusals.append(error)

    admin = _admin(bootstrap_servers, error_cb=note)
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = deadline - time.monotonic()
        try:
            admin.list_topics(timeout=max(0.1, min(left, _TRY_SECONDS)))
        except KafkaException as exc:
            # Errors are reported while it polls.
            admin.poll(0)
            if refusals:
                raise UnreachableError(_not_let_in(bootstrap_servers, refusals[-1])) from None
            if left > _TRY_SECONDS:
                continue
            raise UnreachableError(
                f"Kafka does not answer at {bootstrap_servers} ({kafka_reason(exc)}): "
                "is it running, and is KAFKA_BOOTSTRAP_SERVERS right?"
            ) from exc
        else:
            return


def require_usable(bootstrap_servers: Brokers) -> None:
    """Raises InvalidInputError for options that librdkafka does not know, and for certificates that either client
    cannot read.
    """
    # First, as it names the setting.
    faust_settings(as_connection(bootstrap_servers))
    _admin(bootstrap_servers, error_cb=_ignore_error)


def _admin(brokers: Brokers, error_cb: Callable[[KafkaError], None]) -> AdminClient:
    try:
        return AdminClient(client_config(brokers) | {"error_cb": error_cb})
    except KafkaException as exc:
        raise InvalidInputError(
            f"Kafka's settings cannot be used: {_without_secrets(exc, brokers)}"
        ) from None


def _not_let_in(bootstrap_servers: Brokers, error: KafkaError) -> str:
    # Of librdkafka's words only the kind: those of TLS name places in its source, those of SASL what brokers write.
    return f"Kafka at {bootstrap_servers} {_NOT_LET_IN[error.code()]} ({error.name()})"


def _without_secrets(exc: KafkaException, brokers: Brokers) -> str:
    text = kafka_reason(exc)
    for name, value in as_connection(brokers).options.items():
        if name in SECRET_OPTIONS and value:
            text = text.replace(value, "***")
    return text


class DurableProducer:
    """A non-transactional idempotent producer whose `flush` means durable.

    Calls are made from the event loop's thread; only `flush` waits, in a thread.
    """

    def __init__(self, bootstrap_servers: Brokers, **options: Any) -> None:
        self._producer = Producer(producer_config(bootstrap_servers, **options))
        self._failed: str | None = None

    def topic_exists(self, topic: str) -> bool:
        """Ask the broker; librdkafka would otherwise hold records for a topic that never comes."""
        metadata = self._producer.list_topics(topic, timeout=FLUSH_SECONDS)
        return metadata.topics[topic].error is None

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, at: int = 0
    ) -> None:
        """Queue one record; it is on its way when this returns, durable after the next `flush`.

        `at` is the record's time in epoch milliseconds; 0: now.
        """
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._delivered, timestamp=max(at, 0)
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed = f"{message.topic()}[{message.partition()}]: {error.name()}: {error.str()}"

    def flush(self) -> None:
        """Block until every queued record is durable; FatalError when one was refused for good."""
        while self._producer.flush(FLUSH_SECONDS) and self._failed is None:
            pass
        if self._failed is not None:
            raise FatalError(f"Kafka refused a record for {self._failed}")


async def in_thread(executor: Executor | None, call: Callable[..., _T], *args: Any) -> _T:
    """Await a blocking call of a client in `executor` (None: the loop's own)."""
    return await asyncio.get_running_loop().run_in_executor(executor, functools.partial(call, *args))


async def bounded_commit(executor: Executor, call: Callable[..., None], *args: Any) -> None:
    """Await a transaction's commit in `executor`; FatalError when it does not end.

    By then the broker has long ended the transaction by itself. librdkafka can wait for ever when the broker goes
    away between two steps; only a new process gets over that.
    """
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await in_thread(executor, call, *args)
    except TimeoutError:
        raise FatalError(f"Kafka did not finish a transaction within {COMMIT_SECONDS:.0f} s") from None
