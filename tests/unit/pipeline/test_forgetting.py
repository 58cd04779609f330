"""When the tombstones of a forgotten person are written, and which dead letters go with them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from app.domain.counters import Counters
from app.domain.dead_letters import key_digest, shape_of, with_raw
from app.domain.forgetting import Removal, forgotten_key
from app.domain.partition import AudiencePartition
from app.pipeline.evaluate import EvaluateStage, GroupCommit
from app.pipeline.forgetting import COMES_BACK_MS, Removals, is_letter_of, requests
from schemas.dead_letter import DeadLetter, Origin, Reason
from schemas.profile import CALL, FORGET, MARKER, VERSION, FeedHit, ProfileEvent
from schemas.sync import SyncState
from tests.unit.domain.plans import FAR_WALL, START, plan_of
from tests.unit.pipeline.test_evaluate import Arrived, StillWall
from topics.catalog import Catalog

LANE = "source-0"
CATALOG = Catalog(prefix="", source_topic="source")
BOTH = [{"ad_account_id": "act_1"}, {"ad_account_id": "act_2"}]


@dataclass
class Message:
    """As librdkafka hands it over."""

    at: int
    content: tuple[bytes, bytes | None]

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.content[0]

    def value(self) -> bytes | None:
        return self.content[1]


class World:
    """One partition of each topic, in memory, and the cursors of two destinations. Each commit ends with a mark, as
    transactions do, so that no record stands just before the end of a topic.
    """

    def __init__(self) -> None:
        self.plan = plan_of({"when": {"event": "A"}, "facebook": BOTH})
        self.topics: defaultdict[str, list[tuple[bytes, bytes | None] | None]] = defaultdict(list)
        self.cursors: dict[str, int] = {}
        # Of every destination; None: there is none yet.
        self.facebook_id: str | None = "1"
        self.letters: list[DeadLetter] = []
        self.events: list[str] = []
        self.offset = 0
        self.stage = self._stage()
        self.removals = self._removals()

    def _stage(self) -> EvaluateStage:
        stage = EvaluateStage(
            lambda _: AudiencePartition(self.plan, 0, Counters()),
            self._commit,
            StillWall(FAR_WALL),
            Counters(),
            CATALOG,
            1,
        )
        partition = stage.new_partition(0)
        stage.add(0, partition)
        for record in self.topics[CATALOG.profiles_changelog.name]:
            if record is not None:
                partition.load(*record)
        partition.finish_recovery()
        partition.set_expected([LANE])
        return stage

    def _removals(self) -> Removals:
        return Removals(
            evaluate=self.stage,
            log=self,
            letters=lambda meets: [one for one in self.letters if meets(one)],
            writer=self,
            catalog=CATALOG,
            partitions=1,
            in_thread=self._at_once,
        )

    @staticmethod
    async def _at_once(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    async def _commit(self, commit: GroupCommit) -> None:
        for topic in dict.fromkeys(record.topic for record in commit.records):
            records = [(one.key, one.value) for one in commit.records if one.topic == topic]
            self.topics[topic] += [*records, None]
        self.events.append("commit")

    def restart(self) -> None:
        self.stage = self._stage()
        self.removals = self._removals()

    # -- TopicLog and RecordWriter

    def settled_ends(self, topic: str, partitions: Sequence[int], stop: object = None) -> dict[int, int]:
        return dict.fromkeys(partitions, len(self.topics[topic]))

    def end_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return self.settled_ends(topic, partitions)

    def read(
        self,
        topic: str,
        ranges: Mapping[int, tuple[int, int]],
        on_batch: Callable[[list[Any]], None],
        stop: object = None,
    ) -> None:
        first, end = ranges[0]
        on_batch([Message(at, one) for at, one in enumerate(self.topics[topic][:end]) if at >= first and one])

    def latest_values(self, topic: str, partitions: int) -> dict[bytes, bytes]:
        return {
            name.encode(): SyncState(
                destination=name,
                audience="audience_0",
                marker="",
                cursor=cursor,
                facebook_id=self.facebook_id,
                updated_at=0,
            )
            .model_dump_json()
            .encode()
            for name, cursor in self.cursors.items()
        }

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        assert (topic, value) == (CATALOG.dead_letters.name, None)
        self.letters = [one for one in self.letters if one.id.encode() != key]

    def flush(self) -> None:
        self.events.append("letters")

    # -- what happens

    async def say(self, *events: tuple[str, ProfileEvent]) -> None:
        arrived = []
        for profile, event in events:
            self.offset += 1
            arrived.append(Arrived(self.offset, msgspec.msgpack.encode(event), profile.encode()))
        await self.stage.process(0, arrived, lambda: None)

    def marker(self, after: int = 0) -> tuple[str, ProfileEvent]:
        at = START + self.offset + after
        return "", ProfileEvent(VERSION, MARKER, "", 0, 0, at, at, progress={LANE: at})

    def call(self, kind: int, profile: str = "ann") -> tuple[str, ProfileEvent]:
        hits = [FeedHit(feed.id) for feed in self.plan.events["A"].feeds] if kind == CALL else []
        return profile, ProfileEvent(VERSION, kind, LANE, self.offset, 0, START, START, None, hits)

    async def forgotten(self) -> None:
        await self.say(self.marker())
        await self.say(self.call(CALL))
        await self.stage.flush()
        await self.say(self.call(FORGET))

    def changelog(self) -> dict[bytes, bytes | None]:
        return dict(record for record in self.topics[CATALOG.profiles_changelog.name] if record is not None)

    def newest(self) -> dict[bytes, bytes | None]:
        return dict(record for record in self.topics[CATALOG.memberships.name] if record is not None)


KEY = b"audience_0|ann"
DESTINATIONS = ("audience_0@act_1", "audience_0@act_2")
# Where the removal stands: behind the entry and the end of its transaction.
REMOVAL = 2


@pytest.fixture
def world() -> World:
    return World()


async def test_tombstones_follow_when_the_last_destination_has_confirmed_the_removal() -> None:
    world = World()
    await world.forgotten()
    world.cursors = dict.fromkeys(DESTINATIONS, REMOVAL)
    assert await world.removals.step()
    assert world.newest()[KEY] is not None
    world.cursors[DESTINATIONS[0]] = REMOVAL + 1
    assert not await world.removals.step(), "one of them may still have to read it"
    world.cursors[DESTINATIONS[1]] = REMOVAL + 1
    assert await world.removals.step()
    await world.say(world.marker())
    await world.stage.flush()
    assert world.newest() == {KEY: None}
    changelog = world.changelog()
    assert changelog[b"ann"] is None
    assert changelog[forgotten_key("ann")] is not None
    assert not any(b"ann" in value for value in changelog.values() if value is not None)
    assert await world.removals.step(), "nothing is left to be done"


async def test_a_destination_that_the_ledger_does_not_know_is_waited_for() -> None:
    world = World()
    await world.forgotten()
    world.cursors = {DESTINATIONS[0]: 100}
    await world.removals.step()
    assert not await world.removals.step()


async def absent(world: World) -> None:
    """Somebody is forgotten, and then there is another definition in the place of the audience's."""
    await world.forgotten()
    world.cursors = {DESTINATIONS[0]: REMOVAL + 1, DESTINATIONS[1]: REMOVAL}
    await world.removals.step()
    await world.stage.flush()
    world.plan = plan_of({"when": {"event": "A"}, "facebook": BOTH, "name": "other"})
    assert "audience_0" not in world.plan.audiences
    world.restart()
    await world.say(world.marker())


async def test_an_audience_that_is_absent_may_come_back_and_read_the_removal(world: World) -> None:
    both = world.plan
    await absent(world)
    assert await world.removals.step()
    assert not await world.removals.step(), "where the audience stands at Facebook the person is in it"
    world.plan = both
    world.restart()
    await world.say(world.marker())
    await world.removals.step()
    assert world.newest()[KEY] is not None
    world.cursors[DESTINATIONS[1]] = REMOVAL + 1
    assert await world.removals.step()
    await world.say(world.marker())
    await world.stage.flush()
    assert world.newest() == {KEY: None}


async def test_an_audience_that_was_never_at_facebook_is_not_expected_back(world: World) -> None:
    world.facebook_id = None
    await absent(world)
    assert await world.removals.step()
    await world.say(world.marker())
    await world.stage.flush()
    assert world.newest() == {KEY: None}


async def test_an_audience_is_not_expected_back_for_ever(world: World) -> None:
    await absent(world)
    await world.say(world.marker(COMES_BACK_MS - 100))
    await world.removals.step()
    assert not await world.removals.step()
    await world.say(world.marker(COMES_BACK_MS))
    assert await world.removals.step()
    await world.stage.flush()
    assert world.newest() == {KEY: None}


async def test_a_restart_finds_what_is_not_finished() -> None:
    world = World()
    await world.forgotten()
    world.cursors = dict.fromkeys(DESTINATIONS, 0)
    await world.removals.step()
    world.cursors = dict.fromkeys(DESTINATIONS, REMOVAL + 1)
    await world.removals.step()
    # Confirmed, and not committed.
    world.restart()
    await world.removals.step()
    await world.say(world.marker())
    await world.stage.flush()
    assert world.newest() == {KEY: None}


async def test_letters_go_before_the_tombstones() -> None:
    world = World()
    await world.forgotten()
    world.letters = [letter(profile="ann", sequence=1), letter(profile="bob", sequence=1)]
    world.cursors = dict.fromkeys(DESTINATIONS, REMOVAL + 1)
    await world.removals.step()
    assert [one.profile for one in world.letters] == ["bob"]
    assert world.events[-1] == "letters"


def letter(
    profile: str | None = None, sequence: int | None = None, key: str | None = None, raw: bytes | None = None
) -> DeadLetter:
    origin = Origin(topic="t", partition=0, offset=1, key=key)
    return DeadLetter(
        id=f"{profile} {sequence} {key} {raw!r}",
        stage="deliver",
        reason=Reason.REJECTED_ROW,
        detail="",
        origin=origin,
        audience="audience_0",
        profile=profile,
        sequence=sequence,
        first_failed_at=0,
        last_failed_at=0,
        record=None if raw is None else with_raw(shape_of(raw), raw, START),
    )


@pytest.mark.parametrize(
    ("found", "of_the_person"),
    [
        (letter("ann", 1), True),
        (letter("ann", 2), False),  # of the removal itself: somebody has to hear of it
        (letter("ann"), True),
        (letter("bob", 1), False),
        (letter(key=key_digest(b"ann")), True),
        (letter(key=key_digest(b"bob")), False),
        (letter(), False),
        (letter(raw=b'{"userId":"ann"}'), True),  # of a topic whose records have no key
        (letter(key=key_digest(b"order-1"), raw=b'{"userId":"ann'), True),
        (letter(raw=b'{"userId":"anna"}'), False),
        (letter("bob", 1, raw=b'{"userId":"ann"}'), False),
    ],
)
def test_which_letters_are_about_the_person(found: DeadLetter, of_the_person: bool) -> None:
    removals = {"ann": Removal("ann", {"audience_0": 2})}
    assert is_letter_of(found, removals, frozenset({key_digest(b"ann") or ""})) is of_the_person


@pytest.mark.parametrize(
    ("requested", "key"),
    [
        ("ann-1234", b"ann-1234"),
        ("anonymous_id:a-1234", b"a-1234"),
        (f"email:{hashlib.sha256(b'ann@example.com').hexdigest()}", b"ann@example.com"),
        (hashlib.sha256(b"+491701234567").hexdigest(), b"+491701234567"),
        ("madid:38400000-8cf0-11bd-b23e-10b96e400000", b"38400000-8cf0-11bd-b23e-10b96e400000"),
    ],
)
async def test_letters_go_by_whatever_identifier_their_records_were_keyed_by(
    world: World, requested: str, key: bytes
) -> None:
    """Nobody had heard of the person but by a call that could not be read."""
    others = [letter(key=key_digest(b"bob")), letter(raw=b'{"event":6,"userId":"bob"}')]
    named = b'{"event":6,"anything":"%b"}' % key
    world.letters = [*others, letter(key=key_digest(key)), letter(raw=named)]
    await world.say(world.marker())
    await world.say(world.call(FORGET, requested))
    await world.removals.step()
    assert world.letters == others


def test_a_request_has_a_place_of_its_own_for_each_name() -> None:
    records = requests(["ann", "anonymous_id:ann"], CATALOG, "id", 7, START)
    events = [msgspec.msgpack.decode(one.value or b"", type=ProfileEvent) for one in records]
    assert [one.key for one in records] == [b"ann", b"anonymous_id:ann"]
    assert [(one.kind, one.lane, one.offset, one.index) for one in events] == [
        (FORGET, "forget/id", 7, 0),
        (FORGET, "forget/id", 7, 1),
    ]
    assert {one.received for one in events} == {START}
