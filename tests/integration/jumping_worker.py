"""A worker whose wall jumps ahead by 40 days at SIGUSR1.

python jumping_worker.py
"""

from __future__ import annotations

import asyncio
import signal
import sys

import app.main
from app.adapters.clock import SystemClock
from app.adapters.definition_files import read_definitions
from app.settings import load_settings

AHEAD_MS = 40 * 86_400_000


class JumpingClock(SystemClock):
    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


def jump(*_: object) -> None:
    JumpingClock.ahead_ms = AHEAD_MS
    print("the wall has jumped", file=sys.stderr, flush=True)


if __name__ == "__main__":
    vars(app.main)["SystemClock"] = JumpingClock
    signal.signal(signal.SIGUSR1, jump)
    settings = load_settings()
    asyncio.run(app.main.Worker(settings, read_definitions(settings.audiences)).run())
