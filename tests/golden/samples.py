"""One record of every format with something in every field, as this release writes it; all people are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from app.domain.forgetting import ForgottenRecord, Removal
from app.domain.formats import read_stored
from app.domain.state import (
    ProfileState,
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
from schemas.dead_letter import DeadLetter, FacebookRefusal, LetterCounts, Origin, Reason
from schemas.engage_call import EngageCall
from schemas.membership import Cause, Change, MembershipDelta, Repeated
from schemas.profile import (
    VERSION,
    ProfileEvent,
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
from tests.golden.profile_samples import (
    AT,
    EMAIL,
    OTHER,
    audiences_record,
    partition_record,
    profile_events,
    profile_state,
)


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
    "LetterCounts": _stored(LetterCounts),
    "SyncState": _stored(SyncState),
    "DefinitionsRecord": _stored(DefinitionsRecord),
    "WantedRecord": _stored(WantedRecord),
    "PlacedRecord": _stored(PlacedRecord),
    "RunningRecord": _stored(RunningRecord),
    "DesiredRecord": _stored(DesiredRecord),
    "RepartitionRecord": _stored(RepartitionRecord),
    "SetAsideRecord": _stored(SetAsideRecord),
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
        connected=True,
        rejected_in_a_row=2,
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
        "ProfileState": {"full": profile_state(), "empty": ProfileState()},
        "ForwarderRecord": {"full": forwarder("user_1")},
        "PartitionRecord": {"full": partition_record()},
        "AudiencesRecord": {"full": audiences_record()},
        "ForgottenRecord": {"full": ForgottenRecord(VERSION, AT, Removal("user_1", {"vips": 6}))},
        "ProfileEvent": dict(profile_events()),
        "MembershipDelta": dict(_deltas()),
        "EngageCall": {"track": track, "identify": identify},
        "DeadLetter": dict(_letters()),
        "LetterCounts": {"full": LetterCounts(run=7, batches=((500, 0), (120, 7)))},
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
