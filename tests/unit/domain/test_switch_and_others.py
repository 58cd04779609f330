"""Another version of the definitions meets what accounts say, who is forgotten, and who becomes part of another."""

from __future__ import annotations

import pytest

from schemas.membership import Cause, Change
from tests.unit.domain.changing_world import ChangingWorld, begun
from tests.unit.domain.plans import HOUR
from tests.unit.domain.switching_world import LANES

FACEBOOK = "facebook: {ad_account_id: act_1}"
AS = f"{{name: As, include_anonymous: true, when: {{event: A, within: 30d}}, {FACEBOOK}}}"
AS_LONGER = AS.replace("30d", "60d")
BS = f"{{name: Bs, when: {{event: B, within: 30d}}, {FACEBOOK}}}"
LANE = LANES[0]
DEVICE = {"type": "ios", "advertisingId": "38400000-8cf0-11bd-b23e-10b96e40000d", "adTrackingEnabled": True}


def text(*audiences: str) -> str:
    return f"audiences: [{', '.join(audiences)}]"


def seats(least: int) -> str:
    when = f"{{all: [{{users: {{any: {{event: A}}}}}}, {{trait: seats, at_least: {least}}}]}}"
    return f"{{name: Large, entity: account, when: {when}, {FACEBOOK}}}"


def switch(world: ChangingWorld, found: str, stages: int = len(LANES)) -> None:
    """Other definitions, as far as so many stages bring them; at first only the lanes' resolvers go over."""
    world.define(found)
    for _ in range(stages):
        world.now += 1_000
        world.go_on()


def says(world: ChangingWorld, **fields: object) -> None:
    world.now += 1_000
    world.say(LANE, **fields)
    world.markers()
    world.commit()


def changes(world: ChangingWorld, audience: str) -> list[tuple[str, str, int]]:
    return [
        (delta.profile, delta.change.value, delta.sequence)
        for delta in world.deltas
        if delta.audience == audience
    ]


# --- accounts are looked at before some of their users ---


def a_user_of_a_large_account(*audiences: str, most: int = 1) -> ChangingWorld:
    world = begun(text(seats(10), *audiences), most)
    says(world, type="track", event="A", userId="u1")
    says(world, type="track", event="B", userId="u1")
    says(world, type="group", groupId="g", userId="u1", traits={"seats": 15})
    assert changes(world, "large") == [("group_id:g", "entered", 1), ("u1", "entered", 1)]
    return world


@pytest.mark.parametrize("most", [1, 1_000])
def test_an_account_leaves_by_a_version_that_drops_what_its_user_did(most: int) -> None:
    world = a_user_of_a_large_account(BS, most=most)
    switch(world, text(seats(20)))
    world.finish()
    assert changes(world, "large")[2:] == [("group_id:g", "exited", 2), ("u1", "exited", 2)]
    assert world.no_unused_state()


# --- somebody who comes back while their removal waits ---


@pytest.mark.parametrize("restarts", [False, True])
def test_who_comes_back_before_a_version_that_drops_what_they_did_is_linked_as_ever(restarts: bool) -> None:
    world = begun(text(AS, BS), 1)
    says(world, type="track", event="A", userId="u1")
    says(world, type="delete", userId="u1")
    says(world, type="track", event="B", userId="u1")
    says(world, type="track", event="A", anonymousId="a1")
    switch(world, text(AS))
    if restarts:
        world.recover()
    says(world, type="identify", userId="u1", anonymousId="a1")
    assert world.members_now() == set()
    world.finish()
    assert world.members_now() == {("as", "u1")}
    assert world.no_unused_state()


# --- who becomes part of another is no member of anything any more ---


def a_visitor_with_a_device() -> ChangingWorld:
    world = begun(text(AS, BS), 1)
    says(world, type="track", event="A", anonymousId="a1", context={"device": DEVICE})
    assert changes(world, "as") == [("anonymous_id:a1", "entered", 1)]
    return world


def test_who_becomes_part_of_another_while_the_past_is_read_leaves_what_waits_for_it() -> None:
    world = a_visitor_with_a_device()
    switch(world, text(AS_LONGER, BS))
    assert world.partition.is_filling
    says(world, type="identify", userId="u1", anonymousId="a1")
    assert changes(world, "as")[1:] == [("anonymous_id:a1", "exited", 2)]
    assert world.deltas[-1].rows == {"as": []}, "what waits to be sent is taken back"
    assert world.partition.members("as") == 0
    world.recover()
    world.finish()
    assert changes(world, "as")[2:] == [("u1", "entered", 1)]
    assert world.members_now() == {("as", "u1")}
    assert world.partition.members("as") == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_who_becomes_part_of_another_leaves_what_is_defined_no_longer_and_may_come_back(
    restarts: bool,
) -> None:
    world = a_visitor_with_a_device()
    switch(world, text(BS))
    says(world, type="identify", userId="u1", anonymousId="a1")
    left = world.deltas[-1]
    assert (left.audience, left.profile, left.change, left.sequence) == (
        "as",
        "anonymous_id:a1",
        Change.EXITED,
        2,
    )
    assert (left.rows, left.cause) == ({}, Cause.MERGE)
    assert world.partition.members("as") == 0
    assert "as" not in world.counters.audiences, "counters show what is defined"
    if restarts:
        world.recover()
    switch(world, text(AS, BS))
    world.finish()
    assert changes(world, "as")[2:] == [("u1", "entered", 1)]
    assert world.partition.members("as") == world.counters.audiences["as"].members == 1
    world.now += 31 * 24 * HOUR
    world.finish()
    assert world.partition.members("as") == 0
    assert world.newest["as", "u1"].rows == {"as": [{"EXTERN_ID": "u1", "MADID": DEVICE["advertisingId"]}]}, (
        "all that either ever sent is taken out"
    )
