"""Forgetting people while anything happens in any order: of each membership the newest record alone has to do."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE, USER, kind_of
from app.domain.rows import rows_of
from app.domain.state import decode_state, owner_in
from schemas.membership import Change
from tests.unit.domain.brute_force_values import DAY, HOUR
from tests.unit.domain.forgetting_world import USERS, Sent, anything, line, values_of
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.random_definitions import START, Defined
from tests.unit.domain.test_forgetting_cluster import left_of
from tests.unit.domain.test_identity_cluster import cluster_of

RANKS = {USER: 0, EMAIL: 1, ANONYMOUS: 2, MOBILE: 3}

SHOP = Defined(
    {
        "ever": {"when": {"event": "A", "within": "30d"}, "include_anonymous": True},
        "once": {"when": {"event": "A", "count": {"exactly": 1}}, "include_anonymous": True},
        "never": {"when": {"not": {"event": "B", "within": "1d"}}},
    }
)


@settings(max_examples=350, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_nobody_who_was_forgotten_is_left_whatever_was_under_way(random: Random) -> None:
    live(random)


@pytest.mark.parametrize("seed", [9733, 11295, 12020, 13962])
def test_no_removal_takes_the_place_of_one_that_has_not_been_read(seed: int) -> None:
    """The identifier had left by itself, and then somebody else's state came back to it with the request."""
    live(Random(seed))


@pytest.mark.parametrize("seed", [1251, 3588, 32641])
def test_no_answer_to_what_was_asked_before_erases_what_is_somebody_elses_by_now(seed: int) -> None:
    """The person has been forgotten twice since; forwarders led to the identifier, and then to nobody."""
    live(Random(seed))


def begun(defined: Defined) -> tuple[Cluster, Sent, int]:
    """Three partitions, all clocks of which have started now."""
    cluster = cluster_of(defined, 3, 2)
    for lane in (0, 1):
        cluster.marker(START, lane)
    cluster.settle()
    return cluster, Sent(cluster), START


def anything_or_delete(random: Random, share: float) -> dict[str, Any]:
    """A call, and so often somebody is forgotten."""
    if random.random() < share:
        return {"type": "delete", "userId": random.choice(USERS)}
    return anything(random)


def live(random: Random) -> None:
    cluster, sent, now = begun(SHOP)
    requests = [{"type": "delete", "userId": user} for user in random.sample(USERS, random.randrange(3))]
    for number in range(40):
        now += random.choice([1, 1_000, HOUR])
        call = anything_or_delete(random, 0.08)
        if number >= 40 - len(requests):
            call = requests[number - 40]
        cluster.call(random.randrange(2), line(now, **call), forgetful=True)
        meddle(cluster, sent, random)
    for _ in range(3):
        cluster.settle()
        sent.let_go()
        now += DAY // 8
        for lane in (0, 1):
            cluster.marker(now, lane)
    assert_only_members_are_there(cluster, sent)
    assert_everybody_is_led_to_somebody(cluster)
    assert not left_of(cluster, {request["userId"] for request in requests})


def meddle(cluster: Cluster, sent: Sent, random: Random) -> None:
    for _ in range(random.randrange(4)):
        number, what = random.randrange(3), random.random()
        if what < 0.5:
            cluster.step(number, random.randrange(1, 6))
        elif what < 0.85:
            cluster.commit(number)
        elif what < 0.97:
            cluster.crash(number)
        else:
            sent.let_go()
    if random.random() < 0.1:
        cluster.settle()


def assert_only_members_are_there(cluster: Cluster, sent: Sent) -> None:
    """Whether each change is read or the newest ones alone."""
    wanted = values_of_members(cluster)
    everything = {(audience, *value) for audience, found in cluster.facebook().items() for value in found}
    assert everything <= wanted
    assert sent.values <= wanted


def values_of_members(cluster: Cluster) -> set[tuple[str, str, str]]:
    members = [delta for delta in cluster.memberships.values() if delta.change is not Change.EXITED]
    return set().union(*map(values_of, members))


def assert_everybody_is_led_to_somebody(cluster: Cluster) -> None:
    for node in cluster.nodes:
        for key, value in node.changelog.items():
            if key.startswith(b"\x00"):
                continue
            profile, owner = key.decode(), owner_in(value)
            if owner is not None:
                assert RANKS[kind_of(owner)] <= RANKS[kind_of(profile)], (
                    f"{profile} has become part of {owner}"
                )
                last = cluster.owner(profile)
                assert cluster.nodes[cluster.partition_of(last)].engine.states.find(last) is not None, profile
                continue
            state = node.engine.states.find(profile)
            assert state is not None
            if state.identity is not None:
                assert profile in state.identity.aliases
                assert not state.identity.asking, "it waits for an answer for ever"


# --- definitions that come and go meanwhile ---

# One of the audiences may be absent.
SHOPS = [
    SHOP,
    *(
        Defined({key: audience for key, audience in SHOP.audiences.items() if key != gone})
        for gone in SHOP.audiences
    ),
]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_nobody_who_was_forgotten_is_left_in_an_audience_that_was_absent(random: Random) -> None:
    live_through_definitions(random)


@pytest.mark.parametrize("seed", [68, 92])
def test_an_absent_audience_lets_go_of_the_forgotten_when_it_is_back(seed: int) -> None:
    live_through_definitions(Random(seed))


def live_through_definitions(random: Random) -> None:
    cluster, sent, now = begun(SHOP)
    for _ in range(40):
        now += random.choice([1, 1_000, HOUR])
        call = anything_or_delete(random, 0.12)
        cluster.call(random.randrange(2), line(now, **call), forgetful=True)
        meddle(cluster, sent, random)
        if random.random() < 0.04:
            cluster.define(cluster_of(random.choice(SHOPS), 1, 1).plan)
    cluster.define(cluster_of(SHOP, 1, 1).plan)
    for _ in range(4):
        now += DAY // 8
        for lane in (0, 1):
            cluster.marker(now, lane)
        cluster.settle()
        sent.let_go()
    assert sent.values <= values_of_members(cluster)
    assert not any(node.engine.forgotten.removals for node in cluster.nodes)


# --- destinations that hear of no exits ---

_UPSERT = {"ad_account_id": "act_1", "sync_mode": "upsert"}
KEEPING = Defined(
    {
        "ever": {
            "when": {"event": "A", "within": "2h"},
            "include_anonymous": True,
            "facebook": _UPSERT,
        },
        "once": {
            "when": {"event": "A", "count": {"exactly": 1}},
            "include_anonymous": True,
            "facebook": [_UPSERT, {"ad_account_id": "act_2"}],
        },
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_nobody_who_was_forgotten_is_left_where_exits_are_not_told(random: Random) -> None:
    live_where_exits_are_not_told(random)


@pytest.mark.parametrize("seed", [171])
def test_whoever_had_left_before_a_merge_is_removed(seed: int) -> None:
    live_where_exits_are_not_told(Random(seed))


def live_where_exits_are_not_told(random: Random) -> None:
    """In the end all users are forgotten: only what is known of somebody else may be left."""
    cluster, sent, now = begun(KEEPING)
    for _ in range(40):
        now += random.choice([1, 1_000, HOUR])
        call = anything_or_delete(random, 0.1)
        cluster.call(random.randrange(2), line(now, **call), forgetful=True)
        meddle(cluster, sent, random)
    for user in USERS:
        cluster.call(0, line(now + 1, type="delete", userId=user), forgetful=True)
    for _ in range(4):
        now += DAY // 8
        for lane in (0, 1):
            cluster.marker(now, lane)
        cluster.settle()
        sent.let_go()
    assert {value for _, _, value in sent.values} <= known_values(cluster)


def known_values(cluster: Cluster) -> set[str]:
    return {
        str(value)
        for node in cluster.nodes
        for key, encoded in node.changelog.items()
        if not key.startswith(b"\x00") and owner_in(encoded) is None
        for row in rows_of(key.decode(), decode_state(encoded))
        for value in row.values()
    }
