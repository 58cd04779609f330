"""The world of delivery, with wishes that everybody be replaced and what was sent by batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.adapters.memory_graph import GraphCall
from schemas.control import DesiredRecord
from tests.unit.pipeline.delivery_world import PERIOD, World, people

HOUR = 3_600.0


class ReplacedWorld(World):
    """Ends with a look at the sessions: the first batch goes out once in each."""

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

    async def end(self) -> None:
        await super().end()
        firsts = [_batch(call).session_id for call in self.replacing if _batch(call).number == 1]
        assert len(firsts) == len(set(firsts)), "batch 1 went out twice in one session"


def _batch(call: GraphCall) -> Any:
    assert call.batch is not None
    return call.batch


ReplacedWorlds = Callable[..., ReplacedWorld]


async def full(world: ReplacedWorld, *members: str) -> None:
    await world.start()
    await world.live(*members)
    await world.clock.advance(3 * PERIOD)
    assert world.members() == set(members)
    world.settle_in("stranger", "another")
