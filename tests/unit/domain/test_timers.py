from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.timers import BUCKET_MS, Timers


class Wakes(dict[bytes, int]):
    """What the timers are an index of."""

    def timers(self) -> Timers:
        return Timers(self.get)


def test_timers_fire_in_order_of_their_exact_instants() -> None:
    wakes = Wakes({b"a": 5 * BUCKET_MS + 7, b"b": 5 * BUCKET_MS + 3, b"c": 9 * BUCKET_MS})
    timers = wakes.timers()
    for key, due in wakes.items():
        timers.arm(key, due)
    assert timers.pop(5 * BUCKET_MS + 2) is None
    assert timers.pop(5 * BUCKET_MS + 3) == (5 * BUCKET_MS + 3, b"b")
    assert timers.pop(5 * BUCKET_MS + 3) is None
    assert timers.pop(20 * BUCKET_MS) == (5 * BUCKET_MS + 7, b"a")
    assert timers.pop(20 * BUCKET_MS) == (9 * BUCKET_MS, b"c")
    assert timers.pop(20 * BUCKET_MS) is None
    assert timers.next_due is None


def test_a_timer_that_was_moved_fires_once_at_its_new_instant() -> None:
    wakes = Wakes({b"a": 8 * BUCKET_MS})
    timers = wakes.timers()
    timers.arm(b"a", 8 * BUCKET_MS)
    wakes[b"a"] = 3 * BUCKET_MS
    timers.arm(b"a", 3 * BUCKET_MS)
    assert timers.pop(9 * BUCKET_MS) == (3 * BUCKET_MS, b"a")
    del wakes[b"a"]
    assert timers.pop(9 * BUCKET_MS) is None


instants = st.integers(0, 6 * BUCKET_MS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.sampled_from([b"a", b"b", b"c"]), instants),
        st.tuples(st.just("pop"), st.just(b""), instants),
    ),
    max_size=40,
)


@given(steps)
def test_every_armed_instant_fires_exactly_once(brought: list[tuple[str, bytes, int]]) -> None:
    wakes = Wakes()
    timers = wakes.timers()
    now = 0
    for what, key, instant in brought:
        if what == "arm":
            wakes[key] = max(now, instant)
            timers.arm(key, wakes[key])
            continue
        now = max(now, instant)
        fired = []
        while (timer := timers.pop(now)) is not None:
            fired.append(timer)
            del wakes[timer[1]]
        assert fired == sorted(fired)
        assert not [key for key, wake in wakes.items() if wake <= now]
        due = timers.next_due
        assert due is not None or not wakes
        assert not wakes or (due is not None and due <= min(wakes.values()))
