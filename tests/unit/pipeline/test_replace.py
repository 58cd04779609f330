"""Replacing everybody in a Facebook audience; with in-memory twins and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.adapters.memory_graph import GraphCall
from app.domain.data_use import DataUse
from app.ports import UsersAnswer
from schemas.audience import DeliveryMode, FieldSource
from schemas.control import DesiredRecord
from schemas.membership import Change
from schemas.sync import DestinationState
from tests.unit.pipeline.test_deliver import EXIT, PERIOD, TIMEOUT, World, audience, cut, people, refused

HOUR = 3_600.0


class ReplacedWorld(World):
    def __init__(self, *definitions: Any, **options: Any) -> None:
        self.desired: dict[str, DesiredRecord] = {}
        super().__init__(*definitions, **options)

    def worker(self, graph: Any = None) -> Any:
        made = super().worker(graph)
        made.desire(dict(self.desired))
        return made

    async def want(self, target: str = "vips", *, paused: bool = False, replace: bool | None = None) -> None:
        """`replace` None: nothing is to be sent again."""
        known = self.desired.get(target)
        number = known.number + 1 if known else 1
        self.desired[target] = DesiredRecord(
            target=target,
            number=number,
            paused=paused,
            resync_at=self.clock.now_ms() if replace is not None else known.resync_at if known else 0,
            replace=replace if replace is not None else known.replace if known else False,
            written_at=0,
        )
        self.delivery.desire(dict(self.desired))
        await self.clock.settle()

    def settle_in(self, *strangers: str) -> None:
        """Somebody else puts people there."""
        for who in strangers:
            self.graph.audiences[self.facebook_id()].members[who] = {"EXTERN_ID": who}

    @property
    def batches(self) -> list[tuple[int, list[str], bool]]:
        """Number, people and last flag of what was sent, by session in order."""
        return [(_batch(call).number, people(call), _batch(call).last) for call in self.replacing]

    @property
    def replacing(self) -> list[GraphCall]:
        return self.graph.calls_of("replace")

    @property
    def sessions(self) -> list[int]:
        """In order, each once."""
        return list(dict.fromkeys(_batch(call).session_id for call in self.replacing))


def _batch(call: GraphCall) -> Any:
    assert call.batch is not None
    return call.batch


Worlds = Callable[..., ReplacedWorld]


@pytest.fixture
async def worlds() -> AsyncIterator[Worlds]:
    made: list[ReplacedWorld] = []

    def make(*definitions: Any, **options: Any) -> ReplacedWorld:
        made.append(ReplacedWorld(*definitions, **options))
        return made[-1]

    yield make
    for world in made:
        await world.delivery.stop()
        assert world.failures == []
        firsts = [_batch(call).session_id for call in world.replacing if _batch(call).number == 1]
        assert len(firsts) == len(set(firsts)), "batch 1 went out twice in one session"


async def full(world: ReplacedWorld, *members: str) -> None:
    await world.start()
    await world.live(*members)
    await world.clock.advance(3 * PERIOD)
    assert world.members() == set(members)
    world.settle_in("stranger", "another")


async def test_strangers_are_gone_and_members_are_there(worlds: Worlds) -> None:
    world = worlds(batch_rows=2)
    await full(world, "a", "b", "c", "d", "e", "gone")
    await world.live("gone", change=EXIT)
    await world.clock.advance(PERIOD)
    before = len(world.graph.calls_of("add", "remove"))
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert world.batches == [(1, ["a", "b"], False), (2, ["c", "d"], False), (3, ["e"], True)]
    assert len(world.sessions) == 1
    assert world.members() == {"a", "b", "c", "d", "e"}
    assert len(world.graph.calls_of("add", "remove")) == before, "nothing else was sent"
    state = world.ledger.states["vips"]
    assert (state.cursor, state.unconfirmed, state.replace) == (world.log.end(0), (), None)
    await world.restart()
    await world.clock.advance(HOUR)
    assert len(world.replacing) == 3, "once"


async def test_what_may_be_done_with_people_goes_with_those_who_are_put_in_the_place_of_all(
    worlds: Worlds,
) -> None:
    world = worlds(batch_rows=2, data_use=DataUse(True))
    await full(world, "a", "b", "c")
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert [call.use for call in world.replacing] == [DataUse(True), DataUse(True)]


async def test_whoever_comes_and_goes_meanwhile_does_so_afterwards(worlds: Worlds) -> None:
    world = worlds(batch_rows=2)
    await full(world, "a", "b", "c", "d")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.live("e")
    await world.live("a", change=EXIT)
    await world.clock.advance(PERIOD)
    assert world.members() == {"a", "b", "c", "d", "stranger", "another"}
    assert (world.view().state, world.view().reason) == (
        DestinationState.CATCHING_UP,
        "everybody in the Facebook audience is being replaced",
    )
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"b", "c", "d", "e"}
    assert [who for _, sent, _ in world.batches for who in sent] == ["a", "b", "c", "d"]
    assert world.delivery.idle()
    assert world.graph.most_under_way == 1


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_a_worker_that_dies_in_any_batch_loses_and_keeps_nobody(
    worlds: Worlds, batch: int, applied: bool
) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    if batch > 1:
        world.graph.script("replace", times=batch - 1)
    world.graph.script("replace", cut(), applied=applied, until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    assert len(world.replacing) == batch
    await world.restart()
    await world.live("d")
    await world.live("a", change=EXIT)
    await world.clock.advance(3 * HOUR)
    assert world.members() == {"b", "c", "d"}
    assert world.delivery.idle()
    state = world.ledger.states["vips"]
    assert (state.replace, state.cursor) == (None, world.log.end(0))


async def test_another_worker_goes_on_with_the_session_under_numbers_of_its_own(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    await world.restart()
    assert len(world.replacing) == 2, "what is under way has its time first"
    await world.clock.advance(TIMEOUT + 1)
    assert len(world.sessions) == 1
    assert world.batches[2:] == [(3, ["a"], False), (4, ["b"], False), (5, ["c"], True)]
    assert world.members() == {"a", "b", "c"}


@pytest.mark.parametrize("applied", [True, False])
async def test_the_first_batch_is_never_sent_again(worlds: Worlds, applied: bool) -> None:
    world = worlds(batch_rows=2)
    await full(world, "a", "b", "c")
    world.graph.script("replace", cut(), applied=applied)
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.replacing) == 1, "it may be under way still"
    await world.clock.advance(PERIOD)
    assert len(world.sessions) == (1 if applied else 2)
    first = (
        [(2, ["a", "b"], False), (3, ["c"], True)] if applied else [(1, ["a", "b"], False), (2, ["c"], True)]
    )
    assert world.batches[1:] == first
    assert world.members() == {"a", "b", "c"}


async def test_a_later_batch_is_sent_again(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", refused(2))
    world.graph.script("replace", cut(), applied=True)
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT)
    assert world.batches[1:4] == [(2, ["b"], False), (3, ["b"], False), (4, ["b"], False)]
    assert (len(world.sessions), world.members()) == (1, {"a", "b", "c"})


async def test_a_last_answer_that_is_lost_is_no_reason_to_begin_again(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b")
    added = len(world.graph.calls_of("add"))
    world.graph.script("replace")
    world.graph.script("replace", cut(), applied=True)
    world.graph.script("replace", refused(2650, 1_870_159))
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT)
    assert [number for number, _, _ in world.batches] == [1, 2, 3]
    assert len(world.graph.calls_of("add")) == added, "nobody is sent twice"
    assert world.members() == {"a", "b"}


@pytest.mark.parametrize(
    "error", [refused(2650), refused(2650, 1_870_144), refused(100), refused(2650, 1_870_147)]
)
async def test_where_facebook_does_not_replace_people_are_sent_one_by_one(
    worlds: Worlds, error: Exception
) -> None:
    world = worlds()
    await full(world, "a", "b", "gone")
    await world.live("gone", change=EXIT)
    await world.clock.advance(PERIOD)
    del world.graph.audiences[world.facebook_id()].members["a"]
    world.settle_in("gone")
    world.graph.script("replace", error)
    await world.want(replace=True)
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a", "b", "stranger", "another"}
    assert len(world.replacing) == 1
    assert world.ledger.states["vips"].replace is None


async def test_a_batch_that_is_refused_ends_the_session_for_us(worlds: Worlds) -> None:
    """Facebook has an open session until its 90 minutes are over, and takes no changes before."""
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    world.graph.script("replace", refused(100))
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    assert world.view().reason is not None
    world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() == {"a", "b", "c"}


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_list_that_facebook_did_not_fully_update_is_sent_the_ordinary_way(
    worlds: Worlds, batches: int
) -> None:
    world = worlds(batch_rows=3 // batches)
    await full(world, "a", "b", "c")
    for _ in range(batches - 1):
        world.graph.script("replace")
    world.graph.script("replace", refused(2650, 1870148), times=None)
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert len(world.replacing) == batches, "nothing more is sent into that session"
    if batches > 1:
        world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() >= {"a", "b", "c"}
    assert (world.view().state, world.ledger.states["vips"].replace) == (DestinationState.LIVE, None)


@pytest.mark.parametrize("status", [410, 411, 415, 421])
async def test_only_an_audience_in_order_is_replaced(worlds: Worlds, status: int) -> None:
    world = worlds()
    await full(world, "a")
    world.graph.audiences[world.facebook_id()].status = status
    await world.want(replace=True)
    await world.clock.advance(2 * PERIOD)
    assert (world.replacing, world.members()) == ([], {"a", "stranger", "another"})


async def test_somebody_elses_session_is_waited_out(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    found.status = 414
    await world.want(replace=True)
    await world.clock.advance(HOUR)
    assert world.replacing == []
    found.status = 200
    refusal = world.graph.script("replace", refused(2650, 1_870_145), until=asyncio.Event())
    await world.clock.advance(20)
    assert (len(world.replacing), refusal.until is not None) == (1, True)
    found.status = 414  # they were quicker
    if refusal.until is not None:
        refusal.until.set()
    await world.clock.advance(HOUR)
    assert len(world.replacing) == 1, "that session is not ours"
    found.status = 200
    await world.clock.advance(2 * PERIOD)
    assert (len(world.sessions), world.members()) == (2, {"a"})


async def test_the_swap_is_waited_for(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    found.status = 414
    assert hang.until is not None
    hang.until.set()
    await world.live("b")
    await world.clock.advance(HOUR)
    assert (world.members(), world.ledger.states["vips"].replace is None) == ({"a"}, False)
    found.status = 200
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a", "b"}


async def test_a_replace_that_fails_at_the_end_is_sent_the_ordinary_way(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a")
    found = world.graph.audiences[world.facebook_id()]
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    found.status, found.members = 415, {}
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert world.members() == {"a"}
    assert world.graph.calls_of("add")[-1].kind == "add"
    assert len(world.sessions) == 1


async def test_no_batch_is_sent_when_ninety_minutes_are_nearly_over(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    world.graph.script("replace")
    slow = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1.5 * HOUR - 120)
    assert slow.until is not None
    slow.until.set()
    await world.clock.advance(60)
    assert [number for number, _, _ in world.batches] == [1, 2]
    world.graph.close(world.facebook_id())
    await world.clock.advance(HOUR)
    assert world.members() == {"a", "b", "c"}, "the rest came the ordinary way"


async def test_rows_without_an_external_id_follow_the_session(worlds: Worlds) -> None:
    world = worlds(batch_rows=2)
    await full(world, "a", "b", "gone")
    for who, rows in (("mail", [{"EMAIL": "m"}]), ("two", [{"EXTERN_ID": "two"}, {"EMAIL": "t"}])):
        world.change(who, rows=rows)
    world.delivery.offer(0, [], world.log.end(0))
    await world.live("gone", change=EXIT)
    await world.restart()
    await world.clock.advance(2 * PERIOD)
    before = len(world.graph.calls_of("add", "remove"))
    await world.want(replace=True)
    await world.clock.advance(3 * PERIOD)
    assert world.batches == [(1, ["a", "b"], False), (2, ["two"], True)]
    assert world.members() == {"a", "b", "m", "two", "t"}
    since = world.graph.calls_of("add", "remove")[before:]
    assert {row.get("EMAIL") for call in since for row in call.rows} == {None, "m", "t"}
    assert not [row for call in since for row in call.rows if row.get("EXTERN_ID") in ("a", "b", "gone")]
    assert world.delivery.idle()


async def test_nobody_has_an_external_id(worlds: Worlds) -> None:
    world = worlds()
    await world.start()
    for who in ("m", "n"):
        world.change(who, rows=[{"EMAIL": who}])
    await world.restart()
    await world.pass_period()
    world.settle_in("stranger")
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert world.members() == {"m", "n"}
    assert len(world.replacing) == 1


async def test_an_empty_audience_cannot_be_replaced(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a")
    await world.live("a", change=EXIT)
    await world.clock.advance(PERIOD)
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert (world.replacing, world.members()) == ([], {"stranger", "another"})
    assert world.delivery.idle()


async def test_value_based_audiences_scoped_ids_and_dry_runs_are_never_replaced(worlds: Worlds) -> None:
    fields = {"value": [FieldSource(path="$.traits.value")]}
    valued = audience("vips", value_based=True, fields=fields)
    scoped = audience("vips", fields={"page_id": [FieldSource(path="$.traits.page")]})
    for world in (worlds(valued), worlds(scoped), worlds(audience("vips", mode=DeliveryMode.DRY_RUN))):
        await world.start()
        await world.live("a")
        await world.clock.advance(PERIOD)
        await world.want(replace=True)
        await world.clock.advance(2 * PERIOD)
        assert world.replacing == []
        assert world.ledger.states["vips"].resynced_at == world.desired["vips"].resync_at


async def test_a_session_ends_with_a_dry_run(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b")
    world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.delivery.update((audience("vips", mode=DeliveryMode.DRY_RUN),), world.ledger.states)
    await world.clock.advance(TIMEOUT + PERIOD)
    assert len(world.replacing) == 1
    assert world.view().state is DestinationState.DRY_RUN


async def test_a_first_batch_that_failed_may_be_at_work_still(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a")
    world.graph.script("replace", refused(2, http_status=504))
    await world.want(replace=True)
    await world.clock.advance(TIMEOUT - 1)
    assert len(world.replacing) == 1
    await world.clock.advance(PERIOD)
    assert (len(world.sessions), world.members()) == (2, {"a"})


async def test_what_is_paused_stops_between_two_batches(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b", "c")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.want(paused=True)
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(60)
    assert len(world.replacing) == 1
    await world.want(paused=False)
    await world.clock.advance(2 * PERIOD)
    assert (len(world.sessions), world.members()) == (1, {"a", "b", "c"})


async def test_a_wish_that_comes_meanwhile_is_heard_afterwards(worlds: Worlds) -> None:
    world = worlds(batch_rows=1)
    await full(world, "a", "b")
    hang = world.graph.script("replace", until=asyncio.Event())
    await world.want(replace=True)
    await world.clock.advance(1)
    await world.want(replace=True)
    assert hang.until is not None
    hang.until.set()
    await world.clock.advance(2 * PERIOD)
    assert [number for number, _, _ in world.batches] == [1, 2, 1, 2]
    assert (len(world.sessions), world.members()) == (2, {"a", "b"})


async def test_refused_rows_are_letters(worlds: Worlds) -> None:
    world = worlds()
    await full(world, "a", "b")
    row = '["b","","","","","","","","","","","","","",""]'
    world.graph.answers = [UsersAnswer(2, 1, {row: "empty external ID"})]
    await world.want(replace=True)
    await world.clock.advance(PERIOD)
    assert [letter.profile for letter in world.letters.letters.values()] == ["b"]


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_happens_it_ends_with_the_members(worlds: Worlds, seed: int) -> None:
    """Faults, deaths, changes, pauses and sessions that run out, at random; the log alone is the truth."""
    chance = random.Random(seed)
    world = worlds(batch_rows=chance.choice((1, 2, 5)))
    await world.start()
    names = [f"p{number}" for number in range(8)]
    inside: set[str] = set()

    async def change() -> None:
        who = chance.choice(names)
        await world.live(who, change=EXIT if who in inside else Change.ENTERED)
        inside.symmetric_difference_update({who})

    for _ in range(12):
        await change()
    await world.clock.advance(2 * PERIOD)
    world.settle_in("stranger")
    await world.want(replace=True)
    for _ in range(12):
        kind = chance.choice(("replace", "replace", "read", "add"))
        error = chance.choice((cut(), refused(2), refused(80_003, 2_446_079)))
        world.graph.script(
            kind, error, applied=chance.random() < 0.5 and not isinstance(error, type(refused(2)))
        )
        await change()
        await world.clock.advance(chance.choice((1, 20, 200)))
        if chance.random() < 0.3:
            await world.restart()
        if chance.random() < 0.1:
            await world.want(replace=True)
    world.graph.scripts.clear()
    for _ in range(4):
        await world.clock.advance(1.5 * HOUR)
        world.graph.close(world.facebook_id())
    await world.clock.advance(1.5 * HOUR)
    assert world.members() - {"stranger"} == inside
    assert world.ledger.states["vips"].replace is None
    assert world.delivery.idle()
