"""`topics repartition` that kills itself behind a given step.

python crashing_repartition.py PARTITIONS STEP
"""

from __future__ import annotations

import os
import signal
import sys

from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_repartition import Repartition
from app.settings import load_settings


def main(partitions: int, step: str) -> None:
    settings = load_settings()

    def after_step(done: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Repartition(kafka_connection(settings), settings.catalog, print, after_step).run(partitions)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
