"""What is known of a person rests in packed form, and comes back as it was."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.person_state import (
    UNREADABLE,
    IdentifierState,
    IdentityState,
    Inherited,
    PersonState,
    is_eligible,
    pack,
    unpack,
)
from app.domain.state import ProfileState, decode_state, encode_state, forwarder, owner_in

EMAIL = hashlib.sha256(b"ann@example.com").hexdigest()
DEVICE = str(uuid.UUID(int=7))

columns = st.sampled_from(["EMAIL", "PHONE", "MADID", "COUNTRY", "LOOKALIKE_VALUE", "NOT_KNOWN_HERE"])
values = st.one_of(st.none(), st.text(), st.floats(allow_nan=False), st.sampled_from([EMAIL, DEVICE]))
instants = st.integers(0, 2**45)
identifiers = st.dictionaries(columns, st.builds(IdentifierState, values, instants))
further = st.dictionaries(columns, st.lists(st.text() | st.sampled_from([EMAIL, DEVICE]), min_size=1))
aliases = st.dictionaries(
    st.text(min_size=1)
    | st.sampled_from([f"email:{EMAIL}", f"madid:{DEVICE}", f"anonymous_id:{DEVICE}", "email:", "user_1"]),
    instants,
    min_size=1,
)
identities = st.builds(
    IdentityState,
    aliases,
    st.lists(st.lists(st.text(), max_size=2), max_size=2),
    st.booleans(),
    st.lists(
        st.builds(
            Inherited, st.sampled_from(["abc123", "-_Z"]), st.integers(0, 2**40), st.text(), st.booleans()
        ).map(Inherited.written)
    ),
)
persons = st.builds(PersonState, identifiers, further, st.none() | identities)


@given(persons)
def test_a_packed_person_comes_back_in_the_same_order(person: PersonState) -> None:
    back = unpack(pack(person))
    assert back == person
    assert list(back.identifiers) == list(person.identifiers)
    if person.identity is not None and back.identity is not None:
        assert list(back.identity.aliases) == list(person.identity.aliases)


@given(persons)
def test_whether_a_person_is_eligible_is_seen_without_unpacking(person: PersonState) -> None:
    expected = bool({"EMAIL", "MADID"} & person.identifiers.keys())
    assert is_eligible(person) is is_eligible(pack(person)) is expected


@given(st.binary())
def test_what_nobody_packed_is_refused_by_an_exception_that_is_named(packed: bytes) -> None:
    try:
        unpack(packed)
    except UNREADABLE:
        return


def person() -> PersonState:
    known = {
        "EMAIL": IdentifierState(EMAIL, 1_760_000_000_000),
        "MADID": IdentifierState(DEVICE, 1_760_000_000_000),
    }
    names = ["user_00000001", f"email:{EMAIL}", f"anonymous_id:{uuid.UUID(int=9)}", f"madid:{DEVICE}"]
    return PersonState(known, {}, IdentityState(dict.fromkeys(names, 1_760_000_000_000)))


def test_four_identifiers_take_little_room() -> None:
    assert len(pack(person())) < 120


def test_a_state_is_unpacked_when_somebody_asks() -> None:
    state = decode_state(encode_state(ProfileState(person=person())))
    assert isinstance(state.person, bytes)
    assert state.identifiers["EMAIL"].value == EMAIL
    state.identifiers["PHONE"] = IdentifierState("1", 5)
    assert decode_state(encode_state(state)).identifiers["PHONE"] == IdentifierState("1", 5)


@pytest.mark.parametrize("owner", ["user_1", "", "x" * 70_000])
def test_of_a_forwarder_only_its_owner_is_written(owner: str) -> None:
    encoded = encode_state(forwarder(owner))
    assert len(encoded) <= len(owner) + 7
    assert owner_in(encoded) == owner
    assert decode_state(encoded).owner == owner
    assert owner_in(encode_state(ProfileState(person=person()))) is None


@pytest.mark.parametrize(
    ("inherited", "written"),
    [
        (Inherited("abc123"), "abc123"),  # as older states have it
        (Inherited("abc123", 6, "anonymous_id:a 1"), "abc123 6 anonymous_id:a 1"),
        (Inherited("abc123", 0, "~ann", member=False), "abc123 ~0 ~ann"),
    ],
)
def test_an_inherited_membership_comes_back_as_it_was_written(inherited: Inherited, written: str) -> None:
    assert inherited.written() == written
    assert Inherited.read(written) == inherited
    state = PersonState(identity=IdentityState({"ann": 1}, inherited=[written]))
    assert unpack(pack(state)) == state


def test_what_is_no_inherited_membership_is_refused() -> None:
    packed = pack(PersonState(identity=IdentityState({"ann": 1}, inherited=["abc123 six ann"])))
    with pytest.raises(UNREADABLE):
        unpack(packed)
