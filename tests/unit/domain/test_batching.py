"""The batcher alone: when a batch is due, what is in it, and what happens when more comes than there is room for."""

from __future__ import annotations

import random

import pytest

from app.domain.batching import Batch, Batcher, BatchPolicy
from schemas.membership import Cause, Change, MembershipDelta

DEST = "vips"
POLICY = BatchPolicy(max_rows=10, period=30.0, max_pending=30)


def delta(profile: str, change: Change = Change.ENTERED, rows: int = 1, sequence: int = 1) -> MembershipDelta:
    sent: list[dict[str, str | float]] = [{"EXTERN_ID": f"{profile}-{number}"} for number in range(rows)]
    return MembershipDelta(DEST, profile, change, sequence, {DEST: sent}, 0, 0, Cause.EVENT)


def batcher(
    cursor: int = 0, live_offset: int = 0, policy: BatchPolicy = POLICY, settle_end: int = 0
) -> Batcher:
    return Batcher(DEST, policy, cursor, live_offset, settle_end)


def profiles(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [change.profile for _, change in batch.changes]


def offer(to: Batcher, first: int, names: str, now: float = 0.0) -> int:
    """One delta per letter, from that offset on."""
    return to.offer([(first + i, delta(name)) for i, name in enumerate(names)], first + len(names), now)


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


# -- falling behind and catching up ----------------------------------------------------------------------------


def test_with_no_room_left_it_falls_behind_and_reads_the_rest_later() -> None:
    small = batcher(policy=BatchPolicy(2, 30.0, 4))
    assert offer(small, 0, "abcdef") == 4
    assert not small.live
    assert offer(small, 6, "g") == 0
    assert small.begin_read() is None  # no room yet
    for expected in ("ab", "cd"):
        batch = small.take(0.0)
        assert profiles(batch) == list(expected)
        assert batch is not None
        small.confirm(batch)
    assert small.cursor == 4
    assert small.begin_read() == (4, 7)
    for offset, name in ((4, "e"), (5, "f"), (6, "g")):
        assert small.read(offset, delta(name), 1.0)
    small.end_read(7)
    assert small.live
    assert profiles(small.take(1.0)) == ["e", "f"]


def test_behind_from_the_start_when_the_cursor_is_below_the_live_position() -> None:
    behind = batcher(cursor=10, live_offset=50)
    assert not behind.live
    assert behind.begin_read() == (10, 50)
    assert behind.read(20, delta("a"), 0.0)
    behind.end_read(50)
    assert behind.live
    assert behind.pending == 1


def test_live_deltas_that_come_during_the_read_follow_what_was_read() -> None:
    # Without them a busy partition would stay one step ahead for ever.
    busy = batcher(cursor=0, live_offset=50)
    assert busy.begin_read() == (0, 50)
    busy.offer([(50, delta("a", Change.EXITED, sequence=9)), (51, delta("z"))], 52, 0.0)
    assert busy.read(20, delta("a", sequence=8), 0.0)
    busy.end_read(50)
    assert busy.live
    batch = busy.take(30.0)
    assert batch is not None
    assert [(o, c.sequence) for o, c in batch.changes] == [(50, 9), (51, 1)]
    assert batch.end == 52


def test_too_many_live_deltas_during_the_read_are_read_afterwards() -> None:
    flooded = batcher(cursor=0, live_offset=5, policy=BatchPolicy(2, 30.0, 4))
    assert flooded.begin_read() == (0, 5)
    offer(flooded, 5, "vwxyz")
    flooded.end_read(5)
    assert not flooded.live
    assert flooded.begin_read() == (5, 10)


def test_reading_stops_when_there_is_no_room_and_goes_on_where_it_stopped() -> None:
    small = batcher(cursor=0, live_offset=9, policy=BatchPolicy(2, 30.0, 3))
    assert small.begin_read() == (0, 9)
    assert [small.read(i, delta(f"p{i}"), 0.0) for i in range(4)] == [True, True, True, False]
    assert small.begin_read() is None
    batch = small.take(0.0)
    assert batch is not None
    small.confirm(batch)
    assert small.begin_read() == (3, 9)


def test_nothing_is_taken_before_all_that_a_predecessor_may_have_sent_is_read() -> None:
    # The predecessor may have sent the exit at 5; sending the enter at 0 once more would bring the person back.
    heir = batcher(cursor=0, live_offset=6, policy=BatchPolicy(2, 30.0, 3), settle_end=6)
    assert heir.begin_read() == (0, 6)
    for offset in range(5):
        assert heir.read(offset, delta(f"p{offset}"), 0.0)  # more than fit, and read all the same
    assert heir.take(100.0) is None
    assert heir.read(5, delta("p0", Change.EXITED, sequence=2), 0.0)
    heir.end_read(6)
    taken: list[tuple[str, Change]] = []
    while (batch := heir.take(100.0)) is not None:
        taken.extend((c.profile, c.change) for _, c in batch.changes)
        heir.confirm(batch)
    assert ("p0", Change.ENTERED) not in taken
    assert taken[-1] == ("p0", Change.EXITED)


def test_pending_rows_stay_bounded() -> None:
    flooded = batcher()
    for i in range(1000):
        flooded.offer([(i, delta(f"p{i}"))], i + 1, 0.0)
    assert flooded.pending == POLICY.max_pending


def test_whatever_happens_the_last_batches_tell_the_newest_of_everybody() -> None:
    """Random offers, reads, confirmations and give-backs against the plain truth: the newest delta per profile.

    Also: what is sent of one profile never goes back to an older change once a newer one was confirmed.
    """
    dice = random.Random(7)
    for _ in range(300):
        start = dice.randrange(4)
        log = [delta(f"p{dice.randrange(8)}", sequence=i) for i in range(start)]
        machine = Batcher(DEST, BatchPolicy(3, 5.0, dice.choice([3, 5, 9])), 0, start)
        told: dict[str, int] = {}
        now = 0.0
        offered = start
        for _ in range(60):
            now += dice.random() * 4
            match dice.randrange(4):
                case 0:
                    for _ in range(dice.randrange(5)):
                        log.append(delta(f"p{dice.randrange(8)}", sequence=len(log)))
                    machine.offer(list(enumerate(log))[offered:], len(log), now)
                    offered = len(log)
                case 1:
                    read_some(machine, log, now)
                case _:
                    send_one(machine, told, now, dice.random() < 0.3)
        for _ in range(200):
            now += 6
            read_some(machine, log, now)
            send_one(machine, told, now, give_back=False)
        assert machine.idle
        assert machine.cursor == len(log)
        assert told == {change.profile: offset for offset, change in enumerate(log)}


def read_some(machine: Batcher, log: list[MembershipDelta], now: float) -> None:
    span = machine.begin_read()
    if span is None:
        return
    for offset in range(*span):
        if not machine.read(offset, log[offset], now):
            return
    machine.end_read(span[1])


def send_one(machine: Batcher, told: dict[str, int], now: float, give_back: bool) -> None:
    batch = machine.take(now)
    if batch is None:
        return
    if give_back:
        machine.give_back(batch)
        return
    for offset, change in batch.changes:
        assert told.get(change.profile, -1) < offset
        told[change.profile] = offset
    machine.confirm(batch)
    assert machine.cursor >= batch.end


# -- paused ----------------------------------------------------------------------------------------------------


def test_what_is_suspended_keeps_nothing_and_reads_from_its_cursor() -> None:
    one = batcher()
    offer(one, 0, "ab")
    sent = one.take(30.0)
    assert sent is not None
    one.confirm(sent)
    offer(one, 2, "cd", 31.0)
    one.suspend(settle_end=0)
    assert (one.cursor, one.pending, one.live, one.idle) == (2, 0, False, False)
    assert offer(one, 4, "ef", 40.0) == 0
    assert (one.pending, one.wake_at()) == (0, None)
    assert one.begin_read() == (2, 6)
    for offset, name in enumerate("cdef", 2):
        assert one.read(offset, delta(name), 50.0)
    one.end_read(6)
    assert one.live
    assert profiles(one.take(80.0)) == ["c", "d", "e", "f"]


def test_what_nothing_waited_in_is_suspended_where_it_stands() -> None:
    one = batcher()
    one.offer([], 7, 0.0)
    one.suspend(settle_end=0)
    assert one.cursor == 7
    assert one.begin_read() == (7, 7)
    one.end_read(7)
    assert one.live


def test_what_is_suspended_while_it_reads_begins_again() -> None:
    one = batcher(cursor=0, live_offset=4)
    assert one.begin_read() == (0, 4)
    one.read(0, delta("a"), 0.0)
    offer(one, 4, "e")
    one.suspend(settle_end=0)
    assert one.pending == 0
    assert one.begin_read() == (0, 5)


def test_what_may_have_been_sent_before_is_read_to_its_end_first() -> None:
    tight = batcher(policy=BatchPolicy(max_rows=1, period=30.0, max_pending=1))
    offer(tight, 0, "a")
    tight.suspend(settle_end=3)
    tight.begin_read()
    for offset in range(3):
        assert tight.read(offset, delta("abc"[offset]), 0.0), "whatever the bound"
    assert not tight.read(3, delta("d"), 0.0)


def test_a_batch_that_is_out_is_given_back_before() -> None:
    one = batcher()
    offer(one, 0, "a")
    batch = one.take(30.0)
    with pytest.raises(ValueError, match="given back"):
        one.suspend(settle_end=0)
    assert batch is not None
    one.give_back(batch)
    one.suspend(settle_end=0)
    assert (one.cursor, one.pending) == (0, 0)
