"""Room: how much is kept of one profile and of one event (decision 17), as settings say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# A profile's state must fit into one record of the changelog, and be quick to read.
PROFILE_EVENTS: Final = 20_000
MESSAGE_IDS: Final = 1_000
# As many as a whole event has, unless `max_event_bytes` is raised.
VALUE_CHARACTERS: Final = 32_768
VALUE_ITEMS: Final = 1_000


@dataclass(slots=True)
class Cuts:
    """How many values have been cut off for lack of room."""

    number: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """`funnel_events` on either side of a funnel, None: as many as are compared quickly; `profile_events` of each thing
    that is counted; `message_ids` that a profile remembers; `value_characters` and `value_items` of each value that is
    compared later than where it comes in. `cuts` counts the values that have more.
    """

    funnel_events: int | None = None
    profile_events: int = PROFILE_EVENTS
    message_ids: int = MESSAGE_IDS
    value_characters: int = VALUE_CHARACTERS
    value_items: int = VALUE_ITEMS
    cuts: Cuts = field(default_factory=Cuts, compare=False)
