"""What the pipeline needs from outside, as protocols; adapters implement them, main joins them.

Each has an in-memory twin in app.adapters.memory or a neighbour of it, and one contract suite runs on both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import SecretStr

from app.domain.access_tokens import TokenFacts
from app.domain.data_use import NOTHING_SAID, DataUse
from app.domain.delivery import UsageMeter
from app.domain.published import Published
from schemas.control import ControlRecord
from schemas.dead_letter import DeadLetter
from schemas.membership import MembershipDelta
from schemas.sync import SyncState

# Longest that one call of the Graph API takes, from connecting to the last byte; then it is given up.
REQUEST_TIMEOUT_SECONDS = 90.0


class Clock(Protocol):
    """The wall in epoch milliseconds, and a monotonic clock in seconds for waits."""

    def now_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class Timer(Clock, Protocol):
    """A clock that can be waited on."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Returns when the event is set or the seconds have passed; None waits for the event alone."""


# Told what the headers of an answer say of the limits.
Heed = Callable[[Sequence[UsageMeter]], None]


def heedless(usage: Sequence[UsageMeter]) -> None:
    """For who makes a call or two, and no more."""


@dataclass(frozen=True, slots=True)
class ListedAudience:
    """A Facebook audience as the list of an ad account shows it.

    What follows `subtype` is there when details were asked for: the bounds of its size, privacy buckets and never a
    count; what its last operation and its use in ads come to, in Facebook's words; its birth in epoch seconds.
    """

    id: str
    name: str | None
    description: str | None
    subtype: str | None
    lower_bound: int | None = None
    upper_bound: int | None = None
    operation: str | None = None
    delivery: str | None = None
    created: int | None = None


@dataclass(frozen=True, slots=True)
class AudienceStatus:
    """What Facebook says of one audience; the bounds are its privacy buckets, never an exact size.

    `ad_account` is without act_. `operation` and `delivery` are the codes with Facebook's words for them.
    """

    id: str
    name: str | None
    lower_bound: int | None
    upper_bound: int | None
    operation_code: int | None
    delivery_code: int | None
    usage: tuple[UsageMeter, ...] = ()
    subtype: str | None = None
    ad_account: str | None = None
    operation: str | None = None
    delivery: str | None = None


@dataclass(frozen=True, slots=True)
class UsersAnswer:
    """Answer of a successful users call; `invalid` maps the compact JSON of a refused row to Meta's reason.

    `invalid_count` is Meta's own and not exact; at most 100 refused rows are named. `usage` is what the answer's
    headers say of the limits.
    """

    received: int
    invalid_count: int
    invalid: dict[str, str]
    trace: str | None = None
    usage: tuple[UsageMeter, ...] = ()


@dataclass(frozen=True, slots=True)
class AdAccountFacts:
    """What Facebook says of an ad account, of what was asked for.

    `tasks` of the token's user in it, such as ADVERTISE; `business` None: it belongs to none, or it is not shown.
    """

    tasks: tuple[str, ...]
    business: str | None
    terms_accepted: bool
    usage: tuple[UsageMeter, ...] = ()


class TokenApi(Protocol):
    """What is asked about the access token that is in use; it raises as `GraphApi` does."""

    @property
    def can_exchange(self) -> bool:
        """Whether the app's secret is known."""

    def held_token(self) -> SecretStr: ...

    def use_token(self, token: SecretStr) -> None:
        """For every call from now on. Raises InvalidInputError for what is no token."""

    async def token_facts(self, token: SecretStr | None = None) -> TokenFacts:
        """Of `token`, else of the one that is held, which asks."""

    async def exchange_token(self, app_id: str) -> SecretStr:
        """One that lasts longer than the one that is held; nothing is changed by it yet."""


class TokenStore(Protocol):
    """Where the access token came from and a new one is kept. Both calls block, and never raise."""

    def read(self) -> SecretStr | None:
        """What it has now; None: it cannot be read."""

    def replace(self, old: SecretStr, new: SecretStr) -> str | None:
        """Keep `new` in place of `old`, as a whole or not at all; None, or why it was not done, in words."""


@dataclass(frozen=True, slots=True)
class ReplaceBatch:
    """A batch of a session that replaces everybody: `number` from 1, `total` about how many people in all."""

    session_id: int
    number: int
    last: bool
    total: int


class GraphApi(Protocol):
    """The calls of Meta's Marketing API that delivery makes.

    Every method raises `app.domain.delivery.GraphRefusal` for an answer that is an error and `UnreachableError`
    when there was no answer (the call may or may not have been applied; its subclass `NotSentError`: it was not).
    None takes longer than REQUEST_TIMEOUT_SECONDS; of `list_audiences` that holds for every page.
    """

    async def create_audience(
        self,
        ad_account_id: str,
        name: str,
        description: str,
        customer_file_source: str,
        *,
        value_based: bool = False,
        heed: Heed = heedless,
    ) -> str: ...

    def list_audiences(
        self, ad_account_id: str, *, heed: Heed = heedless
    ) -> AsyncIterator[ListedAudience]: ...

    async def read_audience(self, audience_id: str) -> AudienceStatus: ...

    async def add_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer: ...

    async def remove_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
    ) -> UsersAnswer: ...

    async def replace_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        batch: ReplaceBatch,
        use: DataUse = NOTHING_SAID,
    ) -> UsersAnswer: ...


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

    def read_written(
        self, partition: int, first: int, end: int, audience: str
    ) -> AsyncIterator[tuple[int, MembershipDelta, int]]:
        """The same, each with the time of its record: when it was written, in epoch milliseconds."""


class Liveness(Protocol):
    """Whether this worker may still act for what it was assigned."""

    def may_start_request(self) -> bool:
        """False once half a session has passed since the group coordinator last answered a heartbeat."""


class Record(NamedTuple):
    """One record to write; `value` None is a tombstone, `partition` -1 lets the key decide (murmur2)."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """The consumer group's next offset to read; `note` is kept with it, for whoever goes on from there."""

    topic: str
    partition: int
    next_offset: int
    note: str = ""


class RecordWriter(Protocol):
    """An idempotent producer: order per partition is kept, nothing is ever skipped."""

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1) -> None:
        """Queue one record; `partition` -1 lets the key decide (murmur2)."""

    def flush(self) -> None:
        """Block until everything queued is durable; FatalError when a record was refused for good."""


class GroupCommitter(Protocol):
    """Writes records and group offsets in one transaction."""

    def commit(
        self, records: Sequence[Record], offsets: Iterable[GroupOffset], group_metadata: bytes
    ) -> None:
        """Block until all of it is visible; FatalError when another worker has taken over."""


class TopicLog(Protocol):
    """Reads partitions from a known offset to their present end, outside the group. Every call blocks.

    With `stop` set while a call waits it raises InterruptedError.
    """

    def end_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The offset behind the last committed record; raises UnreachableError."""

    def settled_ends(
        self, topic: str, partitions: Sequence[int], stop: threading.Event | None = None
    ) -> dict[int, int]:
        """As `end_offsets`, once every transaction that is open now has ended."""

    def read(
        self,
        topic: str,
        ranges: Mapping[int, tuple[int, int]],
        on_batch: Callable[[list[Any]], None],
        stop: threading.Event | None = None,
    ) -> None:
        """Hand over the records with first <= offset < end of each partition's (first, end), as librdkafka messages."""

    def latest_values(self, topic: str, partitions: int) -> dict[bytes, bytes]:
        """The newest value of every key of a compacted topic."""


class ControlLog(Protocol):
    """Reads and writes audience.control: versions of the definitions, desired states. Every call blocks."""

    def refresh(self, *, settled: bool = False) -> Published:
        """What is published now; `settled` waits for every transaction that is open. Raises UnreachableError."""

    def publish(self, decide: Callable[[Published], ControlRecord | None]) -> Published:
        """Publish what `decide` makes of what is published; None: nothing. Returns what is published then.

        Nobody else publishes in between: `decide` is asked again, should somebody have. What it raises goes through.
        """


class RawRecord(Protocol):
    """A record as a consumer hands it over; `timestamp` is Kafka's record time in epoch milliseconds."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it was read by its place; implements `RawRecord`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class ReplayLog(Protocol):
    """What replaying dead letters needs of Kafka. Every call blocks and may raise UnreachableError."""

    def kept(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Of each partition the first offset that is kept and the one behind the last; empty: no such topic."""

    def records_at(self, topic: str, partition: int, offsets: Sequence[int]) -> Mapping[int, StoredRecord]:
        """The records at these offsets, which are kept, without those that are there no longer."""

    def committed(self, topic: str) -> Mapping[int, int]:
        """The offset below which the workers are done with a partition; missing where they have said nothing."""

    def newest_deltas(
        self, partition: int, first: int, keys: Collection[bytes]
    ) -> Mapping[bytes, bytes | None]:
        """The newest values of these keys in a partition of audience.memberships, from offset `first` on."""

    def position(self) -> int:
        """Greater than whatever it was before the last commit."""

    def commit(self, records: Sequence[Record]) -> None:
        """Make all of it visible at once; FatalError when another replay has begun."""
