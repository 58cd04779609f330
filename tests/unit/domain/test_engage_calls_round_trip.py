"""Whoever reads the Engage calls of an installation, as calls of Engage, has the same members as that installation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.counters import Counters
from app.domain.definitions import parse_definitions
from app.domain.engage_calls import CALL_TYPES, EngageCalls
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from schemas.engage_call import EngageCall
from schemas.membership import Change, MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain import account_calls
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.engage_listener import EngageListener
from tests.unit.domain.identity_calls import FEW, MANY, definitions, histories
from tests.unit.domain.identity_calls import line_of as named_line_of
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.identity_oracle import NamedCall
from tests.unit.domain.random_cases import CASES, EARLY, line_of
from tests.unit.domain.random_definitions import START, Defined

slow_enough = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

types = st.sampled_from(["identify", "track", "both"]).map(CALL_TYPES.__getitem__)


def transitions(deltas: list[MembershipDelta]) -> list[tuple[int, str, str, bool]]:
    """Those that are left of each instant, a run of equal `at`, when the state before is compared with that after."""
    found: list[tuple[int, str, str, bool]] = []
    for delta in deltas:
        if delta.change is Change.UPDATED:
            continue
        change = (delta.at, delta.audience, delta.profile, delta.change is Change.ENTERED)
        opposite = (*change[:3], not change[3])
        if opposite in found:
            found.remove(opposite)
        else:
            found.append(change)
    return sorted(found)


@pytest.mark.parametrize("kind", CASES)
@slow_enough
@given(
    data=st.data(),
    early=st.sampled_from([0, EARLY]),
    told=types,
    what=st.lists(st.sampled_from(["go on", "drain", "restart"]), min_size=13, max_size=13),
)
def test_the_members_are_the_same(
    kind: str, data: st.DataObject, early: int, told: tuple[str, ...], what: list[str]
) -> None:
    case = data.draw(CASES[kind])
    parsed = parse_definitions(case.defined.documents)
    plan = compile_audiences(parsed.audiences, parsed.traits)
    log: dict[bytes, bytes] = {}

    def started() -> AudiencePartition:
        calls = EngageCalls("shop", told, early)
        partition = AudiencePartition(plan, early, Counters(), START, calls=calls)
        for key, value in log.items():
            partition.load(key, value)
        partition.finish_recovery()
        partition.set_wall(2**50)
        partition.set_expected(["lane"])
        return partition

    partition, resolver = started(), Resolver(plan, ResolveOptions())
    listener = EngageListener(case.defined.audiences)
    members: set[tuple[str, str]] = set()
    deltas: list[MembershipDelta] = []
    ids: list[str] = []

    def commit() -> None:
        outcome = partition.drain()
        log.update(outcome.states)
        deltas.extend(outcome.deltas)
        for delta in outcome.deltas:
            (members.discard if delta.change is Change.EXITED else members.add)(
                (delta.audience, delta.profile)
            )
        ids.extend(call.message_id for _, call in outcome.calls)
        about_memberships = [item for item in outcome.calls if is_of_audience(item[1])]
        assert len(about_memberships) == len(outcome.deltas) * len(told)
        listener.hear(about_memberships)
        assert listener.members == members

    until = max((call.received for call in case.calls), default=START) + data.draw(
        st.sampled_from([0, HOUR, 3 * DAY])
    )
    for offset, (call, then) in enumerate(zip(case.calls, what, strict=False)):
        resolution = resolver.resolve(line_of(call), None, 2**50, "lane", offset)
        assert resolution.received is not None
        for profile, event in resolution.records:
            partition.apply(profile, event)
        partition.apply_marker(marker(resolution.received))
        if then != "go on":
            commit()
        if then == "restart":
            partition = started()
    partition.apply_marker(marker(until))
    commit()
    assert len(set(ids)) == len(ids)
    if not early:
        assert transitions(listener.deltas) == transitions(deltas)


def is_of_audience(call: EngageCall) -> bool:
    return bool(call.context["personas"]["computation_class"] == "audience")


def marker(instant: int) -> ProfileEvent:
    return ProfileEvent(VERSION, MARKER, "lane", 0, 0, instant, instant, progress={"lane": instant})


@slow_enough
@given(
    definitions,
    histories([FEW, MANY]),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
    types,
)
def test_the_members_are_the_same_where_people_have_several_identifiers(
    defined: Defined, calls: list[NamedCall], partitions: int, random: Any, told: tuple[str, ...]
) -> None:
    """In the end, as the calls of two partitions come in no order."""
    parsed = parse_definitions(defined.documents)
    cluster = Cluster(compile_audiences(parsed.audiences, parsed.traits), partitions, 1, told)
    assert_same_members(defined, cluster, [named_line_of(named) for named in calls], random)


@slow_enough
@given(
    account_calls.timeless,
    account_calls.with_groups(histories([FEW, MANY], least=6)),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
    types,
)
def test_the_people_of_accounts_are_the_same(
    defined: Defined, calls: list[NamedCall], partitions: int, random: Any, told: tuple[str, ...]
) -> None:
    """Of the accounts themselves nothing is said."""
    parsed = parse_definitions(defined.documents)
    cluster = Cluster(compile_audiences(parsed.audiences, parsed.traits), partitions, 1, told)
    assert_same_members(defined, cluster, [account_calls.line_of(named) for named in calls], random)


def assert_same_members(defined: Defined, cluster: Cluster, lines: list[bytes], random: Any) -> None:
    for line in lines:
        cluster.call(0, line)
        number = random.randrange(len(cluster.nodes))
        random.choice([cluster.commit, cluster.crash, lambda one: cluster.step(one, 3)])(number)
    cluster.settle()
    listener = EngageListener(defined.audiences)
    told_by_partition = [list(node.calls) for node in cluster.nodes]
    while any(told_by_partition):
        waiting = random.choice([one for one in told_by_partition if one])
        item = waiting.pop(0)
        if is_of_audience(item[1]):
            listener.hear([item])
    assert {item for item in listener.members if not item[1].startswith("madid:")} == {
        item for item in cluster.members() if not item[1].startswith(("madid:", "group_id:"))
    }
