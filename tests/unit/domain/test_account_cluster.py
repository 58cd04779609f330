"""Accounts and users in several partitions: whatever comes first, twice, or again after a crash, the same accounts are
members in the end, and the same people are sent.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.definitions import parse_definitions
from tests.unit.domain.account_calls import line_of, timeless, with_groups
from tests.unit.domain.account_oracle import AccountOracle
from tests.unit.domain.brute_force_values import DAY
from tests.unit.domain.identity_calls import digest, histories
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.identity_oracle import NamedCall
from tests.unit.domain.random_definitions import Defined
from tests.unit.domain.test_identity_cluster import PEOPLE, key_of, run

slow_enough = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@slow_enough
@given(
    timeless,
    with_groups(histories(PEOPLE, least=6, again=False)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.randoms(),
    st.data(),
)
def test_the_same_accounts_are_members_whatever_the_order(
    defined: Defined,
    calls: list[NamedCall],
    partitions: int,
    lanes: int,
    random: Any,
    data: st.DataObject,
) -> None:
    until = max(named.call.received for named in calls) + 3 * DAY
    oracle = AccountOracle(defined.audiences, defined.traits, digest)
    for named in calls:
        oracle.apply(named)
    oracle.move_clock(until)
    oracle.finish()
    parsed = parse_definitions(defined.documents)
    cluster = Cluster(compile_audiences(parsed.audiences, parsed.traits), partitions, lanes)
    shuffled = list(calls)
    random.shuffle(shuffled)
    run(cluster, shuffled, until, data.draw, line_of)
    accounts = {(key, f"group_id:{account}") for key, account in oracle.members}
    people = {
        (key, cluster.owner(key_of(next(iter(person.since)))))
        for person in oracle.people
        for key in person.audiences
    }
    assert cluster.members() == accounts | people
    columns = {"user": "EXTERN_ID", "email": "EMAIL", "madid": "MADID"}
    for key, values in cluster.facebook().items():
        assert values == {
            (columns[kind], digest(value) if kind == "email" else value)
            for person in oracle.people
            if key in person.audiences
            for kind, value in person.since
            if kind in columns
        }
