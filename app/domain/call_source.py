"""CallSource: where a call came from and when, as everything says that is made of it."""

from __future__ import annotations

import msgspec

from schemas.profile import CALL, VERSION, Linking, ProfileEvent


class CallSource(msgspec.Struct, gc=False, frozen=True):
    """`lane` and `offset` are its place; `received` and `timestamp` epoch milliseconds; `raw` is the record's value."""

    raw: bytes
    lane: str
    offset: int
    received: int
    timestamp: int

    def event(self, message_id: str | None = None, linking: Linking | None = None) -> ProfileEvent:
        """Of such a call, which as yet says nothing of its profile."""
        return ProfileEvent(
            VERSION,
            CALL,
            self.lane,
            self.offset,
            0,
            self.timestamp,
            self.received,
            message_id,
            linking=linking,
        )
