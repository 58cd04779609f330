"""When the demo takes the system's answer for final: everything done, nothing moving, no midnight just gone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from app.commands.demo_readings import (
    DAY_MS,
    MIDNIGHT_SECONDS,
    STABLE_SECONDS,
    STALLED_SECONDS,
    SandboxAudience,
    Settling,
    WorkerStats,
    fingerprint,
    not_caught_up,
    same_day,
)

AT_REST: dict[str, Any] = {
    "stages": {
        "resolve": {"in": 93, "out": 93, "dropped": {}, "dead": 0, "rate": 0.0, "lag": 0},
        "evaluate": {"in": 93, "out": 50, "dropped": {}, "dead": 0, "rate": 0.0, "lag": 8},
        "expire": {"in": 20, "out": 20, "dropped": {}, "dead": 0, "rate": 0.0, "lag": None},
        "batch": {"in": 70, "out": 60, "dropped": {}, "dead": 0, "rate": 0.0, "lag": 0},
        "deliver": {"in": 60, "out": 60, "dropped": {}, "dead": 0, "rate": 0.0, "lag": 0},
    },
    "audiences": {
        "lapsed": {
            "members": 5,
            "entered": 9,
            "exited": 4,
            "destinations": [
                {
                    "id": "lapsed",
                    "state": "live",
                    "reason": None,
                    "sent": 13,
                    "rejected": 0,
                    "pending": 0,
                    "facebook_id": "1",
                }
            ],
        }
    },
    "dead_letters": {},
    "clock_lag_seconds": 0.2,
}
NOON = 20_000 * DAY_MS + DAY_MS // 2


def stats(*path_and_value: Any) -> WorkerStats:
    """AT_REST with the value at the path in place of what is there."""
    document = copy.deepcopy(AT_REST)
    if path_and_value:
        *path, last, value = path_and_value
        inner = document
        for step in path:
            inner = inner[step]
        inner[last] = value
    return WorkerStats.model_validate(document)


DESTINATION = ("audiences", "lapsed", "destinations", 0)


def test_at_rest_nothing_is_left_to_be_done() -> None:
    assert not_caught_up(stats(), ["lapsed"]) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("stages", "resolve", "lag", 7), "resolve has 7 records"),
        # Unknown is not zero: a worker that has been assigned nothing yet knows of no lag.
        (("stages", "resolve", "lag", None), "resolve has an unknown number"),
        (("stages", "batch", "lag", 7), "batch has 7"),
        (("stages", "deliver", "lag", 7), "deliver has 7"),
        (("clock_lag_seconds", None), "clock is not known"),
        # Everything is read, but the windows that passed meanwhile have not been closed.
        (("clock_lag_seconds", 47_000_000.0), "47,000,000 s behind"),
        ((*DESTINATION, "pending", 3), "3 changes to send"),
        ((*DESTINATION, "state", "catching_up"), "lapsed is catching_up"),
        (("audiences", "lapsed", "destinations", []), "no destination yet"),
        (("audiences", {}), "lapsed has no destination yet"),
    ],
)
def test_what_is_left_is_told(change: tuple[Any, ...], told: str) -> None:
    left = not_caught_up(stats(*change), ["lapsed"])
    assert len(left) == 1
    assert told in left[0]


def test_a_held_destination_is_told_with_its_reason() -> None:
    document = copy.deepcopy(AT_REST)
    document["audiences"]["lapsed"]["destinations"][0] |= {"state": "held", "reason": "no permission"}
    assert not_caught_up(WorkerStats.model_validate(document), ["lapsed"]) == [
        "lapsed is held (no permission)"
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("stages", "resolve", "in", 94),
        ("stages", "deliver", "lag", 1),
        ("audiences", "lapsed", "members", 6),
        (*DESTINATION, "sent", 14),
        (*DESTINATION, "pending", 1),
        (*DESTINATION, "state", "held"),
    ],
)
def test_whatever_moves_is_seen(change: tuple[Any, ...]) -> None:
    sandbox = {"1": SandboxAudience(id="1", name="Lapsed", count=5)}
    assert fingerprint(stats(*change), sandbox) != fingerprint(stats(), sandbox)


def test_the_sandbox_is_watched_too_but_not_what_never_rests() -> None:
    before = {"1": SandboxAudience(id="1", name="Lapsed", count=5)}
    after = {"1": SandboxAudience(id="1", name="Lapsed", count=6)}
    assert fingerprint(stats(), after) != fingerprint(stats(), before)
    # Records that carry nothing but the time pass evaluate for ever.
    assert fingerprint(stats("stages", "evaluate", "lag", 0), before) == fingerprint(stats(), before)


def test_an_answer_is_final_when_nothing_has_moved_for_a_while() -> None:
    settling = Settling(100.0)
    assert not settling.observe(("a",), caught_up=True, now_ms=NOON, monotonic=101.0)
    assert not settling.observe(("a",), caught_up=True, now_ms=NOON, monotonic=100.9 + STABLE_SECONDS)
    assert settling.observe(("a",), caught_up=True, now_ms=NOON, monotonic=101.0 + STABLE_SECONDS)
    assert settling.first_caught_up == 101.0


def test_whatever_moves_starts_the_wait_again() -> None:
    settling = Settling(100.0)
    settling.observe(("a",), caught_up=True, now_ms=NOON, monotonic=100.0)
    assert not settling.observe(("b",), caught_up=True, now_ms=NOON, monotonic=200.0)
    # Work that appears without a trace in the numbers, and is gone again.
    assert not settling.observe(("b",), caught_up=False, now_ms=NOON, monotonic=300.0)
    assert not settling.observe(("b",), caught_up=True, now_ms=NOON, monotonic=400.0)
    assert settling.observe(("b",), caught_up=True, now_ms=NOON, monotonic=400.0 + STABLE_SECONDS)
    assert settling.first_caught_up == 100.0


@pytest.mark.parametrize(
    ("seconds_after_midnight", "is_final"),
    [(0.0, False), (MIDNIGHT_SECONDS - 0.1, False), (MIDNIGHT_SECONDS, True), (86_399.9, True)],
)
def test_no_answer_is_final_right_after_midnight(seconds_after_midnight: float, is_final: bool) -> None:
    settling = Settling(0.0)
    now = NOON - DAY_MS // 2 + int(seconds_after_midnight * 1_000)
    settling.observe(("a",), caught_up=True, now_ms=now, monotonic=0.0)
    assert settling.observe(("a",), caught_up=True, now_ms=now, monotonic=STABLE_SECONDS) is is_final


def test_standing_still_with_work_left_is_a_stall() -> None:
    settling = Settling(100.0)
    assert not settling.stalled(99.9 + STALLED_SECONDS)
    # No answer at all from the start.
    assert settling.stalled(100.0 + STALLED_SECONDS)
    settling.observe(("a",), caught_up=False, now_ms=NOON, monotonic=300.0)
    assert not settling.stalled(299.9 + STALLED_SECONDS)
    assert settling.stalled(300.0 + STALLED_SECONDS)
    # All is done, only midnight is waited for.
    settling.observe(("a",), caught_up=True, now_ms=NOON, monotonic=400.0)
    assert not settling.stalled(400.0 + STALLED_SECONDS)


def test_two_instants_are_of_one_day_or_not() -> None:
    midnight = 20_000 * DAY_MS
    assert same_day(midnight, midnight + DAY_MS - 1)
    assert not same_day(midnight - 1, midnight)
