"""Forgetting people while profiles have something to say to each other: what is on its way to somebody who is forgotten
by the time that it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.domain.forgetting import Forgotten, forgotten_key
from app.domain.linking import owner_of
from app.domain.profile_ids import ANONYMOUS, EMAIL, MOBILE
from schemas.membership import Cause, Change
from schemas.profile import CALL, FORGET, MOVED, VERSION, Linking, ProfileEvent
from tests.unit.domain.forgetting_world import DEVICES, Sent, line
from tests.unit.domain.identity_calls import digest
from tests.unit.domain.random_definitions import START, Defined
from tests.unit.domain.test_forgetting import AT, LANE, World
from tests.unit.domain.test_forgetting_cluster import left_of
from tests.unit.domain.test_identity_cluster import cluster_of

BUYERS = Defined({"buyers": {"when": {"event": "A", "within": "30d"}, "include_anonymous": True}})

ONCE = Defined({"once": {"when": {"event": "A", "count": {"exactly": 1}}, "include_anonymous": True}})


class Apart:
    """Three partitions with a user id in the first, an anonymous id in the second and an e-mail address in the third."""

    def __init__(self, defined: Defined = BUYERS) -> None:
        self.cluster = cluster_of(defined, 3, 2)
        number = self.cluster.partition_of
        names = [f"x{count}" for count in range(99)]
        self.user, self.other_user = [name for name in names if number(name) == 0][:2]
        self.anonymous = next(name for name in names if number(f"{ANONYMOUS}{name}") == 1)
        self.email = next(name for name in names if number(f"{EMAIL}{digest(name)}") == 2)
        self.profiles = {self.user, f"{ANONYMOUS}{self.anonymous}", f"{EMAIL}{digest(self.email)}"}
        for lane in (0, 1):
            self.cluster.marker(START, lane)
        self.cluster.settle()

    def call(self, at: int, lane: int = 0, **call: Any) -> None:
        self.cluster.call(lane, line(START + at, **call), forgetful=True)

    def live(self, first: int, lives: Sequence[dict[str, Any]]) -> None:
        """One call after the other, all of whose consequences are there before the next."""
        for at, call in enumerate(lives, first):
            self.call(at, **call)
            self.cluster.settle()

    def says(self, partition: int, most: int = 99) -> None:
        """It reads so many records, and what comes of them is committed."""
        self.cluster.step(partition, most)
        self.cluster.commit(partition)

    def finish(self) -> None:
        for _ in range(3):
            self.cluster.settle()
            self.cluster.let_go()


def test_whoever_ended_for_somebody_who_is_forgotten_meanwhile_is_removed() -> None:
    """The exit of a merge has nothing to send, as the profile that goes on was to see to it."""
    world = Apart()
    world.call(1, anonymousId=world.anonymous, device=DEVICES[0])
    world.cluster.settle()
    world.call(2, userId=world.user, anonymousId=world.anonymous, type="identify")
    world.call(3, userId=world.user, type="delete")
    world.cluster.settle()
    assert world.cluster.facebook() == {"buyers": set()}
    said = [delta for delta in world.cluster.deltas if delta.profile == f"{ANONYMOUS}{world.anonymous}"]
    assert [(one.change, one.cause, one.sequence) for one in said] == [
        (Change.ENTERED, Cause.EVENT, 1),
        (Change.EXITED, Cause.MERGE, 2),
        (Change.EXITED, Cause.FORGOTTEN, 3),
    ]
    world.finish()
    assert not left_of(world.cluster, world.profiles)
    assert not world.cluster.memberships


def test_whom_a_person_took_over_before_the_removal_was_confirmed_is_removed() -> None:
    """Who comes back meanwhile enters later: what they have taken over is in no membership yet."""
    world = Apart()
    world.call(1, userId=world.user, type="delete")
    world.cluster.settle()
    world.call(2, anonymousId=world.anonymous, device=DEVICES[0])
    world.call(3, userId=world.user, anonymousId=world.anonymous, type="identify")
    world.cluster.settle()
    world.call(4, userId=world.user, type="delete")
    world.cluster.settle()
    assert world.cluster.facebook() == {"buyers": set()}
    world.finish()
    assert not left_of(world.cluster, world.profiles)


def test_a_removal_that_waits_to_be_read_is_not_replaced_by_that_of_whom_the_person_took_over() -> None:
    """Of two records of one membership a paused destination may read the newer alone."""
    world = Apart()
    world.call(1, userId=world.user, device=DEVICES[1])
    world.call(2, userId=world.user, type="delete")
    world.cluster.settle()
    world.call(3, anonymousId=world.anonymous, device=DEVICES[0])
    world.call(4, userId=world.user, anonymousId=world.anonymous, type="identify")
    world.cluster.settle()
    world.call(5, userId=world.user, type="delete")
    world.cluster.settle()
    assert world.cluster.facebook() == {"buyers": set()}
    newest = world.cluster.memberships["buyers", world.user]
    assert newest.rows == {"buyers": [{"EXTERN_ID": world.user, "MADID": DEVICES[1]}]}
    world.finish()
    assert not left_of(world.cluster, world.profiles)


def test_an_answer_to_whom_the_person_had_been_before_does_not_bring_them_back() -> None:
    """The e-mail address asked by itself, before it became the user's, with a call that was received after the request."""
    world = Apart()
    world.call(1, userId=world.user, email=world.email, type="identify")
    world.call(3, lane=1, email=world.email, anonymousId=world.anonymous)
    world.call(2, userId=world.user, type="delete")
    world.says(2)  # asks for the anonymous id
    world.says(0, 2)  # asks for the e-mail address
    world.says(2)  # gives way to the user
    world.says(1)  # gives way to the e-mail address
    world.says(0)  # forgets
    world.finish()
    assert world.cluster.nodes[0].engine.states.find(world.user) is None
    assert not left_of(world.cluster, world.profiles)
    assert world.cluster.facebook() == {"buyers": set()}


def test_a_user_who_is_forgotten_becomes_no_part_of_somebody_who_asks_for_their_device() -> None:
    """The question comes by a forwarder that is to be erased."""
    world = Apart()
    devices = [f"38400000-8cf0-11bd-b23e-10b96e4000{number}" for number in range(10, 99)]
    device = next(one for one in devices if world.cluster.partition_of(f"{MOBILE}{one}") == 2)
    world.call(1, userId=world.user, device=device)
    world.cluster.settle()
    world.call(2, userId=world.user, type="delete")
    world.call(3, anonymousId=world.anonymous, device=device)
    world.says(1)  # asks for the device
    world.says(2)  # passes it on, and hears of the request later
    world.finish()
    assert world.cluster.nodes[0].engine.states.find(world.user) is None
    state = world.cluster.nodes[1].engine.states.find(f"{ANONYMOUS}{world.anonymous}")
    assert state is not None
    assert state.identity is not None
    assert not state.identity.asking
    assert state.identity.aliases.keys() == {f"{ANONYMOUS}{world.anonymous}"}


def test_what_was_found_on_the_way_to_a_refusal_is_forgotten_with_the_asker() -> None:
    """The anonymous id is new and asks on in the user's name for a device, which is another user's."""
    world = Apart()
    world.call(1, userId=world.other_user, device=DEVICES[0])
    world.cluster.settle()
    world.call(2, userId=world.user, anonymousId=world.anonymous, device=DEVICES[0])
    world.call(3, userId=world.user, type="delete")
    world.finish()
    assert not left_of(world.cluster, {world.user, f"{ANONYMOUS}{world.anonymous}"})
    assert world.cluster.owner(f"{MOBILE}{DEVICES[0]}") == world.other_user


def test_a_state_that_comes_after_its_identifier_was_forgotten_is_removed_as_well() -> None:
    for told in ((), ("track",)):
        world = World(told)
        world.buys("anonymous_id:a1")
        state = world.partition.states.find("anonymous_id:a1")
        assert state is not None
        encoded = world.partition.states.encoded(state)
        world.partition.states.erase(b"anonymous_id:a1")
        world.partition.take_deltas()
        world.forget("anonymous_id:a1")
        assert not world.drain().deltas
        said = Linking(asker="ann", state=encoded)
        world.partition.apply(
            "anonymous_id:a1", ProfileEvent(VERSION, FORGET, LANE, 9, 0, AT, AT, linking=said)
        )
        removed = world.drain().deltas
        assert {(one.audience, one.change, one.sequence) for one in removed} == {
            ("audience_0", Change.EXITED, 3),
            ("audience_1", Change.EXITED, 3),
        }
        assert world.partition.forgotten.removals[forgotten_key("anonymous_id:a1")].audiences == {
            "audience_0": 3,
            "audience_1": 3,
        }


def test_who_has_come_back_is_not_led_to_whom_they_belonged_to_before() -> None:
    world = World()
    world.forget("anonymous_id:a1")
    links = Linking(["anonymous_id:a1"])
    world.partition.apply("bob", ProfileEvent(VERSION, CALL, LANE, 8, 0, AT + 1, AT + 1, linking=links))
    moved = ProfileEvent(VERSION, MOVED, LANE, 9, 0, AT, AT, linking=Linking(asker="ann"))
    world.partition.apply("anonymous_id:a1", moved)
    state = world.partition.states.find("anonymous_id:a1")
    assert state is not None
    assert owner_of(state) == "bob"


@pytest.mark.parametrize(
    ("owner", "since", "is_erased"),
    [
        ("ann", AT + 2, True),
        ("email:e", AT + 2, True),  # who gave way to ann; that is not known here yet
        ("bob", AT + 2, False),  # who has never been ann
        ("email:e", AT - 2, False),  # it came back, and was found by somebody who had been ann before
        ("bob", None, True),  # as an older release asks
    ],
)
def test_only_who_still_has_an_identifier_takes_it_along(
    owner: str, since: int | None, *, is_erased: bool
) -> None:
    """Ann is forgotten for the second time, and an answer to what she asked before the first comes late."""
    world = World()
    world.forget("anonymous_id:a1")
    links = Linking(["anonymous_id:a1"])
    world.partition.apply(owner, ProfileEvent(VERSION, CALL, LANE, 8, 0, AT + 3, AT + 3, linking=links))
    aliases = {} if since is None else {"ann": AT - 2, "email:e": AT - 2, "anonymous_id:a1": since}
    said = Linking(asker="ann", aliases=aliases)
    world.partition.apply(
        "anonymous_id:a1", ProfileEvent(VERSION, FORGET, LANE, 9, 0, AT + 5, AT + 5, linking=said)
    )
    state = world.partition.states.find("anonymous_id:a1")
    assert (state is None) is is_erased
    assert state is None or owner_of(state) == owner
    if not is_erased:
        assert world.partition.forgotten.until_of("anonymous_id:a1") == AT, "calls of its owner count"


@pytest.mark.parametrize(("since", "is_erased"), [(AT + 2, True), (AT - 2, False)])
def test_who_has_come_back_alone_is_somebody_else(since: int, *, is_erased: bool) -> None:
    world = World()
    world.forget("anonymous_id:a1")
    world.buys("anonymous_id:a1", AT + 3)
    said = Linking(asker="ann", aliases={"ann": AT - 2, "anonymous_id:a1": since})
    world.partition.apply(
        "anonymous_id:a1", ProfileEvent(VERSION, FORGET, LANE, 9, 0, AT + 5, AT + 5, linking=said)
    )
    assert (world.partition.states.find("anonymous_id:a1") is None) is is_erased


def test_a_removal_keeps_its_sequence_when_the_identifier_is_forgotten_again() -> None:
    """Letters of the removal are told from those before it by that."""
    forgotten = Forgotten()
    forgotten.put("ann", 1, {"x": 3})
    forgotten.put("ann", 2, {"x": 0, "y": 0})
    assert forgotten.removals[forgotten_key("ann")].audiences == {"x": 3, "y": 0}


def test_who_was_forgotten_beside_somebody_else_keeps_the_removal_that_waits() -> None:
    """The e-mail address left by itself as one person's; of the next person whose it is, only the visitor was a member."""
    world = Apart(ONCE)
    sent = Sent(world.cluster)
    world.call(1, email=world.email, device=DEVICES[0])
    world.cluster.settle()
    sent.let_go()
    assert len(sent.values) == 2
    lives: list[dict[str, Any]] = [
        {"email": world.email},
        {"userId": world.other_user, "email": world.email, "type": "identify"},
        {"userId": world.user},
        {"userId": world.other_user, "type": "delete"},
        {"userId": world.user, "type": "delete"},
        {"userId": world.user, "email": world.email, "type": "identify"},
        {"anonymousId": world.anonymous, "device": DEVICES[1]},
        {"userId": world.user, "anonymousId": world.anonymous, "type": "identify"},
        {"userId": world.user, "type": "delete"},
    ]
    world.live(2, lives)
    sent.let_go()
    assert not sent.values
    visitor = [one for one in world.cluster.deltas if one.profile == f"{ANONYMOUS}{world.anonymous}"]
    assert [(one.cause, one.sequence) for one in visitor] == [
        (Cause.EVENT, 1),
        (Cause.MERGE, 2),
        (Cause.FORGOTTEN, 3),
    ]
    world.finish()
    assert not left_of(world.cluster, world.profiles | {world.other_user})


def test_the_state_of_a_single_identifier_says_whose_it_is() -> None:
    """An e-mail address gives way to a user who is forgotten meanwhile; the visitor who is the user had left before."""
    world = Apart(ONCE)
    sent = Sent(world.cluster)
    world.call(1, anonymousId=world.anonymous, device=DEVICES[0])
    world.call(2, email=world.email)
    world.cluster.settle()
    sent.let_go()
    assert len(sent.values) == 2
    world.call(3, anonymousId=world.anonymous)
    world.call(4, userId=world.user, anonymousId=world.anonymous, type="identify")
    world.cluster.settle()
    world.call(5, userId=world.user, email=world.email, type="identify")
    world.call(6, userId=world.user, type="delete")
    world.cluster.settle()
    sent.let_go()
    assert not sent.values
    world.finish()
    assert not left_of(world.cluster, world.profiles)


def test_whom_a_leaving_person_took_over_leaves_where_exits_are_not_told() -> None:
    """They had left before, which such a destination did not hear of; only they can say it, in their own name."""
    upsert = {"ad_account_id": "act_1", "sync_mode": "upsert"}
    once = ONCE.audiences["once"]
    world = Apart(Defined({"once": {**once, "facebook": upsert}}))
    sent = Sent(world.cluster)
    world.call(1, email=world.email)
    world.cluster.settle()
    sent.let_go()
    assert len(sent.values) == 1
    lives: list[dict[str, Any]] = [
        {"email": world.email},
        {"userId": world.user},
        {"userId": world.user, "type": "delete"},
        {"userId": world.user, "email": world.email, "type": "identify"},
        {"userId": world.user, "type": "delete"},
    ]
    world.live(3, lives)
    sent.let_go()
    assert not sent.values
    world.finish()
    assert not left_of(world.cluster, world.profiles)
