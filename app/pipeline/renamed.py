"""Deltas whose rows stand under another name than the destination's: its former id, or what stands for every
destination of an audience that was defined no longer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from msgspec.structs import replace

from app.pipeline.delivery_options import Shared
from app.ports import MembershipLog
from schemas.membership import EVERY, MembershipDelta


def renamed(delta: MembershipDelta, destination: str, former: str | None) -> MembershipDelta:
    """The delta with rows for the destination; one that has some stays as it is."""
    rows = delta.rows
    if destination in rows:
        return delta
    if former is not None and former in rows:
        return replace(delta, rows={**rows, destination: rows[former]})
    return replace(delta, rows={**rows, destination: rows[EVERY]}) if EVERY in rows else delta


def all_renamed(
    records: Sequence[tuple[int, MembershipDelta]], destination: str, former: str | None
) -> Sequence[tuple[int, MembershipDelta]]:
    """Offsets and deltas, each of them so."""
    return [(offset, renamed(delta, destination, former)) for offset, delta in records]


def with_former(shared: Shared, destination: str, former: str | None) -> Shared:
    """What the destination shares with others, with a log that reads so."""
    return dataclasses.replace(shared, log=RenamedLog(shared.log, destination, former))


class RenamedLog:
    """Implements `app.ports.MembershipLog` over another one, for one destination."""

    def __init__(self, log: MembershipLog, destination: str, former: str | None) -> None:
        self._log = log
        self._destination = destination
        self._former = former

    async def read(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncGenerator[tuple[int, MembershipDelta], None]:
        """See the protocol."""
        deltas = self._log.read(partition, first, end, audience)
        try:
            async for offset, delta in deltas:
                yield offset, renamed(delta, self._destination, self._former)
        finally:
            await _close(deltas)

    async def read_written(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncGenerator[tuple[int, MembershipDelta, int], None]:
        """See the protocol."""
        deltas = self._log.read_written(partition, first, end, audience)
        try:
            async for offset, delta, written_at in deltas:
                yield offset, renamed(delta, self._destination, self._former), written_at
        finally:
            await _close(deltas)


async def _close(deltas: AsyncIterator[object]) -> None:
    if isinstance(deltas, AsyncGenerator):
        await deltas.aclose()
