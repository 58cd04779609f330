"""Random definitions, small and alike on purpose: few names, few values, few spans, so that what is asked for also
happens, and happens at the same instants.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from app.domain.definitions import Document
from tests.unit.domain.brute_force_values import DAY, HOUR

START = 20_000 * DAY
EVENTS = ("A", "B")


@dataclass
class Defined:
    """Definitions by key, in the language of audiences.yaml."""

    audiences: dict[str, dict[str, Any]]
    traits: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def documents(self) -> list[Document]:
        listed = [{"name": key, "key": key, **definition} for key, definition in self.audiences.items()]
        return [Document("audiences.yaml", json.dumps({"audiences": listed, "traits": self.traits}))]


def instant(milliseconds: int) -> str:
    days, rest = divmod(milliseconds, DAY)
    seconds, thousandths = divmod(rest, 1_000)
    minutes, second = divmod(seconds, 60)
    # 20,000 days after 1970-01-01 is 2024-10-04; tests stay within that month and those beside it.
    day = days - START // DAY + 4
    month = 9 if day < 1 else 10 if day <= 31 else 11
    day += {9: 30, 10: 0, 11: -31}[month]
    return f"2024-{month:02}-{day:02}T{minutes // 60:02}:{minutes % 60:02}:{second:02}.{thousandths:03}Z"


# --- comparisons ---

# Traits by name; those that begin with c are computed, where they are defined.
NAMES = ("t", "u", "c0", "c1", "c2", "c0.$", "c2.$")
numbers = st.integers(0, 3)
constants: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2, 3, "1", "x", "xy", True])
# Hours after START, of dates that traits and properties have and that definitions name.
moments = st.sampled_from([-40, -2, 0, 1, 2, 24, 30, 60]).map(lambda hour: instant(START + hour * HOUR))
spans = st.sampled_from(["1h", "2h", "24h", "36h"])


def referring(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from(names).map(lambda name: {"trait": name})


def comparisons(names: tuple[str, ...] = NAMES) -> st.SearchStrategy[dict[str, Any]]:
    operand = constants | constants | referring(names)
    number = numbers | numbers | referring(names)
    some = st.lists(constants, min_size=1, max_size=2) | referring(names)
    return st.one_of(
        *(st.fixed_dictionaries({name: operand}) for name in ("equals", "not_equals")),
        *(st.fixed_dictionaries({name: number}) for name in ("greater_than", "at_most", "at_least")),
        st.fixed_dictionaries({"at_least": numbers, "less_than": number}),
        *(st.fixed_dictionaries({name: some}) for name in ("any_of", "none_of")),
        st.fixed_dictionaries({"not_contains": st.just("x")}),
        st.fixed_dictionaries({"exists": st.booleans()}),
    )


def date_comparisons(names: tuple[str, ...] = NAMES) -> st.SearchStrategy[dict[str, Any]]:
    date = moments | referring((*names, "d"))
    span = st.sampled_from(["0h", "1h", "2h", "24h"]) | referring(names)
    return st.one_of(
        *(st.fixed_dictionaries({name: date}) for name in ("before", "after")),
        *(st.fixed_dictionaries({name: span}) for name in ("within_last", "before_last")),
        *(st.fixed_dictionaries({name: span}) for name in ("within_next", "after_next")),
        st.fixed_dictionaries({"within_next": span, "after": date}),
    )


def filters(names: tuple[str, ...] = NAMES) -> st.SearchStrategy[dict[str, Any]]:
    """A `where`."""
    return st.one_of(
        st.dictionaries(st.sampled_from(["p", "q"]), comparisons(names), min_size=1, max_size=1),
        st.fixed_dictionaries({"d": date_comparisons(names)}),
    )


# --- conditions ---

aggregates = st.sampled_from(
    ["at_least", "at_most", "greater_than", "less_than", "equals", "not_equals"]
).flatmap(
    lambda operator: st.fixed_dictionaries({"property": st.just("p"), operator: numbers | referring(NAMES)})
)


@st.composite
def event_conditions(draw: st.DrawFn, funnels: int = 2) -> dict[str, Any]:
    """One in `funnels` + 1 has a `then`."""
    condition: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    if draw(st.booleans()):
        bound = draw(st.sampled_from(["at_least", "at_most", "exactly"]))
        condition["count"] = {bound: draw(st.integers(0, 3))}
    window = draw(st.sampled_from(["ever", "within", "between"]))
    if window == "within":
        condition["within"] = draw(spans)
    elif window == "between":
        near = draw(st.sampled_from([1, 3, 24]))
        condition["between"] = [f"{near + draw(st.sampled_from([1, 2, 30]))}h", f"{near}h"]
    if draw(st.booleans()):
        condition["where"] = draw(filters())
    if draw(st.integers(0, 2)) == 0:
        condition[draw(st.sampled_from(["sum", "average", "min", "max"]))] = draw(aggregates)
    if draw(st.integers(0, 4)) == 0:
        condition["exclude_sources"] = ["s1"]
    if draw(st.integers(0, funnels)) == 0:
        condition["then"] = draw(followers())
    return condition


@st.composite
def followers(draw: st.DrawFn) -> dict[str, Any]:
    then: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    if draw(st.booleans()):
        bound = draw(st.sampled_from(["at_least", "at_most", "exactly"]))
        then["count"] = {bound: draw(st.sampled_from([0, 0, 1, 2]))}
    if draw(st.booleans()):
        then["within"] = draw(st.sampled_from(["1h", "2h", "24h"]))
    same = st.sampled_from([{"same_as": "p"}, {"same_as": "q"}])
    compared = st.sampled_from(
        ["equals", "equals", "equals", "not_equals", "at_most", "any_of", "not_contains"]
    )
    related = st.builds(lambda operator, parent: {operator: parent}, compared, same)
    kind = draw(st.integers(0, 5))
    if kind == 0:
        then["where"] = draw(filters())
    elif kind == 1:
        then["where"] = {"d": {draw(st.sampled_from(["before", "after"])): {"same_as": "d"}}}
    elif kind in (2, 3, 4):
        then["where"] = {name: draw(related) for name in draw(st.sampled_from([["p"], ["q"], ["p", "q"]]))}
    return then


trait_conditions = st.builds(
    lambda trait, compared: {"trait": trait, **compared}, st.sampled_from(NAMES), comparisons()
) | st.builds(
    lambda trait, compared: {"trait": trait, **compared},
    st.sampled_from(["d", "d", "c0", "c1"]),
    date_comparisons(),
)


def conditions(references: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Conditions that may ask for membership of these audiences."""
    leaves = event_conditions() | trait_conditions
    if references:
        leaves |= st.sampled_from(references).map(lambda key: {"audience": key})
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=4,
    )


def numbered(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"audience_{number}": {"when": condition} for number, condition in enumerate(found)}


# --- texts, and values that are not at the top ---

parts = st.sampled_from(["x", "y", "xy", ".", "1", "tru"])
texts = st.one_of(
    *(
        st.fixed_dictionaries({name: parts})
        for name in ("contains", "not_contains", "starts_with", "ends_with")
    ),
    st.fixed_dictionaries({"contains_any_of": st.lists(parts.filter(bool), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"less_than": numbers}),
    st.fixed_dictionaries({"starts_with": parts, "ends_with": parts}),
)
PLACES = ("p", "p", "p.$", "n.p", "l.$", "l.$.p", "n.l.$")


@st.composite
def event_of_places(draw: st.DrawFn) -> dict[str, Any]:
    condition: dict[str, Any] = {"event": "A"}
    compared = texts | texts | comparisons(("t", "t.$"))
    for key, places in (("where", PLACES), ("context", ("k", "n.p"))):
        if key == "where" or draw(st.integers(0, 3)) == 0:
            condition[key] = draw(st.dictionaries(st.sampled_from(places), compared, min_size=1, max_size=2))
    if draw(st.booleans()):
        condition["within"] = draw(spans)
    return condition


trait_of_places = st.builds(
    lambda trait, compared: {"trait": trait, **compared},
    st.sampled_from(["t", "t.$"]),
    texts | texts | comparisons(("u",)),
)
only_places = st.lists(event_of_places() | trait_of_places, min_size=3, max_size=8).map(
    lambda found: Defined(numbered(found))
)


# --- computed traits ---

FUNCTIONS = ("count", "sum", "average", "min", "max", "most_frequent", "first", "last", "unique_list")


@st.composite
def computed_traits(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    """`names` are the traits it may be compared with."""
    function = draw(st.sampled_from([*FUNCTIONS, "unique_list_count"]))
    definition: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    definition[function] = True if function == "count" else draw(st.sampled_from(["p", "p", "q", "d"]))
    if draw(st.booleans()):
        definition["within"] = draw(spans)
    if draw(st.integers(0, 2)) == 0:
        definition["session"] = draw(st.sampled_from(["1h", "2h", "24h"]))
    if draw(st.integers(0, 2)) == 0:
        definition["where"] = draw(filters(names))
    if function == "most_frequent" and draw(st.booleans()):
        definition["at_least"] = draw(st.integers(1, 3))
    return definition


@st.composite
def all_computed_traits(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Each may refer to those after it."""
    return {
        name: draw(computed_traits(("t", "u", *NAMES[place + 3 : 5])))
        for place, name in enumerate(["c0", "c1", "c2"])
        if draw(st.booleans())
    }


# --- definitions ---


@st.composite
def anything(draw: st.DrawFn) -> Defined:
    """Audiences by key; each may ask for those after it."""
    keys = [f"audience_{number}" for number in range(draw(st.integers(1, 4)))]
    found: dict[str, dict[str, Any]] = {}
    if draw(st.integers(0, 3)) == 0:
        keys.append("engage")
    for place, key in enumerate(keys):
        known = conditions(keys[place + 1 :])
        audience: dict[str, Any] = {"source": "engage"} if key == "engage" else {"when": draw(known)}
        if draw(st.integers(0, 4)) == 0:
            audience["require"] = draw(known)
        if draw(st.booleans()):
            audience["include_anonymous"] = True
        if draw(st.integers(0, 6)) == 0:
            audience["enabled"] = False
        if draw(st.integers(0, 3)) == 0:
            audience["created_at"] = draw(moments)
        if draw(st.integers(0, 3)) == 0:
            audience["include_history"] = False
        if draw(st.integers(0, 3)) == 0:
            audience["lookback"] = draw(spans)
        found[key] = audience
    return Defined(found, draw(all_computed_traits()) if draw(st.booleans()) else {})


only_funnels = st.lists(event_conditions(funnels=0), min_size=1, max_size=2).map(
    lambda found: Defined(numbered(found))
)


@st.composite
def only_computed_traits(draw: st.DrawFn) -> Defined:
    traits = draw(all_computed_traits().filter(bool))
    known = st.sampled_from([*traits, *traits, *(f"{name}.$" for name in traits)])
    compared = comparisons(("t", *traits)) | date_comparisons(("t", *traits))
    asked = st.builds(lambda trait, found: {"trait": trait, **found}, known, compared)
    return Defined(numbered(draw(st.lists(asked, min_size=1, max_size=4))), traits)
