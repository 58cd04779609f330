"""Replacing everybody in a Facebook audience: what goes into a session of `usersreplace`, and what to do next about it.

A session has one schema and takes no row without an external id where the schema has one. So those who have none are
left out of a session of those who have, and added afterwards. The first batch is what starts a session and goes out
once; what became of it when its answer is lost, and of a whole session after a crash, tells the audience's operation
status: once we have sent a first batch, "replace in progress" is taken to be ours. Should it be somebody else's, Facebook
refuses our next batch. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.domain.scoped_ids import SCOPED_FIELDS
from app.domain.users_requests import (
    EXTERN_ID,
    LOOKALIKE_VALUE,
    MAX_REQUEST_BYTES,
    RowSource,
    UsersRequest,
    row_bytes,
)
from schemas.audience import AudienceSource, SyncMode
from schemas.membership import Change

if TYPE_CHECKING:
    from app.domain.users_requests import Cell, Row
    from schemas.audience import AudienceDefinition, FacebookDestination
    from schemas.membership import MembershipDelta
    from schemas.sync import ReplaceSession

NORMAL: Final = 200
IN_PROGRESS: Final = 414
FAILED: Final = 415

# Facebook ends a session so long after its first batch; no batch is sent in the last minutes of it.
SESSION_MS: Final = 90 * 60_000
LAST_BATCH_MS: Final = SESSION_MS - 5 * 60_000
# Sessions that came to nothing, one after another, before people are sent the ordinary way.
MOST_SESSIONS: Final = 3

_KEYS: Final = (
    *("EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI"),
    *("CT", "ST", "ZIP", "MADID", "COUNTRY"),
)


class Next(StrEnum):
    """What to do about a session, as far as Facebook's status tells."""

    BEGIN = "begin"
    GO_ON = "go_on"
    WAIT = "wait"
    FINISH = "finish"
    GIVE_UP = "give_up"


def next_step(session: ReplaceSession, status: int | None, now_ms: int) -> Next:
    """`status` is the audience's operation status, asked when no request of ours can be under way."""
    if status == IN_PROGRESS:
        own = session.session_id is not None and not session.closed
        return Next.GO_ON if own and now_ms < session.started_at + LAST_BATCH_MS else Next.WAIT
    if session.closed:
        return Next.GIVE_UP if status == FAILED else Next.FINISH
    if status != NORMAL or session.sessions >= MOST_SESSIONS:
        return Next.GIVE_UP
    return Next.BEGIN


def why_ordinary(mapping: FacebookDestination) -> str | None:
    """Why the audience is not replaced but sent the ordinary way."""
    if mapping.value_based:
        return "it is value-based"
    # The ids stand beside the rows, and the schema of a session knows rows alone.
    return "it is sent scoped ids" if mapping.fields.keys() & SCOPED_FIELDS.keys() else None


def why_never(definition: AudienceDefinition, mapping: FacebookDestination) -> str | None:
    """Why nothing puts the members in the place of everybody there, by design."""
    if keeps_who_left(definition, mapping):
        return f"its sync_mode {mapping.sync_mode.value} keeps people there who are no members"
    return why_ordinary(mapping)


def keeps_who_left(definition: AudienceDefinition, mapping: FacebookDestination) -> bool:
    """Whether the Facebook audience holds people on purpose who are no members: replacing would take them out."""
    return definition.source is not AudienceSource.ENGAGE and mapping.sync_mode is not SyncMode.MIRROR


def schema_of(*, external_ids: bool) -> tuple[str, ...]:
    """The same for all batches of a session, whatever their rows have and whoever sends them."""
    return (EXTERN_ID, *_KEYS) if external_ids else _KEYS


def is_left_out(rows: list[dict[str, Cell]]) -> bool:
    """Whether a session with external ids lacks some of a member's rows."""
    return any(row.get(EXTERN_ID, "") == "" and _says_something(row) for row in rows)


def _says_something(row: Row) -> bool:
    return any(cell != "" for key, cell in row.items() if key != LOOKALIKE_VALUE)


@dataclass(slots=True)
class Members:
    """Who is a member by the part of the log that a session stands for: by profile, where its newest delta is."""

    destination: str
    _newest: dict[int, int] = field(default_factory=dict)
    external_ids: bool = False

    def see(self, offset: int, delta: MembershipDelta) -> None:
        """Every delta of that part, in order of offset."""
        rows = delta.rows.get(self.destination)
        if rows is None:
            return
        if delta.change is Change.EXITED:
            self._newest.pop(hash(delta.profile), None)
            return
        self._newest[hash(delta.profile)] = offset
        self.external_ids = self.external_ids or any(row.get(EXTERN_ID, "") != "" for row in rows)

    def __len__(self) -> int:
        return len(self._newest)

    def holds(self, offset: int, delta: MembershipDelta) -> bool:
        """Whether this is the newest delta of a member."""
        return self._newest.get(hash(delta.profile)) == offset


class Chunk:
    """The rows of one batch, from the log. `following` is the offset to read on from; None: that was the end."""

    def __init__(self, destination: str, max_rows: int, *, external_ids: bool) -> None:
        self._destination = destination
        self._max_rows = max_rows
        self._external_ids = external_ids
        self._rows: list[tuple[Row, RowSource]] = []
        self._bytes = 0
        self.following: int | None = None
        self.left_out = False

    def add(self, offset: int, delta: MembershipDelta) -> bool:
        """A member's newest delta. False: the batch is full, and the next one begins with this."""
        rows = delta.rows[self._destination]
        fitting = [
            (row, RowSource(offset, delta, index))
            for index, row in enumerate(rows)
            if _says_something(row) and (not self._external_ids or row.get(EXTERN_ID, "") != "")
        ]
        more = sum(row_bytes(row) for row, _ in fitting)
        full = len(self._rows) + len(fitting) > self._max_rows or self._bytes + more > MAX_REQUEST_BYTES
        if self._rows and fitting and full:
            self.following = offset
            return False
        self.left_out = self.left_out or (self._external_ids and is_left_out(rows))
        self._rows.extend(fitting)
        self._bytes += more
        return True

    @property
    def request(self) -> UsersRequest | None:
        """None: nobody is in it."""
        if not self._rows:
            return None
        schema = schema_of(external_ids=self._external_ids)
        data = [[row.get(key, "") for key in schema] for row, _ in self._rows]
        return UsersRequest(False, schema, data, [source for _, source in self._rows])
