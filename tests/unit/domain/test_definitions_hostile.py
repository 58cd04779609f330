"""Whatever the text, reading it ends in definitions or in InvalidInputError."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from app.domain.condition_words import describe_condition, describe_trait
from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions, published_form
from app.domain.definitions_conditions import _EVENT_KEYS, _KINDS
from app.domain.definitions_keys import AUDIENCE_KEYS
from app.errors import InvalidInputError
from schemas.audience import AudienceDefinition, ComputedTraitDefinition, Operator

# The keys of the language, so that what is made up comes past the first check.
WORDS = [
    *AUDIENCE_KEYS,
    *_KINDS,
    *_EVENT_KEYS,
    *(operator.value for operator in Operator),
    *("audiences", "defaults", "traits", "property", "exactly", "ad_account_id", "mode", "audience_id"),
]
SCALARS = (
    st.sampled_from(
        [*WORDS, "30d", "1d", "engage", "computed", "live", "act_1", "a.b", "p.$", "NO", "", "\u2028", "1e9"]
    )
    | st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=10,
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One time in thirty, anything."""
    return st.integers(0, 29).flatmap(lambda number: ANYTHING if number == 0 else strategy)


def mapping(
    needed: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Values mostly as they should be."""
    return st.fixed_dictionaries(
        {key: mostly(value) for key, value in needed.items()},
        optional={key: mostly(value) for key, value in optional.items()},
    )


TEXTS = st.text(max_size=4)
NUMBERS = st.integers(-9, 9) | st.floats(-9, 9).map(str)
PLAIN = TEXTS | NUMBERS | st.booleans()
REFERENCE = st.just({"trait": "t.u"})
OPERATORS = mapping(
    {},
    equals=PLAIN | REFERENCE,
    not_equals=PLAIN,
    greater_than=NUMBERS | REFERENCE,
    at_most=NUMBERS,
    any_of=st.lists(PLAIN, min_size=1, max_size=3),
    none_of=st.lists(PLAIN, min_size=1, max_size=3),
    contains=TEXTS | st.lists(TEXTS, min_size=1, max_size=2),
    not_contains=TEXTS,
    starts_with=TEXTS | REFERENCE,
    exists=st.booleans(),
    before=st.just("2026-01-31") | REFERENCE,
    within_next=st.just("30d") | REFERENCE,
).filter(bool)
FILTERS = st.dictionaries(
    st.sampled_from(["a", "b.c", "d.$.e", "email", "é\u2028"]),
    mostly(PLAIN | OPERATORS),
    min_size=1,
    max_size=3,
)
AMOUNT = mapping({"property": st.just("p"), "at_least": NUMBERS})
EVENTS = mapping(
    {"event": st.sampled_from(["E", "F", "Order Completed"])},
    count=st.dictionaries(
        st.sampled_from(["at_least", "at_most", "exactly"]), st.integers(0, 3), min_size=1, max_size=1
    ),
    within=st.sampled_from(["30d", "12h", "P1D"]),
    where=FILTERS,
    context=FILTERS,
    sum=AMOUNT,
)
RELATED = st.dictionaries(
    st.sampled_from(["a", "b.$"]),
    mostly(st.just({"same_as": "p"}) | st.just({"at_most": {"same_as": "p.q"}})),
    min_size=1,
    max_size=2,
)
FUNNELS = mapping(
    {
        "event": st.just("E"),
        "then": mapping({"event": st.just("F")}, within=st.just("1d"), where=RELATED | FILTERS),
    }
)
OLD_EVENTS = mapping({"event": st.just("E"), "between": st.just(["7d", "1d"])}, average=AMOUNT)
TRAITS = OPERATORS.map(
    lambda operators: {"trait": "t", **operators} if isinstance(operators, dict) else operators
)
CONDITIONS = st.recursive(
    EVENTS | OLD_EVENTS | FUNNELS | TRAITS | st.sampled_from("abc").map(lambda key: {"audience": key}),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["all", "any"]), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=1
        )
        | inner.map(lambda condition: {"not": condition})
    ),
    max_leaves=4,
)
FACEBOOK = mapping(
    {}, ad_account_id=st.just("act_1"), mode=st.just("live"), audience_id=st.integers(1, 10**20)
)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "require": CONDITIONS,
    "facebook": FACEBOOK | st.lists(FACEBOOK, max_size=1),
    "enabled": st.booleans(),
    "description": st.text(max_size=3),
}
NAMES = st.sampled_from(["A", "B2", "Order Completed", "日本 3", "x" * 300])
AUDIENCES = mapping({"name": NAMES, "when": CONDITIONS}, key=st.sampled_from(["a", "b", "c"]), **OPTIONS)
COMPUTED = mapping(
    {"event": st.just("E")},
    count=st.just(True),
    sum=st.sampled_from(["p", "a.b"]),
    unique_list=st.just("p.$"),
    where=FILTERS | st.just({"p": {"trait": "t"}}),
    within=st.just("30d"),
    session=st.just("30m"),
)
FILES = mapping(
    {"audiences": st.lists(AUDIENCES, max_size=2)},
    defaults=mapping({}, **OPTIONS),
    traits=st.dictionaries(st.sampled_from(["t", "u", "v w"]), mostly(COMPUTED), max_size=2),
)


def check(*texts: str) -> None:
    try:
        definitions = parse_definitions([Document(f"{index}.yaml", text) for index, text in enumerate(texts)])
    except InvalidInputError as error:
        lines = str(error).split("\n")
        assert all(line.split(":")[0].endswith(".yaml") or line.startswith("... and") for line in lines)
        event("refused")
        return
    event("accepted")
    for trait in definitions.traits:
        published = json.loads(json.dumps(published_form(trait)))
        assert ComputedTraitDefinition.model_validate(published) == trait
        assert describe_trait(trait).isprintable()
    compile_audiences(definitions.audiences, definitions.traits)
    for definition in definitions.audiences:
        published = json.loads(json.dumps(published_form(definition)))
        assert AudienceDefinition.model_validate(published) == definition
        for condition in (definition.when, definition.require):
            if condition is not None:
                assert describe_condition(condition).isprintable()


@given(FILES)
@settings(deadline=None)
def test_made_of_the_languages_words(content: Any) -> None:
    check(json.dumps(content))


@given(ANYTHING, ANYTHING)
@settings(deadline=None)
def test_made_of_anything(one: Any, other: Any) -> None:
    check(json.dumps(one), json.dumps({"audiences": [{"name": "A", "when": other}]}))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
@settings(deadline=None)
def test_any_text(text: str) -> None:
    check(text)


@given(st.lists(st.sampled_from(["audiences:", "\n", "  ", "- ", "name: A", "when: ", "{event: E", "}", ", ", "[", "]",
                                 "&a ", "*a", "!!str ", "<<: ", "'", '"', "#", "|\n", "---\n", "defaults: ", ": "]),
                max_size=25))  # fmt: skip
@settings(deadline=None)
def test_broken_yaml(parts: list[str]) -> None:
    check("".join(parts))


@given(st.data())
@settings(deadline=None)
def test_a_good_file_with_a_character_changed(data: st.DataObject) -> None:
    text = "audiences:\n  - name: A\n    when: {all: [{event: E, within: 30d, where: {a: {any_of: [NO]}}}]}\n"
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="utf-8") | st.sampled_from("{}[]:,&*!|>'\"%@`-?#\t\n"))
    check(text[:position] + character + text[position + 1 :])
