"""The process whose memory is measured: `python -m tests.bench.facebook_process AUDIENCES ROWS`.

Full batches of so many rows wait for so many destinations. One JSON object on stdout.
"""

from __future__ import annotations

import gc
import sys

import msgspec
import orjson

import app.main  # noqa: F401 - all of the worker's code is loaded, as it is in a worker
from app.domain.batching import Batcher, BatchPolicy
from app.errors import PermanentError
from schemas.membership import MembershipDelta
from tests.bench.facebook_people import delta
from tests.bench.memory_process import resident_bytes

_AT_A_TIME = 1_000


def fill(audiences: int, rows: int) -> list[Batcher]:
    """As live deltas come: decoded from what Kafka has, none of which is shared between audiences."""
    policy = BatchPolicy(rows, 30.0, 3 * rows)
    decode = msgspec.json.Decoder(MembershipDelta).decode
    batchers = []
    for place in range(audiences):
        key = f"audience_{place}"
        batcher = Batcher(key, policy, 0, 0)
        for first in range(0, rows, _AT_A_TIME):
            numbers = range(first, min(rows, first + _AT_A_TIME))
            records = [(one, decode(msgspec.json.encode(delta(one, key, [key])))) for one in numbers]
            batcher.offer(records, numbers.stop, 0.0)
        batchers.append(batcher)
    return batchers


def main(audiences: int, rows: int) -> None:
    gc.collect()
    before = resident_bytes()
    batchers = fill(audiences, rows)
    gc.collect()
    after = resident_bytes()
    for batcher in batchers:
        batch = batcher.take(0.0)
        if batch is None or len(batch.changes) != rows:
            raise PermanentError("a batch that should be full is not")
    print(orjson.dumps({"before_bytes": before, "after_bytes": after}).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
