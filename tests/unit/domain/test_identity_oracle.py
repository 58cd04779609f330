"""Who is who, against brute force: calls in any order that name users, e-mails, anonymous and advertising ids."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.definitions import parse_definitions
from app.domain.simulation import Transition, simulate
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.identity_calls import FEW, MANY, definitions, digest, histories, line_of
from tests.unit.domain.identity_oracle import IdentityOracle, NamedCall
from tests.unit.domain.random_definitions import Defined

slow_enough = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def assert_simulate_agrees(defined: Defined, calls: list[NamedCall], further: int) -> None:
    parsed = parse_definitions(defined.documents)
    plan = compile_audiences(parsed.audiences, parsed.traits)
    oracle = IdentityOracle(defined.audiences, defined.traits, digest)
    until = max(named.call.received for named in calls) + further
    for named in calls:
        oracle.apply(named)
    oracle.move_clock(until)
    oracle.finish()
    result = list(simulate(plan, [line_of(named) for named in calls], until))
    assert result == [Transition(*item) for item in sorted(oracle.transitions)]


@slow_enough
@given(definitions, histories([FEW]), st.sampled_from([0, HOUR, 3 * DAY]))
def test_simulate_knows_who_is_who(defined: Defined, calls: list[NamedCall], further: int) -> None:
    assert_simulate_agrees(defined, calls, further)


@slow_enough
@given(definitions, histories([MANY], least=8, most=30), st.sampled_from([0, 3 * DAY]))
def test_simulate_keeps_the_limits(defined: Defined, calls: list[NamedCall], further: int) -> None:
    assert_simulate_agrees(defined, calls, further)
