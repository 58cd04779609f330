from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.operators import equal
from app.domain.same_values import SameValues
from app.domain.values import restored

scalars: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        "",
        "a",
        "true",
        "false",
        "True",
        "1",
        "1.0",
        "01",
        "1e0",
        1,
        1.0,
        0,
        0.0,
        -0.0,
        True,
        False,
        2**63,
        1e300,
        {"json": "[1]"},
        "nan",
        "inf",
    ]
)
lists = st.lists(scalars, max_size=3) | st.none()


@given(
    st.lists(st.tuples(scalars, scalars), max_size=8), scalars, scalars, st.integers(0, 8), st.integers(0, 8)
)
def test_the_index_finds_what_equals_finds(
    entries: list[tuple[Any, Any]], first: Any, second: Any, begin: int, end: int
) -> None:
    """Whatever the types: an index that knew other equalities would be another operator."""
    index = SameValues([list(entry) for entry in entries], [0, 1])
    values = [restored(first), restored(second)]
    assert index.count(values, begin, end) == len(index.find(values, begin, end))
    assert list(index.find(values, begin, end)) == [
        number
        for number, entry in enumerate(entries)
        if begin <= number < end
        and all(equal(restored(kept), value) for kept, value in zip(entry, values, strict=True))
    ]


@given(st.lists(lists, max_size=6), scalars)
def test_of_an_array_one_item_is_enough_and_counts_once(entries: list[list[Any] | None], value: Any) -> None:
    index = SameValues([[entry] for entry in entries], [0])
    assert index.count([restored(value)], 0, 9) == len(index.find([restored(value)], 0, 9))
    assert list(index.find([restored(value)], 0, len(entries))) == [
        number
        for number, entry in enumerate(entries)
        if any(equal(restored(item), restored(value)) for item in entry or ())
    ]


@given(st.lists(scalars, max_size=8), scalars)
def test_one_property_alone(entries: list[Any], value: Any) -> None:
    index = SameValues([[entry] for entry in entries], [0])
    assert list(index.find([restored(value)], 0, len(entries))) == [
        number for number, entry in enumerate(entries) if equal(restored(entry), restored(value))
    ]
