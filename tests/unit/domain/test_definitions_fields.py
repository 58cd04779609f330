"""Mapped fields in definitions: what is wrong with them, defaults, and warnings."""

from __future__ import annotations

import pytest

from app.domain.definitions import Document, parse_definitions
from app.errors import InvalidInputError


def problem(facebook: str, defaults: str = "{}") -> str:
    text = f"defaults: {{facebook: {defaults}}}\naudiences: [{{name: a, when: {{event: E}}, facebook: {facebook}}}]"
    with pytest.raises(InvalidInputError) as caught:
        parse_definitions([Document("f", text)])
    (line,) = str(caught.value).splitlines()
    return line.partition("facebook")[2]


@pytest.mark.parametrize(
    ("facebook", "said"),
    [
        ("{fields: {mail: $.traits.a}}", ".fields.mail: unknown field 'mail'; did you mean `email`?"),
        ("{fields: {email: traits.a}}", ".fields.email: a path here starts at the whole call, such as"),
        ("{fields: {email: []}}", ".fields.email: expected at least one place to look at"),
        ("{fields: {email: [[$.a]]}}", ".fields.email[0]: expected a path such as"),
        ("{fields: {city: $.traits.a.$}}", ".fields.city: a path to one value is needed here"),
        ("{fields: {email: $.}}", ".fields.email: a path may not be empty"),
        ("{fields: {email: {const: a, trait: b}}}", ".fields.email: expected one of {const: VALUE} and"),
        ("{fields: {email: {path: a}}}", ".fields.email: expected one of {const: VALUE} and {trait: KEY}"),
        ("{fields: {gender: {const: x}}}", ".fields.gender.const: this cannot be sent: no word for male"),
        ("{fields: {gender: {const: '-'}}}", ".fields.gender.const: a blank value is sent nowhere"),
        ("{fields: {name: {middle: $.a}}}", ".fields.name.middle: unknown key 'middle'"),
        (
            "{fields: {app_id: {const: fb12}}}",
            ".fields.app_id.const: this cannot be sent: an id of Facebook's has",
        ),
        ("{fields: {page_id: {const: '-'}}}", ".fields.page_id.const: a blank value is sent nowhere"),
        ("{external_id: md5}", ".external_id: expected plain or sha256, got"),
        ("{value_based: true}", ".value_based: what each person is worth is needed: map the field `value`"),
        ("{value_based: perhaps}", ".value_based: expected true or false"),
        ("{fields: 5}", ".fields: expected a mapping such as {email: $.traits.work_email}"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_said(facebook: str, said: str) -> None:
    assert problem(facebook).startswith(said)


def test_a_default_is_merged_field_by_field() -> None:
    text = (
        "defaults: {facebook: {fields: {email: $.traits.a, city: $.traits.b, name: {first: $.traits.c}}}}\n"
        "audiences: [{name: a, when: {event: E}, facebook: {fields: {email: $.traits.d, name: {last: $.traits.e}}}}]"
    )
    (audience,) = parse_definitions([Document("f", text)]).audiences
    fields = audience.destinations[0].fields
    assert {name: [source.path for source in sources] for name, sources in fields.items()} == {
        "email": ["traits.d"],
        "city": ["traits.b"],
        "name.first": ["traits.c"],
        "name.last": ["traits.e"],
    }


def test_a_computed_trait_in_a_mapping_hides_one_of_identify_calls() -> None:
    text = (
        "audiences: [{name: a, when: {event: E}, facebook: {fields: {city: {trait: town}}}}]\n"
        "traits: {town: {event: E, last: city}, other: {event: E, count: true}}"
    )
    (warning,) = parse_definitions([Document("f", text)]).remarks
    assert "`trait: town` is this computed trait" in warning


@pytest.mark.parametrize(("field", "warns"), [("$.traits.email", True), ("$.traits.crm_id", False)])
def test_an_external_id_that_is_clear_text_of_a_person_is_warned_about(field: str, warns: bool) -> None:
    text = f"audiences: [{{name: a, when: {{event: E}}, facebook: {{fields: {{external_id: {field}}}}}}}]"
    warnings = parse_definitions([Document("f", text)]).warnings
    assert [("is sent hashed" in warning) for warning in warnings] == [True] * warns


def remarks(facebook: str, defaults: str) -> tuple[list[str], tuple[str, ...]]:
    """The fields that are sent, and what is remarked on."""
    text = (
        f"defaults: {{facebook: {defaults}}}\n"
        f"audiences: [{{name: a, when: {{event: E}}, facebook: {facebook}}},\n"
        f"{{name: b, when: {{event: F}}, facebook: {{}}}}]"
    )
    found = parse_definitions([Document("f", text)])
    assert found.warnings == ()
    return list(found.audiences[0].destinations[0].fields), found.remarks


@pytest.mark.parametrize(
    ("facebook", "defaults", "sent", "place"),
    [
        ("{fields: {value: $.a, city: $.b}}", "{}", ["city"], "f:2: audiences[0].facebook.fields.value"),
        ("{fields: {value: $.a}, value_based: false}", "{}", [], "f:2: audiences[0].facebook.fields.value"),
        ("{fields: {value: $.a}, value_based: true}", "{}", ["value"], None),
        # Said once, where it is written, of however many audiences it holds for.
        ("{}", "{fields: {value: $.a}}", [], "f:1: defaults.facebook.fields.value"),
    ],
)
def test_what_people_are_worth_is_left_out_for_audiences_that_are_not_value_based(
    facebook: str, defaults: str, sent: list[str], place: str | None
) -> None:
    fields, found = remarks(facebook, defaults)
    assert fields == sent
    assert [line.partition(": left out: only value-based audiences")[0] for line in found] == (
        [] if place is None else [place]
    )
