"""Rows of a warehouse: the track calls that Reverse ETL makes of them, and what they say of an audience.

A row is called `new`, `updated` or `deleted`, exactly; what it does is the destination's sync mode to say. The rules
are those of Segment's own destination. A call that an audience takes as its row is no event: what a warehouse was
told is nothing that somebody did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.domain.feeds import compared
from app.domain.profile_ids import profile_id_of
from app.domain.values import extractor
from app.errors import FatalError, InvalidInputError
from schemas.audience import AudienceSource, SyncMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from schemas.audience import AudienceDefinition

NEW: Final = "new"
UPDATED: Final = "updated"
DELETED: Final = "deleted"
ROW_EVENTS: Final = frozenset({NEW, UPDATED, DELETED})

# Which rows add in each mode; those of the others are none of the destination's business.
ADDING_ROWS: Final[Mapping[SyncMode, frozenset[str]]] = {
    SyncMode.MIRROR: frozenset({NEW, UPDATED}),
    SyncMode.UPSERT: frozenset({NEW, UPDATED}),
    SyncMode.ADD: frozenset({NEW}),
    SyncMode.UPDATE: frozenset({UPDATED}),
    SyncMode.DELETE: frozenset(),
}
REMOVING: Final = frozenset({SyncMode.MIRROR, SyncMode.DELETE})

# Where the id is unless the definition says something else; the ordinary rules for a call's profile hold then.
_USER_ID: Final = "userId"


def row_membership(event: str | None, modes: Iterable[SyncMode]) -> bool | None:
    """What a row of this name says for destinations in these modes; None: nothing to any of them."""
    if event == DELETED:
        return False if any(mode in REMOVING for mode in modes) else None
    return True if any(event in ADDING_ROWS[mode] for mode in modes) else None


def takes_additions(destination_modes: Iterable[SyncMode]) -> list[SyncMode]:
    """The modes in which somebody is ever added."""
    return [mode for mode in destination_modes if ADDING_ROWS[mode]]


@dataclass(frozen=True, slots=True)
class RowSource:
    """How an audience reads its rows; each takes the whole call.

    `matches`: whether the call, named as a row, is one of this audience. `profile`: whom it is about, None where the
    id is missing under `id_path`. `memberships`: name of the row -> what it claims; a name that is not there is
    outside the sync mode. `topic`: where all rows come from; None: from the source topic.
    """

    matches: Callable[[Any], bool]
    profile: Callable[[Any], str | None]
    id_path: str
    memberships: Mapping[str, bool]
    topic: str | None = None


def row_source(definition: AudienceDefinition) -> RowSource | None:
    """None for an audience that is not a warehouse's."""
    rows = definition.rows
    if rows is None:
        return None
    tests = [compared(comparison) for comparison in rows.where]
    # Delivered nowhere, an audience is what a mirror would be.
    modes = {destination.sync_mode for destination in definition.destinations} or {SyncMode.MIRROR}
    said = {event: row_membership(event, modes) for event in sorted(ROW_EVENTS)}
    return RowSource(
        matches=lambda whole: all(test(whole) for test in tests),
        profile=_reader(rows.id),
        id_path=rows.id,
        memberships={event: member for event, member in said.items() if member is not None},
        topic=rows.topic,
    )


def row_topics(definitions: Iterable[AudienceDefinition], source_topic: str) -> dict[str, str]:
    """The topics beside the source topic that audiences take their rows from, in order -> the first such audience."""
    found: dict[str, str] = {}
    for definition in definitions:
        topic = None if definition.rows is None else definition.rows.topic
        if topic is not None and topic != source_topic:
            found.setdefault(topic, definition.key)
    return dict(sorted(found.items()))


def refuse_own_topics(
    definitions: Iterable[AudienceDefinition], source_topic: str, ours: Iterable[str]
) -> None:
    """Raises InvalidInputError for rows that are expected from a topic of this installation's own: what it writes
    there are no rows.
    """
    own = frozenset(ours)
    for topic, audience in row_topics(definitions, source_topic).items():
        if topic in own:
            raise InvalidInputError(
                f"audience {audience}: `rows: {{topic: {topic}}}`: {topic} is a topic that audience-sync writes itself. "
                "Name the topic that the rows are written to"
            )


def refuse_unread_topics(definitions: Iterable[AudienceDefinition], sources: Sequence[str]) -> None:
    """Raises FatalError for rows of a topic that is none of a worker's `sources`, the source topic first among them."""
    for topic, audience in row_topics(definitions, sources[0]).items():
        if topic not in sources:
            raise FatalError(
                f"audience {audience} takes its rows from topic {topic}, which this worker reads once it is started again"
            )


def refuse_row_topics(definitions: Iterable[AudienceDefinition], source_topic: str) -> None:
    """Raises InvalidInputError for rows of another topic, where there are the source topic's calls alone."""
    for topic, audience in row_topics(definitions, source_topic).items():
        raise InvalidInputError(
            f"audience {audience}: `rows: {{topic: {topic}}}`: the lines given here are calls of the source topic "
            f"({source_topic}, AUDIENCE_SYNC_SOURCE_TOPIC) and never rows of another. Leave the audience out, or choose its "
            "rows by `where`"
        )


class Listeners(NamedTuple):
    """Ids of an audience's destinations that hear of who enters, of who leaves, and of strangers who are out.

    A stranger never entered here. Where Facebook's audience was there before, they may be in it from then.
    """

    entries: tuple[str, ...]
    exits: tuple[str, ...]
    strangers: tuple[str, ...]


def listeners(definition: AudienceDefinition) -> Listeners:
    """For Engage's audiences the boolean decides, whatever the mode; of a computed one nobody says who is out."""
    everywhere = definition.source is AudienceSource.ENGAGE
    destinations = definition.destinations
    exits = [item for item in destinations if everywhere or item.sync_mode in REMOVING]
    before = [] if definition.source is AudienceSource.COMPUTED else exits
    return Listeners(
        entries=tuple(item.id for item in destinations if everywhere or ADDING_ROWS[item.sync_mode]),
        exits=tuple(item.id for item in exits),
        strangers=tuple(
            item.id
            for item in before
            if item.audience_id is not None or (not everywhere and item.sync_mode is SyncMode.DELETE)
        ),
    )


def _reader(path: str) -> Callable[[Any], str | None]:
    if path == _USER_ID:
        return lambda whole: profile_id_of(whole.get("userId"), whole.get("anonymousId"))
    extract = extractor(path)

    def read(whole: Any) -> str | None:
        value = extract(whole)
        if type(value) is int:
            value = str(value)
        return profile_id_of(value, None) if type(value) is str else None

    return read
