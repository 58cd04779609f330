"""All a sandbox remembers: audiences with their people, upload sessions, sizes that are still to be published.

Pure: instants come in as arguments, in unix seconds of the sandbox's clock.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox.people import People
from app.sandbox.replacing import Replacements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CUSTOM = "CUSTOM"
LOOKALIKE = "LOOKALIKE"
SESSION_SECONDS = 90 * 60
"""An upload session ends 90 minutes after its first batch."""

_MAX_SESSIONS = 10_000


@dataclass(slots=True)
class Details:
    """An audience without its people; every member of it is plain data."""

    id: str
    sequence: int
    ad_account_id: str
    name: str
    time_created: float
    time_updated: float
    time_content_updated: float
    subtype: str = CUSTOM
    description: str = ""
    customer_file_source: str | None = None
    is_value_based: bool = False
    retention_days: int = 0
    opt_out_link: str | None = None
    audience_labels: list[str] = field(default_factory=list)
    origin_audience_id: str | None = None
    lookalike_spec: dict[str, Any] | None = None
    data_source: str | None = None
    """The sub type the first upload fixed: MULTI_HASHES or HASHES_OR_USER_IDS."""
    sizes: list[tuple[float, int]] = field(default_factory=list)
    """(visible from, matched people), oldest first; the last one that is visible is the published size."""

    def publish(self, now: float, delay: float, matched: int) -> None:
        visible = [entry for entry in self.sizes if entry[0] <= now]
        self.sizes = visible[-1:] + self.sizes[len(visible) :] + [(now + delay, matched)]

    def published_size(self, now: float) -> int | None:
        """Matched people as far as the API shows them; None before the first match."""
        visible = [matched for at, matched in self.sizes if at <= now]
        return visible[-1] if visible else None


@dataclass(slots=True)
class Audience:
    details: Details
    people: People


@dataclass(slots=True)
class _Session:
    started_at: float
    received: int


def random_audience_id() -> str:
    """Eighteen digits: like the API's ids too long for 53 bits, and not given again by a restarted sandbox."""
    return f"1202{secrets.randbelow(10**14):014d}"


class SandboxState:
    """Audiences in order of creation. Knows nothing of tokens, requests or what is allowed."""

    def __init__(self, match_share: float = 1.0, new_id: Callable[[], str] = random_audience_id) -> None:
        self.match_share = match_share
        self._new_id = new_id
        self._audiences: dict[str, Audience] = {}
        self._last_sequence = 0
        self._sessions: dict[tuple[str, str], _Session] = {}
        self.replacements = Replacements(self._replace_people)

    def __iter__(self) -> Iterator[Audience]:
        return iter(self._audiences.values())

    def get(self, audience_id: str) -> Audience | None:
        return self._audiences.get(audience_id)

    def of_account(self, ad_account_id: str) -> list[Audience]:
        """Newest first."""
        return [
            audience
            for audience in reversed(self._audiences.values())
            if audience.details.ad_account_id == ad_account_id
        ]

    def create(self, ad_account_id: str, attributes: dict[str, Any], now: float) -> Audience:
        """`attributes` are members of Details that have passed validation, `name` among them."""
        audience_id = self._new_id()
        while audience_id in self._audiences:
            audience_id = self._new_id()
        details = Details(
            id=audience_id,
            sequence=self._last_sequence + 1,
            ad_account_id=ad_account_id,
            time_created=now,
            time_updated=now,
            time_content_updated=now,
            **attributes,
        )
        return self.restore(Audience(details, People(self.match_share)))

    def restore(self, audience: Audience) -> Audience:
        """Take in an audience as it was stored; raises ValueError when its id is taken."""
        if audience.details.id in self._audiences:
            raise ValueError(f"audience {audience.details.id} is there twice")
        self._audiences[audience.details.id] = audience
        self._last_sequence = max(self._last_sequence, audience.details.sequence)
        return audience

    def delete(self, audience_id: str) -> None:
        del self._audiences[audience_id]
        self.replacements.forget(audience_id)
        for key in [key for key in self._sessions if key[0] == audience_id]:
            del self._sessions[key]

    def lookalikes_of(self, audience_id: str) -> list[str]:
        return [
            audience.details.id
            for audience in self._audiences.values()
            if audience.details.origin_audience_id == audience_id
        ]

    def change_people(
        self, audience: Audience, add: Iterable[dict[str, Any]], remove: Iterable[dict[str, Any]], now: float
    ) -> None:
        for cells in add:
            audience.people.add(cells, now)
        for cells in remove:
            audience.people.remove(cells, now)
        audience.details.time_content_updated = now

    def _replace_people(self, audience_id: str, rows: list[dict[str, Any]], now: float) -> None:
        audience = self._audiences[audience_id]
        audience.people = People(self.match_share)
        self.change_people(audience, rows, (), now)
        audience.details.publish(now, 0.0, audience.people.matched)

    def received_in_session(self, audience_id: str, session_id: str, rows: int, now: float) -> int:
        """All rows of the session so far, these included."""
        session = self._sessions.get((audience_id, session_id))
        if session is None or now - session.started_at >= SESSION_SECONDS:
            self._forget_old_sessions(now)
            session = self._sessions[audience_id, session_id] = _Session(now, 0)
        session.received += rows
        return session.received

    def _forget_old_sessions(self, now: float) -> None:
        if len(self._sessions) < _MAX_SESSIONS:
            return
        live = {key: one for key, one in self._sessions.items() if now - one.started_at < SESSION_SECONDS}
        # Half of them are kept at most, so that a client with a session per request does not pay for this each time.
        self._sessions = dict(list(live.items())[-_MAX_SESSIONS // 2 :])
