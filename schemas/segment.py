"""SegmentEvent: a call of Segment's spec as it comes in on the source topic.

Only the fields this system reads. `properties`, `traits` and the parts of `context` stay undecoded
(`msgspec.Raw`) until a definition needs them: most events need none of them.
Source of the fields: Segment's Spec, common fields and the six calls.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.base import StoredMessage

# The value of a Raw field that the call does not have; a field given as null is Raw(b"null").
ABSENT: Final = msgspec.Raw()


class CallContext(msgspec.Struct, gc=False, frozen=True):
    """The parts of `context` that decide what a call is and who it is about."""

    personas: msgspec.Raw = ABSENT
    device: msgspec.Raw = ABSENT
    traits: msgspec.Raw = ABSENT


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
    properties: msgspec.Raw = ABSENT
    traits: msgspec.Raw = ABSENT
    context: CallContext | None = None
    integrations: msgspec.Raw = ABSENT


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
