"""When a stage stops: counted as anybody would on paper, however its input is cut into batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.letter_limits import LetterLimits, LetterPolicy
from app.errors import FatalError, NewerFormatError

NEVER = LetterPolicy(in_a_row=0, ratio=0)


def stops_at(
    policy: LetterPolicy, batches: list[list[bool]], ends: frozenset[int] = frozenset()
) -> int | None:
    """The number of the batch at which it is too much; True is a dead letter. Before those in `ends` the worker ends,
    and another goes on from what was committed.
    """
    limits = LetterLimits(policy)
    for number, batch in enumerate(batches):
        if number in ends:
            standing = limits.standing("t", 0)
            limits = LetterLimits(policy)
            limits.resume("t", 0, standing)
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
    limits = LetterLimits(LetterPolicy(in_a_row=0, ratio=1, window=100))
    for _ in range(1_000):
        limits.note("t", 0, 7, [3])
    seen = limits._seen["t", 0]
    assert seen.records == sum(records for records, _ in seen.batches)
    assert 100 <= seen.records < 107
    assert all(one == (7, 1) for one in seen.batches)
    assert list(pairwise(seen.batches))


# -- across restarts -------------------------------------------------------------------------------------------

ends = st.frozensets(st.integers(0, 11))


@given(batches, ends, st.integers(1, 6))
def test_a_run_goes_on_behind_a_restart(cut: list[list[bool]], ends: frozenset[int], most: int) -> None:
    policy = LetterPolicy(in_a_row=most, ratio=0)
    assert stops_at(policy, cut, ends) == stops_at(policy, cut)


@given(batches, ends, st.integers(1, 30), st.sampled_from([0.25, 0.5, 1.0]))
def test_the_newest_records_are_known_behind_a_restart(
    cut: list[list[bool]], ends: frozenset[int], window: int, ratio: float
) -> None:
    # A window without any letter is not kept: good records alone bring no limit nearer.
    cut = [[True, *batch] for batch in cut]
    policy = LetterPolicy(in_a_row=0, ratio=ratio, window=window)
    assert stops_at(policy, cut, ends) == stops_at(policy, cut)


def test_however_often_it_is_started_no_more_is_done_of_a_run_than_the_limit() -> None:
    """One record a batch, as a slow stream brings them; each start ends at the limit and begins where it stood."""
    standing, done = "", 0

    def run_until_it_ends(limits: LetterLimits) -> None:
        nonlocal standing, done
        limits.resume("t", 0, standing)
        for _ in range(500):
            limits.note("t", 0, 1, [0])
            standing, done = limits.standing("t", 0), done + 1

    for _ in range(20):
        limits = LetterLimits(LetterPolicy(in_a_row=100))
        with pytest.raises(FatalError, match="100 records of t in a row"):
            run_until_it_ends(limits)
    assert done == 99
    limits.note("t", 0, 1, ())
    limits.note("t", 0, 99, range(99))


def test_a_batch_that_was_too_much_is_counted_when_it_comes_again_and_not_before() -> None:
    limits = LetterLimits(LetterPolicy(in_a_row=5))
    limits.note("t", 0, 3, [0, 1, 2])
    before = limits.standing("t", 0)
    with pytest.raises(FatalError):
        limits.note("t", 0, 4, [0, 1, 2, 3])
    assert limits.standing("t", 0) == before
    patient = LetterLimits(LetterPolicy(in_a_row=8))
    patient.resume("t", 0, before)
    patient.note("t", 0, 4, [0, 1, 2, 3])


def test_what_has_no_limit_is_not_counted_towards_a_later_one() -> None:
    """A person who lets everything through once, and then sets the limits again, begins anew."""
    strict, lax = LetterPolicy(in_a_row=50, ratio=0.5, window=100), NEVER
    limits = LetterLimits(strict)
    limits.note("t", 0, 49, range(49))
    for policy in (lax, strict):
        standing = limits.standing("t", 0)
        limits = LetterLimits(policy)
        limits.resume("t", 0, standing)
        limits.note("t", 0, 49, range(49))
    with pytest.raises(FatalError):
        limits.note("t", 0, 1, [0])


def test_without_letters_there_is_nothing_to_keep() -> None:
    limits = LetterLimits(LetterPolicy())
    assert limits.standing("t", 0) == ""
    limits.note("t", 0, 5, ())
    assert limits.standing("t", 0) == ""
    limits.note("t", 0, 1, [0])
    assert limits.standing("t", 0) != ""
    assert limits.standing("t", 1) == limits.standing("u", 0) == ""
    limits.resume("t", 0, "")
    assert limits.standing("t", 0) == ""


@pytest.mark.parametrize("note", ["reset by ops", "[]", '{"run": -5}', '{"batches": [[1]]}', "\x00"])
def test_a_note_of_somebody_else_counts_as_nothing(note: str) -> None:
    limits = LetterLimits(LetterPolicy())
    limits.note("t", 0, 1, [0])
    limits.resume("t", 0, note)
    assert limits.standing("t", 0) == ""


def test_a_note_of_a_newer_release_is_refused() -> None:
    with pytest.raises(NewerFormatError, match="LetterCounts of format 2"):
        LetterLimits(LetterPolicy()).resume("t", 0, '{"version": 2, "run": "new"}')


@given(st.lists(st.integers(1, 900), min_size=300, max_size=300), st.sampled_from([39, 10_000, 10**9]))
def test_what_is_kept_fits_beside_an_offset(sizes: list[int], window: int) -> None:
    limits = LetterLimits(LetterPolicy(in_a_row=0, ratio=1, window=window))
    for size in sizes:
        limits.note("t", 0, size, [0] if size > 1 else ())
        assert len(limits.standing("t", 0)) < 1_024
