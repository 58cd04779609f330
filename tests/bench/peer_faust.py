"""The same job in Faust as its documentation teaches it: an agent, and a table with a changelog.

python peer_faust.py BOOTSTRAP SOURCE DELTAS PARTITIONS GROUP
"""

from __future__ import annotations

import logging
import sys
import tempfile
from typing import Any

import faust
import orjson


def fold(state: list[Any], event: dict[str, Any]) -> list[tuple[str, bool]]:
    """`state`: orders, spent, hats, and whether a member of each audience."""
    name, properties = event["event"], event["properties"]
    if name == "Order Completed":
        state[0] += 1
        state[1] += properties["revenue"]
    elif name == "Product Viewed" and properties["category"] == "hats":
        state[2] += 1
    members = (("has_ordered", state[0] >= 1), ("big_spender", state[1] >= 500), ("hat_lover", state[2] >= 3))
    deltas = []
    for index, (audience, member) in enumerate(members, start=3):
        if member != state[index]:
            state[index] = member
            deltas.append((audience, member))
    return deltas


def new_state() -> list[Any]:
    return [0, 0.0, 0, False, False, False]


def make_app(
    bootstrap: str, source: str, deltas_topic: str, partitions: int, group: str, folder: str
) -> faust.App:
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        topic_partitions=partitions,
        web_enabled=False,
        datadir=folder,
        broker_commit_every=10_000,
        broker_commit_interval=1.0,
    )
    raw = {"key_serializer": "raw", "value_serializer": "raw"}
    events = app.topic(source, key_type=bytes, value_type=bytes, **raw)
    deltas = app.topic(deltas_topic, **raw)
    states = app.Table("states", default=new_state, partitions=partitions)

    async def process(stream: Any) -> None:
        async for key, value in stream.items():
            event = orjson.loads(value)
            user = event["userId"]
            state = states[user]
            changes = fold(state, event)
            states[user] = state
            for audience, member in changes:
                await deltas.send(key=key, value=orjson.dumps({"u": user, "a": audience, "in": member}))

    app.agent(events, name="process")(process)
    return app


if __name__ == "__main__":
    bootstrap, source, deltas, partitions, group = sys.argv[1:]
    # Faust's start-up display leaves the root logger at DEBUG, and every send then makes a log record for nobody.
    for library in ("faust", "aiokafka", "mode"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        app = make_app(bootstrap, source, deltas, int(partitions), group, folder)
        sys.argv[1:] = ["worker", "--loglevel", "error", "--without-web"]
        app.main()
