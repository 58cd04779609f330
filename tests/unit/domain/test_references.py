from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.references import cycles_of, ranks_of
from app.errors import InvalidInputError

names = st.sampled_from("abcdef")
graphs = st.dictionaries(names, st.sets(names, max_size=3).map(sorted), max_size=6).map(
    lambda graph: {name: [target for target in targets if target in graph] for name, targets in graph.items()}
)


def reachable(graph: dict[str, list[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += graph[name]
    return found


@given(graphs)
def test_ranks_grow_along_references_and_cycles_are_refused(graph: dict[str, list[str]]) -> None:
    in_cycles = {name for name in graph if name in reachable(graph, name)}
    cycles = list(cycles_of(graph))
    assert bool(cycles) is bool(in_cycles)
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(target in graph[name] for name, target in itertools.pairwise(cycle))
    if cycles:
        with pytest.raises(InvalidInputError, match=" -> "):
            ranks_of(graph)
        return
    ranks = ranks_of(graph)
    assert ranks.keys() == graph.keys()
    for name, targets in graph.items():
        assert ranks[name] == max((ranks[target] + 1 for target in targets), default=0)


def test_every_cycle_that_shares_no_name_with_another_is_told() -> None:
    graph = {"a": ["b"], "b": ["a"], "c": ["c"], "d": ["c", "a", "gone"]}
    assert list(cycles_of(graph)) == [["a", "b", "a"], ["c", "c"]]


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="a refers to b"):
        ranks_of({"a": ["b"]})


def test_chains_may_be_long() -> None:
    length = 20_000
    chain = {str(place): [str(place + 1)] if place < length else [] for place in range(length + 1)}
    assert ranks_of(chain)["0"] == length
    assert next(cycles_of({**chain, str(length): ["0"]}))[:2] == ["0", "1"]


def test_a_ladder_takes_no_more_time_than_its_rungs() -> None:
    """Twice as many ways with each step: to walk them all would take for ever."""
    graph = {f"{side}{step}": [f"l{step + 1}", f"r{step + 1}"] for side in "lr" for step in range(200)}
    graph |= {"l200": [], "r200": []}
    assert list(cycles_of(graph)) == []
    assert ranks_of(graph)["l0"] == 200
