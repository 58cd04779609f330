"""What aiokafka's parser is made to do."""

from __future__ import annotations

from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from app.adapters.faust_transport import _RawRecords

PRODUCER = 7
# Where a batch has its attributes, which they are for a marker, and a marker that aborts.
ATTRIBUTES, CONTROL, ABORT = 22, 0x20, b"\x00\x00\x00\x00"


def batch(offset: int, *records: tuple[bytes | None, bytes], control: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 1, PRODUCER, 0, 0, 16_384)
    for number, (key, value) in enumerate(records):
        builder.append(number, 0, key, value, [])
    made = bytearray(builder.build())
    made[0:8] = offset.to_bytes(8, "big")
    if control:
        made[ATTRIBUTES] |= CONTROL
    return bytes(made)


def read(*batches: bytes, aborted: list[tuple[int, int]]) -> list[Any]:
    topic = "made"
    records = MemoryRecords(b"".join(batches))
    parsed = _RawRecords({topic}, TP(topic, 0), records, aborted, 0, None, None, False, 1)
    return [record.value for record in parsed]


def test_an_aborted_transaction_is_left_out_up_to_its_marker() -> None:
    batches = (
        batch(0, (b"k", b"aborted")),
        batch(1, (ABORT, b"\0" * 6), control=True),
        batch(2, (b"k", b"kept")),
    )
    assert read(*batches, aborted=[(PRODUCER, 0)]) == [b"kept"]


def test_a_marker_that_the_cleaner_has_emptied_ends_nothing() -> None:
    batches = batch(0, control=True), batch(1, (b"k", b"aborted")), batch(2, (ABORT, b"\0" * 6), control=True)
    kept = batch(3, (b"k", b"kept"))
    assert read(*batches, kept, aborted=[(PRODUCER, 1)]) == [b"kept"]
    assert read(batch(0, control=True), kept, aborted=[]) == [b"kept"]
