"""What the audiences of the demo have to be, asked of SQL: a second opinion that shares nothing with the engine.

Each audience of demo_data/audiences.yaml is put into SQL by hand here; nothing of `app.domain` is imported, so that a
misreading there cannot repeat itself. Instants are epoch milliseconds. An order of instant `at` is within D at `now`
while at <= now < at + D.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from app.commands.demo_events import Order

DAY_MS: Final = 86_400_000

_TABLES: Final = """
CREATE TABLE orders (customer TEXT NOT NULL, at INTEGER NOT NULL, quantity INTEGER NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE customers (customer TEXT PRIMARY KEY, country TEXT NOT NULL);
CREATE INDEX orders_at ON orders (at);
"""

QUERIES: Final[Mapping[str, str]] = {
    "bought_in_the_last_30_days": """
        SELECT DISTINCT customer FROM orders WHERE at <= :now AND :now < at + 30 * :day
    """,
    "spent_100_dollars_in_90_days": """
        SELECT customer FROM orders WHERE at <= :now AND :now < at + 90 * :day
        GROUP BY customer HAVING sum(cents) >= 10000
    """,
    "lapsed": """
        SELECT customer FROM orders WHERE at <= :now
        GROUP BY customer HAVING max(at) + 60 * :day <= :now
    """,
    "exactly_two_orders": """
        SELECT customer FROM orders WHERE at <= :now GROUP BY customer HAVING count(*) = 2
    """,
    "bought_60_to_30_days_ago": """
        SELECT DISTINCT customer FROM orders WHERE at + 30 * :day <= :now AND :now < at + 60 * :day
    """,
    "american_vips": """
        SELECT customer FROM orders JOIN customers USING (customer) WHERE at <= :now AND country = 'US'
        GROUP BY customer HAVING sum(cents) >= 25000
    """,
}


class SqlOracle:
    """The purchases in SQLite, in memory. A context manager; one thread."""

    def __init__(self, orders: Iterable[Order], countries: Mapping[str, str]) -> None:
        """`countries` by customer."""
        self._database = sqlite3.connect(":memory:")
        self._database.executescript(_TABLES)
        self._database.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            ((order.customer, _midnight_ms(order), order.quantity, order.cents) for order in orders),
        )
        self._database.executemany("INSERT INTO customers VALUES (?, ?)", countries.items())

    def members(self, audience: str, now_ms: int) -> set[str]:
        """Customers who are in the audience at that instant; KeyError for an audience without a query."""
        rows = self._database.execute(QUERIES[audience], {"now": now_ms, "day": DAY_MS})
        return {customer for (customer,) in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


def _midnight_ms(order: Order) -> int:
    day = order.day
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
