"""What is wrong with definitions as a set: names, cycles and defaults, all of it at once."""

from __future__ import annotations

import pytest

from tests.unit.domain.written_problems import problems


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", ["audiences.yaml:1: expected a mapping with the key `audiences`, got a list"]),
        ("x", ["audiences.yaml:1: expected a mapping with the key `audiences`, got 'x'"]),
        ("audiences: {a: 1}", ["audiences.yaml:1: audiences: expected a list of audiences, got a mapping"]),
        (
            "audiences: [x]",
            ["audiences.yaml:1: audiences[0]: expected a mapping with a `name` and a condition under `when`, got 'x'"],
        ),
        ("audience: []", ["audiences.yaml:1: audience: unknown key 'audience'; did you mean `audiences`?"]),
        ("defaults: []", ["audiences.yaml:1: defaults: expected a mapping of audience keys, got a list"]),
        ("defaults: {name: A}", ["audiences.yaml:1: defaults.name: `name` has no default: each audience has its own"]),
        ("defaults:\n  entity: x\naudiences: [{name: A, when: {event: E}}]", ["audiences.yaml:2: defaults.entity: expected user or account, got 'x'"]),
        ("a: 1\n a: 1", ["audiences.yaml:2: not valid YAML: mapping values are not allowed here"]),
    ],
)  # fmt: skip
def test_files(text: str, found: list[str]) -> None:
    assert problems(text) == found


def test_an_unknown_audience_is_refused_with_the_nearest() -> None:
    text = """\
audiences:
  - {name: Big spenders, source: engage, require: {audience: churnd}}
  - {name: Churned, when: {not: {audience: big_spender}}}
"""
    assert problems(text) == [
        (
            "audiences.yaml:2: audiences[0].require.audience: there is no audience with the key 'churnd'; "
            "did you mean `churned`?"
        ),
        (
            "audiences.yaml:3: audiences[1].when.not.audience: there is no audience with the key 'big_spender'; "
            "did you mean `big_spenders`?"
        ),
    ]


def test_a_cycle_is_refused_where_it_closes_and_named() -> None:
    text = """\
defaults: {require: {audience: consenting}}
audiences:
  - {name: Consenting, when: {trait: consent, equals: true}}
"""
    assert problems(text) == [
        (
            "audiences.yaml:1: defaults.require.audience: whether someone is in `consenting` would depend on itself: "
            "consenting -> consenting"
        )
    ]
    found = problems(
        "audiences:\n  - {name: A, when: {audience: b}}\n  - {name: B, when: {any: [{event: E}, {audience: c}]}}",
        "audiences: [{name: C, source: engage, require: {audience: a}}]",
    )
    assert found == [
        (
            "b.yaml:1: audiences[0].require.audience: whether someone is in `a` would depend on itself: "
            "a -> b -> c -> a"
        )
    ]


def test_an_audience_with_problems_of_its_own_is_there() -> None:
    found = problems("audiences:\n  - {name: A, when: {audience: b}}\n  - {name: B, when: {event: ''}}")
    assert found == ["audiences.yaml:3: audiences[1].when.event: expected the name of an event, got ''"]


def test_everything_is_reported_together_in_order() -> None:
    text = """\
audiences:
  - name: A
    when:
      all:
        - {event: E, within: soon, count: {exactly: x}}
        - {trait: t, before: soon}
    enabled: maybe
  - name: B
  - name: a
    when: {event: E}
extra: 1
"""
    places = [line.split(": ")[:2] for line in problems(text, "audiences: [{name: C}]\naudiences: []")]
    assert places == [
        ["audiences.yaml:5", "audiences[0].when.all[0].count.exactly"],
        ["audiences.yaml:5", "audiences[0].when.all[0].within"],
        ["audiences.yaml:6", "audiences[0].when.all[1].before"],
        ["audiences.yaml:7", "audiences[0].enabled"],
        ["audiences.yaml:8", "audiences[1]"],
        ["audiences.yaml:9", "audiences[2]"],
        ["audiences.yaml:11", "extra"],
        ["b.yaml:1", "audiences[0]"],
        ["b.yaml:2", "the key 'audiences' is here twice, first in line 1"],
    ]


def test_a_key_is_taken_once_and_both_places_are_named() -> None:
    one = "audiences:\n\n  - {name: Big Spenders, source: engage}"
    other = "audiences:\n  - {name: x, key: big_spenders, source: engage}"
    assert problems(one, other) == [
        "b.yaml:2: audiences[0]: the key `big_spenders` is taken by audiences.yaml:3: change the name or give another `key`"
    ]


def test_a_default_is_given_once() -> None:
    found = problems("defaults:\n  enabled: true", "defaults:\n  # again\n  enabled: true")
    assert found == ["b.yaml:3: defaults.enabled: this default is also given in audiences.yaml:2"]


def test_a_mapping_does_not_go_onto_a_list_of_defaults() -> None:
    text = "defaults:\n  facebook: [{ad_account_id: 1}]\naudiences:\n  - {name: A, source: engage, facebook: {mode: live}}"
    assert problems(text) == [
        "audiences.yaml:4: audiences[0].facebook: `defaults` has a list of ad accounts: give a list here too, to replace it"
    ]


def test_a_wrong_default_is_reported_once_where_it_is() -> None:
    text = """\
defaults:
  require: {trait: t}
  facebook: {mode: wet}
audiences:
  - {name: A, source: engage}
  - {name: B, source: engage, facebook: {name: x}}
"""
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["audiences.yaml:2", "defaults.require"],
        ["audiences.yaml:3", "defaults.facebook.mode"],
    ]


def test_of_very_many_problems_the_first_are_listed() -> None:
    found = problems("audiences:\n" + "  - {name: A}\n" * 300)
    assert len(found) == 201
    assert found[-1] == "... and 399 more problems"  # 300 without a condition, 299 with a key that is taken


def test_what_is_shown_is_short() -> None:
    assert all(len(line) < 300 for line in problems(f"audiences: [{{name: A, source: {'x' * 1_000}}}]"))
    assert all(
        len(line) < 400 for line in problems(f"audiences: [{{name: A, source: engage, {'x' * 900}: 1}}]")
    )
