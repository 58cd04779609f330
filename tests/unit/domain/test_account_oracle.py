"""Audiences of accounts against brute force, by way of `simulate`."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.definitions import parse_definitions
from app.domain.simulation import Transition, simulate
from tests.unit.domain.account_calls import definitions, line_of, with_groups
from tests.unit.domain.account_oracle import AccountOracle
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.identity_calls import FEW, digest, histories
from tests.unit.domain.identity_oracle import NamedCall
from tests.unit.domain.random_definitions import Defined

slow_enough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@slow_enough
@given(definitions, with_groups(histories([FEW], least=6)), st.sampled_from([0, HOUR, 3 * DAY]))
def test_simulate_knows_accounts_by_their_users(
    defined: Defined, calls: list[NamedCall], further: int
) -> None:
    parsed = parse_definitions(defined.documents)
    plan = compile_audiences(parsed.audiences, parsed.traits)
    oracle = AccountOracle(defined.audiences, defined.traits, digest)
    until = max(named.call.received for named in calls) + further
    for named in calls:
        oracle.apply(named)
    oracle.move_clock(until)
    oracle.finish()
    result = list(simulate(plan, [line_of(named) for named in calls], until))
    assert result == [Transition(*item) for item in sorted(oracle.transitions)]
