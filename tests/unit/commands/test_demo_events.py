"""The calls that the demo sends: all purchases, whole days later, and before each customer's first who they are."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest

from app.commands.demo_events import Order, load_orders, moved_to_end, segment_calls, traits

TODAY = date(2026, 3, 1)

# What may never reach anybody: 555-01xx, and the numbers of Ofcom, the Bundesnetzagentur and Arcep for fiction.
FICTITIOUS_PHONE = re.compile(
    r"\+1 \d{3} 555 01\d\d"
    r"|\+44 (?:20 7946 0|1\d{2} 496 0|29 2018 0)\d{3}"
    r"|\+49 (?:30 23125 |40 66969 |89 99998 |221 4710 |69 90009 )\d{3}"
    r"|\+33 (?:1 99 00|2 61 91|3 53 01|4 65 71|5 36 49) \d\d \d\d"
)


@pytest.fixture(scope="module")
def orders() -> list[Order]:
    return load_orders()


@pytest.fixture(scope="module")
def calls(orders: list[Order]) -> list[dict[str, Any]]:
    return [orjson.loads(call.body) for call in segment_calls(moved_to_end(orders, TODAY))]


def test_all_purchases_are_there_in_order_of_time(orders: list[Order]) -> None:
    assert len(orders) == 69_659
    assert len({order.customer for order in orders}) == 23_570
    assert orders[0] == Order("00001", date(1997, 1, 1), 1, 1_177)
    assert orders[-1].day == date(1998, 6, 30)
    assert sorted(orders, key=lambda order: order.day) == orders
    # The sums over the data set as it was published.
    assert sum(order.quantity for order in orders) == 167_881
    assert sum(order.cents for order in orders) == 250_031_563


@pytest.mark.parametrize(
    "today",
    [
        date(2026, 3, 1),
        # The file begins in a year of 365 days: the distance, not the calendar, is kept.
        date(2024, 2, 29),
        date(1998, 6, 30),
    ],
)
def test_all_orders_are_moved_by_the_same_days_and_the_last_ones_are_today(
    orders: list[Order], today: date
) -> None:
    moved = moved_to_end(orders, today)
    assert moved[-1].day == max(order.day for order in moved) == today
    distances = {after.day - before.day for before, after in zip(orders, moved, strict=True)}
    assert distances == {today - date(1998, 6, 30)}
    assert [(o.customer, o.quantity, o.cents) for o in moved] == [
        (o.customer, o.quantity, o.cents) for o in orders
    ]


def test_each_order_is_a_call_and_each_customer_is_introduced_first(
    orders: list[Order], calls: list[dict[str, Any]]
) -> None:
    introduced: set[str] = set()
    bought = []
    for call in calls:
        if call["type"] == "identify":
            assert call["userId"] not in introduced
            introduced.add(call["userId"])
            continue
        assert call["type"] == "track"
        assert call["event"] == "Order Completed"
        assert call["userId"] in introduced
        bought.append((call["userId"], call["properties"]["quantity"], call["properties"]["revenue"]))
    assert len(introduced) == 23_570
    assert bought == [(order.customer, order.quantity, order.cents / 100) for order in orders]


def test_an_introduction_is_of_the_day_of_the_first_order(calls: list[dict[str, Any]]) -> None:
    first_order: dict[str, str] = {}
    for call in calls:
        if call["type"] == "track":
            first_order.setdefault(call["userId"], call["timestamp"])
    introductions = {call["userId"]: call["timestamp"] for call in calls if call["type"] == "identify"}
    assert introductions == first_order


def test_instants_are_midnights_in_order_and_received_at_once(calls: list[dict[str, Any]]) -> None:
    instants = [datetime.fromisoformat(call["timestamp"]) for call in calls]
    assert instants == sorted(instants)
    assert instants[-1] == datetime(2026, 3, 1, tzinfo=UTC)
    assert all((i.hour, i.minute, i.second, i.microsecond) == (0, 0, 0, 0) for i in instants)
    assert all(call["receivedAt"] == call["timestamp"] for call in calls)


def test_message_ids_are_unique_and_the_same_every_day(
    orders: list[Order], calls: list[dict[str, Any]]
) -> None:
    ids = [call["messageId"] for call in calls]
    assert len(set(ids)) == len(calls) == 69_659 + 23_570
    later = [
        orjson.loads(call.body)["messageId"] for call in segment_calls(moved_to_end(orders, date(2027, 1, 1)))
    ]
    assert later == ids


def test_the_calls_of_one_day_are_the_same_bytes_every_time(orders: list[Order]) -> None:
    moved = moved_to_end(orders[:2_000], TODAY)
    assert list(segment_calls(moved)) == list(segment_calls(moved))


def test_a_call_names_its_user(orders: list[Order]) -> None:
    for call in segment_calls(orders[:100]):
        assert orjson.loads(call.body)["userId"] == call.user_id


def test_customers_are_made_up_and_reachable_nowhere(orders: list[Order]) -> None:
    people = {order.customer: traits(order.customer) for order in orders}
    mails = [person["email"] for person in people.values()]
    assert len(set(mails)) == len(mails)
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+\.\d+@example\.(com|net|org)", mail) for mail in mails)
    phones = [person["phone"] for person in people.values() if "phone" in person]
    # Where a city has two ranges, the second is used when the first is full.
    assert len(set(phones)) == len(phones) == 13_711
    assert [phone for phone in phones if not FICTITIOUS_PHONE.fullmatch(phone)] == []
    for person in people.values():
        assert {"first_name", "last_name", "city", "state", "postal_code", "country"} <= person.keys()
        assert not re.search(r"[#?]", "".join(person.values()))
    assert {person["country"] for person in people.values()} == {"US", "CA", "GB", "DE", "FR"}
