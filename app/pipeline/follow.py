"""audience.control → every stage: which definitions are in force, while the worker runs.

Resolve goes over to a version as soon as it is read, projecting for all versions that some partition may still run by;
from then on the markers of its lanes say so. Partitions of profile.events switch by those markers
(app.domain.partition). Delivery takes destinations up and lets them go at once: what a destination is behind by, it
reads from its own cursor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.domain.conditions import compile_audiences
from app.domain.filling import held_back
from app.domain.past_fields import filled_fields
from app.domain.plan_versions import PlanVersions, projection
from app.domain.published import Published, cleared_by, definitions_of, filled_by_version
from app.domain.room import Room
from app.errors import UnreachableError
from app.pipeline.watching import keep_doing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from app.domain.definitions import DefinitionSet
    from app.domain.plan import Plan
    from app.ports import ControlLog
    from schemas.audience import AudienceDefinition
    from schemas.control import DefinitionsRecord, DesiredRecord

FOLLOW_SECONDS = 1.0
UNREACHABLE_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class InForce:
    """`number` is the newest version; `cleared` are audiences that are delivered to and have no members any more."""

    number: int
    definitions: DefinitionSet
    cleared: tuple[AudienceDefinition, ...]
    projection: Plan

    @property
    def delivered(self) -> tuple[AudienceDefinition, ...]:
        return (*self.definitions.audiences, *self.cleared)


def _nobody_listens(desired: Mapping[str, DesiredRecord]) -> None:
    del desired


@dataclass(slots=True)
class Follower:
    """One worker's view of audience.control; `use` is called at each change, in order, and never twice at once.

    `in_thread` awaits a blocking call in a thread. `desire` is told, whenever something has been read and before `use`,
    what people want of audiences and destinations.
    """

    control: ControlLog
    partitions: int
    in_thread: Callable[..., Awaitable[Published]]
    use: Callable[[InForce], Awaitable[None]]
    room: Room = field(default_factory=Room)
    versions: PlanVersions = field(default_factory=PlanVersions)
    current: InForce | None = None
    published: Published = field(default_factory=Published)
    desire: Callable[[Mapping[str, DesiredRecord]], None] = _nobody_listens
    _numbers: tuple[int, ...] = ()
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Follow for ever."""
        # Of Kafka out of reach: what was in force is in force until something else is known.
        await keep_doing(lambda: self._read(settled=False), FOLLOW_SECONDS)

    async def refresh(self) -> None:
        """Returns when everything is in use that was published before the call, however long Kafka takes.

        Raises InvalidInputError when the topics are being repartitioned: called before anything of them is read, it keeps
        out who started before that began.
        """
        while True:
            try:
                await self._read(settled=True)
            except UnreachableError:
                await asyncio.sleep(UNREACHABLE_PAUSE_SECONDS)
            else:
                return

    async def publish(self, decide: Callable[[Published], DefinitionsRecord | None]) -> None:
        """See `ControlLog.publish`; what is published is in use when this returns."""
        async with self._reading:
            changed = self._take(await self.in_thread(lambda: self.control.publish(decide)))
            if changed is not None:
                await self.use(changed)

    async def _read(self, *, settled: bool) -> None:
        async with self._reading:
            published = await self.in_thread(lambda: self.control.refresh(settled=settled))
            published.refuse_half_moved()
            self.desire(published.desired)
            changed = self._take(published)
            if changed is not None:
                await self.use(changed)

    def _take(self, published: Published) -> InForce | None:
        """What is in force now, if that is something else than before."""
        self.published = published
        newest, numbers = published.newest, published.in_force(self.partitions)
        if newest is None or numbers == self._numbers:
            return None
        cleared = cleared_by(newest)
        for number in numbers:
            if number not in self.versions.plans:
                record = published.versions[number]
                defined = definitions_of(record)
                plan = compile_audiences(
                    (*defined.audiences, *cleared_by(record)),
                    defined.traits,
                    record.generations,
                    self.room,
                )
                held, fields = _held(published, record, plan), filled_fields(plan, filled_by_version(record))
                self.versions.take(number, plan, held, fields)
        self.versions.keep(numbers)
        self._numbers = numbers
        plans = [self.versions.plans[number] for number in numbers]
        gone = [definition.key for definition in cleared]
        self.current = InForce(newest.number, definitions_of(newest), cleared, projection(plans, gone))
        return self.current


def _held(published: Published, record: DefinitionsRecord, plan: Plan) -> frozenset[str]:
    """The audiences of a version that wait for their past."""
    filled = filled_by_version(record)
    if not filled:
        return frozenset()
    earlier = published.versions.get(record.number - 1)
    before = () if earlier is None else definitions_of(earlier).audiences
    return held_back(definitions_of(record), before, filled, plan)
