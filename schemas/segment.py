"""SegmentEvent: a call of Segment's spec as it comes in on the source topic.

Only the fields this system reads. `properties`, `traits` and `context` stay undecoded (`msgspec.Raw`) until a
definition needs them: most events need none of them.
Source of the fields: Segment's Spec, common fields and the six calls.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.base import StoredMessage


class SegmentEvent(msgspec.Struct, gc=False, frozen=True, rename="camel"):
    """The hot-path form; every field may be absent, what is missing is judged by resolve."""

    type: str | None = None
    event: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    group_id: str | None = None
    message_id: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    received_at: str | None = None
    properties: msgspec.Raw | None = None
    traits: msgspec.Raw | None = None
    context: msgspec.Raw | None = None
    integrations: msgspec.Raw | None = None


class SegmentEventModel(StoredMessage):
    """The same call as a pydantic model, in Segment's own spelling."""

    type: str | None = None
    event: str | None = None
    name: str | None = None
    userId: str | None = None  # noqa: N815 - Segment's spelling
    anonymousId: str | None = None  # noqa: N815 - Segment's spelling
    groupId: str | None = None  # noqa: N815 - Segment's spelling
    messageId: str | None = None  # noqa: N815 - Segment's spelling
    timestamp: str | None = None
    originalTimestamp: str | None = None  # noqa: N815 - Segment's spelling
    sentAt: str | None = None  # noqa: N815 - Segment's spelling
    receivedAt: str | None = None  # noqa: N815 - Segment's spelling
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
