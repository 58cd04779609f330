"""What the pipeline needs from outside, as protocols; adapters implement them, main joins them.

Each has an in-memory twin in app.adapters.memory, and one contract suite runs on both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.dead_letter import DeadLetter
from schemas.membership import MembershipDelta
from schemas.sync import SyncState


class Clock(Protocol):
    """The wall in epoch milliseconds, and a monotonic clock in seconds for waits."""

    def now_ms(self) -> int: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ListedAudience:
    """A Facebook audience as the list of an ad account shows it."""

    id: str
    name: str | None
    description: str | None
    subtype: str | None


@dataclass(frozen=True, slots=True)
class AudienceStatus:
    """What Facebook says of one audience; the bounds are its privacy buckets, never an exact size."""

    id: str
    name: str | None
    lower_bound: int | None
    upper_bound: int | None
    operation_code: int | None
    delivery_code: int | None


@dataclass(frozen=True, slots=True)
class UsersAnswer:
    """Answer of a successful users call; `invalid` maps the compact JSON of a refused row to Meta's reason."""

    received: int
    invalid_count: int
    invalid: dict[str, str]
    trace: str | None = None


class GraphApi(Protocol):
    """The calls of Meta's Marketing API that delivery makes.

    Every method raises `app.domain.delivery.GraphRefusal` for an answer that is an error and `UnreachableError`
    when there was no answer (the call may or may not have been applied).
    """

    async def create_audience(
        self, ad_account_id: str, name: str, description: str, customer_file_source: str
    ) -> str: ...

    def list_audiences(self, ad_account_id: str) -> AsyncIterator[ListedAudience]: ...

    async def read_audience(self, audience_id: str) -> AudienceStatus: ...

    async def add_users(self, audience_id: str, schema: Sequence[str], data: Sequence[Sequence[Any]]) -> UsersAnswer: ...

    async def remove_users(self, audience_id: str, schema: Sequence[str], data: Sequence[Sequence[Any]]) -> UsersAnswer: ...


class SyncLedger(Protocol):
    """Writes audience.syncs."""

    async def record(self, state: SyncState) -> None:
        """Durable when it returns; raises FatalError when another worker owns the destination by now."""


class DeadLetterSink(Protocol):
    """Writes dead.letters."""

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        """Durable when it returns."""


class MembershipLog(Protocol):
    """Reads audience.memberships again, for a destination that is behind the live position."""

    def read(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncIterator[tuple[int, MembershipDelta]]:
        """The deltas of one audience with `first` <= offset < `end`, in order of offset."""


class Liveness(Protocol):
    """Whether this worker may still act for what it was assigned."""

    def may_start_request(self) -> bool:
        """False once half a session has passed since the group coordinator last answered a heartbeat."""
