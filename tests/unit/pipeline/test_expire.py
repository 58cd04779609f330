"""What the markers of a worker say of its lanes."""

from __future__ import annotations

import msgspec

from app.pipeline.expire import LaneProgress
from schemas.profile import ProfileEvent
from tests.unit.pipeline.source_lanes import SOURCE, of_source, own


def said(lanes: LaneProgress) -> ProfileEvent:
    marker = lanes.marker(1_000)
    assert marker is not None
    return msgspec.msgpack.decode(marker, type=ProfileEvent)


def test_says_from_which_offset_on_a_lane_is_projected_for_the_version() -> None:
    lanes = LaneProgress(SOURCE)
    lanes.project_for(1)
    own(lanes, 0, 1)
    lanes.processed(of_source(0), 40, 50, 10)
    assert (said(lanes).definitions, said(lanes).since) == (1, {"topic/0": 40})
    lanes.processed(of_source(0), 50, 60, 20)
    lanes.caught_up(of_source(1), 7, 30)
    assert said(lanes).since == {"topic/0": 40, "topic/1": 7}, (
        "what is before the end was read by somebody else"
    )
    lanes.project_for(2)
    assert (said(lanes).definitions, said(lanes).since) == (2, {"topic/0": 60, "topic/1": 7})
    lanes.processed(of_source(1), 7, 9, 40)
    assert said(lanes).since == {"topic/0": 60, "topic/1": 7}


def test_knows_nothing_of_a_lane_that_it_was_not_given_again() -> None:
    lanes = LaneProgress(SOURCE)
    lanes.project_for(1)
    own(lanes, 0)
    lanes.processed(of_source(0), 40, 50, 10)
    own(lanes, 0)
    lanes.processed(of_source(0), 50, 55, 10)
    assert said(lanes).since == {"topic/0": 50}
