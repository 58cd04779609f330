"""The live lanes of a worker under test: partitions of a source topic whose id is `topic`."""

from __future__ import annotations

from app.domain.clock import SourcePartition
from app.pipeline.expire import LaneProgress
from topics.catalog import Catalog

SOURCE = Catalog().source.name


def of_source(number: int) -> SourcePartition:
    return SourcePartition(SOURCE, number)


def own(lanes: LaneProgress, *numbers: int) -> None:
    """These partitions are this worker's from now on, and no others."""
    lanes.assign({SOURCE: "topic"}, [of_source(number) for number in numbers])
