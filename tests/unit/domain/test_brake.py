"""The safety brake alone: what it counts, when it trips, and that a restart makes no difference."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.brake import Brake, BrakePolicy, is_counted
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import BrakeState, BrakeTrip

ENTER, EXIT, UPDATE = Change.ENTERED, Change.EXITED, Change.UPDATED
MINUTE = 60_000
NOW = 29_000_000 * MINUTE
DAY = 1_440 * MINUTE
DEST = "vips"


def delta(
    profile: str,
    change: Change,
    cause: Cause = Cause.EVENT,
    *,
    at: int = NOW,
    found: int = NOW,
    sequence: int = 2,
    rows: dict[str, list[dict[str, str | float]]] | None = None,
) -> MembershipDelta:
    sent: dict[str, list[dict[str, str | float]]] = {DEST: [{"EXTERN_ID": profile}]}
    if rows is not None:
        sent = rows
    return MembershipDelta("vips", profile, change, sequence, sent, at, found, cause)


def brake(members: int = 0, *, percent: float = 20.0, least: int = 3, accepted_at: int = 0) -> Brake:
    """With so many members, about to see offset 1."""
    known = BrakeState(position=1, members=members, accepted_at=accepted_at)
    return Brake(DEST, BrakePolicy(percent, least), known)


def leave(of: Brake, count: int, at: int = NOW) -> None:
    for _ in range(count):
        of.see(of.position, delta("p", EXIT, found=at, at=at), at)


# --- what is counted ---


@pytest.mark.parametrize(
    ("exit_", "written_at", "counted"),
    [
        (delta("p", EXIT, Cause.EVENT), NOW, True),
        (delta("p", EXIT, Cause.CLAIM), NOW, True),
        (delta("p", EXIT, Cause.MERGE), NOW, True),
        (delta("p", EXIT, Cause.DEFINITION), NOW, True),
        (delta("p", EXIT, Cause.EVENT), NOW + 5 * MINUTE, True),
        (delta("p", EXIT, Cause.EVENT), NOW + 5 * MINUTE + 1, False),
        (delta("p", EXIT, Cause.DEFINITION), NOW + DAY, False),
        (delta("p", EXIT, Cause.EVENT), NOW - DAY, True),
        (delta("p", EXIT, Cause.TIME), NOW, False),
        (delta("p", EXIT, Cause.TIME, at=NOW - 5 * MINUTE), NOW, False),
        (delta("p", EXIT, Cause.TIME, at=NOW - 5 * MINUTE - 1), NOW, True),
        (delta("p", EXIT, Cause.TIME, at=NOW - DAY), NOW + DAY, False),
        (delta("p", EXIT, Cause.CLAIM, sequence=1), NOW, False),
        (delta("p", EXIT, Cause.FORGOTTEN), NOW, False),
    ],
    ids=[
        "by an event",
        "by a claim",
        "by a merge",
        "by another definition",
        "the clock is near the wall",
        "the clock catches up",
        "another definition while it catches up",
        "the wall of the writer is behind",
        "their time came",
        "their time came a moment ago",
        "the clock jumped",
        "time passes while the clock catches up",
        "a stranger who never entered",
        "forgotten",
    ],
)
def test_what_counts(exit_: MembershipDelta, written_at: int, counted: bool) -> None:
    assert is_counted(exit_, written_at) is counted
    one = brake(members=1, percent=0, least=0)
    one.see(1, exit_, written_at)
    assert (one.trip is not None) is counted


@pytest.mark.parametrize("rows", [{}, {DEST: []}, {"other": [{"EXTERN_ID": "p"}]}])
def test_who_is_not_removed_at_facebook_is_not_counted(
    rows: dict[str, list[dict[str, str | float]]],
) -> None:
    one = brake(members=9, percent=0, least=0)
    one.see(1, delta("p", EXIT, rows=rows), NOW)
    assert (one.trip, one.members) == (None, 8)


# --- when it trips ---


def test_trips_beyond_both_bounds_only() -> None:
    many = brake(members=100, least=30)
    leave(many, 30)
    assert many.trip is None, "not more than 30"
    leave(many, 1)
    assert many.trip == BrakeTrip(at=NOW, removed=31, members=100)
    large = brake(members=100, least=3)
    leave(large, 20)
    assert large.trip is None, "not more than 20 %"
    leave(large, 1)
    assert large.trip == BrakeTrip(at=NOW, removed=21, members=100)


def test_people_who_enter_instead_do_not_hide_who_is_removed() -> None:
    one = brake(members=50)
    for number in range(50):
        one.see(one.position, delta(f"new-{number}", ENTER), NOW)
        leave(one, 1)
    assert one.trip is not None


def test_a_hundred_percent_never_trips() -> None:
    one = brake(members=50, percent=100.0)
    leave(one, 50)
    assert one.trip is None


def test_only_the_last_hour_is_counted_by_the_wall() -> None:
    slow = brake(members=1_000)
    for hour in range(6):
        leave(slow, 100, NOW + hour * 60 * MINUTE)
    assert slow.trip is None
    quick = brake(members=1_000)
    for hour in range(6):
        leave(quick, 100, NOW + hour * 20 * MINUTE)
    assert quick.trip is not None


def test_counts_on_while_it_holds_and_keeps_when_it_tripped() -> None:
    one = brake(members=10)
    leave(one, 10)
    assert one.trip == BrakeTrip(at=NOW, removed=10, members=10)
    leave(one, 5, NOW + DAY)
    assert one.trip == BrakeTrip(at=NOW, removed=15, members=10)


def test_an_accepted_shrink_is_let_through_for_an_hour() -> None:
    one = brake(members=40)
    leave(one, 10)
    assert one.trip is not None
    one.accept(NOW)
    assert one.trip is None
    leave(one, 20, NOW + 59 * MINUTE)
    assert one.trip is None
    leave(one, 4, NOW + 60 * MINUTE)
    assert one.trip is not None
    one.accept(NOW)
    assert one.trip is not None, "that was about what came before"


def test_may_be_accepted_before_it_happens() -> None:
    one = brake(members=40)
    one.accept(NOW)
    leave(one, 40, NOW + MINUTE)
    assert one.trip is None


def test_a_wall_that_was_put_back_begins_anew() -> None:
    one = brake(members=1_000)
    leave(one, 150, NOW + 40 * DAY)
    leave(one, 150, NOW)
    assert one.trip is None
    leave(one, 51, NOW)
    assert one.trip is not None


# --- who is a member ---


def test_what_was_there_before_is_counted_by_profile_and_trips_nothing() -> None:
    """As a compacted topic has it: of many, only the newest record is left."""
    one = Brake(DEST, BrakePolicy(0, 0), None)
    assert one.dump() is None
    for offset, (profile, change) in enumerate(
        [("a", ENTER), ("b", UPDATE), ("c", EXIT), ("d", ENTER), ("d", EXIT), ("e", ENTER), ("e", UPDATE)]
    ):
        one.see(offset, delta(profile, change), NOW)
    one.seen_to(10)
    assert (one.members, one.trip) == (3, None)
    assert one.dump() == BrakeState(position=10, members=3)
    leave(one, 1)
    assert one.trip is not None


def test_what_has_been_seen_changes_nothing() -> None:
    one = brake(members=5)
    one.see(1, delta("a", EXIT), NOW)
    before = one.dump()
    one.see(1, delta("a", EXIT), NOW)
    one.see(0, delta("b", ENTER), NOW)
    assert one.dump() == before


# --- against plain counting ---

MOVES = st.lists(
    st.tuples(
        st.integers(0, 30),  # the profile; who is in leaves, who is out enters
        st.integers(0, 20),  # minutes since the move before
        st.sampled_from(Cause),
        st.sampled_from([0, 0, 0, 4 * MINUTE, 6 * MINUTE, DAY]),  # how far the clock is behind
        st.sampled_from([0, 0, 2 * MINUTE, 10 * MINUTE]),  # how late it was found
        st.sampled_from(["", "", "", "restart", "accept", "unseen"]),
    ),
    max_size=120,
)


@settings(deadline=None)  # a busy machine is no fault of the brake
@given(MOVES, st.sampled_from([0, 10, 20, 50]), st.sampled_from([0, 2, 6]))
def test_does_what_plain_counting_says(
    moves: list[tuple[int, int, Cause, int, int, str]], percent: int, least: int
) -> None:
    policy = BrakePolicy(percent, least)
    one = Brake(DEST, policy, None)
    one.seen_to(0)
    # Plainly: everything that happened, looked at from the beginning at every move.
    inside: set[int] = set()
    sequences: Counter[int] = Counter()
    counted: list[int] = []
    accepted: int | None = None
    tripped = False
    wall = NOW
    for offset, (who, minutes, cause, behind, late, then) in enumerate(moves):
        wall += minutes * MINUTE
        leaves = who in inside
        sequences[who] += 1
        change = EXIT if leaves else ENTER
        found = wall - behind
        one.see(
            offset,
            delta(str(who), change, cause, at=found - late, found=found, sequence=sequences[who]),
            wall,
        )
        inside ^= {who}
        meant = cause is Cause.FORGOTTEN or (cause is Cause.TIME and late <= 5 * MINUTE)
        free = accepted is not None and wall < accepted + 60 * MINUTE
        if leaves and behind <= 5 * MINUTE and not meant and not free:
            counted.append(wall)
            lately = [at for at in counted if at // MINUTE > wall // MINUTE - 60]
            gone = len(lately)
            tripped = tripped or (gone > least and 100 * gone > percent * (len(inside) + gone))
        if then == "restart":
            state = one.dump()
            assert state is not None
            one = Brake(DEST, policy, BrakeState.model_validate_json(state.model_dump_json()))
        elif then == "accept" and wall != accepted:
            one.accept(wall)
            accepted, counted, tripped = wall, [], False
        elif then == "unseen":
            one.seen_to(offset + 1)
        assert one.members == len(inside)
        assert (one.trip is not None) is tripped
