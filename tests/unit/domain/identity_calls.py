"""Random calls of people with several identifiers, and definitions for them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.unit.domain.brute_force import Call
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.identity_oracle import Identifier, NamedCall
from tests.unit.domain.random_cases import data, scalars
from tests.unit.domain.random_definitions import START, Defined, anything, instant

# What tells one history from two, whoever they are of.
TELLING: list[dict[str, Any]] = [
    {"event": "A", "count": {"exactly": 0}},
    {"event": "A", "count": {"exactly": 1}},
    {"event": "A", "count": {"at_least": 2}, "within": "36h"},
    {"not": {"event": "B", "within": "24h"}},
    {"all": [{"event": "A"}, {"not": {"event": "B"}}]},
    {"event": "A", "sum": {"property": "p", "at_least": 3}},
    {"event": "B", "count": {"at_least": 2}, "where": {"p": {"at_least": {"trait": "t"}}}},
]


@st.composite
def telling(draw: st.DrawFn) -> Defined:
    found = draw(st.lists(st.sampled_from(TELLING), min_size=1, max_size=3))
    return Defined(
        {
            f"audience_{number}": {"when": condition, "include_anonymous": draw(st.booleans())}
            for number, condition in enumerate(found)
        }
    )


definitions = telling() | anything().filter(lambda defined: "engage" not in defined.audiences)


def advertising_id(number: int) -> str:
    """Of the form without which none is sent."""
    return f"m{number:07}-0000-0000-0000-000000000000"


def names(kind: str, count: int) -> list[Identifier]:
    if kind == "madid":
        return [(kind, advertising_id(number)) for number in range(1, count + 1)]
    letter = {"user": "u", "email": "e", "anon": "a"}[kind]
    return [(kind, f"{letter}{number}") for number in range(1, count + 1)]


# Few of each, so that they meet; and many of two kinds, so that limits are reached.
FEW = [*names("user", 3), *names("email", 3), *names("anon", 3), *names("madid", 2)]
MANY = [*names("user", 2), *names("email", 7), *names("anon", 8), *names("madid", 1)]


@st.composite
def histories(
    draw: st.DrawFn, pools: list[list[Identifier]], least: int = 1, most: int = 14, *, again: bool = True
) -> list[NamedCall]:
    """Each call names some identifiers of one of the pools, one of a kind at most. `again`: some come twice."""
    received = START
    made: list[NamedCall] = []
    for number in range(draw(st.integers(least, most))):
        received += draw(st.sampled_from([0, 0, 1, HOUR, HOUR, 5 * HOUR, DAY]))
        ahead = draw(st.sampled_from([0, 0, 0, -1, -HOUR, -DAY, HOUR]))
        if again and made and draw(st.integers(0, 7)) == 0:
            first = draw(st.sampled_from(made))
            if first.call.kind == "track":
                made.append(NamedCall(replace(first.call, received=received), first.names))
                continue
        pool = draw(st.sampled_from(pools))
        chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique_by=lambda name: name[0]))
        made.append(
            NamedCall(
                Call(
                    kind=draw(st.sampled_from(["track", "track", "identify", "page"])),
                    profile="",
                    received=received,
                    timestamp=received + ahead,
                    message_id=f"{draw(st.integers(0, 9))}{number}",
                    event=draw(st.sampled_from(["A", "B"])),
                    properties=draw(data(scalars, "p", "q", "d")),
                    traits=draw(data(scalars, "t", "u", "d")),
                    source=draw(st.sampled_from([None, "s1"])),
                ),
                chosen,
            )
        )
    return made


def address(email: str) -> str:
    return f"{email}@example.com"


def digest(email: str) -> str:
    return hashlib.sha256(address(email).encode()).hexdigest()


def line_of(named: NamedCall) -> bytes:
    call = named.call
    line: dict[str, Any] = {
        "type": call.kind,
        "receivedAt": instant(call.received),
        "timestamp": instant(call.timestamp),
        "messageId": call.message_id,
    }
    context: dict[str, Any] = {"protocols": {"sourceId": call.source}}
    traits: dict[str, Any] = {}
    for kind, value in named.names:
        if kind == "user":
            line["userId"] = value
        elif kind == "anon":
            line["anonymousId"] = value
        elif kind == "email":
            traits["email"] = address(value)
        else:
            context["device"] = {"type": "ios", "advertisingId": value, "adTrackingEnabled": True}
    if call.kind == "identify":
        line["traits"] = {**traits, **call.traits}
    elif traits:
        context["traits"] = traits
    if call.kind == "track":
        line |= {"event": call.event, "properties": call.properties}
    return json.dumps({**line, "context": context}).encode()
