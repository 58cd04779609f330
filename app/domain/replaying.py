"""What replay has to know of the definitions in force: what to take from a call, and for whom it may be no news."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.domain.conditions import compile_audiences
from app.domain.feeds import filled_by
from app.domain.filling import id_of_past
from app.domain.plan_versions import projection
from app.domain.published import cleared_by, definitions_of
from schemas.profile import VERSION, FeedHit, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.domain.plan import Plan
    from app.domain.published import Published
    from app.domain.room import Room


@dataclass(frozen=True, slots=True)
class Projection:
    """Of all versions that some partition may run by, as resolve takes them.

    `filled`: feed -> the version for which records of the source topic have been, or are being, read again for the
    audience that has it, and the instant (epoch milliseconds) up to which. `destinations` are the ids of those that
    are delivered to.
    """

    numbers: tuple[int, ...]
    plan: Plan
    filled: Mapping[str, tuple[int, int]]
    destinations: frozenset[str]


def projected(published: Published, partitions: int, room: Room) -> Projection | None:
    """None: nothing is published yet."""
    newest, numbers = published.newest, published.in_force(partitions)
    if newest is None:
        return None
    records = [published.versions[number] for number in numbers]
    plans = []
    fills: dict[str, tuple[int, int]] = {}
    destinations: set[str] = set()
    for record in records:
        defined, cleared = definitions_of(record), cleared_by(record)
        plans.append(
            compile_audiences((*defined.audiences, *cleared), defined.traits, record.generations, room)
        )
        for key, number in record.generations.items():
            fills[filled_by(key, number)] = number, _published_by(published, number)
        destinations |= {
            one.id for audience in (*defined.audiences, *cleared) for one in audience.destinations
        }
    plan = projection(plans, [definition.key for definition in cleared_by(newest)])
    filled = {
        feed.id: fills[feed.since.whose]
        for feed in plan.feeds.values()
        if feed.since is not None and feed.since.whose in fills
    }
    return Projection(numbers, plan, filled, frozenset(destinations))


def _published_by(published: Published, number: int) -> int:
    """An instant at which the version was there; it may be known no longer."""
    return min(record.published_at for known, record in published.versions.items() if known >= number)


def as_news(
    event: ProfileEvent, filled: Mapping[str, tuple[int, int]], failed_at: int
) -> Sequence[ProfileEvent]:
    """A call that failed first at `failed_at`, for whom it is news.

    Where an audience was filled from history since, the call may have been read for it already, if what was wrong had
    been mended by then. Its feeds get the call under the message id that the reading of the past has given it, so that
    it counts once.
    """
    known: dict[int, list[FeedHit]] = {}
    news: list[FeedHit] = []
    for hit in event.hits:
        number, until = filled.get(hit.feed, (0, 0))
        (known.setdefault(number, []) if failed_at < until else news).append(hit)
    if not known or event.message_id is None:
        return (event,)
    again = [
        ProfileEvent(
            VERSION,
            event.kind,
            event.lane,
            event.offset,
            event.index,
            event.timestamp,
            event.received,
            id_of_past(event.message_id, number),
            hits,
        )
        for number, hits in known.items()
    ]
    return replace(event, hits=news), *again
