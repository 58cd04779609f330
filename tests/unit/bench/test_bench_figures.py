"""What the benchmark's verdicts stand on: the expected memberships, their comparison, percentiles and ratios."""

from __future__ import annotations

import pytest

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.domain.simulation import Transition, simulate
from tests.bench.backlog import Expectation, Transitions, calls
from tests.bench.cluster import describe_difference
from tests.bench.latency import Latency
from tests.bench.processes import AUDIENCES
from tests.bench.throughput import FAUST, LOOP, WORKER, Run, Throughput

LAST_MS = 1_700_000_000_000


def test_expectation_is_what_the_definitions_say() -> None:
    expectation = Expectation()
    lines = [line for _, line in calls(3_000, 100, LAST_MS, expectation)]
    plan = compile_audiences(read_definitions(AUDIENCES).audiences)
    found: Transitions = {}
    for item in simulate(plan, lines):
        assert isinstance(item, Transition)
        found.setdefault((item.audience, item.profile), []).append(item.member)
    assert found == expectation.transitions
    # Every audience has members, and somebody is left out of each but the first.
    sizes = {
        key: sum(audience == key for audience, _ in found)
        for key in ("has_ordered", "big_spender", "hat_lover")
    }
    assert 0 < sizes["hat_lover"] < 100
    assert 0 < sizes["big_spender"] < 100
    assert sizes["has_ordered"]


def test_events_are_the_same_every_time_and_of_the_size_that_is_named() -> None:
    first, second = (list(calls(500, 50, LAST_MS, Expectation())) for _ in range(2))
    assert first == second
    assert 740 < sum(len(line) for _, line in first) / len(first) < 800


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        pytest.param({("a", "1"): [True]}, None, id="the same"),
        pytest.param({}, "1 are missing", id="a membership is missing"),
        pytest.param({("a", "1"): [True], ("a", "2"): [True]}, "1 are wrong", id="one too many"),
        pytest.param({("a", "1"): [True, False, True]}, "1 did not come about in one step", id="a flap"),
        pytest.param({("a", "1"): [True, True]}, "1 did not come about in one step", id="written twice"),
        pytest.param({("a", "1"): [False]}, "1 did not come about in one step", id="an exit"),
    ],
)
def test_every_difference_is_noticed(found: Transitions, difference: str | None) -> None:
    described = describe_difference(found, {("a", "1"): [True]})
    assert (described is None) == (difference is None)
    assert (difference or "") in (described or "")


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 150, id="half of 300"),
        pytest.param(99, 297, id="three are worse"),
        pytest.param(100, 300, id="the worst"),
        pytest.param(0.1, 1, id="rounded up to one"),
    ],
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    assert Latency([float(value) for value in range(300, 0, -1)]).percentile(percent) == expected


def test_ratios_compare_runs_of_one_round() -> None:
    def run(system: str, seconds: float) -> Run:
        return Run(system, 1_000, seconds, None, None)

    # The machine is ten times slower in the second round; the third is out of the ordinary for the loop alone.
    runs = [run(WORKER, 2), run(LOOP, 1), run(LOOP, 10), run(WORKER, 20), run(WORKER, 2), run(LOOP, 4)]
    assert Throughput(runs).ratio(LOOP) == 0.5
    assert Throughput(runs).rates(FAUST) == []
