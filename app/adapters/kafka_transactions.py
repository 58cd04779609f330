"""Group commits: records and consumer offsets in one Kafka transaction, fenced by the group's generation.

The order of steps is what makes a frozen worker harmless. All records are acknowledged before the offsets are
sent; the broker takes the offsets only from a member of the current generation. So once a newer generation
exists, a transaction of the older one either has all its records in the logs, where the new owner's recovery
waits for its end, or can no longer commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from app.adapters.kafka_client import kafka_reason, producer_config
from app.adapters.kafka_connection import Brokers
from app.errors import FatalError
from app.ports import GroupOffset, Record

TRANSACTION_TIMEOUT_MS = 10_000
_STEP_SECONDS = 30.0
_RETRY_SECONDS = 0.2

# Another member owns the partitions by now: what this one computed must not become visible.
_FENCED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError._FENCED,  # noqa: SLF001 - librdkafka's client-side codes have underscored names
    }
)


Step = Callable[[str], None]


def no_step(name: str) -> None:
    del name


class TransactionalWriter:
    """One librdkafka transactional producer. Blocking; use from one thread at a time.

    `after_step` is called with the name of each step of a commit that has just been done (begin, produce, flush,
    offsets, commit); crash tests end the process there.
    """

    def __init__(self, bootstrap_servers: Brokers, transactional_id: str, after_step: Step = no_step) -> None:
        self._transactional_id = transactional_id
        self._after_step = after_step
        self._producer = Producer(
            producer_config(
                bootstrap_servers,
                transactional_id=transactional_id,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            )
        )
        self._refused: str | None = None

    def start(self) -> None:
        """End what an earlier holder of the id left open and fence it; waits for Kafka as long as it takes.

        Raises FatalError when Kafka refuses, for want of a right above all.
        """
        try:
            self._until_done(lambda: self._producer.init_transactions(_STEP_SECONDS))
        except KafkaException as exc:
            raise FatalError(
                f"Kafka lets {self._transactional_id} begin no transactions ({kafka_reason(exc)})"
            ) from exc

    def commit(
        self, records: Sequence[Record], offsets: Iterable[GroupOffset], group_metadata: bytes
    ) -> None:
        """Make all of it visible at once, or none of it.

        Raises FatalError when another worker has taken over or Kafka refuses a record for good. A transaction
        that an outage ended is started again with the same content.
        """
        while True:
            try:
                self._attempt(records, offsets, group_metadata)
            except KafkaException as exc:
                self._abort_or_give_up(exc)
            except SystemError as exc:
                # The client's own: a delivery was reported while the error of the whole producer was on its way.
                if not isinstance(exc.__cause__, KafkaException):
                    raise
                self._abort_or_give_up(exc.__cause__)
            else:
                return

    def _attempt(
        self, records: Sequence[Record], offsets: Iterable[GroupOffset], group_metadata: bytes
    ) -> None:
        producer = self._producer
        producer.begin_transaction()
        self._after_step("begin")
        self._produce(records)
        self._after_step("produce")
        while producer.flush(_STEP_SECONDS) and self._refused is None:
            pass
        if self._refused is not None:
            raise FatalError(f"Kafka refused a record for {self._refused}")
        self._after_step("flush")
        positions = [TopicPartition(o.topic, o.partition, o.next_offset, o.note) for o in offsets]
        if positions:
            self._until_done(
                lambda: producer.send_offsets_to_transaction(positions, group_metadata, _STEP_SECONDS)
            )
        self._after_step("offsets")
        self._until_done(lambda: producer.commit_transaction(_STEP_SECONDS))
        self._after_step("commit")

    def _produce(self, records: Sequence[Record]) -> None:
        produce, delivered = self._producer.produce, self._delivered
        for topic, partition, key, value in records:
            while True:
                try:
                    produce(topic, value, key, partition, delivered)
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        # A purge is the transaction's own abort, and a failed transaction says so itself at the next step.
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._refused = f"{message.topic()}: {error.str()}"  # type: ignore[attr-defined] # an untyped Message

    def _until_done(self, call: Callable[[], None]) -> None:
        while True:
            try:
                call()
            except KafkaException as exc:
                if not exc.args[0].retriable():
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _abort_or_give_up(self, exc: KafkaException) -> None:
        error = exc.args[0]
        if error.fatal() or not error.txn_requires_abort():
            raise self._given_up(exc) from exc
        # Also before giving up: the new owner's recovery waits for the end of this transaction.
        try:
            self._until_done(lambda: self._producer.abort_transaction(_STEP_SECONDS))
        except KafkaException as refusal:
            raise self._given_up(refusal) from exc
        if error.code() in _FENCED:
            raise self._given_up(exc) from exc

    def _given_up(self, exc: KafkaException) -> FatalError:
        reason = f"({self._transactional_id}: {kafka_reason(exc)}); nothing of it was written"
        if exc.args[0].code() in _FENCED:
            return FatalError(f"another worker has taken over {reason}")
        return FatalError(f"a transaction failed {reason}")
