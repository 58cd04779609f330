"""Transactions that fail, with a producer that fails on demand; what a real Kafka does is in the contract tests."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from app.adapters.kafka_transactions import TransactionalWriter
from app.errors import FatalError
from app.ports import GroupOffset


def failure(code: int, **kind: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "on purpose", **kind))


class FailingProducer:
    """Refuses to commit, and then to abort."""

    def __init__(self, commit: KafkaException, abort: KafkaException) -> None:
        self._commit, self._abort = commit, abort

    def begin_transaction(self) -> None: ...

    def produce(self, *arguments: Any) -> None: ...

    def flush(self, seconds: float) -> int:
        del seconds
        return 0

    def send_offsets_to_transaction(self, *arguments: Any) -> None: ...

    def commit_transaction(self, seconds: float) -> None:
        del seconds
        raise self._commit

    def abort_transaction(self, seconds: float) -> None:
        del seconds
        raise self._abort


@pytest.mark.parametrize(
    ("abort", "reason"),
    [
        (failure(KafkaError._FENCED, fatal=True), "another worker has taken over"),
        (failure(KafkaError._STATE), "a transaction failed"),
    ],
)
def test_one_that_cannot_even_be_aborted_is_given_up_with_a_reason(
    abort: KafkaException, reason: str
) -> None:
    writer = TransactionalWriter("127.0.0.1:1", "id")
    producer = FailingProducer(failure(KafkaError._TIMED_OUT, txn_requires_abort=True), abort)
    writer._producer = cast("Any", producer)
    with pytest.raises(FatalError, match=f"{reason} .*nothing of it was written"):
        writer.commit([], [GroupOffset("topic", 0, 1)], b"")
