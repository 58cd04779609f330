"""When counters, memberships, confirmations and Facebook's bounds agree."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.reconciling import (
    GRACE_MS,
    AudienceTally,
    Bounds,
    DestinationFinding,
    compare_audience,
    compare_destination,
    view_of,
)
from app.domain.replacing import why_never
from schemas.audience import AudienceDefinition, AudienceSource, FacebookDestination, SyncMode
from schemas.membership import Cause, Change, MembershipDelta
from schemas.sync import BrakeState, BrakeTrip, DestinationState, SyncState

NOW = 1_767_225_600_000
BATCH = 30_000
LIVE = (DestinationState.LIVE, None)
AUDIENCE = AudienceDefinition(key="vips", name="VIPs", source=AudienceSource.ENGAGE)


def take(tally: AudienceTally, person: str, change: str, offset: int, written: int = 0, **rows: int) -> None:
    """`rows`: how many of each destination."""
    said: dict[str, list[dict[str, str | float]]] = {
        id_: [{"EXTERN_ID": f"{person}-{number}"} for number in range(count)] for id_, count in rows.items()
    }
    delta = MembershipDelta("vips", person, Change(change), 1, said, 0, 0, Cause.EVENT)
    tally.take(f"vips|{person}".encode(), delta, offset, written)


def state(**fields: Any) -> SyncState:
    return SyncState(destination="vips", audience="vips", marker="m", updated_at=0, **fields)


def found(tally: AudienceTally, **changes: Any) -> DestinationFinding:
    arguments: dict[str, Any] = {
        "state": state(),
        "shown": LIVE,
        "dead_letters": 0,
        "bounds": Bounds(),
        "connected": False,
        "now_ms": NOW,
        "batch_ms": BATCH,
        **changes,
    }
    return compare_destination("vips", tally.destinations["vips"], **arguments)


def kinds(finding: DestinationFinding) -> list[str]:
    return [difference.kind for difference in finding.differences]


def crowd(people: int, rows: int = 1) -> AudienceTally:
    """So many confirmed members."""
    tally = AudienceTally({"vips": people})
    for number in range(people):
        take(tally, f"user_{number}", "entered", number, vips=rows)
    return tally


def test_the_newest_record_of_each_person_counts() -> None:
    tally = AudienceTally({"vips": 4, "vips2": 0})
    take(tally, "ann", "entered", 0, vips=2, vips2=1)
    take(tally, "bob", "entered", 1, vips=1)
    take(tally, "cem", "entered", 2, vips=0)
    take(tally, "bob", "exited", 3, vips=1)
    take(tally, "dee", "entered", 4, NOW - 9, vips=1)
    take(tally, "dee", "updated", 5, NOW - 4, vips=1)
    take(tally, "eve", "exited", 6, NOW - 7, vips=1)
    assert len(tally.members) == 3
    first = found(tally)
    assert (first.told, first.confirmed, first.pending) == (2, 1, 2)
    assert first.oldest_pending_at == "2025-12-31T23:59:59.993Z"
    assert (len(tally.destinations["vips2"].told), len(tally.destinations["vips2"].pending)) == (1, 1)
    # The newest says nothing to the destination, so nothing is to be confirmed.
    take(tally, "eve", "exited", 7)
    assert found(tally).pending == 1
    tally.take(b"vips|ann", None, 8, 0)
    assert len(tally.members) == 2
    assert found(tally).told == 1


@pytest.mark.parametrize(
    ("counted", "moved", "expected"),
    [(3, 0, []), (4, 0, ["counters"]), (2, 0, ["counters"]), (5, 2, []), (1, 2, []), (6, 2, ["counters"])],
)
def test_counters_differ_by_no_more_than_came_in_between(
    counted: int, moved: int, expected: list[str]
) -> None:
    tally = crowd(3)
    tally.moved = moved
    finding = compare_audience(AUDIENCE, counted, tally, None, (found(tally),))
    assert [difference.kind for difference in finding.differences] == expected
    assert finding.agrees is not bool(expected)


def test_a_version_that_is_not_taken_up_is_waited_for() -> None:
    finding = compare_audience(AUDIENCE, 1, crowd(3), "version 2 is not taken up yet", ())
    (difference,) = finding.differences
    assert difference.repair == "wait, and look again"
    assert "version 2 is not taken up yet" in difference.text


@pytest.mark.parametrize(
    ("age", "changes", "expected"),
    [
        (GRACE_MS + 2 * BATCH, {}, []),
        (GRACE_MS + 2 * BATCH + 1, {}, ["behind"]),
        (GRACE_MS + 2 * BATCH + 1, {"state": None}, ["behind"]),
        # Whoever waits for a person is named at once.
        (0, {"shown": (DestinationState.PAUSED, "over")}, ["paused"]),
        (0, {"shown": (DestinationState.HELD, "no token")}, ["held"]),
        (0, {"shown": (DestinationState.GONE, None)}, ["gone"]),
        (0, {"shown": (DestinationState.CATCHING_UP, None)}, []),
        (0, {"dead_letters": 2}, ["dead_letters"]),
    ],
)
def test_changes_that_wait(age: int, changes: dict[str, Any], expected: list[str]) -> None:
    tally = AudienceTally({"vips": 0})
    take(tally, "ann", "entered", 0, NOW - age, vips=1)
    assert kinds(found(tally, **changes)) == expected


def test_nobody_is_told_of_a_pause_in_which_nothing_waits() -> None:
    assert kinds(found(crowd(3), shown=(DestinationState.PAUSED, "over"))) == []


def test_what_repairs_it_depends_on_the_cause() -> None:
    tally = AudienceTally({"vips": 0})
    take(tally, "ann", "exited", 0, 0, vips=1)
    trip = BrakeTrip(at=0, removed=2_000, members=3_000)
    brake = BrakeState(position=0, members=3_000, trip=trip)
    paused = (DestinationState.PAUSED, "safety brake")
    assert "--accept-shrink" in found(tally, state=state(brake=brake), shown=paused).differences[0].repair
    assert "--accept-shrink" not in found(tally, shown=paused).differences[0].repair
    again = found(tally, state=state(resync_end=9)).differences[0]
    assert "sent again" in again.text


@pytest.mark.parametrize(
    ("people", "rows", "lower", "upper", "changes", "expected"),
    [
        (2_000, 1, 2_500, 2_600, {}, []),
        (2_000, 1, 2_501, 2_600, {}, ["too_many"]),
        # Each row may be another person to Facebook.
        (2_000, 2, 4_900, 5_000, {}, []),
        # Who was there before, and the least bound that Facebook has.
        (2_000, 1, 9_000, 9_100, {"connected": True}, []),
        (3, 1, 1_000, 1_000, {}, []),
        (5_000, 1, 400, 500, {}, []),
        (5_000, 1, 400, 499, {}, ["too_few"]),
        (4_999, 1, 10, 10, {}, []),
        (5_000, 1, -1, -1, {}, []),
        (5_000, 1, None, None, {}, []),
        (5_000, 1, 0, 0, {"shown": (DestinationState.DRY_RUN, None)}, []),
        (5_000, 1, 0, 0, {"state": state(dry_run=True)}, []),
    ],
)
def test_facebooks_bounds_say_little(
    people: int, rows: int, lower: int | None, upper: int | None, changes: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(found(crowd(people, rows), bounds=Bounds(lower, upper, asked=True), **changes)) == expected


def test_too_many_are_replaced_where_that_is_possible() -> None:
    """A resync removes those who have left, and knows nothing of strangers."""
    bounds = Bounds(5_000, 5_100, asked=True)
    [usual] = found(crowd(2_000), bounds=bounds).differences
    assert usual.repair.startswith("audience-sync audiences resync vips --replace ")
    never = found(crowd(2_000), bounds=bounds, irreplaceable="it is value-based").differences[0]
    assert never.repair.startswith("audience-sync audiences resync vips removes ")
    assert never.repair.endswith("it is value-based")
    [few] = found(crowd(5_000), bounds=Bounds(100, 200, asked=True)).differences
    assert few.repair.startswith("audience-sync audiences resync vips sends ")


def test_what_is_kept_of_a_run_names_only_what_differs() -> None:
    tally = crowd(2_000)
    outside = found(tally, bounds=Bounds(5_000, 5_100, asked=True))
    findings = [
        compare_audience(AUDIENCE, 2_000, tally, None, (outside,)),
        compare_audience(AUDIENCE.model_copy(update={"key": "same"}), 2_000, tally, None, (found(tally),)),
    ]
    view = view_of(findings, NOW, None)
    assert (view.checked_at, view.audiences, view.differing_audiences) == (NOW, 2, 1)
    assert view.differing == (("vips", outside.differences),)


def test_whoever_is_kept_at_facebook_by_the_sync_mode_is_not_too_many() -> None:
    tally = crowd(2_000)
    take(tally, "user_0", "exited", 2_000)
    assert kinds(found(tally, bounds=Bounds(3_000, 3_100, asked=True))) == []


def test_an_audience_that_facebook_does_not_show() -> None:
    assert kinds(found(crowd(1), bounds=Bounds(asked=True, refused="(#100) no"))) == ["refused"]


def test_what_a_person_is_offered_is_not_refused_then() -> None:
    """`resync --replace` is refused where people stay on purpose, and is none where rows cannot go into a session."""
    usual = FacebookDestination(id="vips")
    keeping = FacebookDestination(id="vips", sync_mode=SyncMode.UPSERT)
    rows = AUDIENCE.model_copy(update={"source": AudienceSource.REVERSE_ETL})
    assert why_never(rows, usual) is None
    assert why_never(rows, keeping) == "its sync_mode upsert keeps people there who are no members"
    # Of Engage's audiences the boolean decides whatever the mode.
    assert why_never(AUDIENCE, keeping) is None
    worth = FacebookDestination(id="vips", value_based=True, fields={"value": []})
    assert why_never(rows, worth) == "it is value-based"
