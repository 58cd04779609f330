"""The batcher alone: when a batch is due, what is in it, and what happens when more comes than there is room for."""

from __future__ import annotations

import pytest

from app.domain.batching import BatchPolicy
from schemas.membership import Cause, Change, MembershipDelta
from tests.unit.domain.batched_deltas import DEST, batcher, delta, offer, profiles

# -- changes that the destination's sync mode leaves out ---------------------------------------------------------


def left_out(profile: str, sequence: int = 2) -> MembershipDelta:
    return MembershipDelta(DEST, profile, Change.EXITED, sequence, {}, 0, 0, Cause.EVENT)


def test_a_change_that_is_not_for_the_destination_supersedes_nothing_and_is_passed_over() -> None:
    live = batcher()
    assert live.offer([(0, delta("a")), (1, left_out("a")), (2, left_out("b"))], 3, 0.0) == 1
    batch = live.take(30.0)
    assert batch is not None
    assert (profiles(batch), batch.changes[0][1].change, batch.end) == (["a"], Change.ENTERED, 3)
    live.confirm(batch)
    assert live.offer([(3, left_out("c"))], 4, 40.0) == 0
    assert (live.idle, live.cursor) == (True, 4)


def test_so_it_is_while_the_log_is_read_and_what_comes_meanwhile() -> None:
    behind = batcher(cursor=0, live_offset=3)
    assert behind.begin_read() == (0, 3)
    assert behind.offer([(3, delta("b")), (4, left_out("b"))], 5, 0.0) == 1
    for offset, change in enumerate((delta("a"), left_out("a"), left_out("c"))):
        assert behind.read(offset, change, 0.0)
    behind.end_read(3)
    assert (behind.live, behind.pending) == (True, 2)
    batch = behind.take(30.0)
    assert batch is not None
    assert [change.change for _, change in batch.changes] == [Change.ENTERED, Change.ENTERED]
    assert batch.end == 5


# -- the deadline, both ways round -----------------------------------------------------------------------------


def test_a_lone_delta_after_idle_time_waits_its_whole_period() -> None:
    # A deadline counted from when the last batch left would send it at once, alone.
    quiet = batcher()
    offer(quiet, 0, "a", now=0.0)
    first = quiet.take(30.0)
    assert first is not None
    quiet.confirm(first)
    offer(quiet, 1, "b", now=1000.0)
    assert quiet.take(1029.9) is None
    assert quiet.wake_at() == 1030.0
    assert profiles(quiet.take(1030.0)) == ["b"]


def test_a_slow_trickle_does_not_put_the_deadline_off() -> None:
    # A deadline that restarts with every delta would never come.
    trickle = batcher()
    for second in range(0, 30, 5):
        offer(trickle, second // 5, chr(97 + second // 5), now=float(second))
        assert trickle.wake_at() == 30.0
    assert profiles(trickle.take(30.0)) == list("abcdef")


def test_a_profile_that_changes_again_and_again_keeps_its_first_deadline() -> None:
    restless = batcher()
    for second in range(0, 30, 5):
        restless.offer([(second, delta("a", sequence=second))], second + 1, float(second))
    assert restless.wake_at() == 30.0
    batch = restless.take(30.0)
    assert batch is not None
    assert [(offset, change.sequence) for offset, change in batch.changes] == [(25, 25)]


def test_what_a_full_batch_leaves_behind_keeps_its_own_arrival() -> None:
    two = batcher()
    offer(two, 0, "abcdefghij", now=0.0)
    offer(two, 10, "k", now=20.0)
    batch = two.take(20.0)
    assert batch is not None
    assert (batch.first, batch.end) == (0, 10)
    two.confirm(batch)
    assert two.wake_at() == 50.0


def test_a_profile_that_changed_meanwhile_keeps_its_arrival_when_it_is_left_behind() -> None:
    three = batcher(policy=BatchPolicy(3, 30.0, 30))
    offer(three, 0, "ab", now=0.0)
    offer(three, 2, "cda", now=20.0)
    batch = three.take(20.0)
    assert profiles(batch) == ["b", "c", "d"]
    assert batch is not None
    three.confirm(batch)
    assert three.wake_at() == 30.0


# -- due by rows -----------------------------------------------------------------------------------------------


def test_a_full_batch_does_not_wait_for_time() -> None:
    full = batcher()
    offer(full, 0, "abcdefghi", now=0.0)
    assert full.take(0.0) is None
    offer(full, 9, "j", now=0.0)
    assert len(profiles(full.take(0.0))) == 10


def test_rows_count_and_not_profiles() -> None:
    # Three profiles with four rows each are twelve rows: the third does not fit into ten.
    rows = batcher()
    rows.offer([(i, delta(name, rows=4)) for i, name in enumerate("abc")], 3, 0.0)
    assert profiles(rows.take(0.0)) == ["a", "b"]


def test_a_profile_with_more_rows_than_a_batch_goes_alone() -> None:
    wide = batcher()
    wide.offer([(0, delta("a", rows=25)), (1, delta("b"))], 2, 0.0)
    assert profiles(wide.take(0.0)) == ["a"]


def test_deltas_without_rows_for_this_destination_still_move_the_cursor() -> None:
    empty = batcher()
    empty.offer([(5, delta("a", rows=0))], 6, 0.0)
    batch = empty.take(30.0)
    assert batch is not None
    empty.confirm(batch)
    assert empty.cursor == 6


# -- the last change wins --------------------------------------------------------------------------------------


def test_an_exit_is_sent_although_its_enter_waits_in_the_same_batch() -> None:
    # The enter may have been applied by a worker that died before it could confirm it.
    both = batcher()
    both.offer(
        [(0, delta("a", Change.ENTERED, sequence=1)), (1, delta("a", Change.EXITED, sequence=2))], 2, 0.0
    )
    batch = both.take(30.0)
    assert batch is not None
    assert [change.change for _, change in batch.changes] == [Change.EXITED]


def test_one_batch_is_out_at_a_time() -> None:
    one = batcher()
    offer(one, 0, "abcdefghijklmnopqrst")
    batch = one.take(0.0)
    assert batch is not None
    assert one.wake_at() is None
    assert one.take(1000.0) is None
    one.confirm(batch)
    assert one.take(1000.0) is not None


def test_only_the_batch_that_is_out_can_be_confirmed_or_given_back() -> None:
    strict = batcher()
    offer(strict, 0, "abcdefghijk")
    first = strict.take(0.0)
    assert first is not None
    strict.confirm(first)
    with pytest.raises(ValueError, match="confirmed"):
        strict.confirm(first)
    with pytest.raises(ValueError, match="given back"):
        strict.give_back(first)


def test_a_batch_given_back_is_superseded_by_newer_changes_and_is_due_at_once() -> None:
    back = batcher()
    offer(back, 0, "ab", now=0.0)
    batch = back.take(30.0)
    assert batch is not None
    back.offer([(2, delta("a", Change.EXITED, sequence=2)), (3, delta("c"))], 4, 31.0)
    back.give_back(batch)
    assert (back.pending, back.cursor) == (3, 0)
    again = back.take(31.0)
    assert again is not None
    assert [(o, c.profile, c.change) for o, c in again.changes] == [
        (1, "b", Change.ENTERED),
        (2, "a", Change.EXITED),
        (3, "c", Change.ENTERED),
    ]
    assert (again.first, again.end) == (0, 4)


# -- cursor ----------------------------------------------------------------------------------------------------


def test_the_cursor_passes_what_is_not_this_destination_s() -> None:
    # Other audiences' deltas in the partition: nothing of them is offered, only the end moves.
    quiet = batcher(cursor=7, live_offset=7)
    quiet.offer([], 500, 0.0)
    assert (quiet.cursor, quiet.idle) == (500, True)


def test_the_cursor_stands_while_anything_waits() -> None:
    waiting = batcher()
    waiting.offer([], 100, 0.0)
    waiting.offer([(100, delta("a"))], 200, 0.0)
    assert waiting.cursor == 100
    batch = waiting.take(30.0)
    assert batch is not None
    assert (batch.first, batch.end, waiting.cursor) == (100, 200, 100)
    waiting.offer([(250, delta("b"))], 300, 30.0)
    waiting.confirm(batch)
    assert waiting.cursor == 200


def test_records_below_the_cursor_are_passed_over() -> None:
    again = batcher(cursor=5, live_offset=3)
    assert again.offer([(3, delta("a")), (4, delta("b")), (5, delta("c"))], 6, 0.0) == 1
    assert profiles(again.take(30.0)) == ["c"]
