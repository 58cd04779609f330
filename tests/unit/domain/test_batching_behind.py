"""The batcher when more comes than there is room for, and when it is paused."""

from __future__ import annotations

import random

import pytest

from app.domain.batching import Batcher, BatchPolicy
from schemas.membership import Change, MembershipDelta
from tests.unit.domain.batched_deltas import DEST, POLICY, batcher, delta, offer, profiles

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
