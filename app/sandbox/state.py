"""All a sandbox remembers: audiences with their people, upload sessions, sizes that are still to be published.

Pure: instants come in as arguments, in unix seconds of the sandbox's clock.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox.metering import Meters
from app.sandbox.people import People
from app.sandbox.replacing import Replacements
from app.sandbox.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CUSTOM = "CUSTOM"
LOOKALIKE = "LOOKALIKE"


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
    flagged: list[str] = field(default_factory=list)
    """The fields that hint at something sensitive: name, description or rule."""
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
        self.accounts_without_terms: set[str] = set()
        self.sessions = Sessions()
        self.meters = Meters()
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
        self.sessions.forget(audience_id)

    def customer_lists(self, ad_account_id: str) -> int:
        return sum(one.details.subtype == CUSTOM for one in self.of_account(ad_account_id))

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
