"""Which audiences are asked of a profile: those that what is known of it can decide, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain import merging, plan, profile_evaluation
from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import parse_definitions
from app.domain.evaluation import evaluate
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.rows import is_identified
from tests.unit.domain.plans import DAY, FACEBOOK, FAR_WALL, HOUR, plan_of
from tests.unit.domain.random_cases import CASES, line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.evaluation import Instant
    from app.domain.plan import CompiledAudience
    from app.domain.state import ProfileState
    from schemas.membership import Cause, MembershipDelta


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_who_is_not_asked_could_say_nothing_else(kind: str, data: st.DataObject) -> None:
    case = data.draw(CASES[kind])
    definitions = parse_definitions(case.defined.documents)
    engine = AudiencePartition(compile_audiences(definitions.audiences, definitions.traits), 0, Counters())
    engine.finish_recovery()
    engine.set_wall(FAR_WALL)
    engine.set_expected(["lane"])
    resolver = Resolver(engine.plan, ResolveOptions())
    for number, call in enumerate(case.calls):
        for profile, event in resolver.resolve(line_of(call), None, 2**50, "lane", number).records:
            engine.apply(profile, event)
    now = engine.clock.now or 0
    engine.drain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_FEW", 0)
        for profile in [key.decode() for key in engine.states.resting]:
            state = engine.copy_of(profile)
            assert state is not None
            asked = engine.plan.concerning(state)
            assert [one.rank for one in asked] == sorted(one.rank for one in asked)
            for audience in engine.plan.audiences.values():
                if audience in asked:
                    continue
                assert audience.id not in state.memberships
                may_be = audience.enabled and (is_identified(profile, state) or audience.include_anonymous)
                for instant in (now, now + 1, now + HOUR, now + DAY, now + 40 * DAY):
                    assert not (may_be and not audience.claimed and audience.holds(state, instant, instant))


def test_of_many_audiences_only_those_that_may_change_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def noted(
        profile: str,
        state: ProfileState,
        audiences: Iterable[CompiledAudience],
        instant: Instant,
        cause: Cause,
    ) -> list[MembershipDelta]:
        group = tuple(audiences)
        asked.append({audience.key for audience in group})
        return evaluate(profile, state, group, instant, cause)

    monkeypatch.setattr(profile_evaluation, "evaluate", noted)
    monkeypatch.setattr(merging, "evaluate", noted)
    many = plan_of(
        *({"key": f"other_{n}", "when": {"event": f"Event {n}"}, "facebook": FACEBOOK} for n in range(200)),
        *(
            {"key": f"trait_{n}", "when": {"trait": f"t{n}", "equals": 1}, "facebook": FACEBOOK}
            for n in range(200)
        ),
        {"key": "ordered", "when": {"event": "Order Completed"}, "facebook": FACEBOOK},
        {"key": "unhappy", "when": {"not": {"event": "Event 0"}}, "facebook": FACEBOOK},
    )
    engine = AudiencePartition(many, 0, Counters())
    engine.finish_recovery()
    engine.set_wall(FAR_WALL)
    engine.set_expected(["lane"])
    resolver = Resolver(many, ResolveOptions())

    def call(number: int, **fields: object) -> None:
        line = {"timestamp": "2026-01-01T00:00:00Z", "event": "Order Completed", "type": "track", **fields}
        for profile, event in resolver.resolve(orjson.dumps(line), None, 2**50, "lane", number).records:
            engine.apply(profile, event)

    call(1, anonymousId="a")
    call(2, anonymousId="a", type="identify", traits={"email": "a@example.com", "t7": 1})
    call(3, anonymousId="a", userId="u")
    engine.drain()
    assert engine.states.is_member("ordered", "u")
    assert engine.states.is_member("trait_7", "u")
    assert engine.states.is_member("unhappy", "u")
    assert max(len(group) for group in asked) == 3
    assert {"ordered", "unhappy", "trait_7"} in asked
    state = engine.copy_of("u")
    assert state is not None
    assert {audience.key for audience in many.concerning(state)} == {"ordered", "unhappy", "trait_7"}
