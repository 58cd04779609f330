"""Folding what a call says into a profile's state, and forgetting what no condition can ask for again.

Every function here gives the same state whatever the order in which calls come, apart from what only the clock
decides. Merging two profiles folds the kept entries of one into the other (app.domain.merging): the newest K of a union
are among the newest K of its parts.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

from app.domain.compact import compact, restored
from app.domain.keeping import characters_of
from app.domain.person_state import IdentifierState
from app.domain.state import (
    NEVER,
    ClaimState,
    FeedState,
    NumberTotals,
    Totals,
    TraitState,
    encode_feed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.event_conditions import Need
    from app.domain.state import ProfileState

# Identifiers that a person may have several of, each good for finding them alone, with how many are kept.
SEVERAL: Final = frozenset({"EMAIL", "PHONE", "MADID"})
MAX_OF_ONE_KIND: Final = 5
# Of those that a mapping fills, the external id too: it may be another one than the user id.
MAPPED_SEVERAL: Final = SEVERAL | {"EXTERN_ID"}

# How long the message ids of counted events are remembered, by the partition's clock.
REMEMBERED_MS: Final = 24 * 3_600_000

# What stands for a message id: of two ids of one profile and day that is the same once in 10^12 times.
_DIGEST_BYTES: Final = 5

# What looking at an item costs beside that of its characters.
_ITEM_CHARACTERS: Final = 10


def message_digest(message_id: str) -> bytes:
    """Never depends on the process: states hold them."""
    return hashlib.blake2b(message_id.encode(), digest_size=_DIGEST_BYTES).digest()


def is_remembered(state: ProfileState, digest: bytes, now: int) -> bool:
    """Whether this message id was remembered less than 24 hours of the clock ago; forgets the older ones."""
    at = state.recent_at
    if not at:
        return False
    if at[0] * 1_000 <= now - REMEMBERED_MS:
        expired = bisect_right(at, (now - REMEMBERED_MS) // 1_000)
        del at[:expired]
        state.recent_ids = state.recent_ids[expired * _DIGEST_BYTES :]
    ids = state.recent_ids
    place = ids.find(digest)
    while place >= 0 and place % _DIGEST_BYTES:
        place = ids.find(digest, place + 1)
    return place >= 0


def remember(state: ProfileState, digest: bytes, now: int, most: int) -> int:
    """Remembers a message id; how many older ones had to make room for it before their time, as `most` have room."""
    at = state.recent_at
    state.recent_ids += digest
    # Seconds are shorter; rounded up, so that none is forgotten before a day has passed.
    seconds = -(-now // 1_000)
    at.append(max(seconds, at[-1]) if at else seconds)
    given_up = len(at) - most
    if given_up <= 0:
        return 0
    del at[:given_up]
    state.recent_ids = state.recent_ids[given_up * _DIGEST_BYTES :]
    return given_up


def remember_all(state: ProfileState, other: ProfileState, now: int, most: int) -> int:
    """What either of the two remembers, as far as there is room for it; how many found none before their time."""
    known = [
        (at, one.recent_ids[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES])
        for one in (state, other)
        for place, at in enumerate(one.recent_at)
    ]
    known.sort()
    given_up = max(0, len(known) - most)
    newest = known[given_up:]
    state.recent_at = [at for at, _ in newest]
    state.recent_ids = b"".join(digest for _, digest in newest)
    return sum(at * 1_000 > now - REMEMBERED_MS for at, _ in known[:given_up])


def settle(state: ProfileState, needs: Mapping[str, Need], now: int) -> int:
    """Brings totals up to `now` and drops the events that no condition needs; returns how many were given up
    although one did, for lack of room. To be called before anything else happens at a later `now`.
    """
    given_up = 0
    settled = state.settled
    for feed_id, feed in state.feeds.items():
        instants = feed.instants
        if not instants:
            continue
        need = needs[feed_id]
        if need.totals and instants[-1] > settled < now >= instants[0]:
            _add_range(feed, bisect_right(instants, settled), bisect_right(instants, now))
        given_up += prune(feed, need, now)
    if now > settled:
        state.settled = now
    return given_up


def adopt(state: ProfileState, needs: Mapping[str, Need]) -> bool:
    """Fits a state that was made by another plan to this one's needs, as far as what it holds allows.

    Whether it had to be changed.
    """
    changed = False
    for feed_id in list(state.feeds):
        need = needs.get(feed_id)
        feed = state.feeds[feed_id]
        if need is None:
            del state.feeds[feed_id]
        elif need.totals and feed.totals is None:
            _add_range(feed, 0, bisect_right(feed.instants, state.settled))
        elif not need.totals and feed.totals is not None:
            feed.totals = None
        else:
            continue
        changed = True
    return changed


def add_event(feed: FeedState, need: Need, instant: int, values: list[Any], settled: int) -> None:
    """One more event of the feed, at any place in its order."""
    if need.totals and instant <= settled:
        totals = feed.totals
        if totals is None:
            totals = feed.totals = Totals(0, [])
        totals.count += 1
        if values:
            _add_values(totals, values)
        if not need.span_ms:
            return  # nothing looks at when it was
    instants = feed.instants
    if not instants or instant > instants[-1] or (instant == instants[-1] and not need.ordered):
        instants.append(instant)
        if values:
            feed.values.append(values)
        return
    place = bisect_right(instants, instant)
    if need.ordered:
        while place and instants[place - 1] == instant and feed.values[place - 1][-1] > values[-1]:
            place -= 1
    instants.insert(place, instant)
    if values:
        feed.values.insert(place, values)


def prune(feed: FeedState, need: Need, now: int) -> int:
    """Drops what is behind the need, looking only at instants up to the clock; returns how many events were
    given up although needed.
    """
    instants = feed.instants
    if not instants:
        return 0
    if instants[0] > now - need.hold_ms and len(instants) <= need.most and need.characters == NEVER:
        return 0
    end = bisect_right(instants, now - need.hold_ms)
    drop = bisect_right(instants, now - need.span_ms)
    if need.newest is not None and end - need.newest > drop:
        drop = end - need.newest
    given_up = max(0, len(instants) - drop - need.most)
    if need.characters != NEVER:
        given_up = max(given_up, _place_with_room(feed.values, need.characters) - drop)
    drop += given_up
    first = need.oldest
    if drop > first:
        del instants[first:drop]
        if feed.values:
            del feed.values[first:drop]
    return given_up


def _place_with_room(entries: list[list[Any]], characters: int) -> int:
    """The place from which on the values take so many characters at most; the newest event always has room."""
    for place in range(len(entries) - 1, -1, -1):
        for value in entries[place]:
            if type(value) is list:
                characters -= sum(map(characters_of, value)) + _ITEM_CHARACTERS * len(value)
            else:
                characters -= characters_of(value)
        if characters < 0:
            return min(place + 1, len(entries) - 1)
    return 0


def shed(state: ProfileState) -> int:
    """Gives up the older half of the feed that takes most room; how many events that are, 0: there are none."""
    feeds = [feed for feed in state.feeds.values() if feed.instants]
    if not feeds:
        return 0
    largest = max(feeds, key=lambda feed: len(encode_feed(feed)))
    given_up = (len(largest.instants) + 1) // 2
    del largest.instants[:given_up], largest.values[:given_up]
    return given_up


def _add_range(feed: FeedState, first: int, end: int) -> None:
    totals = feed.totals
    if totals is None:
        totals = feed.totals = Totals(0, [])
    totals.count += end - first
    for values in feed.values[first:end]:
        _add_values(totals, values)


def _add_values(totals: Totals, values: list[Any]) -> None:
    if not totals.numbers:
        totals.numbers = [NumberTotals() for _ in values]
    for number, value in zip(totals.numbers, values, strict=True):
        if type(value) is float or type(value) is int:
            _add_number(number, float(value))


def _add_number(totals: NumberTotals, value: float) -> None:
    count = totals.count
    if not count or value < totals.least:
        totals.least = value
    if not count or value > totals.greatest:
        totals.greatest = value
    totals.count = count + 1
    before = totals.total
    after = totals.total = before + value
    # What the addition has rounded away.
    if abs(before) >= abs(value):
        totals.compensation += (before - after) + value
    else:
        totals.compensation += (value - after) + before


def fold_trait(state: ProfileState, path: str, value: Any, timestamp: int, message_id: str) -> bool:
    """Whether the trait has another value now."""
    known = state.traits.get(path)
    if known is None:
        state.traits[path] = TraitState(value, timestamp, compact(message_id))
        return value is not None
    if timestamp < known.timestamp or (timestamp == known.timestamp and message_id < trait_message_id(known)):
        return False
    changed = bool(type(known.value) is not type(value) or known.value != value)
    known.value, known.timestamp, known.message_id = value, timestamp, compact(message_id)
    return changed


def trait_message_id(trait: TraitState) -> str:
    """That of the call that said it, as it was."""
    return restored(trait.message_id)


def fold_claim(state: ProfileState, audience: str, member: bool, timestamp: int, message_id: str) -> bool:
    """Whether the newest claim is the first one, or says something else now.

    Of several at one instant, the one that takes out counts: the rows that a warehouse makes of one change of its own
    may share their timestamp, and the last of them is the deletion.
    """
    known = state.claims.get(audience)
    if known is None:
        state.claims[audience] = ClaimState(member, timestamp, message_id)
        return True
    if (timestamp, not member) < (known.timestamp, not known.member):
        return False
    changed = known.member != member
    known.member, known.timestamp, known.message_id = member, timestamp, message_id
    return changed


def fold_identifiers(
    state: ProfileState, identifiers: Mapping[str, str | float | list[str] | None], timestamp: int
) -> bool:
    """Whether what is sent of this profile is something else now.

    The newest value counts; for ties the greater. An identifier that finds a person alone is never taken away: an
    older value is sent beside the newer one, so that an exit reaches everything an entry ever did. Past
    MAX_OF_ONE_KIND values another one is not taken.
    """
    changed = False
    for column, value in identifiers.items():
        if isinstance(value, list):
            for one in value:
                changed |= _fold_one_of_several(state, column, one, timestamp)
            continue
        if column in SEVERAL:
            if value is not None:
                changed |= _fold_one_of_several(state, column, value, timestamp)
            continue
        known = state.identifiers.get(column)
        if known is None:
            state.identifiers[column] = IdentifierState(value, timestamp)
            changed |= value is not None
        elif (timestamp, *_order(value)) > (known.timestamp, *_order(known.value)):
            changed |= known.value != value
            known.value, known.timestamp = value, timestamp
    return changed


def _fold_one_of_several(state: ProfileState, column: str, value: str | float, timestamp: int) -> bool:
    known = state.identifiers.get(column)
    if known is None or known.value is None:
        state.identifiers[column] = IdentifierState(value, timestamp)
        return True
    newer = (timestamp, *_order(value)) > (known.timestamp, *_order(known.value))
    if known.value == value:
        known.timestamp = max(known.timestamp, timestamp)
        return False
    further = state.further.setdefault(column, [])
    if value in further:
        if not newer:
            return False
        further.remove(value)
    elif len(further) >= MAX_OF_ONE_KIND - 1:
        return False
    if newer:
        further.append(known.value)
        known.value, known.timestamp = value, timestamp
    else:
        further.append(value)
    return True


def _order(value: str | float | None) -> tuple[bool, str]:
    """Any two values have an order, None before all others."""
    return value is not None, str(value)
