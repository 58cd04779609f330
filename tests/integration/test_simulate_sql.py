"""`simulate` over 69,659 real orders against SQL: the same members at fifty instants, edges of windows among them."""

from __future__ import annotations

import csv
import gzip
import json
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from app.commands.simulate import command

ORDERS = Path(__file__).parents[2] / "app/commands/demo_data/cdnow-orders.csv.gz"
DAY = 86_400_000
INSTANTS = 50

AUDIENCES = """
audiences:
  - {name: bought_30d, when: {event: Order Completed, within: 30d}}
  - name: spent_100_in_90d
    when: {event: Order Completed, within: 90d, sum: {property: revenue, at_least: 100}}
  - name: lapsed
    when: {all: [{event: Order Completed}, {not: {event: Order Completed, within: 60d}}]}
  - {name: exactly_two, when: {event: Order Completed, count: {exactly: 2}}}
  - {name: bought_60_to_30_days_ago, when: {event: Order Completed, between: [60d, 30d]}}
  - name: american_vips
    when: {all: [{trait: country, equals: US}, {event: Order Completed, sum: {property: revenue, at_least: 250}}]}
"""

# An order is known from when it was received, and counts from when it was made.
KNOWN = "FROM orders WHERE received <= :now AND made <= :now"
QUERIES = {
    "bought_30d": f"SELECT DISTINCT customer {KNOWN} AND :now < made + 30 * :day",
    "spent_100_in_90d": f"""
        SELECT customer {KNOWN} AND :now < made + 90 * :day GROUP BY customer HAVING sum(cents) >= 10000""",
    "lapsed": f"SELECT customer {KNOWN} GROUP BY customer HAVING max(made) + 60 * :day <= :now",
    "exactly_two": f"SELECT customer {KNOWN} GROUP BY customer HAVING count(*) = 2",
    "bought_60_to_30_days_ago": f"""
        SELECT DISTINCT customer {KNOWN} AND made + 30 * :day <= :now AND :now < made + 60 * :day""",
    "american_vips": f"""
        SELECT customer {KNOWN} AND (
            SELECT country FROM countries WHERE countries.customer = orders.customer AND received <= :now
            ORDER BY received DESC LIMIT 1) = 'US'
        GROUP BY customer HAVING sum(cents) >= 25000""",
}


class Order(NamedTuple):
    received: int
    customer: str
    made: int
    cents: int


class Country(NamedTuple):
    received: int
    customer: str
    country: str


@pytest.fixture(scope="module")
def chance() -> random.Random:
    return random.Random(1997)


@pytest.fixture(scope="module")
def orders(chance: random.Random) -> list[Order]:
    """At some millisecond of their day, some received only days later."""
    result = []
    with gzip.open(ORDERS, "rt", newline="") as file:
        for row in csv.DictReader(file):
            midnight = int(datetime.fromisoformat(row["date"]).replace(tzinfo=UTC).timestamp()) * 1_000
            made = midnight + chance.randrange(DAY)
            delay = chance.randrange(5 * DAY) if chance.random() < 0.1 else chance.choice([0, 0, 150])
            cents = round(float(row["amount"]) * 100)
            result.append(Order(made + delay, row["customer"], made, cents))
    return result


@pytest.fixture(scope="module")
def countries(orders: list[Order], chance: random.Random) -> list[Country]:
    """Where customers live, some of whom move."""
    result = []
    for order in orders:
        if chance.random() < 0.4:
            moved = order.received + chance.randrange(1, DAY)
            result.append(Country(moved, order.customer, chance.choice(["US", "US", "CA"])))
    return result


@pytest.fixture(scope="module")
def database(orders: list[Order], countries: list[Country]) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE orders (received INTEGER, customer TEXT, made INTEGER, cents INTEGER);"
        "CREATE TABLE countries (received INTEGER, customer TEXT, country TEXT);"
        "CREATE INDEX by_customer ON countries (customer, received);"
    )
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
    connection.executemany("INSERT INTO countries VALUES (?, ?, ?)", countries)
    yield connection
    connection.close()


def text_of(instant: int) -> str:
    moment = datetime.fromtimestamp(instant // 1_000, UTC).replace(microsecond=instant % 1_000 * 1_000)
    return moment.isoformat(timespec="milliseconds")


def milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000 + moment.microsecond // 1_000


def call_of(number: int, item: Order | Country) -> str:
    call: dict[str, object] = {
        "userId": item.customer,
        "messageId": str(number),
        "receivedAt": text_of(item.received),
    }
    if isinstance(item, Order):
        made = text_of(item.made)
        call |= {"type": "track", "event": "Order Completed", "timestamp": made}
        call["properties"] = {"revenue": item.cents / 100}
    else:
        call |= {"type": "identify", "timestamp": text_of(item.received), "traits": {"country": item.country}}
    return json.dumps(call)


def test_members_at_fifty_instants_are_those_of_sql(
    orders: list[Order],
    countries: list[Country],
    database: sqlite3.Connection,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    calls: list[Order | Country] = sorted([*orders, *countries], key=lambda item: item.received)
    audiences, events = tmp_path / "audiences.yaml", tmp_path / "events.ndjson"
    audiences.write_text(AUDIENCES)
    events.write_text("\n".join(call_of(number, item) for number, item in enumerate(calls)))
    until = calls[-1].received + 100 * DAY

    arguments = ["--audiences", str(audiences), "--events", str(events), "--until", text_of(until)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.stderr == ""
    transitions = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(transitions) > 100_000
    order = [
        (item["at"].replace("Z", ".000Z")[:23], item["audience"], item["profile"]) for item in transitions
    ]
    assert order == sorted(order)

    instants = [chance.randrange(calls[0].received, until) for _ in range(INSTANTS - 20)]
    edges = [chance.choice(orders).made + days * DAY for days in (30, 60, 90, 30, 60)]
    instants += [edge + beside for edge in edges for beside in (-1, 0, 1, DAY)]
    members: dict[str, set[str]] = {audience: set() for audience in QUERIES}
    position = 0
    for now in sorted(instants):
        while position < len(transitions) and milliseconds(transitions[position]["at"]) <= now:
            change = transitions[position]
            assert (change["profile"] in members[change["audience"]]) is not change["member"]
            members[change["audience"]] ^= {change["profile"]}
            position += 1
        for audience, query in QUERIES.items():
            expected = {row[0] for row in database.execute(query, {"now": now, "day": DAY})}
            assert members[audience] == expected, f"{audience} at {text_of(now)}"
    assert position > 10_000
