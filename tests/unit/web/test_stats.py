from __future__ import annotations

from collections import Counter

import orjson
import pytest

from app.domain.access_tokens import FacebookView, TokenFacts
from app.domain.counters import (
    MAX_UNKNOWN_AUDIENCE_LENGTH,
    MAX_UNKNOWN_AUDIENCES,
    AudienceCounters,
    Counters,
    StageCounters,
)
from app.domain.reconciling import Difference, ReconcileView
from app.web.stats import UNKNOWN_AUDIENCES_SHOWN, RecordRates, Stats
from schemas.dead_letter import DropReason, Reason
from schemas.sync import DestinationState
from tests.unit.web.fake_worker import NOW, Destination, FakeWorker

STAGES = ["resolve", "evaluate", "expire", "batch", "deliver"]
IDLE_STAGE = {"in": 0, "out": 0, "dropped": {}, "dead": 0, "rate": None, "lag": None}


def test_a_worker_that_has_done_nothing() -> None:
    worker = FakeWorker(audiences=["vips"])
    document = Stats(worker.view()).document(ready=False)
    assert set(document.pop("worker")) == {"ready", "version", "clock", "memory_bytes"}
    assert document == {
        "stages": dict.fromkeys(STAGES, IDLE_STAGE),
        "audiences": {"vips": {"members": 0, "entered": 0, "exited": 0, "destinations": []}},
        "dead_letters": {},
        "clock_lag_seconds": None,
        "backfill": {},
        "facebook": {"version": "v25.0", "token": None, "warnings": []},
        "reconcile": None,
        "unknown_audiences": {"calls": {}, "other_calls": 0},
        "unknown_errors": {},
        "blocked_identifiers": 0,
        "left_blank": {},
        "forgotten": {"message_ids": 0, "events": 0, "values": 0},
    }


def test_fields_that_were_left_blank() -> None:
    worker = FakeWorker()
    worker.counters.left_blank.update(
        {("PHONE", "placeholder"): 2, ("EMAIL", "unusable"): 1, ("PHONE", "unusable"): 3}
    )
    document = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))
    assert document["left_blank"] == {"EMAIL": {"unusable": 1}, "PHONE": {"placeholder": 2, "unusable": 3}}


def test_a_stage() -> None:
    worker = FakeWorker(lags={"resolve": 0, "evaluate": None})
    worker.counters.stages["resolve"] = StageCounters(12, 7, Counter({DropReason.ALIAS: 2}), 3)
    worker.counters.dead_letters[Reason.INVALID_JSON] = 3
    # Through JSON: members of an enumeration are no keys to it.
    document = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))
    assert document["stages"]["resolve"] == {
        "in": 12,
        "out": 7,
        "dropped": {"alias": 2},
        "dead": 3,
        "rate": None,
        "lag": 0,  # known, and none
    }
    assert document["stages"]["evaluate"]["lag"] is None
    assert document["stages"]["deliver"]["lag"] is None  # nobody has told
    assert document["dead_letters"] == {"invalid_json": 3}


def test_what_the_calls_to_facebook_rest_on() -> None:
    facts = TokenFacts(True, ("ads_management",), NOW + 500, None, "42", "SYSTEM_USER")
    worker = FakeWorker(facebook=FacebookView("v25.0", facts, NOW, None, ("it ends",)))
    document = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))
    assert document["facebook"] == {
        "version": "v25.0",
        "token": {
            "valid": True,
            "kind": "SYSTEM_USER",
            "app_id": "42",
            "scopes": ["ads_management"],
            "expires_at": "2026-03-01T12:00:00.500Z",
            "data_access_expires_at": None,
            "checked_at": "2026-03-01T12:00:00Z",
            "refreshed_at": None,
        },
        "warnings": ["it ends"],
    }


def test_a_destination() -> None:
    worker = FakeWorker(audiences=["vips", "churned"])
    worker.counters.audiences["vips"] = AudienceCounters(members=5, entered=8, exited=3)
    worker.destinations["vips@act_2"] = Destination()
    worker.destinations["vips@act_1"] = Destination(
        state=DestinationState.HELD,
        reason="no permission",
        sent=11,
        rejected=1,
        pending=2,
        oldest_pending_at=NOW - 1_250,
        facebook_id="120330000000000001",
        lower_bound=1_000,
        upper_bound=1_200,
        last_sync_at=NOW - 500,
        ad_account_id="act_1",
        operation="200 Normal",
        delivery="300 too small",
        next_retry_at=NOW + 60_000,
    )
    audiences = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))["audiences"]
    assert list(audiences) == ["vips", "churned"]
    vips = audiences["vips"]
    assert {name: vips[name] for name in ("members", "entered", "exited")} == {
        "members": 5,
        "entered": 8,
        "exited": 3,
    }
    assert vips["destinations"] == [
        {
            "id": "vips@act_1",
            "state": "held",
            "reason": "no permission",
            "sent": 11,
            "rejected": 1,
            "pending": 2,
            "oldest_pending_seconds": 1.25,
            "facebook_id": "120330000000000001",
            "lower_bound": 1_000,
            "upper_bound": 1_200,
            "last_sync_at": "2026-03-01T11:59:59.500Z",
            "ad_account_id": "act_1",
            "operation": "200 Normal",
            "delivery": "300 too small",
            "next_retry_at": "2026-03-01T12:01:00Z",
        },
        {
            "id": "vips@act_2",
            "state": "live",
            "reason": None,
            "sent": 0,
            "rejected": 0,
            "pending": 0,
            "oldest_pending_seconds": None,
            "facebook_id": None,
            "lower_bound": None,
            "upper_bound": None,
            "last_sync_at": None,
            "ad_account_id": None,
            "operation": None,
            "delivery": None,
            "next_retry_at": None,
        },
    ]


def test_an_audience_no_longer_defined_is_shown_while_something_of_it_is_left() -> None:
    worker = FakeWorker(audiences=["vips"])
    worker.counters.audiences["counted"] = AudienceCounters(exited=4)
    worker.destinations["delivered"] = Destination(audience="delivered")
    audiences = Stats(worker.view()).document(ready=True)["audiences"]
    assert list(audiences) == ["vips", "counted", "delivered"]
    assert audiences["counted"]["exited"] == 4
    assert [shown["id"] for shown in audiences["delivered"]["destinations"]] == ["delivered"]


@pytest.mark.parametrize(
    ("clock", "shown", "lag"),
    [
        (NOW - 2_500, "2026-03-01T11:59:57.500Z", 2.5),
        (NOW, "2026-03-01T12:00:00Z", 0.0),
        (NOW + 40, "2026-03-01T12:00:00.040Z", 0.0),  # the wall was set back: nothing is behind
        (None, None, None),
    ],
)
def test_clock(clock: int | None, shown: str | None, lag: float | None) -> None:
    document = Stats(FakeWorker(clock=clock).view()).document(ready=True)
    assert document["worker"]["clock"] == shown
    assert document["clock_lag_seconds"] == lag


def test_numbers_are_those_of_the_moment_of_asking() -> None:
    worker = FakeWorker()
    stats = Stats(worker.view())
    assert stats.document(ready=False)["worker"]["ready"] is False
    worker.counters.stages["expire"].records_out += 1
    worker.audiences = ["new"]
    worker.lags["batch"] = 9
    document = stats.document(ready=True)
    assert document["worker"]["ready"] is True
    assert document["stages"]["expire"]["out"] == 1
    assert document["stages"]["batch"]["lag"] == 9
    assert list(document["audiences"]) == ["new"]


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        ([], None),
        ([(100.0, 5)], None),  # one point has no slope
        ([(100.0, 5), (102.0, 9)], 2.0),  # shortly after the start: over what there is
        ([(100.0, 0), (100.5, 100), (110.25, 100)], 9.756),  # the step ended 9.75 s ago: inside
        ([(100.0, 0), (100.5, 100), (110.5, 100)], 0.0),  # 10 s ago: outside
        ([(100.0, 0), (100.5, 100), (160.0, 100), (161.0, 111)], 0.182),  # a silent timer: 11 since 60.5 s
        ([(100.0, 0), (110.0, 50), (110.0, 80)], 5.0),  # no time has passed: not a point
        ([(100.0, 0), (110.0, 50), (109.0, 80)], 5.0),  # time that goes back: not a point
    ],
)
def test_rate(samples: list[tuple[float, int]], rate: float | None) -> None:
    rates = RecordRates()
    for now, counted in samples:
        rates.sample(now, {"resolve": counted})
    assert rates.rate("resolve") == rate


def test_rates_of_a_long_run_take_bounded_memory() -> None:
    rates = RecordRates()
    for second in range(5_000):
        rates.sample(float(second), {"resolve": 3 * second})
    assert rates.rate("resolve") == 3.0
    assert len(rates._samples) == 11


def test_rates_are_of_records_in_and_per_stage() -> None:
    worker = FakeWorker()
    stats = Stats(worker.view())
    stats.sample(50.0)
    worker.counters.stages["evaluate"] = StageCounters(records_in=40, records_out=7)
    stats.sample(54.0)
    stages = stats.document(ready=True)["stages"]
    assert {name: stage["rate"] for name, stage in stages.items()} == {
        **dict.fromkeys(STAGES, 0.0),
        "evaluate": 10.0,
    }


def test_unknown_audiences_are_capped_and_none_is_lost() -> None:
    worker = FakeWorker()
    counters = worker.counters
    calls = 0
    for number in range(MAX_UNKNOWN_AUDIENCES + 50):
        for _ in range(2 if number == 700 else 1):
            counters.count_unknown_audience(f"key_{number}")
            calls += 1
    assert len(counters.unknown_audiences) == MAX_UNKNOWN_AUDIENCES
    shown = Stats(worker.view()).document(ready=True)["unknown_audiences"]
    assert len(shown["calls"]) == UNKNOWN_AUDIENCES_SHOWN
    assert next(iter(shown["calls"].items())) == ("key_700", 2)  # the most frequent first
    assert sum(shown["calls"].values()) + shown["other_calls"] == calls


def test_a_key_that_found_room_goes_on_being_counted() -> None:
    counters = Counters()
    counters.count_unknown_audience("k" * 30_000)
    for number in range(MAX_UNKNOWN_AUDIENCES - 1):
        counters.count_unknown_audience(f"key_{number}")
    counters.count_unknown_audience("key_3")
    counters.count_unknown_audience("too late")
    # What is kept is bounded too, whatever is shown of it.
    assert max(map(len, counters.unknown_audiences)) <= MAX_UNKNOWN_AUDIENCE_LENGTH
    assert counters.unknown_audiences["key_3"] == 2
    assert counters.other_unknown_audience_calls == 1


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ('a"b\\c\nd', 'a"b\\c\nd'),
        ("\x00\u2028<script>", "\x00\u2028<script>"),  # JSON quotes what it must
        ("half \ud83d of a pair", "half ? of a pair"),  # UTF-8 has no such thing
        ("k" * 30_000, "k" * MAX_UNKNOWN_AUDIENCE_LENGTH),
    ],
)
def test_hostile_unknown_audiences(key: str, shown: str) -> None:
    worker = FakeWorker()
    worker.counters.unknown_audiences[key] += 1
    worker.counters.count_unknown_audience(key)
    answered = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))
    assert answered["unknown_audiences"] == {"calls": {shown: 2}, "other_calls": 0}


def test_a_reason_that_json_cannot_carry() -> None:
    worker = FakeWorker(destinations={"vips": Destination(reason="Facebook refused \udc00")})
    answered = orjson.loads(orjson.dumps(Stats(worker.view()).document(ready=True)))
    assert answered["audiences"]["vips"]["destinations"][0]["reason"] == "Facebook refused ?"


def test_what_the_scheduled_look_has_found() -> None:
    found = Difference("behind", "3 changes are not confirmed", "see that workers run")
    view = ReconcileView(1_767_225_600_000, 3, 1, (("vips", (found,)),))
    worker = FakeWorker(audiences=["vips"], reconcile=view)
    assert Stats(worker.view()).document(ready=True)["reconcile"] == {
        "checked_at": "2026-01-01T00:00:00Z",
        "audiences": 3,
        "differing_audiences": 1,
        "differing": {
            "vips": [
                {"kind": "behind", "text": "3 changes are not confirmed", "repair": "see that workers run"}
            ]
        },
        "trouble": None,
    }
