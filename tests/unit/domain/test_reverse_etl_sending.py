"""Rows of a warehouse become memberships: who is sent where in each mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.counters import Counters
from app.domain.partition import AudiencePartition
from app.domain.resolution import ResolveOptions, Resolver
from app.domain.simulation import simulate
from schemas.audience import SyncMode
from schemas.dead_letter import DropReason
from schemas.membership import Change, MembershipDelta
from schemas.profile import MARKER, VERSION, ProfileEvent
from tests.unit.domain.plans import DAY, FAR_WALL, START, call, plan_of
from tests.unit.domain.warehouse_rows import accounts, resolve, row, warehouse

# --- memberships and what is sent ---


class Warehouse:
    """A resolver and a partition behind it; each row comes a day after the last."""

    def __init__(self, *audiences: dict[str, Any]) -> None:
        self.plan = plan_of(*(audiences or (warehouse(),)))
        self.counters = Counters()
        self.resolver = Resolver(self.plan, ResolveOptions())
        self.partition = AudiencePartition(self.plan, 0, self.counters)
        self.partition.finish_recovery()
        self.partition.set_wall(FAR_WALL)
        self.partition.set_expected(["lane"])
        self.now = START
        self.offset = 0
        self.partition.apply_marker(
            ProfileEvent(VERSION, MARKER, "lane", 0, 0, START, START, progress={"lane": START})
        )

    def row(self, event: str, **fields: Any) -> list[MembershipDelta]:
        return self.call(row(event, timestamp=..., receivedAt=..., **fields))

    def call(self, raw: bytes) -> list[MembershipDelta]:
        self.now += DAY
        self.offset += 1
        for profile, event in self.resolver.resolve(raw, self.now, FAR_WALL, "lane", self.offset).records:
            self.partition.apply(profile, event)
        return self.partition.drain().deltas


CONNECTED = {"ad_account_id": "act_1", "audience_id": "120210000000000001"}


def told(deltas: list[MembershipDelta]) -> list[tuple[str, list[str]]]:
    return [(delta.change.value, list(delta.rows)) for delta in deltas]


BY_MODE = {
    # what new, updated, deleted, new say one after the other
    "mirror": [["entered"], [], ["exited"], ["entered"]],
    "upsert": [["entered"], [], [], []],
    "add": [["entered"], [], [], []],
    "update": [[], ["entered"], [], []],
    "delete": [[], [], ["exited"], []],
}


@pytest.mark.parametrize("mode", BY_MODE)
def test_the_life_of_a_row_in_each_mode(mode: str) -> None:
    one = Warehouse(warehouse(mode))
    changes = [
        [delta.change.value for delta in one.row(event)] for event in ("new", "updated", "deleted", "new")
    ]
    assert changes == BY_MODE[mode]


def test_a_changed_column_of_a_member_is_sent_again() -> None:
    one = Warehouse()
    one.row("new", properties={"email": "a@example.com", "city": "Lyon"})
    (updated,) = one.row("updated", properties={"email": "b@example.com", "city": "Lyon"})
    assert updated.change is Change.UPDATED
    (exited,) = one.row("deleted", properties={"email": None, "city": None})
    for delta in (updated, exited):
        assert [sorted(sent) for sent in delta.rows["leads"]] == [
            ["CT", "EMAIL", "EXTERN_ID"],
            ["EMAIL", "EXTERN_ID"],
        ]


def test_a_stranger_is_taken_out_of_a_connected_audience_and_counts_as_no_exit() -> None:
    one = Warehouse(warehouse(facebook=CONNECTED))
    (delta,) = one.row("deleted")
    assert (delta.change, delta.sequence) == (Change.EXITED, 1)
    assert delta.rows == {"leads": [{"EXTERN_ID": "user_1"}]}
    assert one.row("deleted") == [], "once"
    counted = one.counters.audiences["leads"]
    assert (counted.members, counted.entered, counted.exited) == (0, 0, 0)
    (entered,) = one.row("new")
    assert (entered.change, entered.sequence, one.partition.members("leads")) == (Change.ENTERED, 2, 1)


def test_engage_takes_out_a_stranger_as_well_and_simulate_shows_no_transition() -> None:
    engaged = {"key": "vips", "source": "engage", "facebook": CONNECTED}
    personas = {"computation_class": "audience", "computation_key": "vips"}
    raw = call(type="identify", traits={"vips": False}, context={"personas": personas})
    (delta,) = Warehouse(engaged).call(raw)
    assert (delta.change, delta.sequence) == (Change.EXITED, 1)
    later = json.loads(raw) | {"timestamp": "2025-03-02T00:00:00Z", "receivedAt": "2025-03-02T00:00:00Z"}
    later["traits"] = {"vips": True}
    lines = [raw, json.dumps(later).encode()]
    assert [item for item in simulate(plan_of(engaged), lines) if not isinstance(item, tuple)] == []
    assert [item.member for item in simulate(plan_of(engaged), lines) if isinstance(item, tuple)] == [True]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({}, "Facebook's audience is ours from its first day on"),
        ({"facebook": CONNECTED, "enabled": False}, "not enabled"),
        ({"facebook": CONNECTED, "created_at": "2030-01-01"}, "nothing is said before it is created"),
        ({"facebook": []}, "delivered nowhere"),
        ({"facebook": {**CONNECTED, "sync_mode": "upsert"}}, "nobody is ever removed"),
    ],
)
def test_nobody_is_taken_out_where_nobody_could_be(keys: dict[str, Any], why: str) -> None:
    assert Warehouse(warehouse(**keys)).row("deleted") == []


def test_only_destinations_that_may_have_them_hear_of_a_stranger() -> None:
    facebook = [
        *accounts("mirror", "delete"),
        {**CONNECTED, "ad_account_id": "act_8", "sync_mode": "upsert"},
        {**CONNECTED, "ad_account_id": "act_9"},
    ]
    one = Warehouse(warehouse(facebook=facebook))
    assert told(one.row("deleted")) == [("exited", ["leads@act_1", "leads@act_9"])]
    one.row("new")
    assert told(one.row("deleted")) == [("exited", ["leads@act_0", "leads@act_1", "leads@act_9"])]


def test_a_stranger_who_cannot_be_named_is_not_taken_out() -> None:
    one = Warehouse(warehouse(facebook=CONNECTED))
    assert one.row("deleted", userId=None, anonymousId="a") == []
    anyone = warehouse(facebook=CONNECTED, include_anonymous=True)
    assert Warehouse(anyone).row("deleted", userId=None, anonymousId="a") == []
    # A phone number can be sent, and makes nobody eligible.
    phone = {"userId": None, "anonymousId": "b", "properties": {"phone": "+14155550100"}}
    assert one.row("deleted", **phone) == []
    assert len(Warehouse(anyone).row("deleted", **phone)) == 1


# --- several destinations ---


def test_each_destination_hears_what_its_mode_takes() -> None:
    one = Warehouse(warehouse(facebook=accounts("mirror", "upsert", "delete")))
    assert told(one.row("new")) == [("entered", ["leads@act_0", "leads@act_1"])]
    assert told(one.row("updated", properties={"email": "a@example.com"})) == [
        ("updated", ["leads@act_0", "leads@act_1"])
    ]
    assert told(one.row("deleted")) == [("exited", ["leads@act_0", "leads@act_2"])]
    assert one.counters.stages["evaluate"].dropped == {"not_in_sync_mode": 1}


def test_with_upsert_nobody_is_removed_from_a_computed_audience() -> None:
    left = {"key": "k", "when": {"trait": "plan", "equals": "x"}}
    one = Warehouse({**left, "facebook": accounts("upsert", "mirror")}, {**left, "key": "m", "facebook": []})
    plan = call(type="identify", timestamp=..., receivedAt=..., traits={"plan": "x"})
    assert told(one.call(plan)) == [("entered", ["k@act_0", "k@act_1"]), ("entered", [])]
    none = call(type="identify", timestamp=..., receivedAt=..., traits={"plan": "y"})
    assert told(one.call(none)) == [("exited", ["k@act_1"]), ("exited", [])]
    assert one.counters.stages["evaluate"].dropped == {"not_in_sync_mode": 1}
    assert one.partition.members("k") == 0


@pytest.mark.parametrize("mode", SyncMode)
def test_for_engage_the_boolean_decides_whatever_the_mode(mode: SyncMode) -> None:
    one = Warehouse({"key": "vips", "source": "engage", "facebook": {"sync_mode": mode.value}})
    for member, change in ((True, "entered"), (False, "exited")):
        personas = {"computation_class": "audience", "computation_key": "vips"}
        raw = call(timestamp=..., receivedAt=..., properties={"vips": member}, context={"personas": personas})
        assert told(one.call(raw)) == [(change, ["vips"])]


def test_an_engage_call_does_not_decide_for_a_warehouses_audience() -> None:
    personas = {"computation_class": "audience", "computation_key": "leads"}
    raw = call(type="identify", traits={"leads": True}, context={"personas": personas})
    assert resolve(raw).dropped is DropReason.COMPUTED_HERE
