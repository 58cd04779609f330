"""Who is who, against brute force: calls in any order that name users, e-mails, anonymous and advertising ids."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions
from app.domain.simulation import Transition, simulate
from tests.unit.domain.brute_force import DAY, HOUR
from tests.unit.domain.identity_calls import FEW, MANY, audiences, digest, document, histories, line_of
from tests.unit.domain.identity_oracle import IdentityOracle, NamedCall

slow_enough = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def assert_simulate_agrees(found: dict[str, dict[str, Any]], calls: list[NamedCall], further: int) -> None:
    plan = compile_audiences(parse_definitions([Document("a.yaml", document(found))]).audiences)
    oracle = IdentityOracle(found, digest)
    until = max(named.call.received for named in calls) + further
    for named in calls:
        oracle.apply(named)
    oracle.move_clock(until)
    oracle.finish()
    result = list(simulate(plan, [line_of(named) for named in calls], until))
    assert result == [Transition(*item) for item in sorted(oracle.transitions)]


@slow_enough
@given(audiences(), histories([FEW]), st.sampled_from([0, HOUR, 3 * DAY]))
def test_simulate_knows_who_is_who(
    found: dict[str, dict[str, Any]], calls: list[NamedCall], further: int
) -> None:
    assert_simulate_agrees(found, calls, further)


@slow_enough
@given(audiences(), histories([MANY], least=8, most=30), st.sampled_from([0, 3 * DAY]))
def test_simulate_keeps_the_limits(
    found: dict[str, dict[str, Any]], calls: list[NamedCall], further: int
) -> None:
    assert_simulate_agrees(found, calls, further)
