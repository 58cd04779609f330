"""Several partitions of profile.events that are joined by a log in memory, as workers and Kafka join them.

What a partition reads, writes and remembers is committed together, or lost together in a crash. Whatever happens in
which order is the caller's to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from app.domain.counters import Counters
from app.domain.engage_calls import EngageCalls
from app.domain.linking import owner_of
from app.domain.mailbox import Place
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.state import decode_state
from schemas.engage_call import EngageCall
from schemas.membership import Change, MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from topics.partitioning import partition_for

FAR_WALL = 2**50
EARLY = 5_000

Facebook = dict[str, set[tuple[str, str]]]


@dataclass
class _Node:
    """One partition: its log, how much of that has been read and committed, and its changelog."""

    engine: AudiencePartition
    log: list[tuple[str, bytes]] = field(default_factory=list)
    read: int = 0
    committed: int = 0
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    calls: list[tuple[str, EngageCall]] = field(default_factory=list)


class Cluster:
    """`lanes` source partitions, each with its own resolver, and `partitions` of profile.events. `told`: types of the Engage calls."""

    def __init__(self, plan: Plan, partitions: int, lanes: int, told: Sequence[str] = ()) -> None:
        self.plan = plan
        self._told = told
        self.lanes = [f"topic/{number}" for number in range(lanes)]
        self.deltas: list[MembershipDelta] = []
        # The newest of each key, as compaction leaves them.
        self.memberships: dict[tuple[str, str], MembershipDelta] = {}
        self._counters = [Counters() for _ in range(partitions)]
        self._resolvers = [Resolver(plan, ResolveOptions()) for _ in range(lanes)]
        self._offsets = [0] * lanes
        self.nodes = [_Node(self._engine(number, {})) for number in range(partitions)]

    def _engine(self, number: int, changelog: dict[bytes, bytes]) -> AudiencePartition:
        place = Place(number, self.partition_of)
        self._counters[number] = Counters()
        calls = EngageCalls("shop", self._told, EARLY) if self._told else None
        engine = AudiencePartition(self.plan, EARLY, self._counters[number], place=place, calls=calls)
        for key, value in changelog.items():
            engine.load(key, value)
        engine.finish_recovery()
        engine.set_wall(FAR_WALL)
        engine.set_expected(self.lanes)
        return engine

    def partition_of(self, profile: str) -> int:
        return partition_for(profile.encode(), len(self._counters))

    # --- what happens ---

    def call(self, lane: int, line: bytes, *, twice: bool = False, forgetful: bool = False) -> None:
        """Resolve writes a call; `twice`: it crashed before it knew that it had, and has `forgetful` caches anyway."""
        self._offsets[lane] += 1
        for _ in range(2 if twice else 1):
            if twice or forgetful:
                self._resolvers[lane] = Resolver(self.plan, ResolveOptions())
            resolution = self._resolvers[lane].resolve(
                line, None, FAR_WALL, self.lanes[lane], self._offsets[lane]
            )
            assert resolution.received is not None
            self._write(resolution.records)
            self.marker(resolution.received, lane)

    def marker(self, instant: int, lane: int) -> None:
        progress = {self.lanes[lane]: instant}
        event = msgspec.msgpack.encode(
            ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress=progress)
        )
        for node in self.nodes:
            node.log.append(("", event))

    def _write(self, records: object) -> None:
        for profile, event in records:  # type: ignore[attr-defined]
            self.nodes[self.partition_of(profile)].log.append((profile, msgspec.msgpack.encode(event)))

    def step(self, number: int, most: int) -> None:
        """The partition reads up to so many records."""
        node = self.nodes[number]
        for profile, encoded in node.log[node.read : node.read + most]:
            event = msgspec.msgpack.decode(encoded, type=ProfileEvent)
            if event.kind == MARKER:
                node.engine.apply_marker(event)
            else:
                node.engine.apply(profile, event)
            node.read += 1

    def commit(self, number: int) -> None:
        node = self.nodes[number]
        outcome = node.engine.drain()
        for audience, profile in outcome.left:
            self.memberships.pop((audience, profile), None)
        self.memberships.update({(delta.audience, delta.profile): delta for delta in outcome.deltas})
        self.deltas += outcome.deltas
        for key in outcome.erased:
            node.changelog.pop(key, None)
        node.changelog.update(outcome.states)
        node.calls += outcome.calls
        node.committed = node.read
        self._write(outcome.records)

    def crash(self, number: int) -> None:
        node = self.nodes[number]
        node.engine = self._engine(number, node.changelog)
        node.read = node.committed

    def define(self, plan: Plan) -> None:
        """All workers are started anew with other definitions, when nothing is under way."""
        self.settle()
        self.plan = plan
        self._resolvers = [Resolver(plan, ResolveOptions()) for _ in self.lanes]
        for number in range(len(self.nodes)):
            self.crash(number)

    def let_go(self) -> None:
        """Every destination confirms the removals that have been committed, and this is committed; none does of an
        audience that is defined no longer.
        """
        defined = self.plan.audiences.keys()
        for number, node in enumerate(self.nodes):
            removals = node.engine.forgotten.removals
            for key in list(removals):
                if removals[key].audiences.keys() <= defined:
                    node.engine.confirm_removal(key, removals[key])
            self.commit(number)

    def settle(self) -> None:
        """Until nobody has anything to read or to say."""
        rounds = 0
        while any(node.committed < len(node.log) for node in self.nodes):
            rounds += 1
            assert rounds < 200, "profiles never stop talking to each other"
            for number, node in enumerate(self.nodes):
                self.step(number, len(node.log))
                self.commit(number)

    # --- what came of it ---

    def owner(self, profile: str) -> str:
        seen = []
        while (state := self.nodes[self.partition_of(profile)].engine.states.find(profile)) is not None:
            owner = owner_of(state)
            if owner is None:
                break
            seen.append(profile)
            assert owner not in seen, "forwarders form a ring"
            profile = owner
        return profile

    def members(self) -> set[tuple[str, str]]:
        """By the newest deltas; asserts that they are unbroken and agree with states and counters."""
        known: dict[tuple[str, str], tuple[int, bool]] = {}
        for delta in self.deltas:
            key = (delta.audience, delta.profile)
            sequence, member = known.get(key, (0, False))
            assert delta.sequence == sequence + 1, (key, delta)
            if delta.change is not Change.UPDATED:
                assert member is (delta.change is Change.EXITED), (key, delta)
                member = delta.change is Change.ENTERED
            known[key] = (delta.sequence, member)
        members = {key for key, (_, member) in known.items() if member}
        states = {
            (self.plan.by_id[short].key, key.decode())
            for node in self.nodes
            for key, value in node.changelog.items()
            if not key.startswith(b"\x00")
            for short, membership in decode_state(value).memberships.items()
            if membership.member and not short.startswith("/")  # what accounts ask of users
        }
        assert members == states
        for audience in self.plan.audiences:
            counted = sum(node.engine.members(audience) for node in self.nodes)
            people = [profile for key, profile in members if key == audience]
            assert counted == sum(not profile.startswith("group_id:") for profile in people)
        return members

    def facebook(self) -> Facebook:
        """What Facebook has of each audience when every delta has been sent in order: values by column."""
        found: Facebook = {audience: set() for audience in self.plan.audiences if "/" not in audience}
        for delta in self.deltas:
            values = {
                (column, str(value))
                for rows in delta.rows.values()
                for row in rows
                for column, value in row.items()
                if column in ("EXTERN_ID", "EMAIL", "MADID")
            }
            if delta.change is Change.EXITED:
                found[delta.audience] -= values
            else:
                found[delta.audience] |= values
        return found
