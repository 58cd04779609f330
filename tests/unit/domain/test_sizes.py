"""Sizes on both sides, and why they differ."""

from __future__ import annotations

import random
from typing import Any

import pytest

from app.domain.sizes import SizeTally, explain, share
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import SyncHour, SyncState

NOW = 1_767_225_600_000
DAY = 24 * 3_600_000


def delta(profile: str, change: Change, rows: dict[str, list[dict[str, str | float]]]) -> MembershipDelta:
    return MembershipDelta("vips", profile, change, 1, rows, 0, 0, Cause.EVENT)


def tally(*people: list[dict[str, str | float]]) -> SizeTally:
    made = SizeTally("vips")
    for number, rows in enumerate(people):
        made.take(f"vips|{number}".encode(), delta(str(number), Change.ENTERED, {"vips": rows}))
    return made


def state(**fields: Any) -> SyncState:
    given = {"facebook_id": "1", "lower_bound": 1000, "upper_bound": 1000, "last_sync_at": NOW - 3 * DAY}
    return SyncState(destination="vips", audience="vips", marker="m", updated_at=0, **{**given, **fields})


def test_shares_are_of_members_who_are_sent_by_any_of_their_rows() -> None:
    found = tally(
        [{"EXTERN_ID": "a", "EMAIL": "x"}, {"EXTERN_ID": "a", "EMAIL": "y"}],
        [{"EXTERN_ID": "b", "PHONE": ""}, {"PHONE": "p"}],
        [{"EXTERN_ID": "c"}],
        [],
    )
    assert (len(found.members), found.sent) == (4, 3)
    assert found.carrying == {"EXTERN_ID": 3, "EMAIL": 1, "PHONE": 1}
    assert list(found.carrying) == ["EXTERN_ID", "EMAIL", "PHONE"]
    assert found.by_external_id_alone == 1
    assert (share(1, 3), share(0, 0)) == (33.3, None)


def test_the_newest_record_of_each_person_counts_against_brute_force() -> None:
    draw = random.Random(7)
    keys = ["EXTERN_ID", "EMAIL", "PHONE", "CT"]
    for _ in range(50):
        found, newest = SizeTally("vips@act_1", former="vips"), {}
        for _ in range(60):
            person = str(draw.randrange(8))
            rows: list[dict[str, str | float]] = [
                {key: draw.choice(["", "v"]) for key in draw.sample(keys, draw.randrange(1, 4))}
                for _ in range(draw.randrange(3))
            ]
            destination = draw.choice(["vips@act_1", "vips", "vips@act_2"])
            change = draw.choice(list(Change))
            forgotten = draw.random() < 0.1
            said = None if forgotten else delta(person, change, {destination: rows})
            found.take(f"vips|{person}".encode(), said)
            told = said is not None and change is not Change.EXITED and destination != "vips@act_2"
            newest[person] = rows if told else None
        members = [rows for rows in newest.values() if rows is not None]
        assert len(found.members) == len(members)
        carried = {
            key: sum(any(row.get(key) for row in rows) for rows in members)
            for key in keys
            if any(row.get(key) for rows in members for row in rows)
        }
        assert found.carrying == carried


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"facebook_id": None}, "there is no Facebook audience yet"),
        ({"dry_run": True}, "in a dry run nobody is sent"),
        ({"lower_bound": None, "upper_bound": None}, "Facebook has not said a size yet"),
        ({"lower_bound": -1, "upper_bound": -1}, "Facebook names no size (-1)"),
        ({}, "Facebook shows 1,000 for all lists of 1,000 matched people and fewer"),
        ({"lower_bound": 1200, "upper_bound": 1300}, "1,300 people at most of the 2,000 who are sent"),
        ({}, "so many carry each key: EXTERN_ID 100.0 %, EMAIL 25.0 %"),
        ({}, "1,500 (75.0 %) carry an external id alone"),
        ({"last_sync_at": NOW - DAY + 1}, "the last sync is less than 24 hours old"),
        ({"operation": "411 Low match rate"}, "could match few of the people (status 411)"),
        ({"delivery": "300 too small"}, "too small (status 300)"),
        ({"hours": (SyncHour(hour=1, rejected=3), SyncHour(hour=2, rejected=1))}, "refused 4 rows"),
    ],
)
def test_a_smaller_audience_at_facebook_is_explained(fields: dict[str, Any], says: str) -> None:
    people: list[list[dict[str, str | float]]] = [[{"EXTERN_ID": "a"}]] * 1500
    people += [[{"EXTERN_ID": "a", "EMAIL": "x"}]] * 500
    found = tally(*people)
    assert any(says in text for text in explain(found, state(**fields), NOW)), says
    quiet = [] if fields.keys() - {"operation", "delivery", "hours", "last_sync_at"} else [fields]
    for one in quiet:
        texts = explain(found, state(**{**one, "upper_bound": 2000}), NOW)
        assert texts == [], "not smaller: nothing to explain"


def test_what_does_not_hold_is_not_said() -> None:
    found = tally([{"EMAIL": "x"}])
    texts = explain(found, state(upper_bound=0, lower_bound=0), NOW)
    assert texts == [
        "Facebook shows 1,000 for all lists of 1,000 matched people and fewer: it is no count",
        "of the members who are sent so many carry each key: EMAIL 100.0 %",
    ]
    assert explain(tally([]), None, NOW) == [
        "1 members have nothing that could be sent; they are when an identifier arrives",
        "there is no Facebook audience yet",
    ]
