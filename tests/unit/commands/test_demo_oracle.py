"""The SQL of the demo against plain counting, at edges and over the whole stretch of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest

from app.adapters.definition_files import read_definitions
from app.commands.demo_events import AUDIENCES_FILE, Order, load_orders, traits
from app.commands.demo_oracle import DAY_MS, QUERIES, SqlOracle

# (age in milliseconds, cents) of a customer's orders up to now, and the customer's country
History = list[tuple[int, int]]

# Each definition once more, in words of Python.
RULES: Mapping[str, Callable[[History, str], bool]] = {
    "bought_in_the_last_30_days": lambda history, _: any(age < 30 * DAY_MS for age, _ in history),
    "spent_100_dollars_in_90_days": lambda history, _: (
        sum(cents for age, cents in history if age < 90 * DAY_MS) >= 10_000
        and any(age < 90 * DAY_MS for age, _ in history)
    ),
    "lapsed": lambda history, _: bool(history) and not any(age < 60 * DAY_MS for age, _ in history),
    "exactly_two_orders": lambda history, _: len(history) == 2,
    "bought_60_to_30_days_ago": lambda history, _: any(
        30 * DAY_MS <= age < 60 * DAY_MS for age, _ in history
    ),
    "american_vips": lambda history, country: (
        country == "US" and bool(history) and sum(cents for _, cents in history) >= 25_000
    ),
}


def milliseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000)


def counted(audience: str, orders: Iterable[Order], countries: Mapping[str, str], now: int) -> set[str]:
    histories: dict[str, History] = defaultdict(list)
    midnights = {order.day: milliseconds(order.day) for order in orders}
    for order in orders:
        age = now - midnights[order.day]
        if age >= 0:
            histories[order.customer].append((age, order.cents))
    rule = RULES[audience]
    return {customer for customer, history in histories.items() if rule(history, countries[customer])}


@pytest.fixture(scope="module")
def purchases() -> list[Order]:
    """Every fourth one."""
    return load_orders()[::4]


@pytest.fixture(scope="module")
def countries(purchases: list[Order]) -> dict[str, str]:
    return {customer: traits(customer)["country"] for customer in {order.customer for order in purchases}}


@pytest.fixture(scope="module")
def oracle(purchases: list[Order], countries: dict[str, str]) -> Iterator[SqlOracle]:
    with SqlOracle(purchases, countries) as oracle:
        yield oracle


def test_every_audience_of_the_demo_has_a_query_and_no_query_is_left_over() -> None:
    defined = {definition.key for definition in read_definitions(AUDIENCES_FILE).audiences}
    assert defined == set(QUERIES) == set(RULES)


@pytest.mark.parametrize(
    "now",
    [
        datetime(1996, 12, 31, tzinfo=UTC),  # nobody has bought yet
        datetime(1997, 1, 1, tzinfo=UTC),  # the very midnight of the first orders
        datetime(1997, 4, 11, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(1998, 1, 1, tzinfo=UTC),
        datetime(1998, 6, 30, 14, 30, tzinfo=UTC),  # as the demo asks: some time on the last day
        datetime(1998, 7, 29, 23, 59, 59, 999_000, tzinfo=UTC),  # a millisecond before the last 30 days end
        datetime(1998, 7, 30, tzinfo=UTC),
        datetime(1999, 1, 1, tzinfo=UTC),
    ],
    ids=str,
)
def test_all_purchases_counted_both_ways(
    oracle: SqlOracle, purchases: list[Order], countries: dict[str, str], now: datetime
) -> None:
    instant = int(now.timestamp() * 1_000)
    expected = {audience: counted(audience, purchases, countries, instant) for audience in QUERIES}
    assert {audience: oracle.members(audience, instant) for audience in QUERIES} == expected


D0 = date(2026, 1, 1)


def days_after(days: int, milliseconds_more: int = 0) -> int:
    return milliseconds(D0 + timedelta(days=days)) + milliseconds_more


@pytest.mark.parametrize(
    ("audience", "now", "is_member"),
    [
        # An order at its very instant counts, a millisecond before it does not exist.
        ("bought_in_the_last_30_days", days_after(0), True),
        ("bought_in_the_last_30_days", days_after(0, -1), False),
        # within D: the instant that is D later is outside.
        ("bought_in_the_last_30_days", days_after(30, -1), True),
        ("bought_in_the_last_30_days", days_after(30), False),
        ("spent_100_dollars_in_90_days", days_after(90, -1), True),
        ("spent_100_dollars_in_90_days", days_after(90), False),
        # "not within" begins where "within" ends.
        ("lapsed", days_after(60, -1), False),
        ("lapsed", days_after(60), True),
        # between [F, N]: from N on, up to but not including F.
        ("bought_60_to_30_days_ago", days_after(30, -1), False),
        ("bought_60_to_30_days_ago", days_after(30), True),
        ("bought_60_to_30_days_ago", days_after(60, -1), True),
        ("bought_60_to_30_days_ago", days_after(60), False),
        # Two orders of one day are two.
        ("exactly_two_orders", days_after(0), True),
        # Exactly 250 dollars is enough, and for ever.
        ("american_vips", days_after(10_000), True),
    ],
)
def test_edges(audience: str, now: int, is_member: bool) -> None:
    orders = [Order("7", D0, 1, 10_000), Order("7", D0, 2, 15_000)]
    with SqlOracle(orders, {"7": "US"}) as oracle:
        assert oracle.members(audience, now) == ({"7"} if is_member else set())


@pytest.mark.parametrize(
    ("audience", "orders", "country"),
    [
        ("spent_100_dollars_in_90_days", [9_999], "US"),
        ("american_vips", [24_999], "US"),
        ("american_vips", [50_000], "CA"),
        ("exactly_two_orders", [1], "US"),
        ("exactly_two_orders", [1, 1, 1], "US"),
    ],
)
def test_a_little_less_or_more_is_no_member(audience: str, orders: list[int], country: str) -> None:
    with SqlOracle([Order("7", D0, 1, cents) for cents in orders], {"7": country}) as oracle:
        assert oracle.members(audience, days_after(1)) == set()
