"""The same job as a loop over confluent-kafka written by hand: what the machine gives without any framework.

    python peer_loop.py BOOTSTRAP SOURCE DELTAS CHANGELOG GROUP

State in a dictionary, one group member, no transaction: after a crash it repeats deltas, and it has no recovery,
windows or rebalancing. Every 10,000 events: deltas, changed states, flush, commit.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import orjson
from confluent_kafka import Consumer, Producer

BATCH = 10_000


class Event(msgspec.Struct, gc=False):
    """What the job reads of a call."""

    event: str
    userId: str  # noqa: N815 - Segment's spelling
    properties: dict[str, Any]


def fold(state: list[Any], event: Event) -> list[tuple[str, bool]] | None:
    """`state`: orders, spent, hats, and whether a member of each audience. None: nothing has changed."""
    if event.event == "Order Completed":
        state[0] += 1
        state[1] += event.properties["revenue"]
    elif event.event == "Product Viewed" and event.properties["category"] == "hats":
        state[2] += 1
    else:
        return None
    deltas = []
    ordered, spender, hats = state[0] >= 1, state[1] >= 500, state[2] >= 3
    if ordered != state[3]:
        state[3] = ordered
        deltas.append(("has_ordered", ordered))
    if spender != state[4]:
        state[4] = spender
        deltas.append(("big_spender", spender))
    if hats != state[5]:
        state[5] = hats
        deltas.append(("hat_lover", hats))
    return deltas


def run(bootstrap: str, source: str, deltas_topic: str, changelog: str, group: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.max.bytes": 50_000_000,
            "queued.min.messages": 200_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "compression.type": "lz4",
        }
    )
    decode = msgspec.json.Decoder(Event).decode
    states: dict[str, list[Any]] = {}
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(BATCH, 1.0)
        if not messages:
            continue
        changed = set()
        for message in messages:
            event = decode(message.value() or b"")
            user = event.userId
            state = states.get(user)
            if state is None:
                state = states[user] = [0, 0.0, 0, False, False, False]
            deltas = fold(state, event)
            if deltas is None:
                continue
            changed.add(user)
            for audience, member in deltas:
                value = orjson.dumps({"u": user, "a": audience, "in": member})
                producer.produce(deltas_topic, value, message.key())
        for user in changed:
            producer.produce(changelog, orjson.dumps(states[user]), user.encode())
        producer.flush()
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    run(*sys.argv[1:])
