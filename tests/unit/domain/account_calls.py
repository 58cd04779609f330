"""Random definitions of audiences of accounts, and random calls of people who belong to some."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.unit.domain import identity_calls
from tests.unit.domain.identity_calls import TELLING
from tests.unit.domain.identity_oracle import NamedCall
from tests.unit.domain.random_definitions import (
    Defined,
    comparisons,
    conditions,
    date_comparisons,
    moments,
    spans,
)

OWN = ("t", "u")
GROUPS = ("g1", "g2", "g3")

own_traits = st.builds(
    lambda trait, compared: {"trait": trait, **compared}, st.sampled_from(OWN), comparisons(OWN)
) | st.builds(lambda compared: {"trait": "d", **compared}, date_comparisons(OWN))


# What tells one user from another, and changes by time alone.
ASKED: list[dict[str, Any]] = [
    {"event": "A", "within": "36h"},
    {"event": "A", "within": "1h"},
    {"event": "B", "within": "24h"},
    {"event": "B"},
    {"event": "A", "count": {"exactly": 0}, "within": "24h"},
    {"event": "A", "count": {"at_least": 2}},
    {"trait": "t", "exists": True},
]
QUANTIFIERS = ("any", "all", "none")


@st.composite
def telling(draw: st.DrawFn) -> Defined:
    """Nearly every call changes something."""
    found: dict[str, dict[str, Any]] = {}
    for place in range(draw(st.integers(1, 3))):
        asked = [{"users": {draw(st.sampled_from(QUANTIFIERS)): draw(st.sampled_from(ASKED))}}]
        if draw(st.integers(0, 3)) == 0:
            asked.append(draw(st.sampled_from([{"trait": "u", "exists": True}, *asked])))
        found[f"account_{place}"] = {
            "entity": "account",
            "when": {draw(st.sampled_from(["all", "any"])): asked},
            "include_anonymous": draw(st.booleans()),
        }
    asking = {"audience": draw(st.sampled_from(list(found)))}
    if draw(st.booleans()):
        found["user"] = {"when": {"not": asking} if draw(st.booleans()) else asking}
        if draw(st.booleans()):
            found["account"] = {"entity": "account", "when": {"users": {"all": {"audience": "user"}}}}
    return Defined(found)


def of_users(references: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    asked = st.sampled_from(TELLING) | st.sampled_from(TELLING) | conditions(references)
    return st.builds(
        lambda quantifier, condition: {"users": {quantifier: condition}},
        st.sampled_from(QUANTIFIERS),
        asked,
    )


def of_accounts(references: list[str], accounts: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    leaves = of_users(references) | of_users(references) | own_traits
    if accounts:
        leaves |= st.sampled_from(accounts).map(lambda key: {"audience": key})
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=3,
    )


@st.composite
def anything(draw: st.DrawFn, *, timeless: bool = False) -> Defined:
    """Audiences of accounts and of people; each may ask for those after it, as far as that makes sense."""
    found: dict[str, dict[str, Any]] = {}
    kinds = draw(st.lists(st.sampled_from(["account", "account", "user"]), min_size=1, max_size=4))
    keys = [f"{kind}_{place}" for place, kind in enumerate(kinds)]
    for place, key in enumerate(keys):
        later = keys[place + 1 :]
        if key.startswith("user"):
            asked = conditions(later)
            if later:
                asked |= st.sampled_from(later).map(lambda one: {"audience": one})
            found[key] = {"when": draw(asked)}
        else:
            accounts = [one for one in later if one.startswith("account")]
            found[key] = {"entity": "account", "when": draw(of_accounts(later, accounts))}
            if draw(st.integers(0, 4)) == 0:
                found[key]["require"] = draw(conditions(later))
        if draw(st.booleans()):
            found[key]["include_anonymous"] = True
        if draw(st.integers(0, 6)) == 0:
            found[key]["enabled"] = False
        if not timeless and draw(st.integers(0, 4)) == 0:
            found[key]["created_at"] = draw(moments)
        if not timeless and draw(st.integers(0, 4)) == 0:
            found[key]["include_history"] = False
        if draw(st.integers(0, 4)) == 0:
            found[key]["lookback"] = draw(spans)
    return Defined(found)


@st.composite
def with_groups(draw: st.DrawFn, histories: st.SearchStrategy[list[NamedCall]]) -> list[NamedCall]:
    """Some of the calls are group calls, most at the beginning."""
    made = []
    for place, named in enumerate(draw(histories)):
        if draw(st.integers(0, 1 if place < 3 else 4)) == 0:
            call = replace(named.call, kind="group", event=draw(st.sampled_from(GROUPS)), properties={})
            made.append(NamedCall(call, named.names))
        else:
            made.append(named)
    return made


def line_of(named: NamedCall) -> bytes:
    line = identity_calls.line_of(named)
    if named.call.kind != "group":
        return line
    return json.dumps({**json.loads(line), "groupId": named.call.event, "traits": named.call.traits}).encode()


definitions = telling() | telling() | anything()
# Of which it does not matter when they are heard of first.
timeless = telling() | anything(timeless=True)
