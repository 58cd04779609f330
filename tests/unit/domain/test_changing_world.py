"""Definitions that change while people are linked, join accounts, are forgotten and come back, and workers restart.

Whatever is drawn, nothing fails, and what deltas, states and counts say is the same after every commit; where nobody is
forgotten the end is that of a run which had the last definitions from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.domain.changing_world import OF_ACCOUNTS, OF_PEOPLE, ChangingWorld, begun, replayed, text
from tests.unit.domain.plans import HOUR
from tests.unit.domain.switching_world import LANES

slow_enough = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))

_DEVICE = {"type": "ios", "advertisingId": "38400000-8cf0-11bd-b23e-10b96e40000d", "adTrackingEnabled": True}


@dataclass(frozen=True)
class Say:
    """A call, about whoever has these ids."""

    lane: str
    what: str
    user: str | None
    anonymous: str | None
    value: int

    def happen(self, world: ChangingWorld) -> None:
        user = self.user or (None if self.anonymous else "u1")
        ids = {"userId": user, "anonymousId": self.anonymous}
        body: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}
        if self.what == "identify":
            body |= {"type": "identify", "traits": {"country": "DE" if self.value else "FR"}}
        elif self.what == "group":
            body |= {
                "type": "group",
                "groupId": "g1" if self.value else "zz",
                "traits": {"seats": self.value},
            }
        else:
            body |= {"type": "track", "event": self.what, "properties": {"revenue": 5 + 10 * self.value}}
            if self.value == 2 and self.user is None:
                body["context"] = {"device": _DEVICE}
        world.say(self.lane, **body)


@dataclass(frozen=True)
class Forget:
    """A request in a call of this user."""

    lane: str
    user: str

    def happen(self, world: ChangingWorld) -> None:
        world.say(self.lane, type="delete", userId=self.user)


@dataclass(frozen=True)
class Define:
    """See `ChangingWorld.define`. `at_once`: nobody calls before all has gone over."""

    found: str
    order: int
    died_at: int | None
    at_once: bool = False

    def happen(self, world: ChangingWorld) -> None:
        world.define(self.found, self.order, self.died_at)
        while self.at_once and world.is_changing:
            world.go_on()


@dataclass(frozen=True)
class Do:
    """Something that needs nothing else to be said."""

    what: str

    def happen(self, world: ChangingWorld) -> None:
        if self.what == "recover":
            world.recover()
        elif self.what == "go on":
            world.go_on()
        elif self.what == "confirm":
            world.confirm()
        else:
            world.markers()


Event = Say | Forget | Define | Do

texts = st.builds(
    text,
    st.lists(st.sampled_from(OF_PEOPLE), min_size=2, max_size=4),
    st.lists(st.sampled_from(OF_ACCOUNTS), min_size=1, max_size=2),
    st.sampled_from([2, 30]),
)
lanes = st.sampled_from(LANES)
says = st.builds(
    Say,
    lanes,
    st.sampled_from(["A", "A", "B", "identify", "group", "group"]),
    st.sampled_from([None, "u1", "u2", "u3"]),
    st.sampled_from([None, "a1", "a2", "a3", "a4"]),
    st.integers(0, 2),
)
defines = st.builds(Define, texts, st.integers(0, 3), st.sampled_from([None, None, 0, 3]), st.booleans())
forgets = st.builds(Forget, lanes, st.sampled_from(["u1", "u2", "u3"]))
on = st.sampled_from(["go on", "go on", "go on", "markers", "recover"]).map(Do)
waits = st.sampled_from([0, 1_000, 1_000, HOUR, 26 * HOUR])


def lives(*more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[int, Event, bool]]]:
    """Each with what is waited before, and whether it is committed alone."""
    event = st.one_of(says, says, says, says, defines, on, on, *more)
    return st.lists(st.tuples(waits, event, st.booleans()), min_size=20, max_size=50)


def live(found: str, life: list[tuple[int, Event, bool]], most: int) -> ChangingWorld:
    world = begun(found, most)
    for wait, event, commits in life:
        world.now += wait
        event.happen(world)
        if commits:
            world.commit()
    world.finish()
    assert world.no_unused_state()
    return world


many = st.sampled_from([1, 3, 1_000])


@slow_enough
@given(texts, lives(), texts, many)
def test_ends_as_if_the_last_definitions_had_been_there_from_the_start(
    first: str, life: list[tuple[int, Event, bool]], last: str, most: int
) -> None:
    world = live(first, [*life, *[(0, Do("go on"), True)] * 6, (0, Define(last, 0, None), True)], most)
    assert world.members_now() == replayed(world, last).members_now()


@slow_enough
@given(texts, lives(forgets, st.just(Do("confirm"))), many)
def test_what_is_said_and_what_is_kept_agree_whoever_is_forgotten(
    first: str, life: list[tuple[int, Event, bool]], most: int
) -> None:
    live(first, life, most)
