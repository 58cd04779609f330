"""Messages that exist twice, as a msgspec struct for speed and as a pydantic model, say and accept the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas.membership import Cause, Change, MembershipDelta, MembershipDeltaModel, Repeated
from schemas.profile import FeedHit, Linking, ProfileEvent, ProfileEventModel, Repeat, Standing
from schemas.segment import CallContext, SegmentEvent, SegmentEventModel

scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=5)
)
instants = st.integers(0, 2**45)
texts = st.text(max_size=8)
cells = texts | st.floats(0, 1e9)

profile_events = st.builds(
    ProfileEvent,
    version=st.just(1),
    kind=st.sampled_from(range(14)),
    lane=texts,
    offset=instants,
    index=st.integers(0, 9),
    timestamp=instants,
    received=instants,
    message_id=st.none() | texts,
    hits=st.lists(st.builds(FeedHit, feed=texts, values=st.lists(scalars, max_size=2)), max_size=2),
    traits=st.none() | st.dictionaries(texts, scalars, max_size=2),
    identifiers=st.none()
    | st.dictionaries(texts, st.none() | cells | st.lists(texts, max_size=2), max_size=2),
    claims=st.none() | st.dictionaries(texts, st.booleans(), max_size=2),
    progress=st.none() | st.dictionaries(texts, instants, max_size=2),
    linking=st.none()
    | st.builds(
        Linking,
        links=st.lists(texts, max_size=2),
        asker=texts,
        aliases=st.dictionaries(texts, instants, max_size=2),
        state=st.none() | st.binary(max_size=9),
    ),
    repeat=st.none()
    | st.builds(
        Repeat,
        audience=texts,
        expected=instants,
        offset=instants,
        sequence=instants,
        failures=st.dictionaries(texts, st.tuples(instants, instants), max_size=2),
    ),
    standing=st.none()
    | st.builds(
        Standing,
        account=texts,
        user=texts,
        replaces=st.lists(texts, max_size=2),
        holds=st.dictionaries(texts, st.booleans(), max_size=2),
        audiences=st.lists(texts, max_size=2),
        sequence=st.integers(0, 2**31),
        by_time=st.booleans(),
    ),
)
deltas = st.builds(
    MembershipDelta,
    audience=texts,
    profile=texts,
    change=st.sampled_from(Change),
    sequence=st.integers(1, 2**31),
    rows=st.dictionaries(texts, st.lists(st.dictionaries(texts, cells, max_size=2), max_size=2), max_size=2),
    at=instants,
    detected_at=instants,
    cause=st.sampled_from(Cause),
    repeats=st.just(msgspec.UNSET)
    | st.builds(
        Repeated,
        offset=instants,
        sequence=instants,
        failures=st.dictionaries(texts, st.tuples(instants, instants), max_size=2),
    ),
)


@given(profile_events)
def test_profile_event(event: ProfileEvent) -> None:
    encoded = msgspec.msgpack.encode(event)
    fields = dict(zip(ProfileEvent.__struct_fields__, msgspec.msgpack.decode(encoded), strict=True))
    fields["hits"] = [tuple(hit) for hit in fields["hits"]]
    fields["linking"] = fields["linking"] and tuple(fields["linking"])
    fields["standing"] = fields["standing"] and tuple(fields["standing"])
    if fields["repeat"] is not None:
        *plain, failures = fields["repeat"]
        fields["repeat"] = (*plain, {name: tuple(counted) for name, counted in failures.items()})
    model = ProfileEventModel.model_validate(fields)
    linking = None if model.linking is None else Linking(*model.linking)
    standing = None if model.standing is None else Standing(*model.standing)
    hits = [FeedHit(*hit) for hit in model.hits]
    repeat = None if model.repeat is None else Repeat(*model.repeat)
    back = ProfileEvent(
        **{**dict(model), "hits": hits, "linking": linking, "repeat": repeat, "standing": standing}
    )
    assert back == event == msgspec.msgpack.decode(encoded, type=ProfileEvent)


@given(deltas)
def test_membership_delta(delta: MembershipDelta) -> None:
    encoded = msgspec.json.encode(delta)
    model = MembershipDeltaModel.model_validate_json(encoded)
    said = model.model_dump_json(exclude_none=True)
    assert msgspec.json.decode(said, type=MembershipDelta) == delta
    assert (b"repeats" in encoded) is (delta.repeats is not msgspec.UNSET)


TEXT_FIELDS = [
    *("type", "event", "name", "userId", "anonymousId", "groupId", "messageId"),
    *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
]
objects = st.none() | st.dictionaries(
    st.sampled_from(["personas", "device", "traits", "x"]), scalars, max_size=2
)
calls = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXT_FIELDS, st.none() | st.text(max_size=8) | st.integers(0, 3)),
        **dict.fromkeys(["properties", "traits", "integrations"], objects),
        "context": objects | st.integers(0, 3),
        "unknown": scalars,
    },
)


def value_of(raw: msgspec.Raw) -> Any:
    text = bytes(raw)
    return json.loads(text) if text else None


@given(calls)
def test_segment_event(call: dict[str, Any]) -> None:
    try:
        model = SegmentEventModel.model_validate(call, strict=True)
    except ValidationError:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(call), type=SegmentEvent)
        return
    event = msgspec.json.decode(json.dumps(call), type=SegmentEvent)
    for name in TEXT_FIELDS:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        assert getattr(event, snake) == getattr(model, name)
    for name in ("properties", "traits", "integrations"):
        assert value_of(getattr(event, name)) == getattr(model, name)
    assert (event.context is None) is (model.context is None)
    if event.context is not None and model.context is not None:
        for name in CallContext.__struct_fields__:
            assert value_of(getattr(event.context, name)) == model.context.get(name)


@pytest.mark.parametrize(
    ("struct", "model"),
    [
        (ProfileEvent, ProfileEventModel),
        (MembershipDelta, MembershipDeltaModel),
        (SegmentEvent, SegmentEventModel),
    ],
)
def test_both_forms_have_the_same_fields_in_the_same_order(
    struct: type[msgspec.Struct], model: type[BaseModel]
) -> None:
    assert list(struct.__struct_encode_fields__) == list(model.model_fields)
