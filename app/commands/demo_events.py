"""Real purchases as the Segment calls of a shop: whole days later than they were made, so that the last day is today.

All instants are midnight UTC, as the data knows days only. Nothing here depends on anything but the files in demo_data
and the day: two runs on one day produce the same calls.
"""

from __future__ import annotations

import csv
import gzip
import random
import unicodedata
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DATA: Final = Path(__file__).parent / "demo_data"
AUDIENCES_FILE: Final = DATA / "audiences.yaml"

_MAIL_DOMAINS: Final = ("example.com", "example.net", "example.org")
# Letters that may stand in the second half of both a British and a Canadian postal code.
_POSTAL_LETTERS: Final = "ABEGHJLNPRSTWXYZ"
# What no accent has to be taken off of.
_MAIL_SPELLINGS: Final = str.maketrans({"ß": "ss", "ı": "i"})


@dataclass(frozen=True, slots=True)
class Order:
    """One purchase; `customer` is a number written with five digits, `cents` are of a dollar."""

    customer: str
    day: date
    quantity: int
    cents: int


@dataclass(frozen=True, slots=True)
class Call:
    """A Segment call as JSON, and whose it is."""

    user_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    country: str
    city: str
    state: str
    postal_code: str
    phones: tuple[str, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]


def load_orders() -> list[Order]:
    """All purchases, in order of time."""
    with gzip.open(DATA / "cdnow-orders.csv.gz", "rt", encoding="ascii", newline="") as file:
        return [
            Order(
                row["customer"],
                date.fromisoformat(row["date"]),
                int(row["quantity"]),
                int(Decimal(row["amount"]) * 100),
            )
            for row in csv.DictReader(file)
        ]


def moved_to_end(orders: Sequence[Order], last_day: date) -> list[Order]:
    """The orders, all moved by the same number of days, the last of them to `last_day`."""
    shift = last_day - max(order.day for order in orders)
    return [Order(order.customer, order.day + shift, order.quantity, order.cents) for order in orders]


def segment_calls(orders: Sequence[Order]) -> Iterator[Call]:
    """One `Order Completed` per order, in their order; before a customer's first one an `identify` of the same day."""
    known: set[str] = set()
    for number, order in enumerate(orders, start=1):
        if order.customer not in known:
            known.add(order.customer)
            yield _call("identify", f"identify-{order.customer}", order, traits=traits(order.customer))
        properties = {
            "order_id": f"{number:05}",
            "revenue": order.cents / 100,
            "quantity": order.quantity,
            "currency": "USD",
        }
        yield _call("track", f"order-{number:05}", order, event="Order Completed", properties=properties)


def _call(kind: str, message_id: str, order: Order, **content: Any) -> Call:
    instant = f"{order.day.isoformat()}T00:00:00.000Z"
    call = {
        "type": kind,
        "messageId": message_id,
        "userId": order.customer,
        "timestamp": instant,
        "receivedAt": instant,
        **content,
    }
    return Call(order.customer, orjson.dumps(call))


def traits(customer: str) -> dict[str, str]:
    """What is made up of a customer, the same every time; about every other one has left a phone number."""
    chance = random.Random(f"audience-sync {customer}")  # noqa: S311 - the same seed gives the same person
    number = int(customer)
    places = _places()
    place = places[number % len(places)]
    first, last = chance.choice(place.first_names), chance.choice(place.last_names)
    phone = _phone(place, number // len(places))
    return {
        "email": f"{_mail_name(first)}.{_mail_name(last)}.{number}@{chance.choice(_MAIL_DOMAINS)}",
        **({"phone": phone} if phone is not None else {}),
        "first_name": first,
        "last_name": last,
        "city": place.city,
        "state": place.state,
        "postal_code": _postal_code(place, chance),
        "country": place.country,
    }


@cache
def _places() -> tuple[_Place, ...]:
    countries = yaml.safe_load((DATA / "people.yaml").read_text(encoding="utf-8"))
    return tuple(
        _Place(
            country["country"],
            place["city"],
            place["state"],
            place["postal_code"],
            tuple(place["phones"]),
            tuple(country["first_names"]),
            tuple(country["last_names"]),
        )
        for country in countries
        for place in country["places"]
    )


def _phone(place: _Place, serial: int) -> str | None:
    """The place's number `serial`, so that no two customers have the same; None beyond the last one."""
    for pattern in place.phones:
        digits = pattern.count("#")
        if serial < 10**digits:
            figures = iter(f"{serial:0{digits}}")
            return "".join(next(figures) if sign == "#" else sign for sign in pattern)
        serial -= 10**digits
    return None


def _postal_code(place: _Place, chance: random.Random) -> str:
    drawn = {"#": "0123456789", "?": _POSTAL_LETTERS}
    return "".join(chance.choice(drawn.get(sign, sign)) for sign in place.postal_code)


def _mail_name(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.translate(_MAIL_SPELLINGS))
    return "".join(sign for sign in plain.lower() if sign.isascii() and sign.isalnum())
