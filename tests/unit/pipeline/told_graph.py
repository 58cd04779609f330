"""A Facebook that says how much of its limits is used up, fails for some people, and remembers what it took."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from app.adapters.memory_graph import GraphCall, MemoryGraph
from app.domain.delivery import UsageMeter
from app.domain.delivery_errors import Scope
from app.ports import UsersAnswer
from schemas.membership import MembershipDelta
from tests.unit.pipeline.delivery_world import World

HOUR = 3600.0


class ToldGraph(MemoryGraph):
    """Says `percent` of usage with each answer, fails for `poison`, and with `fails` for all; remembers what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.percent: Callable[[], float] = lambda: 0.0
        self.poison: dict[str, Exception] = {}
        self.fails: Callable[[GraphCall], Exception | None] = lambda _: None
        self.taken: list[GraphCall] = []

    async def _users(self, call: GraphCall, apply: Callable[[], None]) -> UsersAnswer:
        named = {str(cell) for row in call.rows for cell in row.values()}
        error = self.fails(call) or next(
            (self.poison[each] for each in sorted(named & self.poison.keys())), None
        )
        if error is not None:
            self.calls.append(call)
            raise error
        answer = await super()._users(call, apply)
        self.taken.append(call)
        return dataclasses.replace(answer, usage=(UsageMeter(Scope.AD_ACCOUNT, self.percent(), 0.0, "1"),))

    def rows_taken(self) -> Counter[tuple[str, str]]:
        return Counter(
            (call.kind, str(cell)) for call in self.taken for row in call.rows for cell in row.values()
        )


def told(world: World) -> ToldGraph:
    graph = ToldGraph()
    world.graph = graph
    world.delivery = world.worker()
    return graph


def offered(world: World, *changes: MembershipDelta) -> None:
    end = world.log.end(0)
    world.delivery.offer(0, [(end - len(changes) + place, delta) for place, delta in enumerate(changes)], end)


def is_at_the_end(world: World) -> bool:
    return world.delivery.idle() and world.ledger.states["vips"].cursor == world.log.end(0)
