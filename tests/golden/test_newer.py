"""What a newer release has written is refused by name, and never misread, buried or passed over."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from app.adapters.kafka_delivery import KafkaMembershipLog
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.domain.forgetting import forgotten_key
from app.domain.formats import nothing_set_aside
from app.domain.published import read_published
from app.domain.state import AUDIENCES_KEY, CLOCK_KEY
from app.ending import fail
from app.errors import NewerFormatError, UnreadableRecordError
from app.pipeline.topology import Pipeline
from schemas.profile import MERGE
from tests.golden.files import HERE, record_files, this_release
from tests.unit.pipeline.test_evaluate import Arrived, Bench

FILES = [path for path in record_files(HERE / this_release()) if not path.name.startswith("EngageCall")]
STATE_KEYS = {
    "PartitionRecord": CLOCK_KEY,
    "AudiencesRecord": AUDIENCES_KEY,
    "ForgottenRecord": forgotten_key("user_1"),
}


def newer(path: Path, *, changed: bool) -> bytes:
    """The record as a later format; `changed`: it has become something that today's code cannot read either."""
    if path.suffix == ".json":
        fields = {**json.loads(path.read_bytes()), "version": 2}
        return json.dumps({"version": 2, "all": "new"} if changed else fields).encode()
    parts = msgspec.msgpack.decode(path.read_bytes())
    return msgspec.msgpack.encode([2, "new", *parts[2:]] if changed else [2, *parts[1:], *range(20)])


class Log:
    """One record of a topic, as librdkafka would hand it over."""

    def __init__(self, key: bytes, value: bytes) -> None:
        self._key, self._value = key, value

    def settled_ends(self, topic: str, partitions: Any) -> dict[int, int]:
        return {0: 1}

    def latest_values(self, topic: str, partitions: int) -> dict[bytes, bytes]:
        return {self._key: self._value}

    def batches(self, topic: str, ranges: Any) -> Any:
        message = SimpleNamespace(key=lambda: self._key, value=lambda: self._value, offset=lambda: 0)
        return iter([[message]])

    def read(self, topic: str, ranges: Any, on_batch: Any) -> None:
        on_batch(next(self.batches(topic, ranges)))


def bare_pipeline() -> Pipeline:
    """Without anything that it would write a letter with."""
    pipeline = Pipeline.__new__(Pipeline)
    pipeline.catalog, pipeline.is_set_aside = cast("Any", CATALOG), nothing_set_aside
    return pipeline


async def met(name: str, value: bytes) -> None:
    """By whatever reads such records."""
    bench = Bench()
    if name == "ProfileEvent":
        await bench.stage.process(0, [Arrived(0, value, b"user_1")], lambda: None)
    elif name == "MembershipDelta":
        pipeline = bare_pipeline()
        await pipeline.on_memberships(0, [Arrived(0, value)], lambda: None)
    elif name == "SyncState":
        pipeline = Pipeline.__new__(Pipeline)

        async def at_once(function: Any, *arguments: Any) -> Any:
            return function(*arguments)

        pipeline.in_thread, pipeline.partitions = at_once, 1
        pipeline.log, pipeline.catalog = cast("Any", Log(b"vips", value)), cast("Any", CATALOG)
        await pipeline._sync_states()
    elif name == "LetterCounts":
        bench.stage.resume(0, value.decode())
    elif name == "DeadLetter":
        newest_letters(cast("LogReader", Log(b"id", value)), "dead.letters", 1, bool)
    elif name in KINDS:
        read_published({f"{KINDS[name]}|1".encode(): value})
    else:
        bench.partition.load(STATE_KEYS.get(name, b"user_1"), value)


CATALOG = SimpleNamespace(
    syncs=SimpleNamespace(name="audience.syncs"), memberships=SimpleNamespace(name="audience.memberships")
)
KINDS = {
    "DefinitionsRecord": "definitions",
    "WantedRecord": "wanted",
    "PlacedRecord": "placed",
    "RunningRecord": "running",
    "DesiredRecord": "desired",
    "RepartitionRecord": "repartition",
    "SetAsideRecord": "set_aside",
}


@pytest.mark.parametrize("changed", [False, True], ids=["more", "changed"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
async def test_a_newer_record_is_refused(path: Path, changed: bool) -> None:
    with pytest.raises(NewerFormatError, match=r"of format 2, and this release knows 1 at most"):
        await met(path.name.partition(".")[0], newer(path, changed=changed))


@pytest.mark.parametrize("changed", [False, True], ids=["more", "changed"])
async def test_a_newer_delta_is_refused_where_a_destination_catches_up(changed: bool) -> None:
    path = HERE / this_release() / "MembershipDelta.entered.json"

    async def bury(partition: int, offset: int, value: bytes) -> None:
        await bare_pipeline().bury_delta(partition, offset, value)

    log = cast("LogReader", Log(b"vips|user_1", newer(path, changed=changed)))
    deltas: AsyncIterator[Any] = KafkaMembershipLog(log, "audience.memberships", bury).read(0, 0, 1, "vips")
    with pytest.raises(NewerFormatError):
        async for _ in deltas:
            pass


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (
            "ProfileEvent.CALL.msgpack",
            "profile.events, partition 0, offset 0. If no release .* makes it a dead",
        ),
        (
            "MembershipDelta.entered.json",
            "memberships, partition 0, offset 0. If no release .* makes it a dead",
        ),
        ("SyncState.full.json", "audience.syncs under the key vips$"),
    ],
)
async def test_it_says_where_the_record_stands(name: str, place: str) -> None:
    with pytest.raises(NewerFormatError, match=f"It stands in .*{place}"):
        await met(name.partition(".")[0], newer(HERE / this_release() / name, changed=False))


@pytest.mark.parametrize(
    "value",
    [b"\x93\x63 garbage", b"\x93\x63" + b"\x91" * 100_000, b"\x93\x63\x01\xa1\xff"],
    ids=["cut", "nested without end", "no UTF-8"],
)
async def test_bytes_that_only_begin_like_a_newer_record_end_nobody(value: bytes) -> None:
    bench = Bench()
    await bench.stage.process(0, [Arrived(0, value, b"user_1")], lambda: None)
    assert bench.counters.dead_letters["invalid_field"] == 1


async def test_a_newer_state_is_refused_in_what_another_profile_says() -> None:
    state = newer(HERE / this_release() / "ProfileState.full.msgpack", changed=False)
    parts = msgspec.msgpack.decode((HERE / this_release() / "ProfileEvent.MERGE.msgpack").read_bytes())
    assert parts[1] == MERGE
    links, asker, aliases, _ = parts[13]
    parts[13] = [links, asker, aliases, state]
    with pytest.raises(NewerFormatError, match="record of a profile of format 2"):
        await met("ProfileEvent", msgspec.msgpack.encode(parts))


async def test_an_unknown_kind_of_a_known_format_becomes_a_dead_letter() -> None:
    parts = msgspec.msgpack.decode((HERE / this_release() / "ProfileEvent.CALL.msgpack").read_bytes())
    bench = Bench()
    record = Arrived(0, msgspec.msgpack.encode([parts[0], 99, *parts[2:]]), b"user_1")
    await bench.stage.process(0, [record], lambda: None)
    assert bench.counters.dead_letters["invalid_field"] == 1


def test_a_worker_that_meets_one_ends_with_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("app.ending.os._exit", statuses.append)
    fail(NewerFormatError("there is a SyncState of format 2"))
    fail(UnreadableRecordError("a record of the changelog is no state of a profile"))
    fail(RuntimeError("anything else"))
    assert statuses == [2, 2, 1]
