"""Forwarders against a dictionary, which is what they are in less memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import forwarders
from app.domain.forwarders import Forwarders

keys = st.integers(0, 40).map(lambda number: b"anonymous_id:%d" % number)
owners = st.sampled_from(["user_1", "", "email:" + "ab" * 32, "x" * 254, "y" * 255, "z" * 20_000, "ä"])
steps = st.lists(st.tuples(keys, st.none() | owners), max_size=200)


@settings(deadline=None)
@given(steps)
def test_they_answer_as_a_dictionary_does(made: list[tuple[bytes, str | None]]) -> None:
    known: dict[bytes, str] = {}
    found = Forwarders()
    for key, owner in made:
        if owner is None:
            known.pop(key, None)
            found.discard(key)
        else:
            known[key] = owner
            found.put(key, owner)
        assert len(found) == len(known)
    assert {key: found.get(key) for key, _ in made} == {key: known.get(key) for key, _ in made}


@pytest.mark.parametrize("most", [2**32, 2**14], ids=["places of four bytes", "places of eight bytes"])
def test_thousands_come_move_and_go(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Tables grow, and what has been left behind is cleared away, many times over."""
    monkeypatch.setattr(forwarders, "_MOST_OF_FOUR_BYTES", most)
    monkeypatch.setattr(forwarders, "_SHARDS", 2)
    chance = random.Random(3)
    known: dict[bytes, str] = {}
    found = Forwarders()
    for number in range(20_000):
        key = b"email:%d" % chance.randrange(4_000)
        if number % 5 == 0:
            known.pop(key, None)
            found.discard(key)
        else:
            known[key] = f"user_{number}" * (1 + number % 3)
            found.put(key, known[key])
    assert len(found) == len(known)
    for number in range(4_000):
        key = b"email:%d" % number
        assert found.get(key) == known.get(key)


def test_what_is_left_behind_does_not_pile_up() -> None:
    found = Forwarders()
    for number in range(50_000):
        found.put(b"madid:1", f"user_{number}")
        found.discard(b"madid:2")
        found.put(b"madid:2", "user_1")
    room = sum(len(piece) for shard in found._shards.values() for piece in shard._pieces)
    assert room < 200_000
    assert sum(len(shard._slots) for shard in found._shards.values()) < 1_000


def test_a_forwarder_takes_little_memory() -> None:
    """An object for each and its owner took some 150 bytes."""
    found = Forwarders()
    for number in range(50_000):
        found.put(b"anonymous_id:%036d" % number, f"user_{number:08}")
    taken = sum(
        shard._slots.itemsize * len(shard._slots) + sum(map(len, shard._pieces))
        for shard in found._shards.values()
    )
    assert taken / 50_000 < 50
