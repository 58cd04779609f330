"""Scopes that were refused close for all, and are then tried by one."""

from __future__ import annotations

from app.domain.scope_gates import PROBE_POLL, PROBE_TURN, Closed, ScopeGates


def test_a_scope_nobody_refused_is_open() -> None:
    assert ScopeGates().closed(["act_1", "app"], "a", 0.0) is None


def test_the_longest_wait_of_several_scopes_counts() -> None:
    gates = ScopeGates()
    gates.refused("act_1", 60.0, "account")
    gates.refused("app", 300.0, "app")
    assert gates.closed(["act_1", "app"], "a", 10.0) == Closed(290.0, "app")
    assert gates.closed(["act_1"], "a", 10.0) == Closed(50.0, "account")
    assert gates.closed(["act_2"], "a", 10.0) is None


def test_a_shorter_refusal_does_not_shorten_a_wait() -> None:
    gates = ScopeGates()
    gates.refused("app", 300.0, "long")
    gates.refused("app", 60.0, "short")
    assert gates.closed(["app"], "a", 0.0) == Closed(300.0, "short")


def test_after_the_wait_one_tries_and_the_others_wait_for_the_outcome() -> None:
    gates = ScopeGates()
    gates.refused("app", 60.0, "app")
    assert gates.closed(["app"], "a", 60.0) is None
    gates.enter(["app"], "a")
    assert gates.closed(["app"], "b", 60.0) == Closed(PROBE_POLL, "app")
    assert gates.closed(["app"], "a", 60.0) is None
    gates.succeeded(["app"])
    assert gates.closed(["app"], "b", 60.0) is None
    assert gates.strikes("app") == 0


def test_one_who_gives_up_without_an_answer_lets_another_try() -> None:
    gates = ScopeGates()
    gates.refused("app", 60.0, "app")
    gates.enter(["app"], "a")
    gates.leave("b")
    assert gates.closed(["app"], "b", 60.0) is not None
    gates.leave("a")
    assert gates.closed(["app"], "b", 60.0) is None


def test_refusals_in_a_row_are_counted() -> None:
    gates = ScopeGates()
    gates.refused("app", 60.0, "app")
    gates.enter(["app"], "a")
    gates.refused("app", 200.0, "again")
    assert gates.strikes("app") == 2
    assert gates.closed(["app"], "b", 199.0) == Closed(1.0, "again")


def test_a_rest_needs_nobody_to_try() -> None:
    gates = ScopeGates()
    gates.rest("app", 10.0, "near its limit")
    assert gates.closed(["app"], "a", 4.0) == Closed(6.0, "near its limit")
    gates.enter(["app"], "a")
    assert gates.closed(["app"], "b", 10.0) is None


def test_success_does_not_end_a_rest() -> None:
    gates = ScopeGates()
    gates.rest("app", 10.0, "near its limit")
    gates.succeeded(["app"])
    assert gates.closed(["app"], "a", 4.0) is not None


def test_failures_in_a_row_of_more_than_one_caller_close_a_scope() -> None:
    gates = ScopeGates()
    assert not any(gates.failed("act_1", "a", 3) for _ in range(5)), "it is a's own trouble"
    assert gates.failed("act_1", "b", 3)
    assert not gates.failed("act_2", "b", 3), "another scope"
    gates.succeeded(["act_1"])
    assert [gates.failed("act_1", caller, 3) for caller in ("a", "b", "a")] == [False, False, True]


def test_whoever_tries_and_fails_closes_it_again_and_lets_others_go_first() -> None:
    gates = ScopeGates()
    gates.refused("act_1", 60.0, "trouble", "a")
    gates.enter(["act_1"], "b")
    assert gates.failed("act_1", "b", 99)
    gates.refused("act_1", 120.0, "trouble", "b")
    assert gates.closed(["act_1"], "c", 120.0) is None
    for caller in ("a", "b"):
        assert gates.closed(["act_1"], caller, 120.0) == Closed(PROBE_TURN, "trouble")
        assert gates.closed(["act_1"], caller, 120.0 + PROBE_TURN) is None
    gates.succeeded(["act_1"])
    gates.refused("act_1", 180.0, "trouble")
    assert gates.closed(["act_1"], "a", 180.0) is None
