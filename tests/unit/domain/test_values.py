from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keeping import Keeping
from app.domain.room import Cuts
from app.domain.values import (
    Composite,
    extractor,
    number_of,
    restored,
    text_of,
)

SOURCE = {
    "a": {"b": {"c": 5}, "b.c": "dotted"},
    "null": None,
    "items": [{"price": 1, "tags": ["x", "y"]}, {"sku": "s"}, 7, None],
    "empty": [],
    "text": "items",
}

ROWS: list[tuple[str, Any, str]] = [
    ("text", "items", "one name"),
    ("a.b.c", 5, "names within names"),
    (r"a.b\.c", "dotted", "a dot in a name"),
    ("a.x.c", None, "no such name"),
    ("text.x", None, "not an object"),
    ("null", None, "null is missing"),
    ("items", SOURCE["items"], "an array as it is"),
    ("items.$.price", [1, None, None, None], "an item without it has it missing"),
    ("items.$.tags.$", ["x", "y"], "items of items"),
    ("empty.$", None, "no items: missing"),
    ("text.$", None, "not an array: no items"),
    ("nowhere.$.x", None, "nothing there"),
]


@pytest.mark.parametrize(("path", "expected", "why"), ROWS)
def test_extract(path: str, expected: Any, why: str) -> None:
    assert extractor(path)(SOURCE) == expected, why


@pytest.mark.parametrize("source", [None, [], "x", 5])
@pytest.mark.parametrize("path", ["a", "a.b", "a.$"])
def test_extract_from_what_is_no_object(path: str, source: Any) -> None:
    assert extractor(path)(source) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_what_is_kept_survives_messagepack_and_means_the_same(value: Any) -> None:
    again = restored(msgspec.msgpack.decode(msgspec.msgpack.encode(Keeping(Cuts()).one(value))))
    assert text_of(again) == text_of(value)
    if not isinstance(value, list | dict):
        assert number_of(again) == number_of(value)
    else:
        assert isinstance(again, Composite)
