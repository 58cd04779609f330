"""A worker whose wall is set by signals: SIGUSR1 puts it ahead of what it should be, SIGUSR2 behind, SIGHUP right.

python jumping_worker.py [AHEAD_SECONDS BEHIND_SECONDS]     without: 40 days ahead
"""

from __future__ import annotations

import asyncio
import signal
import sys

import app.main
from app.adapters.clock import SystemClock
from app.adapters.definition_files import read_definitions
from app.settings import load_settings

AHEAD_SECONDS = 40 * 86_400


class JumpingClock(SystemClock):
    off_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.off_ms


def jump_at(number: signal.Signals, seconds: int) -> None:
    def jump(*_: object) -> None:
        JumpingClock.off_ms = seconds * 1_000
        print(f"the wall has jumped: {seconds:+} s", file=sys.stderr, flush=True)

    signal.signal(number, jump)


if __name__ == "__main__":
    vars(app.main)["SystemClock"] = JumpingClock
    ahead, behind = (int(argument) for argument in sys.argv[1:] or (AHEAD_SECONDS, 0))
    jump_at(signal.SIGUSR1, ahead)
    jump_at(signal.SIGUSR2, -behind)
    jump_at(signal.SIGHUP, 0)
    settings = load_settings()
    asyncio.run(app.main.Worker(settings, read_definitions(settings.audiences)).run())
