"""When a stage stops: counted as anybody would on paper, however its input is cut into batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.errors import FatalError

NEVER = LetterPolicy(in_a_row=0, ratio=0)


def stops_at(policy: LetterPolicy, batches: list[list[bool]]) -> int | None:
    """The number of the batch at which it is too much; True is a dead letter."""
    limits = LetterLimits(policy)
    for number, batch in enumerate(batches):
        try:
            limits.note("t", 0, len(batch), [place for place, dead in enumerate(batch) if dead])
        except FatalError:
            return number
    return None


batches = st.lists(st.lists(st.booleans(), min_size=1, max_size=8), max_size=12)


@given(batches, st.integers(1, 6))
def test_so_many_in_a_row_are_too_many_wherever_batches_end(cut: list[list[bool]], most: int) -> None:
    longest = 0
    expected = None
    for number, batch in enumerate(cut):
        for dead in batch:
            longest = longest + 1 if dead else 0
            if longest >= most and expected is None:
                expected = number
    assert stops_at(LetterPolicy(in_a_row=most, ratio=0), cut) == expected


@given(batches, st.integers(1, 20), st.sampled_from([0.25, 0.5, 1.0]))
def test_the_ratio_is_of_the_newest_batches_that_fill_the_window(
    cut: list[list[bool]], window: int, ratio: float
) -> None:
    expected = None
    for number, batch in enumerate(cut):
        seen: list[bool] = []
        for earlier in reversed(cut[: number + 1]):
            if len(seen) >= window:
                break
            seen += earlier
        if len(seen) >= window and any(batch) and sum(seen) >= ratio * len(seen) and expected is None:
            expected = number
    assert stops_at(LetterPolicy(in_a_row=0, ratio=ratio, window=window), cut) == expected


def test_partitions_are_judged_alone() -> None:
    limits = LetterLimits(LetterPolicy(in_a_row=4, ratio=0))
    for _ in range(3):
        limits.note("t", 0, 1, [0])
        limits.note("t", 1, 1, ())
    limits.note("t", 1, 3, [0, 1, 2])
    with pytest.raises(FatalError, match=r"4 records of t in a row, in partition 0.*dead-letters list"):
        limits.note("t", 0, 1, [0])


def test_zero_is_no_limit() -> None:
    everything = [[True] * 500] * 50
    assert stops_at(NEVER, everything) is None
    assert stops_at(LetterPolicy(), everything) == 1
    mostly = [[True, True, False] * 100] * 50
    assert stops_at(LetterPolicy(in_a_row=0), mostly) == 33
    assert stops_at(LetterPolicy(ratio=0), mostly) is None


def test_what_is_kept_of_the_past_is_bounded() -> None:
    limits = LetterLimits(LetterPolicy(in_a_row=0, ratio=0, window=100))
    for _ in range(1_000):
        limits.note("t", 0, 7, [3])
    seen = limits._seen[0]
    assert seen.records == sum(records for records, _ in seen.batches)
    assert 100 <= seen.records < 107
    assert all(one == (7, 1) for one in seen.batches)
    assert list(pairwise(seen.batches))
