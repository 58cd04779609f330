"""A worker that sends itself a signal behind a given step of a commit, or finds that memory has run out, or meets
an exception with a given text.

python crashing_worker.py STEP COUNT SIGNAL|MemoryError|TEXT     e.g. evaluate.offsets 3 SIGKILL
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from app.adapters.definition_files import read_definitions
from app.main import Worker
from app.settings import load_settings

OUT_OF_MEMORY = MemoryError.__name__


def main(step: str, count: int, what: str) -> None:
    settings = load_settings()
    seen = 0

    def after_step(done: str) -> None:
        nonlocal seen
        if done == step:
            seen += 1
            if seen == count:
                if what != OUT_OF_MEMORY and what not in signal.Signals.__members__:
                    raise ValueError(what)
                print(f"{what} behind {step}", file=sys.stderr, flush=True)
                if what == OUT_OF_MEMORY:
                    raise MemoryError
                os.kill(os.getpid(), signal.Signals[what])

    async def run() -> None:
        await Worker(settings, read_definitions(settings.audiences), after_step).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
