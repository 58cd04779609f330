"""What the pages may see of a running worker: read at the moment of asking, never changed from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from app.domain.access_tokens import FacebookView
from app.domain.counters import Counters
from app.domain.reconciling import ReconcileView
from app.ports import Clock


class DestinationView(Protocol):
    """One destination that this worker owns; instants are epoch milliseconds.

    `oldest_pending_at` None: nothing waits. The bounds are Facebook's privacy buckets, never an exact size;
    `operation` and `delivery` its words for the last operation and the use in ads. `next_retry_at` None: nothing went
    wrong.
    """

    @property
    def audience(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def reason(self) -> str | None: ...

    @property
    def sent(self) -> int: ...

    @property
    def rejected(self) -> int: ...

    @property
    def pending(self) -> int: ...

    @property
    def oldest_pending_at(self) -> int | None: ...

    @property
    def facebook_id(self) -> str | None: ...

    @property
    def lower_bound(self) -> int | None: ...

    @property
    def upper_bound(self) -> int | None: ...

    @property
    def last_sync_at(self) -> int | None: ...

    @property
    def ad_account_id(self) -> str | None: ...

    @property
    def operation(self) -> str | None: ...

    @property
    def delivery(self) -> str | None: ...

    @property
    def next_retry_at(self) -> int | None: ...


class Progress(Protocol):
    """Of reading a source partition again: all below offset `read` of what ends at `end`."""

    @property
    def read(self) -> int: ...

    @property
    def end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class WorkerView:
    """Where the numbers come from.

    `audiences` gives the keys of all defined audiences, `destinations` the owned ones by id. `lags` are records
    by stage; a missing stage or None is unknown. `clock` is the least clock of the owned partitions of
    profile.events; None: none is owned, or none is known yet. `facebook` is about the access token and the version of
    the API. `backfill` is by the name of a partition that is read again, while that is done.
    `reconcile` is None where another worker does it, or nobody.
    """

    counters: Counters
    audiences: Callable[[], Iterable[str]]
    destinations: Callable[[], Mapping[str, DestinationView]]
    lags: Mapping[str, int | None]
    clock: Callable[[], int | None]
    wall: Clock
    facebook: Callable[[], FacebookView]
    backfill: Callable[[], Mapping[str, Progress]] = dict
    reconcile: Callable[[], ReconcileView | None] = lambda: None

    def destinations_by_audience(self) -> dict[str, dict[str, DestinationView]]:
        """The owned destinations by id, under every defined or counted audience, the defined ones first."""
        counted = sorted(self.counters.audiences)
        found: dict[str, dict[str, DestinationView]] = {key: {} for key in (*self.audiences(), *counted)}
        for identifier, view in sorted(self.destinations().items()):
            found.setdefault(view.audience, {})[identifier] = view
        return found

    def seconds_since(self, instant: int | None) -> float | None:
        """By the wall, 0 for the future; None for None."""
        return None if instant is None else max(0, self.wall.now_ms() - instant) / 1_000


def displayable(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor the metrics' format can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def installed_version() -> str | None:
    """This application's version; None when it runs from a folder without being installed."""
    try:
        return version("audience-sync")
    except PackageNotFoundError:
        return None
