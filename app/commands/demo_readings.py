"""What the running system says of itself, and when its answer is final.

The worker is asked by its /stats, the sandbox by its inspection routes; both listen on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, Field, ValidationError

from app.errors import PermanentError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Collection

    # What must stand still before an answer is final.
    Fingerprint = tuple[object, ...]

OK: Final = 200
DAY_MS: Final = 86_400_000

STABLE_SECONDS: Final = 3.0
"""So long nothing may change: between two stages a change is in neither's lag for a moment."""

MIDNIGHT_SECONDS: Final = 15.0
"""So long after midnight UTC no answer is final: whoever leaves a window then has to reach the sandbox first."""

STALLED_SECONDS: Final = 120.0
"""When nothing has changed for so long and the answer is still not final, something is broken."""

MAX_CLOCK_LAG_SECONDS: Final = 5.0
"""The clock of profile.events is moved by records behind everything that was resolved: once it has come to the wall,
evaluate and expire have seen it all. Their own lag is never at rest, as such records keep coming."""

_RESTING_STAGES: Final = ("resolve", "batch", "deliver")


class Stage(BaseModel):
    """`lag` in records; None: unknown."""

    records_in: int = Field(alias="in")
    rate: float | None = None
    lag: int | None = None


class Destination(BaseModel):
    id: str
    state: str
    reason: str | None = None
    sent: int
    pending: int
    facebook_id: str | None = None


class Audience(BaseModel):
    members: int
    entered: int
    exited: int
    destinations: list[Destination]


class WorkerStats(BaseModel):
    """The part of /stats that the demo reads."""

    stages: dict[str, Stage]
    audiences: dict[str, Audience]
    dead_letters: dict[str, int]
    clock_lag_seconds: float | None = None


class SandboxAudience(BaseModel):
    id: str
    name: str
    count: int


class _SandboxAudiences(BaseModel):
    audiences: list[SandboxAudience]


def is_ready(worker_url: str) -> bool:
    """Whether the worker processes at this moment."""
    try:
        _get(f"{worker_url}/ready", 2.0)
    except UnreachableError:
        return False
    return True


def read_stats(worker_url: str) -> WorkerStats:
    """Raises UnreachableError while the worker does not answer, as when it starts again."""
    document = _get(f"{worker_url}/stats", 5.0)
    try:
        return WorkerStats.model_validate(document)
    except ValidationError as exc:
        raise PermanentError(f"{worker_url}/stats has not the expected form: {exc}") from exc


def read_sandbox_audiences(sandbox_url: str) -> dict[str, SandboxAudience]:
    """By Facebook's id."""
    found = _SandboxAudiences.model_validate({"audiences": _get(f"{sandbox_url}/_sandbox/audiences", 30.0)})
    return {audience.id: audience for audience in found.audiences}


def read_sandbox_members(sandbox_url: str, facebook_id: str) -> list[str]:
    """The external ids that were sent for everybody in the audience; "" for a member without one."""
    answer = _get(f"{sandbox_url}/_sandbox/audiences/{facebook_id}/members", 60.0)
    return [str(member.get("EXTERN_ID", "")) for member in answer["members"]]


def _get(url: str, seconds: float) -> Any:
    """Without the environment's proxies. Raises UnreachableError when the answer is no 200 with JSON."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        body = response.read()
        if response.status != OK:
            raise UnreachableError(f"{url} answered {response.status}")
        return orjson.loads(body)
    except (OSError, HTTPException, orjson.JSONDecodeError) as exc:
        raise UnreachableError(f"{url} gave no answer ({type(exc).__name__})") from exc
    finally:
        connection.close()


def not_caught_up(stats: WorkerStats, audiences: Collection[str]) -> list[str]:
    """What is still to be done before everything that happened has reached the sandbox, in words; empty: nothing."""
    lags = {name: stats.stages[name].lag for name in _RESTING_STAGES}
    open_ends = [
        f"stage {name} has {'an unknown number of' if lag is None else f'{lag:,}'} records before it"
        for name, lag in lags.items()
        if lag != 0
    ]
    if stats.clock_lag_seconds is None:
        open_ends.append("the clock is not known")
    elif stats.clock_lag_seconds > MAX_CLOCK_LAG_SECONDS:
        open_ends.append(f"the clock is {stats.clock_lag_seconds:,.0f} s behind")
    for key in audiences:
        audience = stats.audiences.get(key)
        if audience is None or not audience.destinations:
            open_ends.append(f"{key} has no destination yet")
            continue
        for destination in audience.destinations:
            if destination.state != "live":
                why = f" ({destination.reason})" if destination.reason else ""
                open_ends.append(f"{destination.id} is {destination.state}{why}")
            elif destination.pending:
                open_ends.append(f"{destination.id} has {destination.pending:,} changes to send")
    return open_ends


def fingerprint(stats: WorkerStats, sandbox: dict[str, SandboxAudience]) -> Fingerprint:
    """Differs whenever anything moves that the comparison looks at."""
    return (
        tuple((stats.stages[name].records_in, stats.stages[name].lag) for name in _RESTING_STAGES),
        tuple(
            (key, audience.members, *((d.id, d.state, d.sent, d.pending) for d in audience.destinations))
            for key, audience in sorted(stats.audiences.items())
        ),
        tuple((audience.id, audience.count) for audience in sandbox.values()),
    )


def same_day(first: int, last: int) -> bool:
    """Whether no window of the demo can have passed between the two: all of them do at midnight UTC."""
    return first // DAY_MS == last // DAY_MS


@dataclass(slots=True)
class Settling:
    """Decides from one poll after the other; takes time as an argument, in epoch ms and in monotonic seconds."""

    unchanged_since: float
    first_caught_up: float | None = None
    """When nothing was left to be done for the first time."""
    _seen: Fingerprint | None = None
    _caught_up_since: float | None = None

    def observe(self, seen: Fingerprint, *, caught_up: bool, now_ms: int, monotonic: float) -> bool:
        """Whether the answer is final now."""
        if seen != self._seen:
            self._seen, self.unchanged_since, self._caught_up_since = seen, monotonic, None
        if not caught_up:
            self._caught_up_since = None
            return False
        if self._caught_up_since is None:
            self._caught_up_since = monotonic
        if self.first_caught_up is None:
            self.first_caught_up = monotonic
        after_midnight = now_ms % DAY_MS / 1_000
        return monotonic - self._caught_up_since >= STABLE_SECONDS and after_midnight >= MIDNIGHT_SECONDS

    def stalled(self, monotonic: float) -> bool:
        """Whether the system stands still, or has given no answer, without having caught up."""
        return self._caught_up_since is None and monotonic - self.unchanged_since >= STALLED_SECONDS
