"""A partition in which everything changes at once: definitions, who is who, accounts, and who wants to be forgotten.

What Kafka holds is looked at after every commit: what the deltas say, what the states say and what is counted are the
same, also of audiences that are defined no longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from app.domain.compact import audience_id
from app.domain.conditions import compile_audiences
from app.domain.filling import held_back
from app.domain.past_fields import filled_fields
from app.domain.plan_changes import generations_after
from app.domain.profile_ids import is_account
from app.domain.state import decode_state, owner_in
from schemas.membership import Change, MembershipDelta
from tests.unit.domain.switching_world import LANES, World, compiled, definitions, iso

Members = set[tuple[str, str]]

_FACEBOOK = "facebook: {ad_account_id: act_1}"
# What people are asked. Several ask for the same events: a feed stays, goes, or is kept in another way.
OF_PEOPLE = (
    "{event: A, within: 30d}",
    "{event: A, count: {at_least: 2}}",
    "{event: A, count: {exactly: 0}, within: 1d}",
    "{event: A, sum: {property: revenue, at_least: 30}}",
    "{event: A, within: 5d, then: {event: B, count: {exactly: 0}, where: {revenue: {same_as: revenue}}}}",
    "{event: B, within: 2d, where: {revenue: {at_least: 10}}}",
    "{not: {event: B}}",
    "{trait: country, equals: DE}",
    "{trait: spent, at_least: 20}",
)
OF_ACCOUNTS = (
    "{users: {any: {event: A, within: 3d}}}",
    "{users: {all: {event: B}}}",
    "{all: [{users: {none: {event: B}}}, {trait: seats, at_least: 1}]}",
    "{trait: seats, at_least: 2}",
)


def text(people: Collection[str], accounts: Collection[str], days: int) -> str:
    """Definitions with these conditions; under one key stands what has the same place among them."""
    lines = [
        f"  - {{name: P{place}, include_anonymous: true, when: {when}, {_FACEBOOK}}}"
        for place, when in enumerate(people)
    ]
    lines += [
        f"  - {{name: G{place}, entity: account, include_anonymous: true, when: {when}, {_FACEBOOK}}}"
        for place, when in enumerate(accounts)
    ]
    trait = f"  spent: {{event: A, sum: revenue, within: {days}d}}"
    return "\n".join(("audiences:", *lines, "traits:", trait, ""))


def same_from_the_start(found: str) -> ChangingWorld:
    """A world that has never known other definitions."""
    return ChangingWorld({1: compiled(found)}, found=found)


@dataclass
class ChangingWorld(World):
    """`found` are the definitions that it begins with. What was called is in `calls`, with its instant."""

    found: str = ""
    calls: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    # The newest of each key, as compaction leaves them.
    newest: dict[tuple[str, str], MembershipDelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stages: deque[tuple[str, str, int]] = deque()
        self._definitions = definitions(self.found)
        self._generations: dict[str, int] = {}
        self._keys = {audience_id(key): key for key in self.plans[1].audiences}
        super().__post_init__()

    # --- what happens ---

    def say(self, lane: str, **fields: Any) -> None:
        """A call, now."""
        self.calls.append((self.now, lane, fields))
        times = {"timestamp": iso(self.now), "receivedAt": iso(self.now)}
        self.send(lane, {"messageId": f"{lane}-{self.offsets[lane]}", **times, **fields})

    def define(self, found: str, order: int = 0, died_at: int | None = None) -> None:
        """Other definitions are published, unless the last ones are still on their way; `go_on` brings them. The bits
        of `order` say which lane is first. `died_at`: of each lane so many records are read again in vain at first.
        """
        if self._stages:
            return
        number, after = self.versions.newest + 1, definitions(found)
        before, self._definitions = self._definitions, after
        self._generations = generations_after(before, after, self._generations, number, self.now)
        plan = compile_audiences(after.audiences, after.traits, self._generations)
        self._keys |= {audience_id(key): key for key in plan.audiences}
        filled = [key for key, version in self._generations.items() if version == number]
        held = held_back(after, before.audiences, filled, plan) if filled else frozenset()
        self.plans[number] = plan
        self.publish(number, held, filled_fields(plan, filled))
        self.versions.keep([number - 1, number])
        self._stages.extend(("carry", lane, 0) for lane in LANES[:: -1 if order & 1 else 1])
        if self.versions.reads_again(number):
            for lane in LANES[:: -1 if order & 2 else 1]:
                if died_at is not None:
                    self._stages.append(("die", lane, died_at))
                self._stages.append(("read", lane, 0))

    @property
    def is_changing(self) -> bool:
        """Whether stages are left."""
        return bool(self._stages)

    def go_on(self) -> None:
        """One stage of a change of the definitions."""
        if not self._stages:
            return
        what, lane, count = self._stages.popleft()
        number = self.versions.newest
        if what == "carry":
            self.carry(lane, number)
        else:
            self.read_again(lane, number, count if what == "die" else None)
        self.markers()
        self.commit()

    def confirm(self) -> None:
        """Every destination has let go of those who are to be forgotten."""
        self.commit()
        removals = self.partition.forgotten.removals
        for key in list(removals):
            self.partition.confirm_removal(key, removals[key])

    def finish(self) -> None:
        """Until nothing is under way any more, and nobody is about to leave."""
        while self._stages:
            self.go_on()
        for _ in range(2):
            self.now += 1
            self.markers()
            self.commit()
            self.confirm()
        self.markers()
        self.commit()

    # --- what came of it ---

    def _commit(self, upto: int) -> None:
        outcome = self.partition.drain()
        self.deltas += outcome.deltas
        for key in outcome.erased:
            self.changelog.pop(key, None)
        self.changelog.update(outcome.states)
        self.committed = upto
        for membership in outcome.left:
            self.newest.pop(membership, None)
        for delta in outcome.deltas:
            place = (delta.audience, delta.profile)
            last = self.newest.get(place)
            assert delta.sequence == (last.sequence + 1 if last else 1), delta
            self.newest[place] = delta
        self._agree()

    def _agree(self) -> None:
        """Deltas, states and counts."""
        said = {place for place, delta in self.newest.items() if delta.change is not Change.EXITED}
        members, defined = self.members_by_states(), self.partition.full_plan.audiences
        assert members == said
        for key in self._keys.values():
            people = sum(audience == key and not is_account(profile) for audience, profile in members)
            assert self.partition.members(key) == people, key
            counted = self.counters.audiences.get(key)
            if key in defined:
                assert (counted.members if counted else 0) == people, key

    def members_by_states(self) -> Members:
        """Audience and profile, by all that has been committed; not what accounts ask of people."""
        states = {
            key.decode(): decode_state(value)
            for key, value in self.changelog.items()
            if not key.startswith(b"\x00") and owner_in(value) is None
        }
        return {
            (self._keys[short], profile)
            for profile, state in states.items()
            for short, known in state.memberships.items()
            if known.member and short in self._keys and "/" not in self._keys[short]
        }

    def members_now(self) -> Members:
        """Of the audiences that are defined."""
        defined = self.partition.plan.audiences
        return {place for place in self.members_by_states() if place[0] in defined}

    def no_unused_state(self) -> bool:
        """Whether states hold only what the definitions ask for."""
        plan = self.partition.plan
        states = [decode_state(value) for key, value in self.changelog.items() if key[:1] != b"\x00"]
        return all(
            state.feeds.keys() <= plan.needs.keys() and state.computed.keys() <= plan.computed.keys()
            for state in states
        )


def begun(found: str, most: int) -> ChangingWorld:
    """`most` timers fire between two commits."""
    return ChangingWorld({1: compiled(found)}, most=most, found=found)


def replayed(world: ChangingWorld, found: str) -> ChangingWorld:
    """The same calls, with these definitions from the start."""
    reference = same_from_the_start(found)
    for at, lane, fields in world.calls:
        reference.now = at
        reference.say(lane, **fields)
        reference.commit()
    reference.now = world.now
    reference.finish()
    return reference
