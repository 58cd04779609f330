"""What the benchmark's verdicts stand on: the expected memberships, their comparison, percentiles and ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.domain.simulation import Transition, simulate
from app.errors import PermanentError
from tests.bench.audiences import MANY, Audiences, plan_of
from tests.bench.audiences import calls as audience_calls
from tests.bench.backlog import Expectation, Transitions, calls
from tests.bench.cluster import describe_difference
from tests.bench.due import Due
from tests.bench.latency import Latency
from tests.bench.memory import Memory, write_templates
from tests.bench.memory_process import check, empty_partitions, load, read_templates
from tests.bench.processes import AUDIENCES
from tests.bench.throughput import FAUST, LOOP, WORKER, Run, Throughput

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_thousand_audiences_are_about_other_events_but_three() -> None:
    plan = plan_of(MANY)
    assert len(plan.audiences) == MANY
    assert {audience.key for audience in plan.of_feed[plan.events["Order Completed"].feeds[0].id]} <= {
        "audience_0",
        "audience_1",
        "audience_2",
    }
    names = {event for event in plan.events if event != "Order Completed"}
    assert len(names) > 200
    for _, line in audience_calls(200):
        assert orjson.loads(line)["event"] == "Order Completed"
    assert not {use.name for use in plan.traits} & {"email", "plan", "logins"}


def test_what_is_left_with_many_audiences_is_the_median_of_the_rounds() -> None:
    # The second round met another process on the machine.
    assert Audiences(1, [1.0, 1.0, 2.0], [1.25, 4.0, 2.0]).ratio == 0.8


def test_people_of_the_memory_benchmark_are_there_as_if_their_calls_had_come(tmp_path: Path) -> None:
    """More of them than there are templates: whoever is a copy is somebody of their own."""
    file = tmp_path / "templates"
    write_templates(file, 3)
    templates = read_templates(file)
    partitions = empty_partitions()
    load(partitions, templates, 20)
    check(partitions, 20)
    assert sum(len(partition.states.resting) for partition in partitions) == 20
    assert sum(len(partition.states.forwarders) for partition in partitions) == 60
    # Five events, each counted by some audience.
    state = partitions[7].states.find("user_00000007")
    assert state is not None
    assert len({at for feed in state.feeds.values() for at in feed.instants}) == 5


def test_a_person_who_is_not_whole_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "templates"
    write_templates(file, 1)
    [(person, records)] = read_templates(file)
    partitions = empty_partitions()
    load(partitions, [(person, [*records[:3], records[0]])], 2)
    with pytest.raises(PermanentError):
        check(partitions, 2)


@pytest.mark.parametrize(("after", "met"), [(700_000_000, True), (700_000_001, False)])
def test_the_code_counts_as_memory_too(after: int, met: bool) -> None:
    assert Memory(1_000_000, 4_000_000, 80_000_000, after, 0).met is met


@pytest.mark.parametrize(("worst", "met"), [(1_000.0, True), (1_000.5, False)])
def test_nobody_may_leave_later_than_a_second(worst: float, met: bool) -> None:
    assert Due([1.0] * 999 + [worst]).met is met
