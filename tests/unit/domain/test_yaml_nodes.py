from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.yaml_nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_number,
    read_nodes,
    to_number,
)


def read(text: str) -> tuple[Node | None, list[tuple[int, str]]]:
    problems: list[tuple[int, str]] = []
    return read_nodes(text, lambda line, message: problems.append((line, message))), problems


def plain(node: Node | None) -> object:
    """The value as JSON has it."""
    if isinstance(node, MappingNode):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    assert isinstance(node, ScalarNode)
    if node.is_null:
        return None
    if node.boolean is not None:
        return node.boolean
    return to_number(node.text) if node.is_number else node.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),  # Norway, which YAML 1.1 takes for false
        ("[yes, Off, on, y, tRUE]", ["yes", "Off", "on", "y", "tRUE"]),
        ("[true, True, TRUE]", [True, True, True]),  # the cases of YAML 1.2
        ("[false, False, FALSE]", [False, False, False]),
        ('["true", "null", "1"]', ["true", "null", "1"]),  # quotes make text
        ("[null, ~, ]", [None, None]),
        ("{a: }", {"a": None}),
        ("[Null, NULL, none]", ["Null", "NULL", "none"]),  # a surname, too
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
        ("[1:30, 190:20:30]", ["1:30", "190:20:30"]),  # sexagesimal in YAML 1.1
        ("[017, 0o17, 0x1F, 0b1, 1_000]", ["017", "0o17", "0x1F", "0b1", "1_000"]),
        ("[01234, 007]", ["01234", "007"]),  # a postal code keeps its zeros
        ("+4930123", "+4930123"),
        ("[.inf, .nan, -.INF, .5, 5.]", [".inf", ".nan", "-.INF", ".5", "5."]),
        ("[0, -1, 30, 1.5, -2e3, 1E+2]", [0, -1, 30, 1.5, -2000.0, 100.0]),
        ("{NO: 1, 2: b, true: c}", {"NO": 1, "2": "b", "true": "c"}),  # keys are text as written
        ("'it''s'", "it's"),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("- &a {x: 1}\n- *a\n", [{"x": 1}, {"x": 1}]),
        ("", None),
        ("# nothing\n", None),
        ("---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),  # a byte order mark
        (r'"\ud83d\ude00"', "😀"),  # JSON's two escapes of one character
        ('{\n\t"a":\t[1,\n\t\t"x\\ty"]\n}', {"a": [1, "x\ty"]}),  # JSON with tabs
    ],
)
def test_values(text: str, value: object) -> None:
    node, problems = read(text)
    assert problems == []
    assert plain(node) == value
    assert json.dumps(plain(node)) == json.dumps(value)  # 1, 1.0 and true are not one value


def test_lines_are_of_keys_and_items() -> None:
    node, _ = read("a: 1\nb:\n  - x\n  - y\n")
    assert isinstance(node, MappingNode)
    assert {key: entry.line for key, entry in node.entries.items()} == {"a": 1, "b": 2}
    items = node.entries["b"].node
    assert isinstance(items, SequenceNode)
    assert [item.line for item in items.items] == [3, 4]


BILLION_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP_ALIASES = "- &a0 [[[[[[[[[[x]]]]]]]]]]\n" + "".join(
    f"- &a{level} [[[[[[[[[[*a{level - 1}]]]]]]]]]]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is here twice, first in line 1"),
        ("a: 1\n'a': 3", 2, "twice"),
        ("a: [", 1, "not valid YAML"),
        ("a: b: c", 1, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "one YAML document"),
        ("? [a]\n: 1", 1, "a key must be text"),
        ("- &a [x]\n- {*a : 1}", 2, "a key must be text"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tags"),
        ("a:\n - !!binary aGk=", 2, "tags"),
        ("{a: !x {}}", 1, "tags"),
        ("base: &b {x: 1}\nmore:\n  <<: *b", 3, "`<<` is not supported"),
        ("a: *nothing", 1, "`*nothing` stands for nothing"),
        ("&a [*a]", 1, "stands for nothing that ended before it"),  # it would hold itself
        ("x\n\x07", 2, "U+0007"),
        (r'"\ud83d"', 1, "half of a character"),
        (r'"\U7fffffff"', 1, "cannot be read"),  # PyYAML lets Python's own error through
        (f"%YAML {'9' * 5_000}.1\n--- a", 1, "cannot be read"),
        ("[" * 101, 1, "more than 100 deep"),
        ("[" * 500_000, 1, "more than 100 deep"),  # before any recursion could hurt
        ("- " * 101, 1, "more than 100 deep"),
        (DEEP_ALIASES, 10, "more than 100 deep"),  # none of its lines is deep by itself
        (BILLION_LAUGHS, 5, "more than 100,000 values"),
        (" " * 1_048_577, 1, "more than 1,048,576 characters"),
    ],
)
def test_refused(text: str, line: int, said: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert problems[0][0] == line
    assert said in problems[0][1]


@pytest.mark.parametrize("text", ["9007199254740992", "-9007199254740993", "1e999", "x", "9" * 5_000])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"number"):
        to_number(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_means_what_json_says(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    node, problems = read(text)
    if problems:  # raw characters that YAML does not allow, U+007F even among ASCII; escaped ones always are
        assert not ascii_only or "<<" in text or "\x7f" in text
    else:
        assert plain(node) == value


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_characters_that_yaml_takes_for_line_breaks_are_refused_where_they_are_not_escaped(
    character: str,
) -> None:
    node, problems = read(f'[1,\n"{character}"]')
    assert node is None
    assert len(problems) == 1
    assert f"\\u{ord(character):04x}" in str(problems[0])
    assert plain(read(json.dumps([character]))[0]) == [character]


@given(st.text(alphabet="{}[]:,-?&*!|>%@`\"'#\n\t ab0\\u~<.", max_size=40))
def test_any_text_is_read_or_reported(text: str) -> None:
    node, problems = read(text)
    assert (node is not None) or problems


@given(st.from_regex(r"-?[0-9]{1,5}(\.[0-9]{1,3})?([eE][0-9])?", fullmatch=True))
def test_numbers_are_as_in_json(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        assert not is_number(text)
    else:
        assert to_number(text) == expected
