"""EngageCall: what Segment Engage would say of a change of membership, or of a computed trait, that was made here.

A record of engage.calls is keyed by the profile id. It is a Segment call as SegmentEvent reads one, in Segment's own
spelling, and names the profile by nothing but what a profile id may have in it: a user id or an anonymous id in the
clear, a mobile advertising id, an e-mail address as its SHA-256.
"""

from __future__ import annotations

from typing import Any

import msgspec


class EngageCall(msgspec.Struct, gc=False, frozen=True, omit_defaults=True, rename="camel"):
    """`received_at` is the instant of the change. `timestamp` is that too, but grows by one millisecond at least from
    each call about one profile and key to the next, as the newest is what holds.
    """

    type: str
    message_id: str
    timestamp: str
    received_at: str
    context: dict[str, Any]
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    traits: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
