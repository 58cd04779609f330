"""The world of delivery, with people's commands and deltas that were written at an instant of the wall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas.control import DesiredRecord
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import DestinationState
from tests.unit.pipeline.delivery_world import World

PAUSED, LIVE = DestinationState.PAUSED, DestinationState.LIVE


class PausedWorld(World):
    """People's commands, and deltas that were written at an instant of the wall."""

    async def pause(self, target: str = "vips", reason: str | None = None) -> None:
        self._want(target, paused=True, reason=reason)
        await self.clock.settle()

    async def resume(self, target: str = "vips", *, accept_shrink: bool = False) -> None:
        accepted_at = self.clock.now_ms() if accept_shrink else 0
        self._want(target, paused=False, accepted_at=accepted_at)
        await self.clock.settle()

    async def resync(self, target: str = "vips") -> None:
        known = self.desired.get(target) or DesiredRecord(target=target, number=0, paused=False, written_at=0)
        self.desired[target] = known.model_copy(update={"resync_at": self.clock.now_ms()})
        self.delivery.desire(dict(self.desired))
        await self.clock.settle()

    def _want(self, target: str, **fields: Any) -> None:
        number = len(self.desired) and max(record.number for record in self.desired.values())
        resync_at = self.desired[target].resync_at if target in self.desired else 0
        self.desired[target] = DesiredRecord(
            target=target, number=number + 1, written_at=0, resync_at=resync_at, **fields
        )
        self.delivery.desire(dict(self.desired))

    def write(self, profile: str, change: Change, cause: Cause = Cause.EVENT, key: str = "vips") -> None:
        """By a partition whose clock is at the wall; not yet offered."""
        self._sequence += 1
        now = self.clock.now_ms()
        rows: dict[str, list[dict[str, str | float]]] = {key: [{"EXTERN_ID": profile}]}
        delta = MembershipDelta(key, profile, change, self._sequence + 1, rows, now, now, cause)
        self.log.append(0, delta, now)

    async def happen(self, change: Change, *profiles: str, cause: Cause = Cause.EVENT) -> None:
        """Live changes that count for the brake."""
        for profile in profiles:
            self.write(profile, change, cause)
            end = self.log.end(0)
            delta = self.log._records[0][end - 1]
            self.delivery.offer(0, [(end - 1, delta)], end, [self.clock.now_ms()])
        await self.clock.settle()


PausedWorlds = Callable[..., PausedWorld]


def crowd(count: int, first: int = 0) -> list[str]:
    return [f"p{number}" for number in range(first, first + count)]
