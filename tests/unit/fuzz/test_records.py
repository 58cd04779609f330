"""Records of our own topics, as somebody else may have written them: read, buried as a dead letter, or refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import orjson
import pytest
from hypothesis import strategies as st

from app.adapters.kafka_delivery import KafkaMembershipLog
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.domain import profile_evaluation
from app.domain.batching import Batcher, BatchPolicy
from app.domain.counters import Counters
from app.domain.dead_letters import (
    LetterFilter,
    as_resolved,
    failed_again,
    in_order,
    is_record_of,
    raw_of,
    with_raw,
)
from app.domain.definitions import Document, parse_definitions
from app.domain.forgetting import forgotten_key
from app.domain.formats import nothing_set_aside, read_stored
from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.published import cleared_by, definitions_of, next_version, read_published
from app.domain.state import AUDIENCES_KEY, CLOCK_KEY, decode_state, encode_state
from app.domain.sync_states import read_sync_states
from app.domain.users_requests import build_requests
from app.errors import FatalError, NewerFormatError, UnreadableRecordError
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.topology import Pipeline
from schemas.dead_letter import DeadLetter, Reason
from schemas.membership import MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from schemas.sync import SyncState
from tests.golden.samples import FORMATS, samples
from tests.unit.domain.plans import START
from tests.unit.fuzz.inputs import CANARY, as_json, as_packed, fuzzed, mutated
from tests.unit.fuzz.test_calls import CALLS, PLAN, WALL, resolve
from tests.unit.fuzz.test_yaml import EXAMPLE
from tests.unit.pipeline.test_evaluate import Arrived, StillWall
from topics.catalog import Catalog

DAY = 86_400_000
CATALOG = Catalog(prefix="", source_topic="source")
REFUSED = (NewerFormatError, UnreadableRecordError)
_encode = msgspec.msgpack.Encoder().encode


def written(name: str) -> list[Any]:
    """The samples of a format, as plain values."""
    form = FORMATS[name]
    decode = msgspec.msgpack.decode if form.suffix == "msgpack" else json.loads
    return [decode(form.write(record)) for record in samples()[name].values()]


def check_text(error: Exception, key: str = "") -> None:
    """`key`: of the record, which has to be named where no release has written it."""
    assert isinstance(error, NewerFormatError) or key in str(error)
    assert CANARY not in str(error)
    assert len(str(error)) < 600


# --- profile.events ---

EVENTS = [
    msgspec.msgpack.decode(_encode(event))
    for call in CALLS
    for _, event in resolve(json.dumps(call).encode()).records
]
KEYS = st.sampled_from([b"user_1"] * 8 + [b"", b"\xff", b"anonymous_id:a1", b"group_id:g1", b"user_2"])
ARRIVALS = st.lists(
    st.tuples(KEYS, as_packed(mutated(EVENTS + written("ProfileEvent") + EVENTS))), min_size=1, max_size=4
)


def stage_of(commits: list[GroupCommit], counters: Counters) -> EvaluateStage:
    async def commit(content: GroupCommit) -> None:
        commits.append(content)

    stage = EvaluateStage(
        lambda number: AudiencePartition(PLAN, 0, Counters(), place=Place(number, lambda _: 0)),
        commit,
        StillWall(WALL),
        counters,
        CATALOG,
        1,
    )
    partition = stage.new_partition(0)
    stage.add(0, partition)
    partition.finish_recovery()
    partition.set_expected(["lane"])
    return stage


def marker(at: int) -> bytes:
    return _encode(ProfileEvent(VERSION, MARKER, "", 0, 0, at, at, progress={"lane": at}))


@fuzzed(ARRIVALS)
def test_profile_events(arrivals: list[tuple[bytes, bytes]]) -> str:
    commits: list[GroupCommit] = []
    counters = Counters()
    stage = stage_of(commits, counters)
    values = [(b"", marker(START)), *arrivals, (b"", marker(START + 35 * DAY))]
    records = [Arrived(offset, value, key) for offset, (key, value) in enumerate(values)]

    async def run() -> None:
        for record in records:
            await stage.process(0, [record], lambda: None)
        await stage.flush()

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(profile_evaluation, "MOST_MAIL", 5_000)
            asyncio.run(run())
    except (NewerFormatError, FatalError) as error:
        check_text(error)
        return "refused"
    kept = [record for commit in commits for record in commit.records]
    assert sum(len(record.value or b"") for record in kept) < 20_000_000
    recovered(kept)
    letters = [record for record in kept if record.topic == CATALOG.dead_letters.name]
    assert all(CANARY.encode() not in (letter.value or b"") for letter in letters)
    return "refused" if counters.stages["evaluate"].dead else "accepted"


def recovered(records: list[Any]) -> None:
    """The next owner reads what was committed, and goes on."""
    partition = AudiencePartition(PLAN, 0, Counters())
    for record in records:
        if record.topic == CATALOG.profiles_changelog.name:
            partition.load(record.key, record.value)
        elif record.topic == CATALOG.memberships.name and record.value is not None:
            delta = msgspec.json.decode(record.value, type=MembershipDelta)
            assert msgspec.json.encode(delta) == record.value
        elif record.topic == CATALOG.profile_events.name:
            msgspec.msgpack.decode(record.value or b"", type=ProfileEvent)
    partition.finish_recovery()
    partition.set_wall(WALL)
    partition.set_expected(["lane"])
    for profile, event in resolve(json.dumps(CALLS[0]).encode()).records:
        partition.apply(profile, event)
    partition.drain()


# --- the changelog ---

STORED = {
    b"user_1": mutated(written("ProfileState") + written("ForwarderRecord")),
    CLOCK_KEY: mutated(written("PartitionRecord")),
    AUDIENCES_KEY: mutated(written("AudiencesRecord")),
    forgotten_key("user_1"): mutated(written("ForgottenRecord")),
}
CHANGELOG = st.sampled_from(sorted(STORED)).flatmap(
    lambda key: st.tuples(st.just(key), as_packed(STORED[key]))
)


@fuzzed(CHANGELOG)
def test_changelog(record: tuple[bytes, bytes]) -> str:
    key, value = record
    partition = AudiencePartition(PLAN, 0, Counters())
    try:
        partition.load(key, value)
        partition.finish_recovery()
        if key == b"user_1":
            unpacked(value)
    except REFUSED as error:
        check_text(error)
        return "refused"
    return "accepted"


def unpacked(value: bytes) -> None:
    """All that is known of a profile, and the same once more from how it is written again."""
    state = decode_state(value)
    if state.owner is None:
        _ = state.identifiers, state.further, state.identity
    again = encode_state(state)
    once_more = decode_state(again)
    if once_more.owner is None:
        _ = once_more.identity
    assert encode_state(once_more) == again


# --- audience.memberships ---

DELTAS = as_json(mutated(written("MembershipDelta")))


class Log:
    """One record of a topic."""

    def __init__(self, key: bytes, value: bytes) -> None:
        self._message = SimpleNamespace(
            key=lambda: key, value=lambda: value, offset=lambda: 7, timestamp=lambda: (1, START)
        )

    def settled_ends(self, topic: str, partitions: Any) -> dict[int, int]:
        return {0: 8}

    def batches(self, topic: str, ranges: Any) -> Any:
        return iter([[self._message]])

    def read(self, topic: str, ranges: Any, on_batch: Any) -> None:
        on_batch([self._message])


class Met:
    """The pipeline as far as deltas come in."""

    def __init__(self) -> None:
        self.offered: list[tuple[int, MembershipDelta]] = []
        self.buried: list[int] = []
        self.pipeline = Pipeline.__new__(Pipeline)
        self.pipeline.stages = cast("Any", SimpleNamespace(delivery=self))
        self.pipeline.offered = {}
        self.pipeline.letters = cast("Any", self)
        self.pipeline.is_set_aside = nothing_set_aside
        self.pipeline.clock, self.pipeline.counters, self.pipeline.catalog = StillWall(), Counters(), CATALOG

    def offer(
        self, partition: int, deltas: list[tuple[int, MembershipDelta]], end: int, written: Any
    ) -> None:
        self.offered += deltas

    async def put(self, letters: list[DeadLetter]) -> None:
        self.buried += [letter.origin.offset for letter in letters]

    async def bury(self, partition: int, offset: int, value: bytes) -> None:
        await self.pipeline.bury_delta(partition, offset, value)


@fuzzed(DELTAS)
def test_memberships(value: bytes) -> str:
    met = Met()
    log = cast("LogReader", Log(b"vips|user_1", value))
    reading: AsyncIterator[Any] = KafkaMembershipLog(log, "t", met.bury).read(0, 0, 8, "vips")

    async def run() -> list[Any]:
        await met.pipeline.on_memberships(0, [Arrived(7, value)], lambda: None)
        return [found async for found in reading]

    try:
        read = asyncio.run(run())
    except NewerFormatError as error:
        check_text(error)
        return "refused"
    # The stream and the log agree on what is a delta.
    assert read == met.offered
    assert len(met.buried) == 2 * (1 - len(read))
    for offset, delta in read:
        delivered(offset, delta)
    return "accepted" if read else "refused"


def delivered(offset: int, delta: MembershipDelta) -> None:
    """It waits for its destination and comes out as it was, and its rows can be put into requests."""
    for destination, rows in delta.rows.items():
        batcher = Batcher(destination, BatchPolicy(10_000, 0, 30_000), 0, 0)
        batcher.offer([(offset, delta)], offset + 1, 0.0)
        batch = batcher.take(1.0)
        assert batch is not None
        ((_, waited),) = batch.changes
        assert waited.rows[destination] == rows
        assert (waited.profile, waited.change, waited.sequence) == (
            delta.profile,
            delta.change,
            delta.sequence,
        )
        for request in build_requests([(offset, waited)], destination):
            orjson.dumps(request.data)


# --- dead.letters ---


@fuzzed(
    as_json(
        mutated([*written("DeadLetter"), {**written("DeadLetter")[0], "record": with_raw({}, b"{}", START)}])
    )
)
def test_dead_letters(value: bytes) -> str:
    log = cast("LogReader", Log(b"id", value))
    wanted = LetterFilter(
        since=0, until=2**60, offsets=(0, 10**9), profiles=("user_1",), keys=("k",), codes=(100,)
    )
    try:
        found = newest_letters(log, "dead.letters", 1, lambda letter: letter.id is not None)
    except NewerFormatError as error:
        check_text(error)
        return "refused"
    if found.unreadable:
        assert not found.letters
        return "refused"
    (letter,) = found.letters
    for one in (
        letter,
        as_resolved(letter, "replayed"),
        failed_again(letter, Reason.INVALID_JSON, "x", START),
    ):
        again = one.model_dump_json().encode()
        assert read_stored(DeadLetter, again).model_dump_json().encode() == again
    wanted.meets(letter)
    in_order(letter)
    kept = raw_of(letter)
    is_record_of(letter, b"k", None if kept is None else kept[0])
    return "accepted"


# --- audience.control and audience.syncs ---

DEFINED = next_version(None, parse_definitions([Document("a.yaml", EXAMPLE)]), START).model_dump(mode="json")
KINDS = {
    "definitions|4": mutated([*written("DefinitionsRecord"), *[DEFINED] * 3]),
    "wanted|named": mutated(written("WantedRecord")),
    "running|3": mutated(written("RunningRecord")),
    "desired|vips@act_1": mutated(written("DesiredRecord")),
    "of a later release|x": mutated(written("WantedRecord")),
}
CONTROL = st.sampled_from(sorted(KINDS)).flatmap(lambda key: st.tuples(st.just(key), as_json(KINDS[key])))


@fuzzed(CONTROL)
def test_control_records(record: tuple[str, bytes]) -> str:
    key, value = record
    try:
        published = read_published({key.encode(): value})
        newest = published.newest
        if newest is not None:
            definitions_of(newest)
            cleared_by(newest)
    except REFUSED as error:
        check_text(error, f"audience.control, key '{key.partition('|')[0]}|")
        return "refused"
    published.in_force(4)
    assert published.is_filling(4) in (True, False)
    for stored in (*published.versions.values(), *published.desired.values()):
        assert read_stored(type(stored), stored.model_dump_json().encode()) == stored
    return "accepted"


@fuzzed(as_json(mutated(written("SyncState"))))
def test_sync_states(value: bytes) -> str:
    try:
        states = read_sync_states({b"vips@act_1": value}, "audience.syncs")
    except REFUSED as error:
        check_text(error, "vips@act_1")
        return "refused"
    for state in states.values():
        assert read_stored(SyncState, orjson.dumps(state.model_dump(mode="json"))) == state
    return "accepted"


@fuzzed(as_json(mutated(written("LetterCounts"))))
def test_counts_of_letters(value: bytes) -> str:
    """Beside an offset of the group stands what we wrote there, or anybody else."""
    limits = LetterLimits(LetterPolicy())
    try:
        limits.resume("source", 0, value.decode(errors="replace"))
    except REFUSED as error:
        check_text(error, "LetterCounts")
        return "refused"
    standing = limits.standing("source", 0)
    limits.resume("source", 0, standing)
    assert limits.standing("source", 0) == standing
    return "accepted"
