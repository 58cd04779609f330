"""What somebody else has written to our topics goes along when they get another number of partitions, and ends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.adapters import kafka_moving
from app.adapters.kafka_moving import Moving
from app.errors import NewerFormatError
from topics.catalog import Catalog
from topics.spec import staging

CATALOG = Catalog()
TOPICS = (CATALOG.profiles_changelog, CATALOG.profile_events, CATALOG.memberships, CATALOG.syncs, CATALOG.dead_letters, CATALOG.engage_calls)  # fmt: skip
ANYTHING = {
    "no JSON": b"anything",
    "bad UTF-8": b'{"id": "\xff"}',
    "nested without end": b'{"id": ' + b"[" * 100_000,
    "packed without end": b"\x93\x63" + b"\x91" * 100_000,
    "packed with bad UTF-8": b"\x93\x63\x01\xa1\xff",
    "an event with bad UTF-8": b"\x97\x01\x00\xa1\xff\x00\x00\x00\x00",
}


class Reader:
    """One record, in partition 0 of one topic."""

    def __init__(self, topic: str, value: bytes) -> None:
        self._topic = topic
        self._message = SimpleNamespace(
            key=lambda: b"key",
            value=lambda: value,
            partition=lambda: 0,
            offset=lambda: 0,
            timestamp=lambda: (1, 1_767_225_600_000),
        )

    def batches(self, topic: str, ranges: dict[int, Any]) -> Iterator[list[Any]]:
        return iter([[self._message]] if topic == self._topic and 0 in ranges else [])

    def read(self, topic: str, ranges: dict[int, Any], on_batch: Any) -> None:
        for batch in self.batches(topic, ranges):
            on_batch(batch)

    def latest_values(self, topic: str, partitions: int) -> dict[bytes, bytes]:
        return {}


def moved(monkeypatch: pytest.MonkeyPatch, topic: str, value: bytes) -> list[tuple[str, bytes | None]]:
    """Topic and value of all that is written."""
    written: list[tuple[str, bytes | None]] = []
    producer = SimpleNamespace(
        produce=lambda topic, value, *_: written.append((topic, value)), flush=lambda: None
    )
    monkeypatch.setattr(kafka_moving, "DurableProducer", lambda _: producer)
    reader: Any = Reader(topic, value)
    ends = {spec.name: {0: 1, 1: 0} for spec in TOPICS}
    Moving(reader, "unused", CATALOG, 2, 3, ends, {}, {}).run()
    return written


@pytest.mark.parametrize("value", ANYTHING.values(), ids=ANYTHING)
@pytest.mark.parametrize(
    "spec", [CATALOG.profile_events, CATALOG.memberships, CATALOG.dead_letters], ids=lambda spec: spec.name
)
def test_what_is_no_record_goes_along(monkeypatch: pytest.MonkeyPatch, spec: Any, value: bytes) -> None:
    assert moved(monkeypatch, spec.name, value) == [(staging(spec).name, value)]


def test_a_newer_record_that_waits_is_named_with_its_place_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NewerFormatError, match=r"set-aside profile.events 0 0.*: start the workers for that"):
        moved(monkeypatch, CATALOG.profile_events.name, b"\x93\x63\x01\x02")
