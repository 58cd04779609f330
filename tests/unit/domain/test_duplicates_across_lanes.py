"""A call that is sent again counts once, however far the source's partitions are apart when it comes."""

from __future__ import annotations

import pytest

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import Document, parse_definitions
from app.domain.partition import AudiencePartition
from schemas.profile import CALL, MARKER, VERSION, FeedHit, ProfileEvent

HOUR = 3_600_000
NOW = 1_790_000_000_000
PLAN = compile_audiences(
    parse_definitions(
        [
            Document(
                "audiences.yaml",
                "audiences:\n  - {name: Twice, when: {event: Order Completed, count: {at_least: 2}}}",
            )
        ]
    ).audiences
)
[FEED] = PLAN.feeds


def order(offset: int, received: int) -> ProfileEvent:
    return ProfileEvent(
        VERSION, CALL, "own", offset, 0, NOW - 100 * HOUR, received, "the same message", [FeedHit(FEED)]
    )


def progress(lane: str, instant: int) -> ProfileEvent:
    return ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress={lane: instant})


@pytest.mark.parametrize(
    ("behind_hours", "apart_hours", "counts"),
    [
        (0, 5, 1),  # the other partition keeps up
        (40, 5, 1),  # it holds the clock back for longer than a message id is remembered, and then catches up
        (40, 23, 1),
        (0, 25, 2),  # beyond a day a message id may be another call's
        (40, 25, 2),
    ],
)
def test_sent_again(behind_hours: int, apart_hours: int, counts: int) -> None:
    partition = AudiencePartition(PLAN, 0, Counters())
    partition.finish_recovery()
    partition.set_wall(NOW)
    partition.set_expected(["own", "other"])
    first = NOW - 50 * HOUR
    partition.apply_marker(progress("other", first - behind_hours * HOUR))
    partition.apply("user", order(1, first))
    again = first + apart_hours * HOUR
    partition.apply_marker(progress("other", again))
    partition.apply("user", order(2, again))
    assert [delta.audience for delta in partition.drain().deltas] == ["twice"] * (counts - 1)
