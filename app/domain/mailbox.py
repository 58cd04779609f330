"""Mailbox: what the profiles of one partition have to say to others.

A profile of the same partition hears of it at once. What another partition's profile has to hear becomes a record of
profile.events, written in the transaction that has the state which sent it. Such records have a lane of their own for
each partition that sends, with positions that only grow; it is no source lane and holds no clock back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.profile import ProfileEvent

# No topic id has a slash or reads like this.
_LANE: Final = "profiles/"


@dataclass(frozen=True, slots=True)
class Place:
    """Which partition this is, and which one each profile lives in."""

    number: int
    partition_of: Callable[[str], int]


# One partition that holds everything.
EVERYWHERE: Final = Place(0, lambda _: 0)


class Mailbox:
    """`local` are the messages to profiles of this partition, for its owner to deliver, in order.

    `sent` is the position of the newest record to another partition: a restart goes on from there.
    """

    __slots__ = ("_lane", "_out", "_place", "local", "sent")

    def __init__(self, place: Place) -> None:
        self.local: deque[tuple[str, ProfileEvent]] = deque()
        self.sent = 0
        self._place = place
        self._lane = f"{_LANE}{place.number}"
        self._out: list[tuple[str, ProfileEvent]] = []

    def send(self, profile: str, event: ProfileEvent) -> None:
        """To a profile, wherever it lives."""
        if self._place.partition_of(profile) == self._place.number:
            self.local.append((profile, event))
            return
        self.sent += 1
        self._out.append((profile, replace(event, lane=self._lane, offset=self.sent, index=0, definitions=0)))

    @property
    def has_records(self) -> bool:
        return bool(self._out)

    def take_records(self) -> list[tuple[str, ProfileEvent]]:
        """The records to write since the last call, in order."""
        taken, self._out = self._out, []
        return taken
