"""A membership said once more: what is said, to whom, and when nothing is."""

from __future__ import annotations

import pytest

from app.domain.compact import audience_id
from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.state import decode_state
from schemas.membership import Cause, Change, MembershipDelta, Repeated
from schemas.profile import CALL, MARKER, REPEAT, VERSION, FeedHit, Linking, ProfileEvent, Repeat
from tests.unit.domain.plans import FACEBOOK, FAR_WALL, START, plan_of

LANE = "lane-0"
REPLAY = "replay/x"
FAILURES = {"audience_0": (1, 77)}
BOTH = [{"ad_account_id": "act_1"}, {"ad_account_id": "act_2"}]


class World:
    """One partition, in which some are buyers and some are claimed by a warehouse."""

    def __init__(self) -> None:
        self.plan = plan_of(
            {"when": {"event": "A"}, "facebook": BOTH},
            {
                "source": "reverse_etl",
                "rows": {"where": {"$.context.protocols.sourceId": "s"}},
                # Strangers may be in the connected one alone.
                "facebook": [{**FACEBOOK, "audience_id": "5"}, {"ad_account_id": "act_2"}],
            },
        )
        self.feed = self.plan.events["A"].feeds[0].id
        self.counters = Counters()
        self.partition = AudiencePartition(self.plan, 0, self.counters)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected([LANE])
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "", 0, 0, START, START, progress={LANE: START})
        )
        self.place = 0

    def call(self, profile: str, **said: object) -> None:
        self.place += 1
        event = ProfileEvent(VERSION, CALL, LANE, self.place, 0, START, START, **said)  # type: ignore[arg-type]
        self.partition.apply(profile, event)

    def buys(self, profile: str) -> None:
        self.call(profile, hits=[FeedHit(self.feed)])

    def repeat(self, profile: str, place: int, expected: int, audience: str = "audience_0") -> None:
        asked = Repeat(audience, expected, 41, expected, FAILURES)
        self.partition.apply_repeat(
            profile, ProfileEvent(VERSION, REPEAT, REPLAY, place, 0, START, 0, repeat=asked)
        )

    def deltas(self) -> list[MembershipDelta]:
        return self.partition.drain().deltas


def test_a_member_is_said_once_more_to_all_destinations() -> None:
    world = World()
    world.buys("ann")
    (entered,) = world.deltas()
    world.repeat("ann", 1, 1)
    (again,) = world.deltas()
    assert again.rows == entered.rows
    assert set(again.rows) == {"audience_0@act_1", "audience_0@act_2"}
    assert (again.change, again.sequence, again.cause) == (Change.UPDATED, 2, Cause.REPLAY)
    assert again.repeats == Repeated(41, 1, FAILURES)


def test_nobody_enters_or_leaves_by_it_and_what_follows_goes_on_from_it() -> None:
    world = World()
    world.buys("ann")
    world.repeat("ann", 1, 1)
    outcome = world.partition.drain()
    (kept,) = [decode_state(value) for key, value in outcome.states if key == b"ann"]
    known = kept.memberships[audience_id("audience_0")]
    assert (known.member, known.sequence) == (True, 2)
    assert world.partition.members("audience_0") == 1
    assert (
        world.counters.audiences["audience_0"].entered,
        world.counters.audiences["audience_0"].members,
    ) == (
        1,
        1,
    )
    world.call("ann", identifiers={"EMAIL": "e" * 64})
    (changed,) = world.deltas()
    assert (changed.change, changed.sequence) == (Change.UPDATED, 3)


@pytest.mark.parametrize(
    ("claims", "rows_to"),
    [
        ([True, False], "was in and is taken out again"),
        ([False], "was never in here, and may be there from before"),
    ],
)
def test_somebody_who_is_out_is_taken_out_once_more(claims: list[bool], rows_to: str) -> None:
    world = World()
    for number, member in enumerate(claims):
        world.place += 1
        at = START + number
        event = ProfileEvent(VERSION, CALL, LANE, world.place, 0, at, START, claims={"audience_1": member})
        world.partition.apply("bob", event)
    last = world.deltas()[-1]
    assert last.change is Change.EXITED
    world.repeat("bob", 1, last.sequence, "audience_1")
    (again,) = world.deltas()
    assert (again.change, again.sequence) == (Change.EXITED, last.sequence + 1)
    assert again.rows == last.rows, rows_to
    assert any(again.rows.values())
    assert world.partition.members("audience_1") == 0


def test_nothing_is_said_that_something_newer_has_taken_the_place_of() -> None:
    world = World()
    world.buys("ann")
    world.call("ann", identifiers={"EMAIL": "e" * 64})
    world.deltas()
    world.repeat("ann", 1, 1)
    world.repeat("nobody", 2, 1)
    world.repeat("ann", 3, 2, "no_such_audience")
    assert world.deltas() == []
    assert world.counters.stages["evaluate"].dropped == {"superseded": 3}


def test_a_redelivery_says_nothing() -> None:
    world = World()
    world.buys("ann")
    world.repeat("ann", 1, 1)
    world.deltas()
    world.repeat("ann", 1, 2)
    assert world.deltas() == []
    assert world.counters.stages["evaluate"].dropped == {"duplicate": 1}


def test_nothing_is_said_of_a_profile_that_has_become_part_of_another() -> None:
    world = World()
    world.buys("anonymous_id:a")
    world.call("anonymous_id:a", identifiers={"EMAIL": "e" * 64})
    world.call("ann", linking=Linking(["anonymous_id:a"]))
    last = [delta for delta in world.deltas() if delta.profile == "anonymous_id:a"][-1]
    assert world.partition.states.person("anonymous_id:a") == "ann"
    world.repeat("anonymous_id:a", 1, last.sequence)
    assert world.deltas() == []


def test_the_clock_hears_nothing_of_a_replay() -> None:
    world = World()
    world.buys("ann")
    before = world.partition.clock.now
    world.repeat("ann", 1, 1)
    assert world.partition.clock.now == before == START
