"""The feeds that a track, page, screen or group call belongs to, and what they keep of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.domain.calls import RefusedError, message_id_of, read_context, read_object
from schemas.dead_letter import Reason
from schemas.profile import FeedHit

if TYPE_CHECKING:
    from app.domain.plan import Plan
    from schemas.segment import SegmentEvent

# Type of call -> the event it counts as, and the property that its name becomes.
NAMED: Final = {"page": ("Page Viewed", "page_name"), "screen": ("Screen Viewed", "screen_name")}
# Segment's own limit: states keep these ids.
_MAX_GROUP_ID: Final = 500


class FeedHits:
    """Of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._events = plan.events
        # Feeds that keep nothing share one hit.
        self._bare = {feed.id: FeedHit(feed.id) for feed in plan.feeds.values()}

    def of(self, call: SegmentEvent, raw: bytes) -> list[FeedHit]:
        """A group call is checked and belongs to none. Raises RefusedError."""
        event, name_property = call.event, None
        if call.type == "group":
            if not call.group_id or call.group_id.isspace():
                raise RefusedError(Reason.INVALID_FIELD, "groupId is missing or blank")
            if len(call.group_id) > _MAX_GROUP_ID:
                raise RefusedError(Reason.INVALID_FIELD, f"groupId has more than {_MAX_GROUP_ID} characters")
            return []
        if call.type != "track":
            event, name_property = NAMED[call.type or ""]
        elif not event or event.isspace():
            raise RefusedError(Reason.INVALID_FIELD, "event is missing or blank")
        feeds = self._events.get(event)
        if feeds is None:
            return []
        properties = read_object(call.properties) if feeds.needs_properties else None
        if name_property is not None and feeds.needs_properties and call.name:
            properties = {**(properties or {}), name_property: call.name}
        context = read_context(raw) if feeds.needs_context else None
        hits = []
        for feed in feeds.feeds:
            if feed.passes is None or feed.passes(properties, context):
                keep = feed.keep
                if keep is None:
                    hits.append(self._bare[feed.id])
                    continue
                values = keep(properties, context)
                if feed.ordered:
                    values.append(message_id_of(call) or "")
                hits.append(FeedHit(feed.id, values))
        return hits
