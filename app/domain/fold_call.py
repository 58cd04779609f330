"""What one call says of a profile, folded into its state, and which audiences that may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.fold import (
    add_event,
    fold_claim,
    fold_identifiers,
    fold_trait,
    is_remembered,
    message_digest,
    prune,
    remember,
)
from app.domain.plan import joined
from app.domain.state import FeedState
from schemas.dead_letter import DropReason

if TYPE_CHECKING:
    from app.domain.counters import Counters
    from app.domain.plan import CompiledAudience, Plan
    from app.domain.state import ProfileState
    from schemas.profile import ProfileEvent


def fold_hits(
    state: ProfileState, event: ProfileEvent, plan: Plan, now: int, counters: Counters
) -> tuple[CompiledAudience, ...]:
    """The audiences that the event's feeds decide; none when its message id has been seen.

    A message id is remembered from where its own lane stood: the clock may be far behind, held back by another
    lane, and jump on before the call is sent again.
    """
    affected: tuple[CompiledAudience, ...] = ()
    hits = event.hits
    if not hits:
        return affected
    if event.message_id is not None:
        digest = message_digest(event.message_id)
        if is_remembered(state, digest, now):
            counters.stages["evaluate"].dropped[DropReason.DUPLICATE.value] += 1
            return affected
        counters.forgotten_ids += remember(state, digest, max(now, event.received), plan.message_ids)
    since = plan.since
    for hit in hits:
        feed_id = hit.feed
        need = plan.needs.get(feed_id)
        if need is None:
            continue  # of a definition that is no longer there
        if since and event.received < since.get(feed_id, 0):
            continue  # before an audience without history
        feed = state.feeds.get(feed_id)
        if feed is None:
            feed = state.feeds[feed_id] = FeedState([], [])
        add_event(feed, need, event.timestamp, hit.values, state.settled)
        counters.forgotten_events += prune(feed, need, now)
        audiences = plan.of_feed[feed_id]
        affected = joined(affected, audiences) if affected else audiences
    return affected


def fold_facts(
    state: ProfileState, event: ProfileEvent, plan: Plan
) -> tuple[bool, tuple[CompiledAudience, ...]]:
    """Traits, claims and identifiers; whether the rows to send have changed, and which audiences may have."""
    message_id = event.message_id or ""
    affected: tuple[CompiledAudience, ...] = ()
    for path, value in (event.traits or {}).items():
        audiences = plan.of_trait.get(path)
        if audiences is not None and fold_trait(state, path, value, event.timestamp, message_id):
            affected = joined(affected, audiences)
    for key, member in (event.claims or {}).items():
        audiences = plan.of_audience.get(key)
        if audiences is not None and fold_claim(state, key, member, event.timestamp, message_id):
            affected = joined(affected, audiences)
    identifiers = event.identifiers
    return identifiers is not None and fold_identifiers(state, identifiers, event.timestamp), affected
