"""Audiences of accounts as they are written: what is read, and what is refused in which words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.domain.condition_words import describe_condition
from app.domain.conditions import compile_audiences
from app.domain.definitions import DefinitionSet, Document, parse_definitions, published_form
from app.errors import InvalidInputError
from schemas.audience import (
    AudienceDefinition,
    AudienceReference,
    Entity,
    EventCondition,
    Quantifier,
    UsersCondition,
)


def read(text: str) -> DefinitionSet:
    return parse_definitions([Document("audiences.yaml", text)])


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        read(text)
    return [line.removeprefix("audiences.yaml:") for line in str(caught.value).splitlines()]


def test_an_audience_of_accounts_is_read_and_published() -> None:
    [audience] = read(
        "audiences: [{name: A, entity: account, when: {users: {none: {event: E, within: 30d}}}}]"
    ).audiences
    assert audience.entity is Entity.ACCOUNT
    assert isinstance(audience.when, UsersCondition)
    assert audience.when.quantifier is Quantifier.NONE
    assert isinstance(audience.when.condition, EventCondition)
    assert AudienceDefinition.model_validate(published_form(audience)) == audience


def test_what_is_published_of_an_audience_of_people_is_what_it_was() -> None:
    [audience] = read("audiences: [{name: A, entity: user, when: {event: E}}]").audiences
    assert "entity" not in published_form(audience)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("{users: {any: {event: E}}}", "any user with (E at least 1 time)"),
        ("{users: {all: {trait: t, equals: 1}}}", "only users with (t is 1)"),
        (
            "{all: [{trait: t, equals: 1}, {users: {none: {event: E}}}]}",
            "t is 1 and no user with (E at least 1 time)",
        ),
    ],
)
def test_it_is_read_out(when: str, words: str) -> None:
    [audience] = read(f"audiences: [{{name: A, entity: account, when: {when}}}]").audiences
    assert audience.when is not None
    assert describe_condition(audience.when) == words


EVENTS = "an account has no events of its own: ask for those of its users, as in `users: {any: {event: ...}}`"
ONE_OF = "one of {any: CONDITION}, {all: CONDITION} and {none: CONDITION}, of the users of an account"


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{event: E}", f"when: {EVENTS}"),
        ("{not: {any: [{event: E}]}}", f"when.not.any[0]: {EVENTS}"),
        ("{users: {event: E}}", "when.users.event: unknown key 'event'; known are any, all, none"),
        ("{users: {some: {event: E}}}", "when.users.some: unknown key 'some'; known are any, all, none"),
        ("{users: {}}", f"when.users: expected {ONE_OF}"),
        ("{users: {any: {event: E}, none: {event: F}}}", f"when.users: expected {ONE_OF}"),
        ("{users: [{event: E}]}", f"when.users: expected {ONE_OF}, got a list"),
        ("{users: {any: [{event: E}]}}", "when.users.any: several conditions go under `all:` or `any:`"),
        (
            "{users: {any: {users: {all: {event: E}}}}}",
            "when.users.any.users: `users` is here within `users`: these are conditions of one user",
        ),
        (
            "{audience: people}",
            "when.audience: `people` is an audience of people: ask for those of the account, as in `users: {any: {audience: ...}}`",
        ),
        (
            "{trait: made, at_least: 1}",
            (
                "when: `made` is a trait that is computed for people: ask for it under `users`, as in "
                "`users: {any: {trait: made, ...}}`"
            ),
        ),
        (
            "{trait: seats, at_least: {trait: made}}",
            (
                "when: `made` is a trait that is computed for people: ask for it under `users`, as in "
                "`users: {any: {trait: made, ...}}`"
            ),
        ),
    ],
)
def test_what_cannot_be_asked_of_accounts(when: str, said: str) -> None:
    text = f"""
traits: {{made: {{event: E, count: true}}}}
audiences:
  - {{name: People, when: {{event: E}}}}
  - name: A
    entity: account
    when: {when}"""
    assert problems(text) == [f"7: audiences[1].{said}"]


@pytest.mark.parametrize(
    ("audience", "said"),
    [
        (
            "{name: A, entity: account, source: engage}",
            "audiences[0]: an audience with `source: engage` has no `entity: account`: what comes of it is about people",
        ),
        ("{name: A, entity: group, when: {event: E}}", "audiences[0].entity: expected user or account, got 'group'"),
        (
            "{name: A, entity: account, when: {trait: t, equals: 1}, require: {users: {any: {event: E}}}}",
            "audiences[0].require.users: `users` belongs to the `when` of an audience with `entity: account`",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_with_accounts(audience: str, said: str) -> None:
    assert problems(f"audiences: [{audience}]") == [f"1: {said}"]


def test_what_leads_back_to_itself_by_way_of_accounts() -> None:
    found = problems("""
audiences:
  - {name: Accounts, entity: account, when: {users: {any: {audience: people}}}}
  - {name: People, when: {not: {audience: accounts}}}""")
    assert found == [
        (
            "4: audiences[1].when.not.audience: whether someone is in `accounts` would depend on itself: "
            "accounts -> people -> accounts"
        )
    ]


def test_compiling_refuses_a_circle_too() -> None:
    by_accounts = AudienceDefinition(
        key="accounts",
        name="Accounts",
        entity=Entity.ACCOUNT,
        when=UsersCondition(quantifier=Quantifier.ANY, condition=AudienceReference(audience="people")),
    )
    people = AudienceDefinition(key="people", name="People", when=AudienceReference(audience="accounts"))
    with pytest.raises(InvalidInputError, match="references go round in a circle"):
        compile_audiences([by_accounts, people])


def test_only_computed_audiences_are_of_accounts() -> None:
    with pytest.raises(ValidationError, match="audiences of accounts are computed"):
        AudienceDefinition(key="a", name="A", entity=Entity.ACCOUNT, source="engage")


def test_what_is_required_is_asked_of_others_than_the_account_and_is_no_contradiction() -> None:
    found = read("""
audiences:
  - name: A
    entity: account
    when: {trait: plan, equals: business}
    require: {trait: plan, equals: private}""")
    assert found.warnings == ()
