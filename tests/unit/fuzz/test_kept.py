"""What fuzzing has found, kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import msgspec
import pytest

from app.adapters.kafka_delivery import KafkaMembershipLog
from app.adapters.kafka_letters import newest_letters
from app.adapters.kafka_log import LogReader
from app.domain import profile_evaluation
from app.domain.partition import AudiencePartition
from app.domain.published import definitions_of, read_published
from app.domain.state import CLOCK_KEY, decode_state, encode_state, forwarder
from app.domain.sync_states import read_sync_states
from app.errors import FatalError, UnreadableRecordError
from schemas.control import DefinitionsRecord
from schemas.profile import ASK, CALL, MOVED, VERSION, FeedHit, Linking, ProfileEvent
from tests.unit.domain.plans import START
from tests.unit.fuzz.test_calls import resolve
from tests.unit.fuzz.test_records import Log, Met, written
from tests.unit.pipeline.test_evaluate import LANE, Arrived, Bench

DEEP = 200_000
IDENTIFY = {"type": "identify", "userId": "u", "messageId": "m", "timestamp": "2025-03-01T00:00:00Z"}
ROW = {
    "type": "track",
    "event": "new",
    "userId": "u",
    "messageId": "m",
    "__segment_id": "x",
    "timestamp": "2025-03-01T00:00:00Z",
}


@pytest.mark.parametrize("blanks", [[[]], [[""]], [[None, " "]], [[], "-"]])
@pytest.mark.parametrize("name", ["email", "phone"])
@pytest.mark.parametrize(
    "call", [{**IDENTIFY, "traits": {}}, {**ROW, "properties": {}}], ids=["identify", "row"]
)
def test_a_list_of_nothing_but_lists_of_blanks_says_nothing(
    call: dict[str, Any], name: str, blanks: Any
) -> None:
    where = "traits" if "traits" in call else "properties"
    resolution = resolve(json.dumps({**call, where: {name: blanks}}).encode())
    assert resolution.refused is None
    for _, event in resolution.records:
        assert event.identifiers is None or event.identifiers.get(name.upper()) is None


# Nobody but us writes there; whoever does it all the same stops nothing.
DELTA = json.dumps(written("MembershipDelta")[0]).encode()
NO_DELTAS = {
    "nested too deeply": DELTA[:-1] + b', "more": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nothing but nested": b'{"a":' * DEEP,
    "a number that no state can hold": DELTA.replace(b'"sequence": 5', b'"sequence": -9223372036854775809'),
    "a time that no state can hold": DELTA.replace(b'"at": 1767225600000', b'"at": 1' + b"0" * 300),
    "not UTF-8": DELTA.replace(b"user_1", b"us\xffer"),
}


@pytest.mark.parametrize("what", NO_DELTAS)
async def test_no_delta_becomes_a_dead_letter(what: str) -> None:
    met = Met()
    log = KafkaMembershipLog(cast("LogReader", Log(b"vips|user_1", NO_DELTAS[what])), "t", met.bury)
    await met.pipeline.on_memberships(0, [Arrived(7, NO_DELTAS[what])], lambda: None)
    assert [found async for found in log.read(0, 0, 8, "vips")] == []
    assert met.buried == [7, 7]
    assert met.offered == []


def test_a_profile_event_that_is_nested_too_deeply_becomes_a_dead_letter() -> None:
    parts = msgspec.msgpack.encode(written("ProfileEvent")[0][:9])
    deep = b"\x9a" + parts[1:] + b"\x81\xa1a" + b"\x91" * DEEP + b"\xc0"
    bench = Bench()
    asyncio.run(bench.stage.process(0, [Arrived(0, deep, b"user_1")], lambda: None))
    assert bench.counters.stages["evaluate"].dead == 1


ITSELF = Linking(asker="anonymous_id:a", aliases={"anonymous_id:a": START})


@pytest.mark.parametrize(("kind", "known"), [(ASK, False), (MOVED, True)])
def test_nobody_becomes_a_part_of_themselves(kind: int, known: bool) -> None:
    """As after somebody who had asked was forgotten before the answer: the profile stood for itself, for ever."""
    bench = Bench()
    bench.partition.set_wall(START)
    if known:
        bench.partition.load(b"anonymous_id:a", encode_state(forwarder("user_1")))
    bench.partition.apply(
        "anonymous_id:a", ProfileEvent(VERSION, kind, LANE, 1, 0, START, START, linking=ITSELF)
    )
    call = ProfileEvent(VERSION, CALL, LANE, 2, 0, START, START, hits=[FeedHit(bench.feed.id)])
    bench.partition.apply("anonymous_id:a", call)
    states = {
        key: decode_state(value) for key, value in bench.partition.drain().states if not key.startswith(b"\0")
    }
    assert list(states[b"user_1" if known else b"anonymous_id:a"].feeds) == [bench.feed.id]


def test_profiles_that_stand_for_each_other_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_evaluation, "MOST_MAIL", 1_000)
    bench = Bench()
    bench.partition.load(b"user_1", encode_state(forwarder("user_2")))
    bench.partition.load(b"user_2", encode_state(forwarder("user_1")))
    with pytest.raises(FatalError, match="without end"):
        bench.partition.apply("user_1", ProfileEvent(VERSION, CALL, LANE, 1, 0, START, START))


LETTER = json.dumps(written("DeadLetter")[0]).encode()


def test_a_dead_letter_that_is_none_is_counted() -> None:
    for value in (
        b'{"version":' + b"[" * DEEP,
        b'{"a": "\xff"}',
        b"[]",
        LETTER.replace(b'"sequence": null', b'"sequence": 1' + b"0" * 30),
    ):
        found = newest_letters(cast("LogReader", Log(b"id", value)), "dead.letters", 1, bool)
        assert (found.letters, found.unreadable) == ([], 1)


@pytest.mark.parametrize("key", ["definitions|4", "running|1", "wanted|x", "desired|x"])
@pytest.mark.parametrize("value", [b"", b"[]", b'{"a":' + b"[" * DEEP, b'{"number": "canary"}'])
def test_a_control_record_that_is_none_is_refused_by_name(key: str, value: bytes) -> None:
    with pytest.raises(
        UnreadableRecordError, match=f"audience.control, key '{key}'".replace("|", r"\|")
    ) as caught:
        read_published({key.encode(): value})
    assert caught.value.exit_status == 2
    assert "canary" not in str(caught.value)


def test_definitions_that_are_none_are_refused_by_name() -> None:
    forms: dict[str, Any] = {"vips": {"key": "vips", "name": "canary", "when": {"kind": "canary"}}}
    record = DefinitionsRecord(number=4, digest="d", definitions=forms, published_at=START)
    with pytest.raises(
        UnreadableRecordError, match=r"audience.control, key 'definitions\|4': .*AudienceDefinition: when"
    ) as caught:
        definitions_of(record)
    assert "canary" not in str(caught.value)


def test_a_state_of_a_destination_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(UnreadableRecordError, match=r"audience.syncs, key 'vips@act_1': .*cursor"):
        read_sync_states(
            {
                b"vips@act_1": b'{"destination": "d", "audience": "a", "marker": "m", "updated_at": 1, "cursor": "x"}'
            },
            "audience.syncs",
        )


@pytest.mark.parametrize(
    "value", [b"", b"\x92\x01", b"\x9e\x01\xff", b"\x9e\x01" + b"\x91" * DEEP], ids=range(4)
)
def test_a_record_of_the_changelog_that_is_none_is_refused(value: bytes) -> None:
    bench = Bench()
    with pytest.raises(UnreadableRecordError, match="a record of the changelog is no state of a profile"):
        decode_state(value)
    with pytest.raises(UnreadableRecordError, match="a record of the changelog is no record of a partition"):
        bench.partition.load(CLOCK_KEY, value)
    with pytest.raises(UnreadableRecordError):
        recover(bench.partition, value)


def recover(partition: AudiencePartition, value: bytes) -> None:
    partition.load(b"user_1", value)
    partition.finish_recovery()
