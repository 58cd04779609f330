"""What audience.memberships must not hold, even where everything is right again in the end.

- A change that is there twice or missing: state and deltas of one commit go together, and nobody commits who has lost
  the partition.
- Somebody let out by time although a call that keeps them had come in before: no clock runs ahead of a lane.
- A dead letter that counts as replayed although the membership has changed since, or the other way round.

Nothing here is the application's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.chaos.stream import WINDOWS_MS, Call
from tests.chaos.truth import ALWAYS, BOUGHT, key_of

Delta = dict[str, Any]
Letter = dict[str, Any]


def gaps(deltas: Iterable[Delta]) -> Iterator[str]:
    """Changes of an audience and profile, in their order, that do not follow each other."""
    last: dict[tuple[str, str], Delta] = {}
    for delta in deltas:
        key = delta["audience"], delta["profile"]
        before = last.get(key)
        last[key] = delta
        if before is None:
            continue
        if delta["sequence"] != before["sequence"] + 1:
            yield f"{key}: sequence {delta['sequence']} behind {before['sequence']}"
        elif delta["change"] == before["change"] == "entered":
            yield f"{key}: entered twice, at {before['at']} and at {delta['at']}"


def said_members(deltas: Iterable[Delta], audience: str) -> set[str]:
    """Who is a member by the newest change of each profile."""
    newest = {delta["profile"]: delta["change"] for delta in deltas if delta["audience"] == audience}
    return {profile for profile, change in newest.items() if change != "exited"}


def let_out_too_early(deltas: Iterable[Delta], calls: Iterable[tuple[int, Call]]) -> Iterator[str]:
    """Of who bought lately: exits by time, at an instant at which an order that Kafka had before still counted.

    `calls` are those of the source topic, each with the instant at which the broker took it.
    """
    orders: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for taken_at, call in calls:
        if call.event == "Order Completed" and call.user is not None:
            orders[call.user].append((taken_at, call.timestamp))
    for delta in deltas:
        if (delta["audience"], delta["change"], delta["cause"]) != (key_of(BOUGHT), "exited", "time"):
            continue
        at = delta["at"]
        if any(taken < at and at - WINDOWS_MS[0] < when <= at for taken, when in orders[delta["profile"]]):
            yield f"{delta['profile']} was let out at {at}, when an order that had come in still counted"


def replayed_wrongly(
    deltas: Sequence[Delta], before: Sequence[Letter], after: Iterable[Letter]
) -> Iterator[str]:
    """Letters of delivery that waited `before`, by what became of them `after`; `deltas` are those before the replay."""
    newest = {(delta["audience"], delta["profile"]): delta for delta in deltas}
    outcomes = {letter["id"]: letter["resolved"] for letter in after}
    known = [key_of(name) for name in ALWAYS]
    for letter in before:
        delta = newest.get((letter["audience"], letter["profile"]))
        if delta is None or letter["audience"] not in known:
            continue
        said = delta["repeats"]["sequence"] if "repeats" in delta else delta["sequence"]
        expected = "replayed" if said == letter["sequence"] else "superseded"
        if outcomes.get(letter["id"]) != expected:
            yield f"the letter of {letter['profile']} in {letter['audience']} is {outcomes.get(letter['id'])}, not {expected}"
