"""A partition whose definitions change in the midst of the calls of several lanes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import DefinitionSet, Document, parse_definitions
from app.domain.fields import CallFields
from app.domain.filling import as_past, of_the_past, past_lane
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.plan_versions import PlanVersions, projection
from app.domain.resolution import ResolveOptions, Resolver
from schemas.membership import Change, MembershipDelta
from schemas.profile import MARKER, PAST, PAST_END, VERSION, ProfileEvent
from tests.unit.domain.plans import FAR_WALL, HOUR, START

LANES = ("lane-0", "lane-1")
USERS = ("user_1", "user_2", "user_3")

OLD = """
audiences:
  - {name: Month, when: {event: A, within: 30d}}
  - {name: Spender, when: {event: A, within: 60d, sum: {property: revenue, at_least: 50}}}
  - {name: Ever b, when: {event: B}}
  - {name: Frequent, when: {event: A, within: 60d, count: {at_least: 3}}}
  - {name: German, when: {trait: country, equals: DE}}
  - {name: Gone, when: {event: C, within: 20d}}
  - {name: Rich, when: {trait: spent, at_least: 50}}
traits:
  spent: {event: A, sum: revenue, within: 30d}
"""
# Every audience edited, added, removed, disabled or under another name; nothing of it needs more of the past.
NEW = """
audiences:
  - {name: Month, when: {event: A, within: 10d}}
  - {name: Big spender, key: spender, when: {event: A, within: 60d, sum: {property: revenue, at_least: 80}}}
  - {name: Twice lately, when: {event: A, within: 40d, count: {at_least: 2}}}
  - {name: Frequent, when: {event: A, within: 60d, count: {at_least: 3}}, enabled: false}
  - {name: Not b, when: {all: [{event: A, within: 30d}, {not: {event: B}}]}}
  - {name: Asks, when: {all: [{audience: month}, {trait: country, none_of: [DE]}]}}
  - {name: Rich, when: {trait: spent, at_least: 50}}
traits:
  spent: {event: A, average: revenue, within: 20d}
"""


def definitions(text: str) -> DefinitionSet:
    return parse_definitions([Document("audiences.yaml", text)])


def compiled(text: str) -> Plan:
    found = definitions(text)
    return compile_audiences(found.audiences, found.traits)


PLANS = {1: compiled(OLD), 2: compiled(NEW)}


def iso(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1_000, UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class Step:
    """After `wait_ms`: a call of a user in a lane (None: markers of all lanes), or a recovery."""

    wait_ms: int
    lane: int
    user: str
    event: str | None
    revenue: int = 0
    recover: bool = False


@dataclass
class World:
    """One partition, two lanes with a resolver each, and what is in Kafka. `most` timers fire between two commits."""

    plans: dict[int, Plan]
    first: int = 1
    most: int = 1
    now: int = START
    deltas: list[MembershipDelta] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    log: list[tuple[str, ProfileEvent]] = field(default_factory=list)
    committed: int = 0

    def __post_init__(self) -> None:
        self.versions = PlanVersions()
        self.versions.take(self.first, self.plans[self.first])
        self.at = dict.fromkeys(LANES, self.first)
        self.since = dict.fromkeys(LANES, 0)
        self.offsets = dict.fromkeys(LANES, 0)
        self.source: dict[str, list[tuple[int, bytes]]] = {lane: [] for lane in LANES}
        self.resolvers = {
            lane: Resolver(projection([self.plans[self.first]]), ResolveOptions()) for lane in LANES
        }
        self.counters = Counters()
        self._recover()
        self.markers()

    def _recover(self) -> None:
        self.counters = Counters()
        newest = self.versions.plans[self.versions.newest]
        self.partition = AudiencePartition(newest, 0, self.counters, self.now, versions=self.versions)
        for key, value in self.changelog.items():
            self.partition.load(key, value)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_wall(self.now)
        self.partition.set_expected(LANES)

    def recover(self) -> None:
        """As after a crash: what was not committed is read again."""
        self._recover()
        again, self.log = self.log[self.committed :], self.log[: self.committed]
        for profile, event in again:
            self._arrive(profile, event)

    def publish(
        self, number: int, held: frozenset[str] = frozenset(), fields: CallFields | None = None
    ) -> None:
        self.versions.take(number, self.plans[number], held, fields)

    def read_again(self, lane: str, number: int, most: int | None = None) -> None:
        """The lane's records for those who wait; `most` of them and no end, as if the reader had died there."""
        held = self.versions.held[number]
        fields = self.versions.fields[number]
        resolver = Resolver(of_the_past(self.plans[number], held, number, fields), ResolveOptions())
        past = past_lane(number, lane)
        for offset, raw in self.source[lane][:most]:
            for profile, event in resolver.resolve(raw, None, FAR_WALL, past, offset).records:
                again = as_past(event, number)
                if again is not None:
                    self._arrive(profile, again)
        if most is None:
            self._arrive("", ProfileEvent(VERSION, PAST_END, past, self.offsets[lane] + 1, 0, 0, 0))

    def carry(self, lane: str, number: int) -> None:
        """The lane's resolver has read of the version, and projects for both from now on."""
        self.at[lane] = number
        self.since[lane] = self.offsets[lane] + 1
        plans = [self.plans[known] for known in sorted(self.versions.plans) if known <= number]
        self.resolvers[lane] = Resolver(projection(plans), ResolveOptions())

    def body(self, step: Step, lane: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": "track",
            "event": step.event,
            "userId": step.user,
            "messageId": f"{lane}-{self.offsets[lane]}",
            "timestamp": iso(self.now),
            "receivedAt": iso(self.now),
            "properties": {"revenue": step.revenue},
        }
        if step.event == "identify":
            body |= {"type": "identify", "traits": {"country": "DE" if step.revenue else "FR"}}
        if step.event == "group":
            body |= {"type": "group", "groupId": f"g{step.revenue % 3}", "traits": {"seats": step.revenue}}
        return body

    def call(self, step: Step) -> None:
        lane = LANES[step.lane]
        self.send(lane, self.body(step, lane))

    def send(self, lane: str, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.offsets[lane] += 1
        self.source[lane].append((self.offsets[lane], raw))
        for profile, event in (
            self.resolvers[lane].resolve(raw, None, FAR_WALL, lane, self.offsets[lane]).records
        ):
            self._arrive(profile, event)

    def markers(self) -> None:
        for lane in LANES:
            marker = ProfileEvent(
                VERSION,
                MARKER,
                "",
                0,
                0,
                self.now,
                self.now,
                progress={lane: self.now},
                definitions=self.at[lane],
                since={lane: self.since[lane]},
            )
            self._arrive("", marker)

    def _arrive(self, profile: str, event: ProfileEvent) -> None:
        self.log.append((profile, event))
        self.partition.set_wall(self.now)
        while not self.partition.foresee(event, self.most):
            self._commit(len(self.log) - 1)
        if event.kind == MARKER:
            self.partition.apply_marker(event)
        elif event.kind in (PAST, PAST_END):
            self.partition.apply_past(profile, event)
        else:
            self.partition.apply(profile, event)

    def commit(self) -> None:
        self._commit(len(self.log))

    def _commit(self, upto: int) -> None:
        outcome = self.partition.drain()
        self.deltas += outcome.deltas
        self.changelog.update(outcome.states)
        self.committed = upto

    def run(self, step: Step) -> None:
        self.now += step.wait_ms
        if step.recover:
            self.recover()
        if step.event is None:
            self.markers()
        else:
            self.call(step)
            self.commit()

    def members(self) -> dict[str, set[str]]:
        """By the deltas, of which each must follow from the one before."""
        known: dict[tuple[str, str], MembershipDelta] = {}
        for delta in self.deltas:
            last = known.get((delta.audience, delta.profile))
            assert delta.sequence == (last.sequence + 1 if last else 1)
            if delta.change is not Change.UPDATED:
                assert delta.change is (
                    Change.EXITED if last and last.change is not Change.EXITED else Change.ENTERED
                )
            known[delta.audience, delta.profile] = delta
        found: dict[str, set[str]] = {}
        for (audience, profile), delta in known.items():
            if delta.change is not Change.EXITED:
                found.setdefault(audience, set()).add(profile)
        return found


def finish(world: World) -> None:
    world.now += HOUR
    world.markers()
    world.markers()
    world.commit()


def read_but_for_one_lane(
    world: World, phases: Sequence[Sequence[Step]], publish: Callable[[], None], died_at: int, *, crash: bool
) -> int:
    """The steps before, between and behind the switch to version 2, and while lane-0 is read again, after a reader that
    died; how many deltas there were at the switch.
    """
    before, between, waiting, reading = phases
    for step in before:
        world.run(step)
    publish()
    world.carry("lane-1", 2)
    for step in between:
        world.run(step)
    world.carry("lane-0", 2)
    world.markers()
    world.commit()
    at_switch = len(world.deltas)
    for step in waiting:
        world.run(step)
    world.read_again("lane-0", 2, died_at)
    world.commit()
    world.read_again("lane-0", 2)
    if crash:
        world.recover()
    for step in reading:
        world.run(step)
    world.commit()
    assert world.partition.is_filling
    return at_switch
