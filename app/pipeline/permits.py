"""Bounds how many destinations send at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Permits:
    """At most `total` holders at once, at most `per_account` of them for one ad account."""

    def __init__(self, total: int, per_account: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_account = per_account
        self._accounts: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def hold(self, account: str) -> AsyncIterator[None]:
        """Waits its turn, first among its own account's, so that who waits there takes no place from others."""
        own = self._accounts.setdefault(account, asyncio.Semaphore(self._per_account))
        async with own, self._total:
            yield
