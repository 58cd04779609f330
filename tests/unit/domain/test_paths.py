from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.paths import ARRAY_ITEMS, MAX_PATH_PARTS, ArrayItems, parse_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("revenue", ("revenue",)),
        ("cart.total", ("cart", "total")),
        (r"utm\.source", ("utm.source",)),  # an escaped dot belongs to the name
        (r"a\.b.c\.d", ("a.b", "c.d")),
        ("products.$.sku", ("products", ARRAY_ITEMS, "sku")),
        ("tags.$", ("tags", ARRAY_ITEMS)),  # the items themselves
        ("rows.$.$", ("rows", ARRAY_ITEMS, ARRAY_ITEMS)),  # an array of arrays
        ("$set.name", ("$set", "name")),  # a dollar sign within a longer name is no items
        ("price $", ("price $",)),
        ("first name", ("first name",)),  # spaces are part of a name
        ("NO", ("NO",)),
        (r"a\b", (r"a\b",)),  # only a backslash before a dot is special
        ("größe", ("größe",)),
    ],
)
def test_parts(text: str, parts: tuple[str | ArrayItems, ...]) -> None:
    assert parse_path(text) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "may not be empty"),
        (".", "two in a row"),
        ("a.", "end with a dot"),
        (".a", "begin or end"),
        ("a..b", "two in a row"),
        ("$", "begins with a name"),
        ("$.traits.x", "begins with a name"),  # whole-call paths are another language
        ("a" * 513, "at most 512 characters"),
        (".".join("a" * (MAX_PATH_PARTS + 1)), "at most 32 parts"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_path(text)


_NAME = st.text(min_size=1, max_size=8).filter(lambda name: name != "$" and not name.endswith("\\"))


@given(st.lists(_NAME, min_size=1, max_size=6))
def test_any_name_can_be_written(names: list[str]) -> None:
    assert parse_path(".".join(name.replace(".", r"\.") for name in names)) == tuple(names)
