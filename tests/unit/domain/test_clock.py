from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.clock import PartitionClock

WALL = 1_000_000


def clock(*lanes: str, wall: int = WALL) -> PartitionClock:
    made = PartitionClock()
    made.set_wall(wall)
    made.set_expected(lanes)
    return made


def test_it_stands_at_the_least_progress_of_the_expected_lanes() -> None:
    one = clock("a", "b")
    one.progress("a", 500)
    assert one.now is None, "nothing is known of b yet"
    one.progress("b", 300)
    assert one.now == 300
    one.progress("a", 900)
    assert one.now == 300
    one.progress("b", 700)
    assert one.now == 700


def test_lanes_that_are_not_expected_do_not_move_it_and_are_known_once_they_are() -> None:
    one = clock("a")
    one.progress("replay", 5)
    assert one.now is None
    one.progress("a", 100)
    one.progress("b", 400)
    assert one.now == 100
    one.set_expected(["b"])
    assert one.now == 400


def test_it_never_goes_back() -> None:
    one = clock("a")
    one.progress("a", 500)
    one.progress("a", 400)
    assert one.now == 500
    one.set_expected(["a", "b"])
    one.progress("b", 100)
    assert one.now == 500, "a new lane that is behind only holds it where it is"
    one.progress("b", 450)
    one.progress("a", 800)
    assert one.now == 500
    one.progress("b", 600)
    assert one.now == 600
    one.set_expected([])
    assert one.now == 600, "with no lane it stands"


def test_it_never_passes_the_wall() -> None:
    one = PartitionClock()
    one.set_expected(["a"])
    one.progress("a", 500)
    assert one.now is None, "without a wall there is no now"
    one.set_wall(200)
    assert one.now == 200
    one.set_wall(100)
    assert one.now == 200
    one.set_wall(900)
    assert one.now == 500


def test_positions_only_grow_within_a_lane() -> None:
    one = clock("a")
    assert one.accept("a", 5, 0)
    assert not one.accept("a", 5, 0), "the same record again"
    assert one.accept("a", 5, 1), "the second record of one source record"
    assert not one.accept("a", 4, 9), "an older one again"
    assert one.accept("b", 5, 0), "another lane has its own offsets"
    assert one.accept("a", 6, 0)


def test_take_is_accept_and_progress() -> None:
    one = clock("a")
    assert one.take("a", 5, 0, 300)
    assert one.now == 300
    assert not one.take("a", 5, 0, 900)
    assert one.now == 300, "a redelivery brings no news"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), min_size=10, max_size=60),
    st.sets(st.sampled_from("abc"), min_size=1),
)
def test_whichever_lane_goes_on_it_stands_at_the_least(gone: list[tuple[str, int]], lanes: set[str]) -> None:
    one = clock(*lanes)
    progress: dict[str, int] = {}
    for lane, by in gone:
        progress[lane] = progress.get(lane, 0) + by
        one.progress(lane, progress[lane])
        expected = min(progress[name] for name in lanes) if lanes <= progress.keys() else None
        assert one.now == expected


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 2), st.integers(0, 50)), max_size=25
)


@given(steps, st.integers(0, 25), st.sets(st.sampled_from("abc")), st.integers(0, 50))
def test_a_restart_changes_nothing(
    brought: list[tuple[str, int, int, int]], at: int, lanes: set[str], wall: int
) -> None:
    """And the clock is always the least progress, capped by the wall, that it has had so far."""
    through, restarted = clock(*lanes, wall=wall), clock(*lanes, wall=wall)
    progress: dict[str, int] = {}
    best: int | None = None
    for number, (lane, offset, index, instant) in enumerate(brought):
        if number == at:
            record = restarted.dump()
            restarted = PartitionClock()
            restarted.load(record)
            restarted.set_wall(wall)
            restarted.set_expected(lanes)
        taken = through.take(lane, offset, index, instant)
        assert restarted.take(lane, offset, index, instant) is taken
        if taken:
            progress[lane] = max(progress.get(lane, 0), instant)
        if lanes and lanes <= progress.keys():
            best = max(best or 0, min(wall, *(progress[name] for name in lanes)))
        assert through.now == restarted.now == best
    assert through.dump() == restarted.dump()
