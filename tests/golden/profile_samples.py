"""What is stored of profiles, one sample of each kind: states, a partition's own records, and events."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from app.domain.clock import ClockRecord, LaneRecord
from app.domain.person_state import IdentifierState, IdentityState, PersonState
from app.domain.state import (
    AudiencesRecord,
    CallsState,
    ClaimState,
    FeedState,
    MembershipState,
    NumberTotals,
    PartitionRecord,
    ProfileState,
    Stand,
    Tie,
    Ties,
    ToldTrait,
    Totals,
    TraitState,
    encode_state,
)
from schemas.profile import (
    ASK,
    CALL,
    DONE,
    ENDED,
    ENTRY,
    FORGET,
    GROUP,
    JOIN,
    MARKER,
    MERGE,
    MOVED,
    PAST,
    PAST_END,
    REPEAT,
    STANDING,
    VERSION,
    FeedHit,
    Linking,
    ProfileEvent,
    Repeat,
    Standing,
)

AT = 1_767_225_600_000
EMAIL = hashlib.sha256(b"somebody").hexdigest()
OTHER = hashlib.sha256(b"somebody else").hexdigest()
DEVICE = str(uuid.UUID(int=7))
LANE = "topic-id/1"


def profile_state() -> ProfileState:
    person = PersonState(
        identifiers={
            "EMAIL": IdentifierState(EMAIL, AT),
            "EXTERN_ID": IdentifierState("user_1", AT + 1),
            "MADID": IdentifierState(DEVICE, AT - 5),
            "LOOKALIKE_VALUE": IdentifierState(12.5, AT),
            "PHONE": IdentifierState(None, AT),
            "EMAIL@work": IdentifierState(OTHER, AT),
        },
        further={"EMAIL": [OTHER], "MADID": ["not-a-uuid"]},
        identity=IdentityState(
            aliases={
                "user_1": AT,
                f"email:{EMAIL}": AT - 7,
                f"madid:{DEVICE}": AT,
                "anonymous_id:a1": AT + 9,
            },
            links=[[f"email:{OTHER}", "anonymous_id:a2"]],
            asking=True,
            inherited=["vips", "abc123 6 anonymous_id:a3", "def456 ~2 anonymous_id:a3"],
        ),
    )
    return ProfileState(
        wake=AT + 86_400_000,
        settled=AT - 1,
        feeds={
            "feed01": FeedState([AT - 3, AT], [["EUR", 12.5], [None, True]]),
            "feed02": FeedState([AT], [], Totals(9, [NumberTotals(8, 100.25, 1e-12, -4.0, 60.5)])),
        },
        traits={
            "$.traits.plan": TraitState("gold", AT, b"\x01\x02\x03\x04\x05"),
            "$.traits.vip": TraitState(None, AT, b""),
            "$.traits.tags": TraitState(["a", 1, True], AT, b"\x01m"),
        },
        claims={"engaged": ClaimState(True, AT, "message-7"), "leads#3": ClaimState(False, AT, "")},
        memberships={"abc123": MembershipState(True, 5), "def456": MembershipState(False, 2)},
        recent_ids=b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09",
        recent_at=[1_767_225_599, 1_767_225_600],
        computed={"lifetime_value": 112.75, "favourite": "shoes", "orders": 9},
        since=AT - 100,
        person=person,
        calls=CallsState({"lifetime_value": ToldTrait(2**40, 3, AT)}, {"vips": AT + 1}),
        ties=Ties(
            accounts={"group_id:g1": Tie({"/asked": True}, ["anonymous_id:a9"], ["abc123"], 3)},
            users={"user_2": 0},
            stands=[Stand({"/asked": False}, 1)],
            ended=["user_8"],
            replaced=["user_9"],
            sequence=4,
            at=AT,
            id_bytes=6,
        ),
    )


def partition_record() -> PartitionRecord:
    clock = ClockRecord(AT, [LaneRecord(LANE, 41, 2, AT - 10), LaneRecord("profiles/3", 7, 0, None)])
    return PartitionRecord(
        VERSION, clock, "plan-digest", {"vips": 12, "lapsed": 0}, AT - 1, 99, 4, {LANE: 41}, ["leads"]
    )


def audiences_record() -> AudiencesRecord:
    return AudiencesRecord(
        1, {"recent": AT}, {"vips": ["vips@act_1", "vips@act_2"]}, {"vips": ["vips@act_1"]}
    )


def _profile_event(kind: int, **fields: Any) -> ProfileEvent:
    return ProfileEvent(VERSION, kind, LANE, 41, 2, AT - 3, AT, **fields)


def _linking(**fields: Any) -> Linking:
    return Linking(["anonymous_id:a1"], "user_1", {"user_1": AT}, **fields)


def _call(kind: int) -> ProfileEvent:
    return _profile_event(
        kind,
        message_id="message-7",
        hits=[FeedHit("feed01", ["EUR", 12.5, None])],
        traits={"$.traits.plan": "gold", "$.traits.vip": None},
        identifiers={"EMAIL": [EMAIL, OTHER], "EXTERN_ID": "user_1", "LOOKALIKE_VALUE": 3.5, "PHONE": None},
        claims={"engaged": True, "leads#3": False},
        linking=Linking(["anonymous_id:a1", f"email:{EMAIL}"]),
        definitions=4,
    )


def profile_events() -> dict[str, ProfileEvent]:
    repeat = Repeat("vips", 5, 77, 4, {"vips@act_1": (2, AT)})
    return {
        "CALL": _call(CALL),
        "MARKER": _profile_event(MARKER, progress={LANE: AT}, definitions=4, since={LANE: 12}),
        "ASK": _profile_event(ASK, linking=_linking()),
        "MERGE": _profile_event(MERGE, linking=_linking(state=encode_state(profile_state()))),
        "DONE": _profile_event(DONE, linking=_linking()),
        "MOVED": _profile_event(MOVED, linking=_linking()),
        "PAST": _call(PAST),
        "PAST_END": _profile_event(PAST_END, definitions=4),
        "REPEAT": _profile_event(REPEAT, repeat=repeat),
        "JOIN": _profile_event(JOIN, standing=Standing("group_id:g1")),
        "GROUP": _profile_event(GROUP, message_id="message-8", traits={"$.traits.plan": "gold"}),
        "STANDING": _profile_event(
            STANDING, standing=Standing("", "user_1", ["user_2"], {"/asked": True}, by_time=True)
        ),
        "ENDED": _profile_event(ENDED, standing=Standing(user="user_2")),
        "ENTRY": _profile_event(ENTRY, standing=Standing("group_id:g1", audiences=["abc123"], sequence=3)),
        "FORGET": _profile_event(FORGET, linking=Linking(asker="user_1")),
    }
