"""Faust's assignment of partitions, for a worker that takes its predecessor's place.

A static member that comes back within the session gets its predecessor's assignment without a rebalance. Faust has
written the predecessor's URL into it, and insists that it be the worker's own; but a restarted worker may well
listen elsewhere: another port, or a container with another name.
"""

from __future__ import annotations

import zlib
from typing import Any

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor


class SuccessorAssignor(PartitionAssignor):
    """Takes whatever the group assigns to this member as its own."""

    def on_assignment(self, assignment: Any) -> None:
        metadata = ClientMetadata.loads(self._decompress(assignment.user_data))
        before, own = metadata.url, str(self._url)
        if before != own:
            metadata.url = own
            for distribution in (metadata.changelog_distribution, metadata.external_topic_distribution):
                if before in distribution:
                    distribution[own] = distribution.pop(before)
            user_data = zlib.compress(metadata.dumps())
            assignment = type(assignment)(assignment.version, assignment.assignment, user_data)
        super().on_assignment(assignment)
