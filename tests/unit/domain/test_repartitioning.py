"""What one partition remembered, made true of all: against brute force over the very records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.clock import ClockRecord, LaneRecord, PartitionClock
from app.domain.compact import audience_id
from app.domain.published import Published
from app.domain.repartitioning import (
    MOST_APART_MS,
    MOVED_LANE,
    Members,
    Offsets,
    Waiting,
    may_live_in,
    merged_audiences,
    merged_record,
    moved_letter,
    moved_state,
    offsets_in,
    refuse_unfinished,
)
from app.domain.state import AudiencesRecord, MembershipState, PartitionRecord, ProfileState
from app.errors import InvalidInputError
from schemas.control import DefinitionsRecord
from schemas.dead_letter import DeadLetter, Origin, Reason, dead_letter_id
from schemas.profile import CALL, MARKER, PAST, ProfileEvent
from schemas.sync import BrakeState, OffsetRange, ReplaceSession, SyncState
from topics.partitioning import partition_for

AUDIENCES = ["vips", "lapsed", "recent", "a", "b"]
LANE, OTHER = "topic/0", "topic/1"


def record(now: int | None, lanes: list[LaneRecord], **fields: Any) -> PartitionRecord:
    return PartitionRecord(1, ClockRecord(now, lanes), fields.pop("plan", "p"), {}, **fields)


# --- offsets ---


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.lists(st.sampled_from(AUDIENCES), max_size=60),
    st.data(),
)
def test_a_cursor_stands_before_the_same_changes_as_it_did(
    before: int, after: int, written: list[str], data: st.DataObject
) -> None:
    old: dict[int, list[tuple[str, int]]] = {number: [] for number in range(before)}
    for number, audience in enumerate(written):
        old[partition_for(audience.encode(), before)].append((audience, number))
    asked = {
        audience: data.draw(st.integers(0, len(old[partition_for(audience.encode(), before)])), audience)
        for audience in AUDIENCES
    }
    offsets = Offsets(lambda audience: partition_for(audience.encode(), after))
    for audience, offset in asked.items():
        offsets.ask(audience, offset)
    offsets.begin()
    new: dict[int, list[tuple[str, int]]] = {number: [] for number in range(after)}
    for partition, records in old.items():
        for offset, change in enumerate(records):
            place = partition_for(change[0].encode(), after)
            offsets.see(change[0], (partition, offset), (place, len(new[place])))
            new[place].append(change)
    offsets.end({number: len(records) for number, records in new.items()})
    for audience, offset in asked.items():
        partition, moved = offsets.place(audience, offset)
        waits = [one for one in old[partition_for(audience.encode(), before)][offset:] if one[0] == audience]
        assert moved <= len(new[partition])
        assert [one for one in new[partition][moved:] if one[0] == audience] == waits


def test_every_offset_of_a_state_is_moved() -> None:
    state = SyncState(
        destination="vips",
        audience="vips",
        marker="m",
        updated_at=0,
        cursor=10,
        unconfirmed=(OffsetRange(first=10, end=12), OffsetRange(first=13, end=13)),
        resync_end=20,
        replace=ReplaceSession(end=30),
        brake=BrakeState(position=40, members=1),
    )
    assert sorted(offsets_in(state)) == [10, 10, 12, 13, 13, 20, 30, 40]
    moved = moved_state(state, 50, lambda offset: offset + 100)
    assert sorted(offsets_in(moved)) == [110, 110, 112, 120, 130, 140], "an empty range is none"
    assert moved.model_copy(update={name: getattr(state, name) for name in MOVED_FIELDS}) == state
    none = SyncState(destination="vips", audience="vips", marker="m", updated_at=0)
    assert moved_state(none, 0, lambda offset: offset) == none


MOVED_FIELDS = ("cursor", "unconfirmed", "resync_end", "replace", "brake")


def test_a_cursor_of_a_partition_that_is_gone_begins_anew() -> None:
    state = SyncState(destination="vips", audience="vips", marker="m", updated_at=0, cursor=51, resync_end=60)
    moved = moved_state(state, 50, lambda _: 7)
    assert (moved.cursor, moved.resync_end) == (0, 0)


# --- lanes and clocks ---


def test_nothing_that_resolve_has_committed_counts_twice_and_what_follows_counts() -> None:
    records = [
        record(100, [LaneRecord(LANE, 7, 1, 100), LaneRecord("profiles/1", 3, 0, None)], fired=90, sent=9),
        record(130, [LaneRecord(LANE, 4, 0, 140), LaneRecord(OTHER, 1, 0, 130)], fired=130),
    ]
    merged = merged_record(records, {LANE: 9, OTHER: 2}, {"vips": 3})
    clock = PartitionClock()
    clock.load(merged.clock)
    assert not clock.accept(LANE, 8, 99), "it came to nobody, or to somebody who has it"
    assert clock.accept(LANE, 9, 0)
    assert clock.accept(OTHER, 2, 0)
    assert clock.accept("profiles/1", 1, 0), "another partition has that number now"
    assert (merged.clock.now, merged.fired, merged.sent, merged.members) == (130, 90, 0, {"vips": 3})
    progress = {lane.lane: lane.progress for lane in merged.clock.lanes}
    assert progress == {LANE: 100, OTHER: 130}, "no further than everywhere"


def test_a_lane_of_another_source_keeps_its_furthest_position() -> None:
    records = [record(1, [LaneRecord("old/0", 7, 1, 1)]), record(1, [LaneRecord("old/0", 7, 3, 2)])]
    (lane,) = merged_record(records, {LANE: 0}, {}).clock.lanes
    assert (lane.offset, lane.index) == (7, 3)


def test_states_of_different_plans_are_all_looked_at_again() -> None:
    assert merged_record([record(1, []), record(1, [])], {}, {}).plan == "p"
    assert merged_record([record(1, []), record(1, [], plan="q")], {}, {}).plan == ""


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record(1, [], definitions=1), record(1, [], definitions=2)], "different versions"),
        ([record(1, [], boundary={})], "filled from history"),
        ([record(0, []), record(MOST_APART_MS + 1, [])], "behind another one"),
        ([record(1, [LaneRecord(LANE, 5, 0, 1)])], "did not end by itself"),
    ],
    ids=["versions", "filling", "clocks", "committed"],
)
def test_what_only_workers_can_finish_is_refused(records: list[PartitionRecord], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        refuse_unfinished(Published(), records, {LANE: 5}, 4)


def test_what_is_finished_is_not_refused() -> None:
    records = [record(0, [LaneRecord(LANE, 4, 0, 1)]), record(MOST_APART_MS, []), record(None, [])]
    refuse_unfinished(Published(), records, {LANE: 5}, 4)
    newest = DefinitionsRecord(number=2, digest="d", definitions={}, generations={"vips": 2}, published_at=0)
    with pytest.raises(InvalidInputError, match="filled from history"):
        refuse_unfinished(Published(versions={2: newest}), records, {LANE: 5}, 4)


def test_what_waits_comes_once_and_in_order() -> None:
    clock, waiting = PartitionClock(), Waiting({LANE: 9})
    clock.load(ClockRecord(1, [LaneRecord(LANE, 5, 0, 1)]))
    events = [
        ProfileEvent(1, kind, LANE, offset, index, 1, 1)
        for kind, offset, index in [
            (CALL, 5, 0),
            (CALL, 5, 1),
            (MARKER, 0, 0),
            (CALL, 6, 0),
            (CALL, 6, 0),
            (PAST, 7, 0),
            (CALL, 8, 0),
            (CALL, 9, 0),
        ]
    ]
    taken = [one for event in events if (one := waiting.take(event, clock)) is not None]
    assert [(one.lane, one.offset, one.index) for one in taken] == [(MOVED_LANE, n, 0) for n in (1, 2, 3)]
    assert [event.offset for event in events if event.offset == 9], "which resolve writes again"
    later = waiting.take(ProfileEvent(1, CALL, LANE, 2, 0, 1, 1), PartitionClock())
    assert later is not None
    assert later.offset == 4, "of another partition, where that position is new"


# --- who is where ---


@given(st.binary(min_size=1), st.integers(1, 40), st.integers(1, 40))
def test_a_digest_is_remembered_where_its_profile_may_be(profile: bytes, before: int, after: int) -> None:
    old = partition_for(profile, before)
    assert partition_for(profile, after) in may_live_in(old, before, after)
    everywhere = [place for number in range(before) for place in may_live_in(number, before, after)]
    assert set(everywhere) == set(range(after))


def test_doubling_remembers_no_digest_four_times() -> None:
    assert list(may_live_in(1, 4, 8)) == [1, 5]
    assert list(may_live_in(3, 4, 2)) == [1]
    assert list(may_live_in(1, 4, 3)) == [0, 1, 2]


def test_members_are_people_who_are_in() -> None:
    members = Members()
    inside = {audience_id("vips"): MembershipState(True, 1), audience_id("a"): MembershipState(False, 2)}
    members.add(b"user_1", ProfileState(memberships=inside))
    members.add(b"user_2", ProfileState(memberships=inside))
    members.add(b"group_id:acme", ProfileState(memberships=inside))
    assert members.of(["vips", "a"]) == {"vips": 2, "a": 0}


def test_who_was_not_told_everywhere_is_told_again() -> None:
    first = AudiencesRecord(1, {"a": 5, "b": 7}, {"a": ["a", "x"], "b": ["b"]}, {"a": ["a"]})
    second = AudiencesRecord(1, {"a": 3}, {"a": ["x"]}, {"a": ["a"]})
    assert merged_audiences([first, second]) == AudiencesRecord(
        1, {"a": 3, "b": 7}, {"a": ["x"]}, {"a": ["a"]}
    )
    assert merged_audiences([]) is None


# --- dead letters ---


def letter(stage: Any, topic: str, index: int = 0, **about: Any) -> DeadLetter:
    origin = Origin(topic=topic, partition=2, offset=5)
    id_ = dead_letter_id(
        stage, origin, index, about.get("destination"), about.get("profile"), about.get("sequence")
    )
    return DeadLetter(
        id=id_,
        stage=stage,
        reason=Reason.REJECTED_ROW,
        detail="d",
        origin=origin,
        first_failed_at=1,
        last_failed_at=1,
        **about,
    )


def test_a_letter_of_a_row_has_the_id_that_a_second_refusal_gives_it() -> None:
    offsets = Offsets(lambda _: 1)
    offsets.ask("vips", 5)
    offsets.ask_exactly(2, 5)
    offsets.begin()
    offsets.see("vips", (2, 5), (1, 33))
    offsets.end({1: 40})
    about = {"audience": "vips", "destination": "vips@act_1", "profile": "u", "sequence": 4}
    row = letter("deliver", "m", 3, **about)
    moved = moved_letter(row, offsets, "m", "e")
    place = Origin(topic="m", partition=1, offset=33)
    assert (moved.origin, moved.id) == (place, dead_letter_id("deliver", place, 3, "vips@act_1", "u", 4))
    garbage = moved_letter(letter("deliver", "m"), offsets, "m", "e")
    assert (garbage.origin, garbage.resolved) == (place, None)
    assert garbage.id == dead_letter_id("deliver", place)


def test_a_letter_whose_record_is_not_moved_has_expired() -> None:
    offsets = Offsets(lambda _: 1)
    offsets.ask_exactly(2, 5)
    assert moved_letter(letter("deliver", "m"), offsets, "m", "e").resolved == "expired"
    assert moved_letter(letter("evaluate", "e"), offsets, "m", "e").resolved == "expired"
    source = letter("resolve", "s")
    assert moved_letter(source, offsets, "m", "e") == source
