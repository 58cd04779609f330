"""Forgetting people who have several identifiers in several partitions, at any moment: nothing is left of them, nothing
brings them back but what they do later, and then they are as somebody whom nobody knew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.forgetting import FORGOTTEN_KEY
from app.domain.state import owner_in
from tests.unit.domain.brute_force_values import DAY
from tests.unit.domain.identity_calls import histories, line_of, telling
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.identity_oracle import Identifier, NamedCall
from tests.unit.domain.random_definitions import START, Defined, instant
from tests.unit.domain.test_identity_cluster import PEOPLE, cluster_of, key_of

slow_enough = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
# Nothing before it is received later, and whatever happens afterwards is.
FORGOTTEN_AT = START + 16 * DAY


def request(profile: str) -> bytes:
    user = profile.removeprefix("user_id:")
    at = instant(FORGOTTEN_AT)
    return b'{"type": "delete", "userId": "%b", "receivedAt": "%b", "timestamp": "%b"}' % (
        user.encode(),
        at.encode(),
        at.encode(),
    )


def connected(calls: Iterable[NamedCall], first: Identifier) -> set[Identifier]:
    """All identifiers that these calls name together with it, or with one of those."""
    found, before = {first}, 0
    while len(found) != before:
        before = len(found)
        for named in calls:
            if found & set(named.names):
                found |= set(named.names)
    return found


def moved(calls: list[NamedCall], by: int) -> list[NamedCall]:
    """The same, so much later."""
    return [
        NamedCall(
            replace(
                named.call,
                received=named.call.received + by,
                timestamp=named.call.timestamp + by,
                message_id=f"later {named.call.message_id}",
            ),
            named.names,
        )
        for named in calls
    ]


def left_of(cluster: Cluster, profiles: set[str]) -> list[str]:
    """Where any of these stands in what compaction leaves of the changelog and the memberships."""
    found = [
        f"{profile} in {key!r}"
        for node in cluster.nodes
        for key, value in node.changelog.items()
        for profile in profiles
        if profile.encode() in key + value or raw(profile) in key + value
    ]
    found += [f"{one} of {audience}" for audience, one in cluster.memberships if one in profiles]
    return found


def raw(profile: str) -> bytes:
    """As states pack a hash; what is no hash is looked for as it is."""
    rest = profile.rpartition(":")[2]
    return bytes.fromhex(rest) if len(rest) == 64 else profile.encode()


def meddle(cluster: Cluster, draw: Any) -> None:
    for _ in range(draw(st.integers(0, 4))):
        number = draw(st.integers(0, len(cluster.nodes) - 1))
        what = draw(st.sampled_from(["step", "step", "commit", "crash"]))
        if what == "step":
            cluster.step(number, draw(st.integers(1, 9)))
        elif what == "commit":
            cluster.commit(number)
        else:
            cluster.crash(number)


def send(cluster: Cluster, calls: list[NamedCall], draw: Any) -> None:
    for named in calls:
        lane = draw(st.integers(0, len(cluster.lanes) - 1))
        cluster.call(lane, line_of(named), twice=draw(st.booleans()), forgetful=True)
        meddle(cluster, draw)


def finish(cluster: Cluster) -> None:
    cluster.settle()
    for lane in range(len(cluster.lanes)):
        cluster.marker(FORGOTTEN_AT + 100 * DAY, lane)
    cluster.settle()


@slow_enough
@given(
    telling(),
    histories(PEOPLE[:2], least=3, again=False),
    st.integers(1, 4),
    st.integers(1, 3),
    st.data(),
)
def test_nothing_is_left_of_a_person_and_nothing_late_brings_them_back(
    defined: Defined, history: list[NamedCall], partitions: int, lanes: int, data: st.DataObject
) -> None:
    cluster = cluster_of(defined, partitions, lanes)
    send(cluster, history, data.draw)
    cluster.settle()
    person = connected(history, ("user", "u1"))
    profiles = {key_of(identifier) for identifier in person}
    others = [named for named in history if not person & set(named.names)]
    cluster.call(data.draw(st.integers(0, lanes - 1)), request("u1"), twice=data.draw(st.booleans()))
    meddle(cluster, data.draw)
    late = [named for named in history if person & set(named.names)]
    send(cluster, late, data.draw)
    cluster.settle()
    gone = {delta.profile for delta in cluster.deltas if delta.cause == "forgotten"}
    assert gone <= profiles
    cluster.let_go()
    meddle(cluster, data.draw)
    cluster.settle()
    assert not left_of(cluster, profiles)
    # Of the others everything is as if the person had never been.
    finish(cluster)
    alone = cluster_of(defined, partitions, lanes)
    for named in others:
        alone.call(0, line_of(named), forgetful=True)
    finish(alone)
    assert members_of(cluster) == members_of(alone)
    facebook = cluster.facebook()
    for audience, values in alone.facebook().items():
        assert facebook[audience] == values, audience


@slow_enough
@given(
    telling(),
    histories(PEOPLE[:1], least=2, again=False),
    histories(PEOPLE[:1], least=1, again=False),
    st.integers(1, 4),
    st.integers(1, 3),
    st.data(),
)
def test_who_comes_back_is_as_somebody_whom_nobody_knew(
    defined: Defined,
    history: list[NamedCall],
    later: list[NamedCall],
    partitions: int,
    lanes: int,
    data: st.DataObject,
) -> None:
    later = moved(later, FORGOTTEN_AT - START + 2 * DAY)
    cluster = cluster_of(defined, partitions, lanes)
    # All of it is one person's, who is known by all of it.
    send(cluster, with_user(history), data.draw)
    cluster.settle()
    cluster.call(data.draw(st.integers(0, lanes - 1)), request("u1"))
    cluster.settle()
    if data.draw(st.booleans()):
        cluster.let_go()
    send(cluster, later, data.draw)
    cluster.settle()
    cluster.let_go()
    finish(cluster)
    fresh = cluster_of(defined, partitions, lanes)
    for named in later:
        fresh.call(0, line_of(named), forgetful=True)
    finish(fresh)
    assert members_of(cluster) == members_of(fresh)
    assert cluster.facebook() == fresh.facebook()


def with_user(history: list[NamedCall]) -> list[NamedCall]:
    return [
        NamedCall(named.call, [("user", "u1"), *(name for name in named.names if name[0] != "user")])
        for named in history
    ]


@slow_enough
@given(
    telling(),
    histories(PEOPLE[:2], least=3),
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(0, 13),
    st.data(),
)
def test_whenever_a_request_comes_nobody_is_left_waiting_or_led_nowhere(
    defined: Defined, history: list[NamedCall], partitions: int, lanes: int, place: int, data: st.DataObject
) -> None:
    cluster = cluster_of(defined, partitions, lanes)
    send(cluster, history[:place], data.draw)
    cluster.call(data.draw(st.integers(0, lanes - 1)), request("u1"))
    send(cluster, history[place:], data.draw)
    cluster.settle()
    cluster.let_go()
    finish(cluster)
    assert not left_of(cluster, {"u1"})
    for node in cluster.nodes:
        for key, value in node.changelog.items():
            if key.startswith(b"\x00"):
                assert not key.startswith(FORGOTTEN_KEY) or len(value) < 20, "it keeps a name"
                continue
            profile = key.decode()
            state = node.engine.states.find(profile)
            assert state is not None
            owner = owner_in(value)
            if owner is not None:
                last = cluster.owner(profile)
                assert cluster.nodes[cluster.partition_of(last)].engine.states.find(last) is not None, profile
            elif state.identity is not None:
                assert not state.identity.asking, "it waits for an answer for ever"
    members_of(cluster)


def members_of(cluster: Cluster) -> set[tuple[str, str]]:
    """By states; they agree with the newest deltas and with the counters."""
    newest = {key for key, delta in cluster.memberships.items() if delta.change != "exited"}
    states = {
        (cluster.plan.by_id[short].key, key.decode())
        for node in cluster.nodes
        for key, value in node.changelog.items()
        if not key.startswith(b"\x00") and owner_in(value) is None
        for short, membership in node.engine.states.find(key.decode()).memberships.items()  # type: ignore[union-attr]
        if membership.member
    }
    assert newest == states
    for audience in cluster.plan.audiences:
        counted = sum(node.engine.members(audience) for node in cluster.nodes)
        assert counted == sum(key == audience for key, _ in states)
    return states
