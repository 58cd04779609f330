"""Whatever stands in the source topic: good calls count, broken ones end as dead letters, none stops the worker."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from schemas.profile import CALL, MARKER, FeedHit, ProfileEvent
from tests.integration.broken_calls import BROKEN, CANARY, DROPPED, Broken
from tests.integration.canaries import found_in
from tests.integration.installation import (
    Installation,
    WorkerProcess,
    assert_unbroken,
    members_of,
    wait_until,
)
from tests.integration.topic_records import Place, RawRecord, write_records
from topics.partitioning import partition_for

AUDIENCES = """
audiences:
  - {name: Buyers, when: {event: Order Completed, sum: {property: revenue, at_least: 1}}}
  - {name: Dear, when: {event: Order Completed, within: 30d, average: {property: revenue, at_least: 1}}}
  - {name: VIPs, source: engage}
  - {name: Pro, when: {trait: plan, equals: pro}}
"""
GARBAGE = "canary-8Qm1x"
GOOD = 4
"""Good calls between two broken ones."""


def good_call(user: str) -> bytes:
    order = {"type": "track", "event": "Order Completed", "userId": user, "properties": {"revenue": 5}}
    return json.dumps(order).encode()


def interleaved(users: Iterator[str]) -> list[RawRecord]:
    """Every broken and every dropped record once, each with a key of its own, good calls all around them."""
    records: list[RawRecord] = []
    values = [broken.value for broken in BROKEN] + [value for _, value in DROPPED]
    for number, value in enumerate(values):
        partition = number % 2
        records.extend(RawRecord(good_call(next(users)), b"good", partition) for _ in range(GOOD))
        key = None if number % 7 == 0 else f"{CANARY}-key-{number}".encode()
        records.append(RawRecord(value, key, partition))
    return records


def user_ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"good_{number}"


@dataclass
class Run:
    """A worker was killed between making dead letters durable and committing its input; `worker` came after it."""

    installation: Installation
    users: Iterator[str]
    places: list[Place]
    worker: WorkerProcess
    used: int = 0

    def stages(self) -> Any:
        stats = self.worker.stats()
        assert stats is not None
        return stats["stages"]


@pytest.fixture(scope="module")
def run(bootstrap_servers: str) -> Iterator[Run]:
    installation = Installation(
        bootstrap_servers,
        f"test-{uuid.uuid4().hex[:12]}.",
        AUDIENCES,
        settings={"AUDIENCE_SYNC_POLL_RECORDS": "40"},
    )
    try:
        users = user_ids()
        places = installation.produce_raw(interleaved(users))
        dead = installation.start_worker(instance="slot", at=("resolve.flush", 3, signal.SIGKILL))
        assert dead.ended() == -signal.SIGKILL, dead.said
        worker = installation.start_worker(instance="slot")
        installation.wait_until_idle(worker)
        yield Run(installation, users, places, worker)
    finally:
        installation.close()


def place_of(run: Run, number: int) -> Place:
    return run.places[number * (GOOD + 1) + GOOD]


@pytest.fixture(scope="module")
def letters(run: Run) -> list[dict[str, Any]]:
    """Those of the first round."""
    source, first = run.installation.catalog.source_topic, {(p.partition, p.offset) for p in run.places}
    return [
        letter
        for letter in run.installation.dead_letters()
        if letter["origin"]["topic"] == source
        and (letter["origin"]["partition"], letter["origin"]["offset"]) in first
    ]


@pytest.mark.parametrize(
    ("number", "broken"), list(enumerate(BROKEN)), ids=[broken.what for broken in BROKEN]
)
def test_broken_record_is_a_dead_letter_with_its_coordinates(
    run: Run, letters: list[dict[str, Any]], number: int, broken: Broken
) -> None:
    place, topic = place_of(run, number), run.installation.catalog.source_topic
    mine = [
        letter
        for letter in letters
        if (letter["origin"]["topic"], letter["origin"]["partition"], letter["origin"]["offset"])
        == (topic, place.partition, place.offset)
    ]
    assert mine
    letter = mine[-1]
    key = None if number % 7 == 0 else hashlib.sha256(f"{CANARY}-key-{number}".encode()).hexdigest()
    assert letter["origin"] == {
        "topic": topic,
        "partition": place.partition,
        "offset": place.offset,
        "key": key,
    }
    assert (letter["stage"], letter["reason"]) == ("resolve", broken.reason)
    assert broken.says in letter["detail"]
    identity = json.dumps(
        ["resolve", topic, place.partition, place.offset, 0, None, None, None], separators=(",", ":")
    )
    assert {one["id"] for one in mine} == {hashlib.sha256(identity.encode()).hexdigest()}
    assert letter["attempts"] == 1
    assert letter["first_failed_at"] == letter["last_failed_at"] > 0
    nothing = ("facebook", "audience", "destination", "profile", "sequence", "resolved")
    assert [letter[name] for name in nothing] == [None] * len(nothing)


def test_redelivery_after_a_kill_lists_no_letter_twice(run: Run, letters: list[dict[str, Any]]) -> None:
    ids = {letter["id"] for letter in letters}
    assert len(ids) == len(BROKEN)
    assert len(letters) > len(ids), "nothing was redelivered: the kill came too early or too late"


def test_good_calls_all_count(run: Run) -> None:
    expected = {f"good_{number}" for number in range(1, GOOD * (len(BROKEN) + len(DROPPED)) + 1)}
    deltas = run.installation.memberships()
    assert_unbroken(deltas)
    assert members_of(deltas)["buyers"] >= expected
    assert run.installation.facebook_members()["Buyers"] >= expected


def test_every_record_is_counted_once(run: Run) -> None:
    before, letters_before = run.stages(), run.worker.stats()
    run.installation.produce_raw(interleaved(run.users))
    run.installation.wait_until_idle(run.worker)
    after, letters_after = run.stages(), run.worker.stats()
    assert letters_before is not None
    assert letters_after is not None
    good = GOOD * (len(BROKEN) + len(DROPPED))
    resolve = {name: after["resolve"][name] - before["resolve"][name] for name in ("in", "out", "dead")}
    assert resolve == {"in": good + len(BROKEN) + len(DROPPED), "out": good, "dead": len(BROKEN)}
    assert gained(before["resolve"]["dropped"], after["resolve"]["dropped"]) == dict(
        Counter(reason for reason, _ in DROPPED)
    )
    assert gained(letters_before["dead_letters"], letters_after["dead_letters"]) == dict(
        Counter(broken.reason for broken in BROKEN)
    )


def gained(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)
    }


def profile_event(**fields: Any) -> ProfileEvent:
    """In a lane of its own, so that it hides no real call."""
    known = {
        "version": 1,
        "kind": CALL,
        "lane": "garbage",
        "offset": 0,
        "index": 0,
        "timestamp": 1,
        "received": 1,
    }
    return ProfileEvent(**{**known, **fields})


_encode = msgspec.msgpack.Encoder().encode
_PLAN = compile_audiences(parse_definitions([Document("audiences.yaml", AUDIENCES)]).audiences)
_FEEDS = [feed.id for feed in _PLAN.feeds.values()]
_FAR = 4_000_000_000_000


def kept(values: list[Any]) -> list[FeedHit]:
    """Every feed keeps one number of each order."""
    return [FeedHit(feed, values) for feed in _FEEDS]


UNREADABLE_EVENTS = {
    "empty": RawRecord(b"", b"someone"),
    "a tombstone": RawRecord(None, b"someone"),
    "no MessagePack": RawRecord(b"\xc1" + GARBAGE.encode(), b"someone"),
    "JSON": RawRecord(b'{"userId": "x"}', b"someone"),
    "too short": RawRecord(_encode([1, 2]), b"someone"),
    "fields of other types": RawRecord(_encode(["a"] * 13), b"someone"),
    "a key that is not UTF-8": RawRecord(_encode(profile_event(offset=1)), b"\xff\xfe"),
    "too few values": RawRecord(_encode(profile_event(offset=2, hits=kept([]))), b"good_1"),
    "too many values": RawRecord(_encode(profile_event(offset=3, hits=kept([1, 2, 3]))), b"good_1"),
    "a text to sum up": RawRecord(_encode(profile_event(offset=4, hits=kept(["7"]))), b"good_1"),
    "an infinite number": RawRecord(_encode(profile_event(offset=5, hits=kept([math.inf]))), b"good_1"),
    "not a number": RawRecord(_encode(profile_event(offset=6, hits=kept([math.nan]))), b"good_1"),
}
STRANGE_EVENTS = {
    "no key": (None, profile_event(offset=12)),
    "unknown kind": (b"someone", profile_event(offset=13, kind=7)),
    "unknown feed": (b"someone", profile_event(offset=15, hits=[FeedHit("nobody knows it", [1])])),
    "traits of other types": (b"someone", profile_event(offset=16, traits={"plan": {"a": [1]}, "x": 1})),
    "unknown identifiers": (
        b"someone",
        profile_event(offset=17, identifiers={"NO_COLUMN": "x", "EMAIL": 1.5}),
    ),
    "claims of what nobody may claim": (
        b"someone",
        profile_event(offset=18, claims={"buyers": True, "unknown": True}),
    ),
    "before 1970": (b"someone", profile_event(offset=19, timestamp=-5, received=-5)),
    "far future": (b"someone", profile_event(offset=2**62, timestamp=_FAR, received=_FAR)),
    "a marker of nobody's lane": (b"", profile_event(kind=MARKER, progress={"nobody's": _FAR})),
}
UNREADABLE_DELTAS = {
    "empty": RawRecord(b"", b"buyers|someone"),
    "no JSON": RawRecord(GARBAGE.encode(), b"buyers|someone"),
    "no object": RawRecord(b"[]", b"buyers|someone"),
    "no fields": RawRecord(b"{}", b"buyers|someone"),
    "a field of another type": RawRecord(
        b'{"audience": "buyers", "profile": 7, "change": "entered", "sequence": 1, "rows": {}, "at": 1,'
        b' "detected_at": 1, "cause": "event"}',
        b"buyers|someone",
    ),
    "bytes that are not UTF-8": RawRecord(b"\xff\xfe", b"buyers|\xff\xfe"),
}


def test_garbage_in_profile_events_is_dead_letters_and_stops_nothing(run: Run) -> None:
    topic = run.installation.catalog.profile_events.name
    servers = run.installation.bootstrap_servers
    places = write_records(servers, topic, UNREADABLE_EVENTS.values())
    write_records(servers, topic, [RawRecord(_encode(event), key) for key, event in STRANGE_EVENTS.values()])
    assert_next_orders_count(run)
    assert_letters(run, "evaluate", topic, places, UNREADABLE_EVENTS)


def test_garbage_in_audience_memberships_is_dead_letters_and_stops_nothing(run: Run) -> None:
    topic = run.installation.catalog.memberships.name
    servers = run.installation.bootstrap_servers
    partition = partition_for(b"buyers", run.installation.partitions)
    records = [replace(record, partition=partition) for record in UNREADABLE_DELTAS.values()]
    places = write_records(servers, topic, records)
    stranger = {"audience": "strangers", "profile": "x", "change": "entered", "sequence": 1, "rows": {}}
    strange = {**stranger, "at": 1, "detected_at": 1, "cause": "event"}
    unknown_destination = {**strange, "audience": "buyers", "rows": {"elsewhere": [{"EXTERN_ID": "x"}]}}
    write_records(
        servers,
        topic,
        [
            RawRecord(None, b"buyers|someone", partition),
            RawRecord(json.dumps(strange).encode(), b"strangers|x", partition),
            RawRecord(json.dumps(unknown_destination).encode(), b"buyers|x", partition),
        ],
    )
    assert_next_orders_count(run)
    assert_letters(run, "deliver", topic, places, UNREADABLE_DELTAS)


def test_garbage_is_no_obstacle_to_the_next_worker(run: Run) -> None:
    """It reads the topics from where nothing was confirmed yet, garbage included."""
    topic = run.installation.catalog.memberships.name
    partition = partition_for(b"buyers", run.installation.partitions)
    run.installation.wait_until_idle(run.worker)
    run.worker.process.kill()
    run.worker.ended()
    records = [replace(record, partition=partition) for record in UNREADABLE_DELTAS.values()]
    places = write_records(run.installation.bootstrap_servers, topic, records)
    run.worker = run.installation.start_worker(instance="slot")
    assert_next_orders_count(run)
    assert_letters(run, "deliver", topic, places, UNREADABLE_DELTAS)


def test_no_text_of_a_broken_record_is_anywhere(run: Run) -> None:
    assert found_in(run.installation, [CANARY], run.worker) == []


def test_no_text_of_garbage_goes_further(run: Run) -> None:
    catalog = run.installation.catalog
    written_here = {f"{GARBAGE} in {topic.name}" for topic in (catalog.profile_events, catalog.memberships)}
    assert set(found_in(run.installation, [GARBAGE], run.worker)) <= written_here


def assert_letters(run: Run, stage: str, topic: str, places: list[Place], what: Iterable[str]) -> None:
    found = {
        (letter["origin"]["partition"], letter["origin"]["offset"]): (letter["stage"], letter["reason"])
        for letter in run.installation.dead_letters()
        if letter["origin"]["topic"] == topic
    }
    assert {
        name: found.get((place.partition, place.offset)) for name, place in zip(what, places, strict=True)
    } == dict.fromkeys(what, (stage, "invalid_field"))


def assert_next_orders_count(run: Run) -> None:
    """For people of every partition of profile.events, up to Facebook."""
    users = [next(run.users) for _ in range(40)]
    partitions = {partition_for(user.encode(), run.installation.partitions) for user in users}
    assert len(partitions) == run.installation.partitions
    run.installation.produce_raw([RawRecord(good_call(user)) for user in users])

    def counted() -> bool:
        assert run.worker.process.poll() is None, run.worker.said
        return run.installation.facebook_members()["Buyers"] >= set(users)

    wait_until(counted, lambda: f"{run.worker.said}\n{run.worker.stats()}")
