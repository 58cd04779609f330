"""What a worker does beside its stages, again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def keep_doing(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Every so many seconds, for ever. What could not be reached is tried the next time; anything else is raised."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except UnreachableError:
            continue
