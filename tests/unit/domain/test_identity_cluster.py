"""Who is who in several partitions: whatever comes first, twice, late, or again after a crash, the same people are
members in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.conditions import compile_audiences
from app.domain.definitions import parse_definitions
from app.domain.identity import all_aliases
from tests.unit.domain.brute_force import Call
from tests.unit.domain.brute_force_values import DAY
from tests.unit.domain.identity_calls import (
    FEW,
    MANY,
    advertising_id,
    definitions,
    digest,
    histories,
    line_of,
)
from tests.unit.domain.identity_cluster import Cluster
from tests.unit.domain.identity_oracle import Identifier, IdentityOracle, NamedCall
from tests.unit.domain.random_definitions import START, Defined

slow_enough = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

# Nobody's identifiers are anybody else's, and nobody has too many: then the order of calls cannot matter.
PEOPLE: list[list[Identifier]] = [
    [
        ("user", "u1"),
        ("email", "e1"),
        ("anon", "a1"),
        ("anon", "a2"),
        ("madid", advertising_id(1)),
        ("email", "e2"),
    ],
    [
        ("user", "u2"),
        ("anon", "a3"),
        ("anon", "a4"),
        ("anon", "a5"),
        ("madid", advertising_id(2)),
        ("email", "e3"),
    ],
    [
        ("email", "e4"),
        ("email", "e5"),
        ("anon", "a6"),
        ("madid", advertising_id(3)),
        ("madid", advertising_id(4)),
        ("anon", "a7"),
    ],
    [("anon", "a8"), ("anon", "a9"), ("madid", advertising_id(5))],
]


def key_of(identifier: Identifier) -> str:
    """How the worker writes it."""
    kind, value = identifier
    if kind == "user":
        return value
    return {"email": f"email:{digest(value)}", "anon": f"anonymous_id:{value}"}.get(kind, f"madid:{value}")


def cluster_of(defined: Defined, partitions: int, lanes: int) -> Cluster:
    parsed = parse_definitions(defined.documents)
    return Cluster(compile_audiences(parsed.audiences, parsed.traits), partitions, lanes)


def run(
    cluster: Cluster,
    calls: list[NamedCall],
    until: int,
    draw: Any,
    line_of: Callable[[NamedCall], bytes] = line_of,
) -> None:
    """Calls on the lanes in order; what happens between them is drawn."""
    partitions, lanes = len(cluster.nodes), len(cluster.lanes)
    for named in calls:
        how = draw(st.sampled_from(["", "", "", "twice", "forgetful"]))
        # A lane has the calls of each person in order, as a source that is keyed by person would; or not.
        lane = draw(st.integers(0, lanes - 1))
        cluster.call(lane, line_of(named), twice=how == "twice", forgetful=how == "forgetful")
        for _ in range(draw(st.integers(0, 3))):
            number = draw(st.integers(0, partitions - 1))
            what = draw(st.sampled_from(["step", "step", "commit", "crash"]))
            if what == "step":
                cluster.step(number, draw(st.integers(1, 9)))
            elif what == "commit":
                cluster.commit(number)
            else:
                cluster.crash(number)
    cluster.settle()
    for lane in range(lanes):
        cluster.marker(until, lane)
    cluster.settle()


@slow_enough
@given(
    definitions,
    histories(PEOPLE, least=4, again=False),
    st.integers(1, 5),
    st.integers(1, 3),
    st.randoms(),
    st.data(),
)
def test_the_same_people_are_members_whatever_the_order(
    defined: Defined,
    calls: list[NamedCall],
    partitions: int,
    lanes: int,
    random: Any,
    data: st.DataObject,
) -> None:
    until = max(named.call.received for named in calls) + 3 * DAY
    oracle = IdentityOracle(defined.audiences, defined.traits, digest)
    for named in calls:
        oracle.apply(named)
    oracle.move_clock(until)
    oracle.finish()
    cluster = cluster_of(defined, partitions, lanes)
    shuffled = list(calls)
    random.shuffle(shuffled)
    run(cluster, shuffled, until, data.draw)
    owners = {key_of(name): cluster.owner(key_of(name)) for person in oracle.people for name in person.since}
    for person in oracle.people:
        assert len({owners[key_of(name)] for name in person.since}) == 1, "all of them lead to one profile"
    assert len(set(owners.values())) == len(oracle.people)
    expected = {
        (audience, owners[key_of(next(iter(person.since)))])
        for person in oracle.people
        for audience in person.audiences
    }
    assert cluster.members() == expected
    assert_facebook_has_the_members(cluster, oracle)


def assert_facebook_has_the_members(cluster: Cluster, oracle: IdentityOracle) -> None:
    columns = {"user": "EXTERN_ID", "email": "EMAIL", "madid": "MADID"}
    for audience, values in cluster.facebook().items():
        expected = {
            (columns[kind], digest(value) if kind == "email" else value)
            for person in oracle.people
            if audience in person.audiences
            for kind, value in person.since
            if kind in columns
        }
        assert values == expected


@slow_enough
@given(
    definitions,
    histories([FEW, MANY], least=5, most=30),
    st.integers(2, 5),
    st.integers(1, 3),
    st.randoms(),
    st.data(),
)
def test_identifiers_that_people_share_make_no_ring_and_no_profile_of_two_users(
    defined: Defined,
    calls: list[NamedCall],
    partitions: int,
    lanes: int,
    random: Any,
    data: st.DataObject,
) -> None:
    """Who gets what is a matter of order; that there is one owner of each is not.

    A profile that ends while it waits for an answer brings one more identifier than was counted: nothing but a second
    user id is sure to be refused then.
    """
    cluster = cluster_of(defined, partitions, lanes)
    shuffled = list(calls)
    random.shuffle(shuffled)
    run(cluster, shuffled, max(named.call.received for named in calls) + DAY, data.draw)
    cluster.members()
    owned: dict[str, list[Identifier]] = {}
    for name in {name for named in calls for name in named.names}:
        owned.setdefault(cluster.owner(key_of(name)), []).append(name)
    for names in owned.values():
        kinds = [kind for kind, _ in names]
        assert kinds.count("user") <= 1
        assert max(map(kinds.count, kinds)) <= 2 * 5


@pytest.mark.parametrize("beside", [("user", "u1"), ("madid", advertising_id(1)), ("email", "e1")])
@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_a_burst_of_new_identifiers_finds_no_more_room_than_there_is(
    beside: Identifier, partitions: int
) -> None:
    """All of them come before any profile has answered another."""
    cluster = cluster_of(
        Defined({"audience": {"when": {"event": "A"}, "include_anonymous": True}}), partitions, 1
    )
    for number in range(12):
        names = [beside, ("anon", f"a{number}")]
        call = Call("track", "", START + number, START + number, f"m{number}", event="A")
        cluster.call(0, line_of(NamedCall(call, names)))
    cluster.settle()
    together = [
        number
        for number in range(12)
        if cluster.owner(f"anonymous_id:a{number}") == cluster.owner(key_of(beside))
    ]
    assert len(together) == 5
    alone = 12 - 5 if beside[0] == "madid" else 0
    assert len(cluster.members()) == 1 + alone


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_who_is_refused_goes_on_asking_for_others(partitions: int) -> None:
    """Twelve devices' ids want to a user who has room for five; those left over are linked to something else then."""
    cluster = cluster_of(Defined({"audience": {"when": {"event": "A"}}}), partitions, 1)
    pairs: list[list[Identifier]] = [[("user", "u1"), ("madid", advertising_id(1))]]
    pairs += [[("anon", f"a{number}"), ("madid", advertising_id(1))] for number in range(12)]
    rounds = [
        pairs,
        [[("anon", f"a{number}"), ("madid", advertising_id(100 + number))] for number in range(12)],
    ]
    for number, names in enumerate(name for one in rounds for name in [*one, None]):
        if names is None:
            cluster.settle()
            continue
        call = Call("page", "", START + number, START + number, f"m{number}")
        cluster.call(0, line_of(NamedCall(call, names)))
    for number in range(12):
        device, owner = map(
            cluster.owner, (f"madid:{advertising_id(100 + number)}", f"anonymous_id:a{number}")
        )
        # The user has room for four more devices, too.
        assert owner in (device, "u1")
    assert sum(cluster.owner(f"anonymous_id:a{number}") == "u1" for number in range(12)) == 5
    assert sum(cluster.owner(f"madid:{advertising_id(100 + number)}") == "u1" for number in range(12)) == 4


def test_profiles_that_ask_each_other_at_once_become_one() -> None:
    """Each of three is asked for by another, before any has heard of it."""
    for partitions in (1, 2, 3, 5):
        cluster = cluster_of(
            Defined({"audience": {"when": {"event": "A", "count": {"at_least": 3}}}}), partitions, 3
        )
        ring = [("anon", "a1"), ("madid", advertising_id(1)), ("email", "e1"), ("anon", "a1")]
        for number, pair in enumerate(pairwise(ring)):
            call = Call("track", "", START, START, f"m{number}", event="A")
            cluster.call(number, line_of(NamedCall(call, list(pair))))
        cluster.settle()
        assert cluster.members() == {("audience", cluster.owner(key_of(("anon", "a1"))))}


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_whoever_asks_knows_all_identifiers_that_were_found_on_the_way(partitions: int) -> None:
    """The e-mail address and the device of the last calls are new: they ask on in the name of who named them."""
    cluster = cluster_of(Defined({"audience": {"when": {"event": "A"}}}), partitions, 1)
    calls: list[list[Identifier]] = [
        [("user", "u1"), ("anon", "a1"), ("madid", advertising_id(1))],
        [("user", "u2"), ("email", "e2"), ("anon", "a1")],  # u1's: refused
        [("email", "e3"), ("anon", "a3"), ("madid", advertising_id(1))],  # u1 takes the matter over
    ]
    for number, names in enumerate(calls):
        call = Call("page", "", START + number, START + number, f"m{number}")
        cluster.call(0, line_of(NamedCall(call, names)))
        cluster.settle()
    keys = {name: key_of((kind, name)) for names in calls for kind, name in names}
    assert {name: cluster.owner(key) for name, key in keys.items()} == {
        name: "u2" if name in ("u2", "e2") else "u1" for name in keys
    }
    people = {"u1": ("u1", "a1", advertising_id(1), "e3", "a3"), "u2": ("u2", "e2")}
    for user, known in people.items():
        state = cluster.nodes[cluster.partition_of(user)].engine.states.find(user)
        assert all_aliases(state).keys() == {keys[name] for name in known}
        assert state is not None
        assert state.identity is not None
        assert (state.identity.asking, state.identity.links) == (False, [])


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_what_is_found_on_the_way_takes_room(partitions: int) -> None:
    """Every call brings a new e-mail address and behind it a new anonymous id; there is room for five of each."""
    cluster = cluster_of(Defined({"audience": {"when": {"event": "A"}}}), partitions, 1)
    for number in range(8):
        call = Call("page", "", START + number, START + number, f"m{number}")
        names: list[Identifier] = [
            ("user", "u1"),
            ("email", f"e{number}"),
            ("anon", f"a{number}"),
            ("madid", advertising_id(1)),
        ]
        cluster.call(0, line_of(NamedCall(call, names)))
    cluster.settle()
    assert cluster.owner(key_of(("madid", advertising_id(1)))) == "u1"
    for kind in ("email", "anon"):
        owned = [number for number in range(8) if cluster.owner(key_of((kind, f"{kind[0]}{number}"))) == "u1"]
        assert owned == [0, 1, 2, 3, 4]
