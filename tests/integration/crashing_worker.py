"""A worker that sends itself a signal behind a given step of a commit.

python crashing_worker.py STEP COUNT SIGNAL     e.g. evaluate.offsets 3 SIGKILL
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from app.adapters.definition_files import read_definitions
from app.main import Worker
from app.settings import load_settings


def main(step: str, count: int, number: signal.Signals) -> None:
    settings = load_settings()
    seen = 0

    def after_step(done: str) -> None:
        nonlocal seen
        if done == step:
            seen += 1
            if seen == count:
                print(f"{number.name} behind {step}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), number)

    async def run() -> None:
        await Worker(settings, read_definitions(settings.audiences), after_step).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), signal.Signals[sys.argv[3]])
