"""Consent and Limited Data Use: how definitions name them, which word counts, and what a request has of them."""

from __future__ import annotations

import orjson
import pytest

from app.domain.data_use import NOTHING_SAID, DataUse, data_use_of
from app.domain.definitions import Document, parse_definitions
from app.errors import InvalidInputError
from schemas.audience import FacebookDestination
from schemas.data_use import DataProcessing

CALIFORNIA = DataProcessing(options=["LDU"], country=1, state=1000)
LIMITED = DataProcessing(options=["LDU"])
UNLIMITED = DataProcessing(options=[])


def destination(facebook: str, defaults: str = "{}") -> FacebookDestination:
    text = (
        f"defaults: {{facebook: {defaults}}}\naudiences: [{{name: A, source: engage, facebook: {facebook}}}]"
    )
    [read] = parse_definitions([Document("a.yaml", text)]).audiences[0].destinations
    return read


@pytest.mark.parametrize(
    ("written", "consent", "processing"),
    [
        ("{}", None, None),
        ("{customer_consent: true}", True, None),
        ("{customer_consent: false}", False, None),
        ("{data_processing_options: [LDU]}", None, LIMITED),
        ("{data_processing_options: []}", None, UNLIMITED),
        ("{data_processing_options: {options: [LDU]}}", None, LIMITED),
        ("{data_processing_options: {options: [LDU], country: 1, state: 1000}}", None, CALIFORNIA),
        ("{data_processing_options: {options: [LDU], country: 0, state: 0}}", None, DataProcessing(options=["LDU"], country=0, state=0)),
    ],
)  # fmt: skip
def test_how_a_definition_says_it(
    written: str, consent: bool | None, processing: DataProcessing | None
) -> None:
    read = destination(written)
    assert (read.customer_consent, read.data_processing_options) == (consent, processing)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{customer_consent: maybe}", "facebook.customer_consent: expected true or false, got 'maybe'"),
        ("{data_processing_options: LDU}", "expected [LDU], [], or a mapping such as"),
        ("{data_processing_options: {}}", "`options` is missing"),
        ("{data_processing_options: [LDU, LDU]}", "LDU is named twice"),
        ("{data_processing_options: [CCPA]}", "facebook.data_processing_options[0]: expected LDU, got 'CCPA'"),
        ("{data_processing_options: {options: LDU}}", "options: expected a list, [LDU] or [], got 'LDU'"),
        ("{data_processing_options: {options: [LDU], country: 1}}", "are given together"),
        ("{data_processing_options: {options: [], country: 1, state: 1000}}", "with the option LDU"),
        ("{data_processing_options: {options: [LDU], country: US, state: 1}}", "country: expected a whole number"),
        ("{data_processing_options: {options: [LDU], land: 1}}", "data_processing_options.land: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it(written: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        destination(written)
    assert said in str(caught.value)
    assert str(caught.value).startswith("a.yaml:2: audiences[0].facebook")


def test_the_audience_s_own_word_counts_then_the_defaults_then_the_settings() -> None:
    settings = DataUse(True, CALIFORNIA)
    assert data_use_of(destination("{}"), settings) == settings
    by_defaults = destination("{}", "{customer_consent: false, data_processing_options: [LDU]}")
    assert data_use_of(by_defaults, settings) == DataUse(False, LIMITED)
    own = destination(
        "{data_processing_options: []}", "{customer_consent: false, data_processing_options: [LDU]}"
    )
    assert data_use_of(own, settings) == DataUse(False, UNLIMITED)
    assert data_use_of(destination("{}"), NOTHING_SAID) == NOTHING_SAID


@pytest.mark.parametrize(
    ("use", "schema", "row", "beside"),
    [
        (NOTHING_SAID, ["EMAIL"], ["h"], {}),
        (DataUse(True), ["EMAIL"], ["h"], {"customer_consent": True}),
        (DataUse(False), ["EMAIL"], ["h"], {"customer_consent": False}),
        (DataUse(None, LIMITED), ["EMAIL", "DATA_PROCESSING_OPTIONS"], ["h", ["LDU"]], {}),
        (DataUse(None, UNLIMITED), ["EMAIL", "DATA_PROCESSING_OPTIONS"], ["h", []], {}),
        (
            # Meta's own example of Limited Data Use.
            DataUse(True, CALIFORNIA),
            ["EMAIL", "DATA_PROCESSING_OPTIONS", "DATA_PROCESSING_OPTIONS_COUNTRY", "DATA_PROCESSING_OPTIONS_STATE"],
            ["h", ["LDU"], 1, 1000],
            {"customer_consent": True},
        ),
    ],
)  # fmt: skip
def test_what_a_request_has_of_it(
    use: DataUse, schema: list[str], row: list[object], beside: dict[str, bool]
) -> None:
    given = [["h"], ["i"]]
    keys, rows = use.extended(("EMAIL",), given)
    assert (keys, rows[0], use.beside) == (schema, row, beside)
    assert given == [["h"], ["i"]]
    # Meta names a refused row as it was sent.
    named = {orjson.dumps(rows[1]).decode(): "invalid hash", "no JSON": "x", '"text"': "y"}
    assert use.without_columns(named) == {'["i"]': "invalid hash", "no JSON": "x", '"text"': "y"}
