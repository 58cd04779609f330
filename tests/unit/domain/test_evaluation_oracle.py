"""The engine against brute force: random definitions, and calls that come late, early, twice and out of order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import parse_definitions
from app.domain.partition import AudiencePartition
from app.domain.plan import Plan
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import Transition, simulate
from schemas.membership import Change
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.brute_force import Oracle
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.random_cases import CASES, EARLY, line_of
from tests.unit.domain.random_definitions import START, Defined

slow_enough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
of_each_kind = pytest.mark.parametrize("kind", CASES)


def compiled(defined: Defined) -> Plan:
    definitions = parse_definitions(defined.documents)
    return compile_audiences(definitions.audiences, definitions.traits)


@of_each_kind
@slow_enough
@given(st.data(), st.sampled_from([0, 1, HOUR, 3 * DAY]))
def test_simulate_makes_the_transitions_of_brute_force(kind: str, data: st.DataObject, further: int) -> None:
    case = data.draw(CASES[kind])
    plan = compiled(case.defined)
    oracle = Oracle(case.defined.audiences, case.defined.traits)
    until = max((call.received for call in case.calls), default=START) + further
    for call in case.calls:
        oracle.apply(call)
    oracle.move_clock(until)
    result = list(simulate(plan, [line_of(call) for call in case.calls], until))
    assert result == [Transition(*item) for item in oracle.netted()]


@of_each_kind
@slow_enough
@given(
    st.data(),
    st.sampled_from([0, EARLY]),
    st.lists(st.sampled_from(["go on", "drain", "restart", "redeliver"]), min_size=12, max_size=12),
)
def test_memberships_survive_restarts_and_redelivery(
    kind: str, data: st.DataObject, early: int, what: list[str]
) -> None:
    """After every record the memberships are those of brute force, whatever happened between them.

    Audiences without history stay applied when they were first, though each restart is at a later time.
    """
    case = data.draw(CASES[kind])
    plan = compiled(case.defined)
    resolver = Resolver(plan, ResolveOptions())
    applied = START + HOUR
    oracle = Oracle(case.defined.audiences, case.defined.traits, early, applied)
    partition = AudiencePartition(plan, early, Counters(), applied)
    partition.finish_recovery()
    partition.set_wall(2**50)
    partition.set_expected(["lane"])
    log: dict[bytes, bytes] = {}
    members: dict[tuple[str, str], int] = {}
    for offset, (call, then) in enumerate(zip(case.calls, what, strict=False)):
        oracle.apply(call)
        resolution = resolver.resolve(line_of(call), None, 2**50, "lane", offset)
        for _ in range(2 if then == "redeliver" else 1):
            for profile, event in resolution.records:
                # What the broker brings is what was encoded.
                partition.apply(profile, msgspec.convert(msgspec.to_builtins(event), type(event)))
        assert resolution.received is not None
        received = resolution.received
        partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "lane", 0, 0, received, received, progress={"lane": received})
        )
        if then in ("drain", "restart"):
            outcome = partition.drain()
            log.update(outcome.states)
            for delta in outcome.deltas:
                key = (delta.audience, delta.profile.removeprefix("anonymous_id:"))
                assert delta.change is not Change.UPDATED
                assert (key in members) is (delta.change is Change.EXITED)
                members.pop(key, None)
                if delta.change is Change.ENTERED:
                    members[key] = delta.sequence
            assert members.keys() == oracle.members
            for name in case.defined.audiences:
                assert partition.members(name) == sum(audience == name for audience, _ in oracle.members)
        if then == "restart":
            applied += HOUR
            partition = AudiencePartition(plan, early, Counters(), applied)
            for key_bytes, value in log.items():
                partition.load(key_bytes, value)
            partition.finish_recovery()
            partition.set_wall(2**50)
            partition.set_expected(["lane"])
