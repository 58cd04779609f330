"""What a sandbox can be told at its start, and the clock it lives by."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from app.sandbox.metering import LimitOptions
from app.sandbox.replacing import ReplaceOptions

if TYPE_CHECKING:
    from collections.abc import Callable

MANAGE = "ads_management"
READ = "ads_read"
TASKS = frozenset({"ADVERTISE", "ANALYZE", "MANAGE"})
TOKEN_LIFE_SECONDS = 60 * 86_400
"""Of a token that another one was exchanged for."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token the sandbox knows, and what it may do.

    `ad_accounts` are ids such as `act_1`; None means every account. `tasks` are what its user may do in them.
    `expires_at` and the like are in unix seconds of the sandbox's clock; None means never.
    """

    value: str = field(repr=False)
    permissions: frozenset[str] = frozenset({MANAGE, READ})
    ad_accounts: frozenset[str] | None = None
    expires_at: float | None = None
    data_access_expires_at: float | None = None
    issued_at: float | None = None
    tasks: frozenset[str] = TASKS

    def reaches(self, ad_account_id: str) -> bool:
        return self.ad_accounts is None or ad_account_id in self.ad_accounts


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Switches for behaviour that the API documents as optional, or does not document at all."""

    tokens: tuple[AccessToken, ...] = ()
    """Empty: any token that is not blank is accepted, with every right."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The wall clock; `POST /_sandbox/clock` moves the sandbox ahead of it."""

    versions: frozenset[str] | None = None
    """Versions that are served, such as v25.0; None: any of that form."""

    ended_versions: frozenset[str] = frozenset()
    ended_version: Literal["upgrade", "refuse"] = "upgrade"
    """Whether the next of `versions` stands in for one that has ended; where there is none it is refused."""

    app_id: str = "1"
    """Of the app that all tokens are of."""

    app_secret: str | None = field(default=None, repr=False)
    """A proof made of it is checked wherever one is sent, and asked for with `require_proof`; tokens are exchanged for it alone."""

    require_proof: bool = False

    limits: LimitOptions = field(default_factory=LimitOptions)
    """Calls that an ad account may make."""

    accounts_without_terms: frozenset[str] = frozenset()
    """Ad accounts whose Custom Audience terms nobody has accepted."""

    accounts_without_business: frozenset[str] = frozenset()
    """Ad accounts that belong to no business."""

    max_custom_audiences: int = 500
    """Customer lists in one ad account."""

    max_name_length: int = 255
    """Characters; the API publishes no limit."""

    max_rows: int = 10_000
    too_many_rows: Literal["unknown error", "invalid parameter"] = "unknown error"
    """Code 1/99 (seen in 2016) or code 100 for more than `max_rows`."""

    empty_samples_as_list: bool = False
    """Answer `invalid_entry_samples: []` instead of `{}` when no row was refused; both were seen."""

    match_share: float = 1.0
    """The share of people that count as matched, chosen by a checksum of the person: the same every time."""

    size_delay_seconds: float = 0.0
    """How long after an upload the audience's size and state follow, on the sandbox's clock."""

    min_delivery_size: int = 100
    """Fewer matched people than this leave `delivery_status` at 300."""

    min_people_left: int = 0
    """A removal that would leave fewer people is refused."""

    replace: ReplaceOptions = field(default_factory=ReplaceOptions)
    """How replacing everybody in an audience goes."""

    request_log_entries: int = 10_000
    request_log_body_bytes: int = 1024 * 1024
    """Bodies larger than this are not kept in the request log; their rows are counted all the same."""

    request_log_total_bytes: int = 64 * 1024 * 1024
    """When the kept bodies add up to more, the oldest are let go."""


class SandboxClock:
    """The wall clock plus what tests have added to it."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self.advanced_seconds = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return self._wall().timestamp() + self.advanced_seconds

    def text(self) -> str:
        """The instant as it is shown: UTC, milliseconds, Z."""
        moment = self._wall().astimezone(UTC) + timedelta(seconds=self.advanced_seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def advance(self, seconds: float) -> None:
        """Raises OverflowError when the calendar ends before the wanted instant."""
        self._wall() + timedelta(seconds=self.advanced_seconds + seconds)
        self.advanced_seconds += seconds
