"""One record of every format with something in every field, as this release writes it; all people are made up."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from app.domain.clock import ClockRecord, LaneRecord
from app.domain.forgetting import ForgottenRecord, Removal
from app.domain.formats import read_stored
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
    decode_audiences,
    decode_record,
    decode_state,
    encode_record,
    encode_state,
    forwarder,
)
from schemas.base import StoredMessage
from schemas.control import (
    DefinitionsRecord,
    DesiredRecord,
    Place,
    PlacedRecord,
    RepartitionRecord,
    RepartitionStep,
    RunningRecord,
    SetAsideRecord,
    TopicSettings,
    WantedRecord,
)
from schemas.dead_letter import DeadLetter, FacebookRefusal, Origin, Reason
from schemas.engage_call import EngageCall
from schemas.membership import Cause, Change, MembershipDelta, Repeated
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
from schemas.sync import (
    BrakeState,
    BrakeTrip,
    DestinationState,
    OffsetRange,
    ReplaceSession,
    StateChange,
    SyncHour,
    SyncState,
)

AT = 1_767_225_600_000
EMAIL = hashlib.sha256(b"somebody").hexdigest()
OTHER = hashlib.sha256(b"somebody else").hexdigest()
DEVICE = str(uuid.UUID(int=7))
LANE = "topic-id/1"


@dataclass(frozen=True)
class Format:
    """How a format is read and written; `suffix` is of its files."""

    suffix: str
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


def _stored(model: type[StoredMessage]) -> Format:
    return Format("json", lambda encoded: read_stored(model, encoded), _write_model)


def _write_model(record: Any) -> bytes:
    return orjson.dumps(record.model_dump(mode="json"))


_pack = msgspec.msgpack.Encoder().encode

FORMATS = {
    "ProfileState": Format("msgpack", decode_state, encode_state),
    "ForwarderRecord": Format("msgpack", decode_state, encode_state),
    "PartitionRecord": Format("msgpack", decode_record, encode_record),
    "AudiencesRecord": Format("msgpack", decode_audiences, encode_record),
    "ForgottenRecord": Format("msgpack", msgspec.msgpack.Decoder(ForgottenRecord).decode, _pack),
    "ProfileEvent": Format("msgpack", msgspec.msgpack.Decoder(ProfileEvent).decode, _pack),
    "MembershipDelta": Format("json", msgspec.json.Decoder(MembershipDelta).decode, msgspec.json.encode),
    "EngageCall": Format("json", msgspec.json.Decoder(EngageCall).decode, msgspec.json.encode),
    "DeadLetter": _stored(DeadLetter),
    "SyncState": _stored(SyncState),
    "DefinitionsRecord": _stored(DefinitionsRecord),
    "WantedRecord": _stored(WantedRecord),
    "PlacedRecord": _stored(PlacedRecord),
    "RunningRecord": _stored(RunningRecord),
    "DesiredRecord": _stored(DesiredRecord),
    "RepartitionRecord": _stored(RepartitionRecord),
    "SetAsideRecord": _stored(SetAsideRecord),
}


def _state() -> ProfileState:
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
            inherited=["vips"],
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


def _partition() -> PartitionRecord:
    clock = ClockRecord(AT, [LaneRecord(LANE, 41, 2, AT - 10), LaneRecord("profiles/3", 7, 0, None)])
    return PartitionRecord(
        VERSION, clock, "plan-digest", {"vips": 12, "lapsed": 0}, AT - 1, 99, 4, {LANE: 41}, ["leads"]
    )


def _audiences() -> AudiencesRecord:
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


def _profile_events() -> dict[str, ProfileEvent]:
    repeat = Repeat("vips", 5, 77, 4, {"vips@act_1": (2, AT)})
    return {
        "CALL": _call(CALL),
        "MARKER": _profile_event(MARKER, progress={LANE: AT}, definitions=4, since={LANE: 12}),
        "ASK": _profile_event(ASK, linking=_linking()),
        "MERGE": _profile_event(MERGE, linking=_linking(state=encode_state(_state()))),
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


def _deltas() -> dict[str, MembershipDelta]:
    rows: dict[str, list[dict[str, str | float]]] = {
        "vips@act_1": [{"EMAIL": EMAIL, "EXTERN_ID": "user_1", "LOOKALIKE_VALUE": 12.5}, {"EMAIL": OTHER}],
        "vips@act_2": [],
    }
    changes = {
        "entered": (Change.ENTERED, Cause.EVENT),
        "exited": (Change.EXITED, Cause.TIME),
        "updated": (Change.UPDATED, Cause.MERGE),
        "claimed": (Change.ENTERED, Cause.CLAIM),
        "redefined": (Change.EXITED, Cause.DEFINITION),
        "of_account": (Change.ENTERED, Cause.ACCOUNT),
        "forgotten": (Change.EXITED, Cause.FORGOTTEN),
    }
    deltas = {
        name: MembershipDelta("vips", "user_1", change, 5, rows, AT, AT + 1, cause)
        for name, (change, cause) in changes.items()
    }
    said_again = Repeated(77, 4, {"vips@act_1": (2, AT)})
    deltas["repeated"] = MembershipDelta(
        "vips", "user_1", Change.UPDATED, 6, rows, AT, AT, Cause.REPLAY, repeats=said_again
    )
    return deltas


def _letters() -> dict[str, DeadLetter]:
    resolve = DeadLetter(
        id="aa11",
        stage="resolve",
        reason=Reason.TOO_LARGE,
        detail="longer than 32768 bytes",
        origin=Origin(topic="segment.events", partition=2, offset=50, key=EMAIL),
        first_failed_at=AT,
        last_failed_at=AT + 5,
        attempts=2,
        record={"bytes": 40_000, "sha256": OTHER},
        resolved="expired",
    )
    deliver = DeadLetter(
        id="bb22",
        stage="deliver",
        reason=Reason.REJECTED_ROW,
        detail="Facebook refused the row",
        origin=Origin(topic="audience.memberships", partition=0, offset=7, key="vips|user_1"),
        facebook=FacebookRefusal(code=100, subcode=5, message="no", trace="abc"),
        audience="vips",
        destination="vips@act_1",
        profile="user_1",
        sequence=5,
        first_failed_at=AT,
        last_failed_at=AT,
        record={"EMAIL": EMAIL},
    )
    return {"resolve": resolve, "deliver": deliver}


def _sync() -> SyncState:
    return SyncState(
        destination="vips@act_1",
        audience="vips",
        state=DestinationState.PAUSED,
        reason="safety brake at 2026-01-01T00:00:00Z",
        ad_account_id="act_1",
        facebook_id="120210000000000001",
        creating=True,
        marker="marker-1",
        cursor=70,
        unconfirmed=(OffsetRange(first=70, end=77),),
        lower_bound=1_000,
        upper_bound=1_200,
        updated_at=AT,
        last_sync_at=AT - 5,
        dry_run=True,
        resynced_at=AT - 9,
        resync_end=80,
        resync_left_out=True,
        replace=ReplaceSession(
            end=80,
            session_id=7,
            batches=3,
            started_at=AT,
            external_ids=False,
            closed=True,
            left_out=True,
            sessions=1,
        ),
        brake=BrakeState(
            position=77,
            members=2_000,
            exits=((29_453_760, 5),),
            accepted_at=AT - 1,
            trip=BrakeTrip(at=AT, removed=1_200, members=2_000),
        ),
        operation="200 Normal",
        delivery="300 too small",
        status_at=AT - 7,
        next_retry_at=AT + 60_000,
        history=(StateChange(at=AT - 3, state=DestinationState.HELD, reason="why", facebook_id="12021"),),
        hours=(SyncHour(hour=490_896, added=5, removed=3, rejected=1),),
        recreated_at=AT - 8,
        former="vips",
    )


def _definitions() -> DefinitionsRecord:
    form: dict[str, Any] = {"key": "vips", "name": "VIPs", "when": {"trait": "vip", "equals": True}}
    limits = {"options": ["LDU"], "country": 1, "state": 1000}
    form["destinations"] = [{"id": "vips", "customer_consent": True, "data_processing_options": limits}]
    return DefinitionsRecord(
        number=4,
        digest="digest-4",
        definitions={"vips": form, "traits.orders": {"event": "Order Completed", "count": True}},
        cleared={"gone": {"key": "gone", "name": "Gone", "when": {"trait": "x", "equals": 1}}},
        generations={"vips": 3},
        earlier=("digest-2", "digest-3"),
        published_at=AT,
        created=("named",),
        placed={"named": Place(ad_account_id="act_1", audience_id="120210000000000001")},
    )


def samples() -> dict[str, dict[str, Any]]:
    """By format, and in it by what the record is."""
    desired = DesiredRecord(
        target="vips@act_1",
        number=3,
        paused=True,
        reason="campaign over",
        accepted_at=AT,
        resync_at=AT + 1,
        replace=True,
        recreate_at=AT + 3,
        written_at=AT + 2,
    )
    repartition = RepartitionRecord(
        before=8,
        after=12,
        step=RepartitionStep.SWAPPING,
        topics={"profile.events": TopicSettings(replication=3, config={"retention.ms": "604800000"})},
        started_at=AT,
    )
    common: dict[str, Any] = {"timestamp": "2026-01-01T00:00:00.001Z", "received_at": "2026-01-01T00:00:00Z"}
    context: dict[str, Any] = {"personas": {"computation_class": "audience", "computation_key": "vips"}}
    track = EngageCall(
        "track",
        "m1",
        **common,
        context=context,
        user_id="user_1",
        event="Audience Entered",
        properties={"vips": True},
    )
    identify = EngageCall(
        "identify", "m2", **common, context=context, anonymous_id="a1", traits={"vips": False}
    )
    return {
        "ProfileState": {"full": _state(), "empty": ProfileState()},
        "ForwarderRecord": {"full": forwarder("user_1")},
        "PartitionRecord": {"full": _partition()},
        "AudiencesRecord": {"full": _audiences()},
        "ForgottenRecord": {"full": ForgottenRecord(VERSION, AT, Removal("user_1", {"vips": 6}))},
        "ProfileEvent": dict(_profile_events()),
        "MembershipDelta": dict(_deltas()),
        "EngageCall": {"track": track, "identify": identify},
        "DeadLetter": dict(_letters()),
        "SyncState": {"full": _sync()},
        "DefinitionsRecord": {"full": _definitions()},
        "WantedRecord": {"full": WantedRecord(audience="named")},
        "PlacedRecord": {
            "full": PlacedRecord(
                audience="named", place=Place(ad_account_id="act_1", audience_id="12021"), at=AT - 4
            )
        },
        "RunningRecord": {"full": RunningRecord(partition=3, number=4, filling=True)},
        "DesiredRecord": {"full": desired},
        "RepartitionRecord": {"full": repartition},
        "SetAsideRecord": {
            "full": SetAsideRecord(topic="profile.events", partition=3, offset=17, written_at=AT)
        },
    }
