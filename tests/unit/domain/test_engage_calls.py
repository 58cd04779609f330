"""What the Engage calls of an installation look like, when there are any, and what they leave in a state."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from app.domain.counters import Counters
from app.domain.engage_calls import CALL_TYPES, EngageCalls
from app.domain.instants import format_instant
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.room import VALUE_CHARACTERS
from app.domain.state import decode_state
from schemas.engage_call import EngageCall
from schemas.membership import Change
from schemas.profile import MARKER, VERSION, ProfileEvent
from schemas.segment import SegmentEventModel
from tests.unit.domain.engage_listener import EngageListener
from tests.unit.domain.plans import DAY, FAR_WALL, HOUR, START, plan_of

EARLY = 5_000
BUYERS = {"name": "Buyers", "when": {"event": "Bought", "within": "1d"}, "include_anonymous": True}
MAIL = hashlib.sha256(b"ann@example.com").hexdigest()


class Shop:
    """One partition that says what Engage would say; `said` has the newest calls as JSON values."""

    def __init__(
        self,
        *audiences: dict[str, Any],
        told: str = "identify",
        traits: dict[str, Any] | None = None,
        early: int = 0,
    ) -> None:
        self.plan = plan_of(*audiences, traits=traits)
        self.told, self.early = told, early
        self.log: dict[bytes, bytes] = {}
        self.keys: list[str] = []
        self.calls: list[tuple[str, EngageCall]] = []
        self.members: set[tuple[str, str]] = set()
        self.offset = 0
        self.listener = EngageListener({item["name"].lower(): item for item in audiences})
        self.restart()
        self.wait_until(START)

    def restart(self) -> None:
        types = CALL_TYPES[self.told]
        calls = EngageCalls("shop", types, self.early) if types else None
        self.resolver = Resolver(self.plan, ResolveOptions())
        self.partition = AudiencePartition(self.plan, self.early, Counters(), calls=calls)
        for key, value in self.log.items():
            self.partition.load(key, value)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])

    def wait_until(self, instant: int) -> None:
        progress = {"lane": instant}
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "", 0, 0, instant, instant, progress=progress)
        )

    def hears(self, at: int, *, timestamp: int | None = None, offset: int | None = None, **call: Any) -> None:
        """A track call, unless it has traits."""
        self.offset += 1
        line = {
            "type": "identify" if "traits" in call else "track",
            "receivedAt": format_instant(at),
            "timestamp": format_instant(at if timestamp is None else timestamp),
            "messageId": f"m{offset or self.offset}",
            **call,
        }
        raw = json.dumps(line).encode()
        for profile, event in self.resolver.resolve(
            raw, None, FAR_WALL, "lane", offset or self.offset
        ).records:
            self.partition.apply(profile, event)

    def buys(self, at: int, profile: str = "ann", **call: Any) -> None:
        self.hears(at, **{"userId": profile, "event": "Bought", **call})

    @property
    def said(self) -> list[dict[str, Any]]:
        outcome = self.partition.drain()
        self.log.update(outcome.states)
        self.calls = list(outcome.calls)
        self.keys = [profile for profile, _ in outcome.calls]
        for delta in outcome.deltas:
            key = (delta.audience, delta.profile)
            (self.members.discard if delta.change is Change.EXITED else self.members.add)(key)
        self.listener.hear(
            [item for item in self.calls if item[1].context["personas"]["computation_class"] == "audience"]
        )
        found = [json.loads(msgspec.json.encode(call)) for _, call in self.calls]
        for call in found:
            SegmentEventModel.model_validate(call)
        return found

    def values(self) -> list[tuple[str, Any, str]]:
        """Of computed traits that have been said."""
        return [
            (key, value, call["receivedAt"]) for call in self.said for key, value in call["traits"].items()
        ]


def test_an_identify_call_of_who_enters_and_leaves() -> None:
    shop = Shop(BUYERS)
    shop.buys(START + 10)
    shop.wait_until(START + 2 * DAY)
    entered, left = shop.said
    personas = entered["context"]["personas"]
    assert entered == {
        "type": "identify",
        "messageId": entered["messageId"],
        "timestamp": "2025-03-01T00:00:00.010Z",
        "receivedAt": "2025-03-01T00:00:00.010Z",
        "userId": "ann",
        "traits": {"buyers": True},
        "context": {
            "personas": {
                "computation_class": "audience",
                "computation_key": "buyers",
                "computation_id": personas["computation_id"],
                "namespace": personas["space_id"],
                "space_id": personas["space_id"],
            }
        },
    }
    assert personas["computation_id"].startswith("aud_")
    assert personas["space_id"].startswith("spa_")
    assert entered["messageId"].startswith("personas_")
    assert (left["traits"], left["receivedAt"]) == ({"buyers": False}, "2025-03-02T00:00:00.010Z")
    assert left["messageId"] != entered["messageId"]
    assert left["context"] == entered["context"]
    assert shop.keys == ["ann", "ann"]


def test_a_track_call_has_segments_names() -> None:
    shop = Shop(BUYERS, told="track")
    shop.buys(START)
    shop.wait_until(START + 2 * DAY)
    assert [(call["type"], call["event"], call["properties"]) for call in shop.said] == [
        ("track", "Audience Entered", {"audience_key": "buyers", "buyers": True}),
        ("track", "Audience Exited", {"audience_key": "buyers", "buyers": False}),
    ]


def test_both_are_two_messages() -> None:
    shop = Shop(BUYERS, told="both")
    shop.buys(START)
    one, other = shop.said
    assert (one["type"], other["type"]) == ("identify", "track")
    assert one["messageId"] != other["messageId"]


def test_the_same_change_is_the_same_message_in_every_run() -> None:
    ids = []
    for _ in range(2):
        shop = Shop(BUYERS, told="both")
        shop.buys(START)
        ids.append([call["messageId"] for call in shop.said])
    assert ids[0] == ids[1]


def test_nothing_is_said_and_nothing_kept_when_it_is_off() -> None:
    shop = Shop(BUYERS, told="off", traits={"bought": {"event": "Bought", "count": True}})
    shop.buys(START)
    assert shop.said == []
    assert shop.members == {("buyers", "ann")}
    assert decode_state(shop.log[b"ann"]).calls is None


@pytest.mark.parametrize("told", ["identify", "track"])
@pytest.mark.parametrize(
    ("call", "profile", "named"),
    [
        ({"userId": "ann"}, "ann", {"userId": "ann"}),
        # Would be taken for an anonymous id, were it written as the key is.
        ({"userId": "anonymous_id:1"}, "user_id:anonymous_id:1", {"userId": "anonymous_id:1"}),
        ({"userId": "ann@example.com"}, MAIL, {"userId": MAIL}),
        ({"anonymousId": "a1"}, "anonymous_id:a1", {"anonymousId": "a1"}),
        ({"context": {"traits": {"email": "Ann@example.com"}}}, f"email:{MAIL}", {"email": MAIL}),
        (
            {"context": {"device": {"type": "ios", "advertisingId": "AB-1", "adTrackingEnabled": True}}},
            "madid:ab-1",
            {"device": {"advertisingId": "ab-1"}},
        ),
    ],
)
def test_a_profile_is_named_by_its_own_id(
    told: str, call: dict[str, Any], profile: str, named: dict[str, Any]
) -> None:
    shop = Shop(BUYERS, told=told)
    shop.hears(START, event="Bought", **call)
    (said,) = shop.said
    assert shop.keys == [profile]
    places = [said, said["context"], said["context"].get("traits", {}), said.get("traits", {})]
    found = {name: value for place in places for name, value in place.items()}
    assert {
        name: found[name] for name in ("userId", "anonymousId", "email", "device") if name in found
    } == named
    if "email" in named:
        assert ("email" in said.get("traits", {})) is (told == "identify"), "where Engage has it"
    assert shop.listener.members == {("buyers", profile)}


def test_an_advertising_id_makes_an_anonymous_profile_eligible_there_too() -> None:
    device = {"type": "android", "advertisingId": "ab-1", "adTrackingEnabled": True}
    shop = Shop({**BUYERS, "include_anonymous": False})
    shop.hears(START, event="Bought", anonymousId="a1", context={"device": device})
    assert shop.said[-1]["context"]["device"] == {"advertisingId": "ab-1"}
    assert shop.listener.members == shop.members == {("buyers", "anonymous_id:a1")}


def test_what_is_said_last_at_one_instant_holds() -> None:
    shop = Shop({"name": "Pro", "when": {"trait": "plan", "equals": "pro"}})
    for number, plan in enumerate(["pro", "free", "pro"]):
        shop.hears(START, timestamp=START - 10 + number, userId="ann", traits={"plan": plan})
    said = shop.said
    assert [call["traits"]["pro"] for call in said] == [True, False, True]
    assert {call["receivedAt"] for call in said} == {"2025-03-01T00:00:00Z"}
    assert [call["timestamp"][-5:] for call in said] == ["0:00Z", ".001Z", ".002Z"]
    assert shop.listener.members == {("pro", "ann")}


def test_a_change_before_its_time_is_not_behind_the_next_one() -> None:
    """What counts early is said with its own instant, and may be taken back before that, also after a restart."""
    stays = {"all": [{"event": "Bought"}, {"not": {"event": "Returned"}}]}
    shop = Shop({"name": "Buyers", "when": stays}, early=EARLY)
    shop.buys(START, timestamp=START + 3_000)
    assert [call["timestamp"] for call in shop.said] == ["2025-03-01T00:00:03Z"]
    shop.restart()
    shop.hears(START + 1, timestamp=START, event="Returned", userId="ann")
    assert len(shop.said) == 1
    assert shop.listener.members == shop.members == set()


def test_a_profile_that_ends_is_out_whatever_was_said_early() -> None:
    shop = Shop(BUYERS, early=EARLY)
    shop.hears(START, timestamp=START + 3_000, event="Bought", anonymousId="a1")
    shop.hears(START + 1, traits={}, anonymousId="a1", userId="ann")
    assert len(shop.said) == 3
    assert shop.listener.members == shop.members == {("buyers", "ann")}


def test_timestamps_are_kept_no_longer_than_they_matter() -> None:
    shop = Shop(BUYERS, {"name": "Ever", "when": {"event": "Bought"}})
    shop.buys(START)
    assert len(shop.said) == 2
    shop.wait_until(START + 2 * DAY)
    assert len(shop.said) == 1
    calls = decode_state(shop.log[b"ann"]).calls
    assert calls is not None
    assert calls.newest == {"buyers": START + DAY}


# --- computed traits ---

SPENT = {"event": "Bought", "sum": "price"}


def test_a_computed_trait_is_said_when_it_has_changed() -> None:
    shop = Shop(traits={"spent": SPENT})
    shop.buys(START, properties={"price": 5})
    shop.buys(START + HOUR, properties={"price": 0})
    shop.buys(START + 2 * HOUR, properties={"price": 2.5})
    one, other = shop.said
    assert (one["type"], one["traits"], one["userId"]) == ("identify", {"spent": 5}, "ann")
    personas = one["context"]["personas"]
    assert (personas["computation_class"], personas["computation_key"]) == ("computed_trait", "spent")
    assert personas["computation_id"].startswith("tra_")
    assert (other["traits"], other["receivedAt"]) == ({"spent": 7.5}, "2025-03-01T02:00:00Z")


def test_by_time_alone_and_null_when_nothing_is_left() -> None:
    traits = {
        "spent": {**SPENT, "within": "1d"},
        "bought": {"event": "Bought", "count": True, "within": "1d"},
    }
    shop = Shop(traits=traits)
    shop.buys(START, properties={"price": 5})
    shop.buys(START + HOUR, properties={"price": 6})
    assert len(shop.values()) == 4
    shop.wait_until(START + 3 * DAY)
    assert shop.values() == [
        ("bought", 1, "2025-03-02T00:00:00Z"),
        ("spent", 6, "2025-03-02T00:00:00Z"),
        ("bought", 0, "2025-03-02T01:00:00Z"),
        ("spent", None, "2025-03-02T01:00:00Z"),
    ]


def test_a_restart_and_a_redelivery_say_nothing_twice() -> None:
    shop = Shop(traits={"spent": SPENT, "last": {"event": "Bought", "last": "price"}})
    shop.buys(START, properties={"price": 5})
    assert len(shop.said) == 2
    shop.restart()
    shop.buys(START, properties={"price": 5}, offset=1)
    shop.buys(START + HOUR, properties={"price": 5, "again": 1})
    (said,) = shop.said
    assert said["traits"] == {"spent": 10}, "the last price is what it was"


def test_what_was_said_is_kept_by_its_digest_alone() -> None:
    shop = Shop(traits={"seen": {"event": "Bought", "unique_list": "what"}})
    for number in range(300):
        shop.buys(START + number, properties={"what": f"a thing with a long name {number}"})
    assert len(shop.said) == 300
    calls = decode_state(shop.log[b"ann"]).calls
    assert calls is not None
    assert len(msgspec.msgpack.encode(calls)) < 50


def test_a_value_is_what_the_event_had() -> None:
    shop = Shop(
        traits={
            "what": {"event": "Bought", "last": "what"},
            "all": {"event": "Bought", "unique_list": "what"},
        }
    )
    shop.buys(START, properties={"what": {"a": [1, "ä"]}})
    assert shop.values() == [
        ("all", ['{"a":[1,"ä"]}'], "2025-03-01T00:00:00Z"),
        ("what", {"a": [1, "ä"]}, "2025-03-01T00:00:00Z"),
    ]
    shop.buys(START + 1, properties={"what": {"a": "x" * 2_000}})
    what = {key: value for key, value, _ in shop.values()}["what"]
    assert what == {"a": "x" * 2_000}
    shop.resolver = Resolver(shop.plan, ResolveOptions(max_event_bytes=100_000))
    shop.buys(START + 2, properties={"what": {"a": "x" * 50_000}})
    what = {key: value for key, value, _ in shop.values()}["what"]
    assert len(what) == VALUE_CHARACTERS, "what is too long to be kept whole is its beginning, as text"


def test_two_values_of_one_instant_are_told_apart() -> None:
    """The newest timestamp is what holds of a trait."""
    shop = Shop(traits={"spent": SPENT})
    for price in (5, 6):
        shop.buys(START, properties={"price": price})
    assert [(call["traits"]["spent"], call["timestamp"]) for call in shop.said] == [
        (5, "2025-03-01T00:00:00Z"),
        (11, "2025-03-01T00:00:00.001Z"),
    ]


def test_who_goes_on_after_a_merge_is_told_of_with_what_both_did() -> None:
    shop = Shop(traits={"spent": SPENT})
    shop.hears(START, event="Bought", anonymousId="a1", properties={"price": 5})
    shop.buys(START, properties={"price": 6})
    assert len(shop.said) == 2
    shop.hears(START + HOUR, traits={}, anonymousId="a1", userId="ann")
    (said,) = shop.said
    assert (said["userId"], said["traits"]) == ("ann", {"spent": 11})


def test_a_trait_that_depends_on_a_trait_is_told_when_that_changes() -> None:
    above = {"event": "Bought", "count": True, "where": {"price": {"at_least": {"trait": "bar"}}}}
    shop = Shop(traits={"above": above})
    shop.hears(START, userId="ann", traits={"bar": 5})
    shop.buys(START, properties={"price": 6})
    assert shop.values() == [("above", 1, "2025-03-01T00:00:00Z")]
    shop.hears(START + 1, userId="ann", traits={"bar": 7})
    assert shop.values() == [("above", 0, "2025-03-01T00:00:00.001Z")]


def test_a_trait_that_is_defined_anew_is_told_where_it_has_another_value() -> None:
    greatest = {"event": "Bought", "max": "price", "within": "1d"}
    shop = Shop(traits={"price": greatest})
    for at, price in enumerate((5, 7)):
        shop.buys(START + at, properties={"price": price})
    shop.buys(START, "bob", properties={"price": 5})
    assert len(shop.said) == 3
    shop.plan = plan_of(traits={"price": {"event": "Bought", "min": "price", "within": "1d"}})
    shop.restart()
    shop.wait_until(START + HOUR)
    assert [(call["userId"], call["traits"]) for call in shop.said] == [("ann", {"price": 5})]
    told = decode_state(shop.log[b"ann"]).calls
    assert told is not None
    assert told.traits["price"].number == 3
