"""Sum, average, least and greatest of numbers: of a list of them, or of the totals of all that came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from schemas.audience import AggregateFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.domain.state import NumberTotals

# Sums and averages are rounded to so many decimals before they are compared.
_DECIMALS: Final = 6


def _sum(numbers: Sequence[float]) -> float | None:
    return round(math.fsum(numbers), _DECIMALS) if numbers else None


def _average(numbers: Sequence[float]) -> float | None:
    return round(math.fsum(numbers) / len(numbers), _DECIMALS) if numbers else None


def _min(numbers: Sequence[float]) -> float | None:
    return min(numbers, default=None)


def _max(numbers: Sequence[float]) -> float | None:
    return max(numbers, default=None)


def _sum_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    if not early:
        return round(totals.total + totals.compensation, _DECIMALS) if totals.count else None
    return round(math.fsum((totals.total, totals.compensation, *early)), _DECIMALS)


def _average_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    count = totals.count + len(early)
    if not count:
        return None
    return round(math.fsum((totals.total, totals.compensation, *early)) / count, _DECIMALS)


def _min_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    return _min((totals.least, *early) if totals.count else early)


def _max_of_totals(totals: NumberTotals, early: Sequence[float]) -> float | None:
    return _max((totals.greatest, *early) if totals.count else early)


OF_NUMBERS: Final[dict[AggregateFunction, Callable[[Sequence[float]], float | None]]] = {
    AggregateFunction.SUM: _sum,
    AggregateFunction.AVERAGE: _average,
    AggregateFunction.MIN: _min,
    AggregateFunction.MAX: _max,
}
OF_TOTALS: Final[dict[AggregateFunction, Callable[[NumberTotals, Sequence[float]], float | None]]] = {
    AggregateFunction.SUM: _sum_of_totals,
    AggregateFunction.AVERAGE: _average_of_totals,
    AggregateFunction.MIN: _min_of_totals,
    AggregateFunction.MAX: _max_of_totals,
}
