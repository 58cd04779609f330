"""The limits of an ad account: calls in a rolling hour, and the score of reads and writes in five minutes.

Pure: instants come in as arguments, in unix seconds of the sandbox's clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.sandbox import errors
from app.sandbox.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

Tier = Literal["standard_access", "development_access"]

HOUR_SECONDS = 3600
DECAY_SECONDS = 300
READ_POINTS, WRITE_POINTS = 1, 3
_MOST_CALLS_PER_HOUR = 700_000
_CALLS_PER_AUDIENCE = 40
_CALLS: dict[Tier, int] = {"standard_access": 190_000, "development_access": 5_000}
_SCORES: dict[Tier, int] = {"standard_access": 9_000, "development_access": 60}
_BLOCKS: dict[Tier, int] = {"standard_access": 60, "development_access": 300}

# Calls of so many seconds are remembered together, so that memory is bounded.
_CALLS_TOGETHER = 60
_POINTS_TOGETHER = 1


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """`calls_per_hour` and `score` in place of the tier's own allowances; `score_error`: which of the two documented
    errors the score limiter answers, None: it does not limit.
    """

    tier: Tier = "standard_access"
    calls_per_hour: int | None = None
    score: int | None = None
    score_error: Literal["17", "613"] | None = None

    def allowance(self, audiences: int) -> int:
        """Calls in an hour, with so many customer lists in the account."""
        if self.calls_per_hour is not None:
            return self.calls_per_hour
        return min(_CALLS[self.tier] + _CALLS_PER_AUDIENCE * audiences, _MOST_CALLS_PER_HOUR)

    @property
    def most_points(self) -> int:
        return self.score if self.score is not None else _SCORES[self.tier]

    @property
    def block_seconds(self) -> int:
        return _BLOCKS[self.tier]


class _Window:
    """Weights of the last `span` seconds, those of `together` seconds as one."""

    def __init__(self, span: float, together: float) -> None:
        self._span = span
        self._together = together
        self._weights: deque[list[float]] = deque()

    def add(self, weight: float, now: float) -> None:
        if self._weights and now - self._weights[-1][0] < self._together:
            self._weights[-1][1] += weight
        else:
            self._weights.append([now, weight])

    def total(self, now: float) -> float:
        while self._weights and now - self._weights[0][0] >= self._span:
            self._weights.popleft()
        return sum(weight for _, weight in self._weights)

    def seconds_until_below(self, bound: float, now: float) -> float:
        total = self.total(now)
        for at, weight in self._weights:
            if total < bound:
                break
            total -= weight
            if total < bound:
                return at + self._span - now
        return 0.0


@dataclass(slots=True)
class _Account:
    calls: _Window = field(default_factory=lambda: _Window(HOUR_SECONDS, _CALLS_TOGETHER))
    points: _Window = field(default_factory=lambda: _Window(DECAY_SECONDS, _POINTS_TOGETHER))
    blocked_until: float = 0.0


class Meters:
    """Each ad account has its own."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def count(
        self, account: str, options: LimitOptions, audiences: int, now: float, *, is_read: bool
    ) -> None:
        """One call. Raises GraphError when it is over a limit; such calls count, too, and lengthen the wait."""
        one = self._accounts.setdefault(account, _Account())
        over = one.calls.total(now) >= options.allowance(audiences)
        one.calls.add(1, now)
        if over:
            raise errors.too_many_calls(account)
        if options.score_error is None:
            return
        if now < one.blocked_until:
            one.blocked_until = max(one.blocked_until, now + options.block_seconds)
            raise errors.score_reached(options.score_error)
        points = READ_POINTS if is_read else WRITE_POINTS
        if one.points.total(now) + points > options.most_points:
            one.blocked_until = now + options.block_seconds
            raise errors.score_reached(options.score_error)
        one.points.add(points, now)

    def usage(self, account: str, options: LimitOptions, audiences: int, now: float) -> Usage:
        """What the headers of the account's answers say now."""
        one = self._accounts.get(account) or _Account()
        allowance = options.allowance(audiences)
        percent = 100 * one.calls.total(now) / allowance if allowance else 100.0
        wait = one.calls.seconds_until_below(allowance, now)
        share, reset = percent, 0.0
        if options.score_error is not None:
            share = 100 * one.points.total(now) / options.most_points if options.most_points else 100.0
            if now < one.blocked_until:
                share, reset = max(share, 100.0), one.blocked_until - now
        return Usage(
            call_count=math.ceil(percent),
            minutes_to_regain_access=math.ceil(wait / 60),
            account_percent=round(share, 2),
            reset_seconds=math.ceil(reset),
            tier=options.tier,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)
