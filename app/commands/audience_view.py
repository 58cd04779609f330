"""What `audiences show` says of each destination: state, sizes on both sides and why they differ, history, next retry."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from app.adapters.kafka_connection import kafka_connection
from app.adapters.kafka_log import LogReader
from app.adapters.kafka_tallies import TallyReader
from app.commands.audience_states import known_state
from app.domain.instants import format_instant
from app.domain.published import Published
from app.domain.sizes import SizeTally, explain, share
from app.domain.sync_history import HOUR_MS
from app.domain.sync_start import ad_account_of
from app.settings import Settings
from schemas.audience import AudienceDefinition, FacebookDestination
from schemas.sync import SyncState
from topics.partitioning import partition_for


def destination_views(
    settings: Settings,
    published: Published,
    states: dict[str, SyncState],
    audience: AudienceDefinition,
    *,
    count: bool,
) -> list[dict[str, Any]]:
    """One object for each destination; `count`: with members, counted in audience.memberships."""
    tallies: dict[str, SizeTally] = {}
    if count and audience.destinations:
        for destination in audience.destinations:
            known = states.get(destination.id)
            former = None if known is None else known.former
            tallies[destination.id] = SizeTally(destination.id, former)
        reader = LogReader(kafka_connection(settings))
        partition = partition_for(audience.key.encode(), settings.partitions)
        tally_reader = TallyReader(reader, settings.catalog, settings.partitions, published.set_aside)
        tally_reader.read_sizes(partition, audience.key, list(tallies.values()))
    return [
        _view(settings, published, states, audience.key, destination, tallies.get(destination.id))
        for destination in audience.destinations
    ]


def _view(
    settings: Settings,
    published: Published,
    states: dict[str, SyncState],
    audience: str,
    destination: FacebookDestination,
    tally: SizeTally | None,
) -> dict[str, Any]:
    known = states.get(destination.id)
    shown = known_state(published, states, audience, destination.id)
    retry = None if known is None or shown["state"] == "paused" else known.next_retry_at
    now_ms = time.time_ns() // 1_000_000
    return {
        "id": destination.id,
        **shown,
        "next_retry_at": _instant(retry),
        "ad_account_id": ad_account_of(destination, settings.facebook_ad_account_id, known),
        "facebook_id": destination.audience_id or (known.facebook_id if known else None),
        "last_sync_at": _instant(known.last_sync_at if known else None),
        "facebook": {
            "lower_bound": known.lower_bound if known else None,
            "upper_bound": known.upper_bound if known else None,
            "operation": known.operation if known else None,
            "delivery": known.delivery if known else None,
            "as_of": _instant(known.status_at if known else None),
        },
        "members": None if tally is None else _sizes(tally),
        "explanation": None if tally is None else explain(tally, known, now_ms),
        "history": [] if known is None else _history(known),
        "hours": [] if known is None else _hours(known),
    }


def _sizes(tally: SizeTally) -> dict[str, Any]:
    sent = tally.sent
    keys = {key: {"members": n, "percent": share(n, sent)} for key, n in tally.carrying.items()}
    return {"told": len(tally.members), "sent": sent, "keys": keys}


def _history(known: SyncState) -> list[dict[str, Any]]:
    return [
        {
            "at": format_instant(change.at),
            "state": change.state.value,
            "reason": change.reason,
            "facebook_id": change.facebook_id,
        }
        for change in known.history
    ]


def _hours(known: SyncState) -> list[dict[str, Any]]:
    return [
        {
            "from": format_instant(hour.hour * HOUR_MS),
            "added": hour.added,
            "removed": hour.removed,
            "rejected": hour.rejected,
        }
        for hour in known.hours
    ]


def _instant(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)


def delivery_lines(views: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The views of an audience's destinations in words, of none too: what each line is called, and what it says."""
    if not views:
        yield "delivered to", "nowhere"
    for view in views:
        yield from _lines(view)


def _lines(view: dict[str, Any]) -> Iterator[tuple[str, str]]:
    why = f": {view['reason']}" if view["reason"] else ""
    yield "delivered to", f"{view['id']}, {view['state']}{why}"
    for name, key in (
        ("next retry", "next_retry_at"),
        ("ad account", "ad_account_id"),
        ("Facebook audience", "facebook_id"),
        ("last sync", "last_sync_at"),
    ):
        if view[key] is not None:
            yield f"  {name}", view[key]
    if view["members"] is not None:
        yield "  members", _member_words(view["members"])
    yield "  at Facebook", _facebook_words(view["facebook"])
    for text in view["explanation"] or ():
        yield "  why", text
    for change in view["history"]:
        of = f" (Facebook audience {change['facebook_id']})" if change["facebook_id"] else ""
        because = f": {change['reason']}" if change["reason"] else ""
        yield "  history", f"{change['at']} {change['state']}{of}{because}"
    for hour in view["hours"]:
        rows = f"{hour['added']:,} rows added, {hour['removed']:,} removed, {hour['rejected']:,} refused"
        yield "  hour", f"{hour['from']} {rows}"


def _member_words(members: dict[str, Any]) -> str:
    keys = ", ".join(f"{key} {one['members']:,}" for key, one in members["keys"].items())
    return f"{members['told']:,}, {members['sent']:,} with something to send{': ' if keys else ''}{keys}"


def _facebook_words(facebook: dict[str, Any]) -> str:
    low, high = facebook["lower_bound"], facebook["upper_bound"]
    size = "size unknown" if low is None or low < 0 else f"{low:,} to {high:,} people"
    words = [size, *(f"{what} {facebook[what]}" for what in ("operation", "delivery") if facebook[what])]
    as_of = f" (as of {facebook['as_of']})" if facebook["as_of"] else ""
    return f"{', '.join(words)}{as_of}"
