"""What a destination's record remembers of its past."""

from __future__ import annotations

from app.domain.sync_history import HOUR_MS, MOST_CHANGES, MOST_HOURS, with_change, with_rows
from schemas.sync import DestinationState, SyncHour, SyncState

NEW, LIVE, HELD = DestinationState.NEW, DestinationState.LIVE, DestinationState.HELD


def history(*changes: tuple[DestinationState, str | None, str | None]) -> SyncState:
    known = SyncState(destination="vips", audience="vips", marker="m", updated_at=0)
    for at, change in enumerate(changes):
        known = known.model_copy(update={"history": with_change(known, *change, at)})
    return known


def test_only_changes_are_remembered_and_a_trace_is_none() -> None:
    found = history(
        (NEW, None, None),
        (NEW, None, None),
        (LIVE, None, "1"),
        (HELD, "Facebook refused (190, trace A1): words | do", "1"),
        (HELD, "Facebook refused (190, trace B2): words | do", "1"),
        (HELD, "Facebook refused (200, trace B2): words | do", "1"),
        (LIVE, None, "2"),
        (LIVE, None, "3"),
    ).history
    assert [(one.at, one.state, one.facebook_id) for one in found] == [
        (0, NEW, None),
        (2, LIVE, "1"),
        (3, HELD, "1"),
        (5, HELD, "1"),
        (6, LIVE, "2"),
        (7, LIVE, "3"),
    ]


def test_two_states_in_turn_leave_room_for_what_was_before() -> None:
    turns = [(HELD, "near the limit", "1"), (LIVE, None, "1")] * 50
    found = history((NEW, None, None), (LIVE, None, "1"), *turns, (HELD, "another", "1")).history
    assert [one.state for one in found] == [NEW, LIVE, HELD, LIVE, HELD, LIVE, HELD]
    assert [one.at for one in found] == [0, 1, 2, 99, 100, 101, 102]


def test_the_newest_changes_are_kept() -> None:
    found = history(*((LIVE, None, str(number)) for number in range(MOST_CHANGES + 5))).history
    assert [one.facebook_id for one in found] == [str(number) for number in range(5, MOST_CHANGES + 5)]


def test_rows_are_added_up_by_the_hour() -> None:
    hours: tuple[SyncHour, ...] = ()
    for now, rows in (
        (0, (1, 2, 3)),
        (HOUR_MS - 1, (1, 0, 0)),
        (HOUR_MS, (0, 0, 0)),
        (2 * HOUR_MS, (0, 5, 0)),
    ):
        hours = with_rows(hours, now, *rows)
    hours = with_rows(hours, HOUR_MS, 1, 0, 0)
    assert [(one.hour, one.added, one.removed, one.rejected) for one in hours] == [(0, 2, 2, 3), (2, 1, 5, 0)]
    for hour in range(10, 10 + MOST_HOURS):
        hours = with_rows(hours, hour * HOUR_MS, 1, 0, 0)
    assert (len(hours), hours[0].hour) == (MOST_HOURS, 10)
