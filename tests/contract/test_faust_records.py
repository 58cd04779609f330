"""What a fetch of a compacted topic may hold, as aiokafka's parser hands it over: batches built as Kafka writes them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from app.adapters.faust_transport import _RawRecords

TOPIC = TopicPartition("memberships", 0)
PRODUCER = 7
_TRANSACTIONAL, _CONTROL = 0x10, 0x20
# Of the header of a batch (Kafka's message format 2): where what is changed here begins.
_CRC_AT, _ATTRIBUTES_AT = 17, 21
ABORT, COMMIT = struct.pack(">hh", 0, 0), struct.pack(">hh", 0, 1)


def batch(offset: int, records: list[tuple[bytes, bytes]], *, control: bool = False, spans: int = 1) -> bytes:
    """A batch of a transaction; without records it spans as many offsets as the deleted ones had."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=1,
        producer_id=PRODUCER,
        producer_epoch=0,
        base_sequence=-1 if control else 0,
        batch_size=65_536,
    )
    for number, (key, value) in enumerate(records or [(b"", b"")]):
        assert builder.append(number, timestamp=1_000, key=key, value=value, headers=[]) is not None
    made = bytearray(builder.build())
    if not records:
        del made[61:]
        struct.pack_into(">i", made, 8, len(made) - 12)
        struct.pack_into(">i", made, 23, spans - 1)
        struct.pack_into(">i", made, 57, 0)
    struct.pack_into(">q", made, 0, offset)
    struct.pack_into(">h", made, _ATTRIBUTES_AT, _TRANSACTIONAL | (_CONTROL if control else 0))
    struct.pack_into(">I", made, _CRC_AT, calc_crc32c(bytes(made[_ATTRIBUTES_AT:])))
    return bytes(made)


def read(kind: Any, *batches: bytes, aborted: list[tuple[int, int]] | None = None) -> tuple[list[bytes], int]:
    """The values that are handed out, and the offset of the next fetch."""
    records = kind(TOPIC, MemoryRecords(b"".join(batches)), aborted, 0, None, None, True, READ_COMMITTED)
    return [record.value for record in records], records.next_fetch_offset


def raw(*arguments: Any) -> PartitionRecords:
    return _RawRecords({TOPIC.topic}, *arguments)


EMPTIED = batch(1, [], control=True)


def test_a_control_batch_that_the_cleaner_has_emptied_is_passed() -> None:
    found = read(
        raw,
        batch(0, [(b"k", b"a")]),
        EMPTIED,
        batch(2, [(b"k", b"b")]),
        batch(3, [(COMMIT, b"")], control=True),
    )
    assert found == ([b"a", b"b"], 4)


def test_aiokafka_ends_at_it() -> None:
    """Otherwise what is done about it can go."""
    with pytest.raises(KafkaError, match="did not contain any records"):
        read(PartitionRecords, batch(0, [(b"k", b"a")]), EMPTIED)


def test_an_emptied_batch_of_data_is_passed() -> None:
    assert read(raw, batch(0, [], spans=5), batch(5, [(b"k", b"b")])) == ([b"b"], 6)


@pytest.mark.parametrize("kind", [PartitionRecords, raw], ids=["aiokafka", "ours"])
def test_a_marker_ends_an_aborted_transaction_and_no_more(kind: Any) -> None:
    lost, end = batch(0, [(b"k", b"lost")]), batch(1, [(ABORT, b"")], control=True)
    kept, committed = batch(2, [(b"k", b"kept")]), batch(3, [(COMMIT, b"")], control=True)
    assert read(kind, lost, end, kept, committed, aborted=[(PRODUCER, 0)]) == ([b"kept"], 4)


def test_a_commit_marker_ends_no_aborted_transaction() -> None:
    lost, commit = batch(0, [(b"k", b"lost")]), batch(1, [(COMMIT, b"")], control=True)
    assert read(raw, lost, commit, batch(2, [(b"k", b"lost")]), aborted=[(PRODUCER, 0)]) == ([], 3)
