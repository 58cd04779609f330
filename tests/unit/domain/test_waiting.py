"""What waits comes out as it went in, less what other destinations are sent."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.domain.waiting import Waiting
from schemas.membership import Cause, Change, MembershipDelta, Repeated

hashes = st.binary(max_size=4).map(lambda text: hashlib.sha256(text).hexdigest())
cells = st.one_of(
    hashes,
    hashes.map(str.upper),
    hashes.map(lambda text: f" {text[1:]}"),
    st.just("1" * 63 + "é"),
    st.text(max_size=5),
    st.floats(allow_nan=False),
    st.integers(0, 9),
)
rows = st.lists(st.dictionaries(st.sampled_from(["EXTERN_ID", "EMAIL", "MADID"]), cells), max_size=3)
numbers = st.integers(0, 2**50)
deltas = st.builds(
    MembershipDelta,
    audience=st.text(max_size=5),
    profile=st.text(max_size=5),
    change=st.sampled_from(Change),
    sequence=numbers,
    rows=st.fixed_dictionaries({"here": rows, "there": rows}),
    at=numbers,
    detected_at=numbers,
    cause=st.sampled_from(Cause),
    version=st.integers(1, 3),
    repeats=st.one_of(
        st.just(msgspec.UNSET), st.builds(Repeated, numbers, numbers, st.just({"here": (1, 2)}))
    ),
)


@given(deltas)
def test_a_delta_that_waits_is_the_same_afterwards(delta: MembershipDelta) -> None:
    waiting = Waiting.of(7, delta, "here", 1.5)
    assert (waiting.offset, waiting.profile, waiting.arrived) == (7, delta.profile, 1.5)
    assert waiting.rows == max(1, len(delta.rows["here"]))
    assert waiting.delta("here") == msgspec.structs.replace(delta, rows={"here": delta.rows["here"]})


def test_a_person_s_hashes_take_half_the_room() -> None:
    row: dict[str, str | float] = {
        "EMAIL": hashlib.sha256(b"e").hexdigest(),
        "PHONE": hashlib.sha256(b"p").hexdigest(),
    }
    delta = MembershipDelta("a", "p", Change.ENTERED, 1, {"a": [row]}, 0, 0, Cause.EVENT)
    assert len(Waiting.of(0, delta, "a", 0.0).packed) < len(msgspec.msgpack.encode(delta)) - 64
