"""Forwarders: which profiles have become part of others, in little memory.

Of a person with four identifiers three are forwarders, so a worker has several times as many of them as it has
people. They hardly ever change and are asked for only when a profile has no state of its own; so they lie one behind
the other in buffers, found through a table of offsets, in place of objects of their own.

Of the profile that has ended only a digest of 72 bits is kept: among a hundred million forwarders a new profile would be
taken for one of them once in 10^13 times.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from app.domain.compact import compact, restored

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST_BYTES: Final = 9
# Length of an owner that does not fit into one byte: this one, and the length in four.
_LONG: Final = 255
_LONG_BYTES: Final = 4

# In the table: nothing has been here; and: a profile has been here that is a forwarder no longer.
_FREE: Final = 0
_GONE: Final = 1
# Nothing lies at a place that means something else.
_FIRST_PLACE: Final = 2

# Many tables, of which one has to make room now and then, which takes the longer the more there is in it.
_SHARDS: Final = 64
_LEAST_SLOTS: Final = 16
# A table fuller than this is searched slowly; one is made half as full.
_FULL: Final = 0.75
# Entries lie in pieces of this size, which are never moved; a longer entry has a piece of its own.
_PIECE_BITS: Final = 12
_PIECE_BYTES: Final = 1 << _PIECE_BITS
_WITHIN_PIECE: Final = _PIECE_BYTES - 1
# Bytes that may be left behind before everything is written anew.
_MOST_WASTE: Final = 4 * _PIECE_BYTES
# Places of four bytes end here; as `array` names them and longer ones.
_FOUR_BYTES: Final = "I"
_EIGHT_BYTES: Final = "Q"
_MOST_OF_FOUR_BYTES: Final = 2**32


class Forwarders:
    """Profile (as a key of the state table) -> the profile that it has become part of."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: dict[int, _Shard] = {}

    def __len__(self) -> int:
        return sum(shard.count for shard in self._shards.values())

    def get(self, key: bytes) -> str | None:
        """None: it is none."""
        if not self._shards:
            return None
        digest = _digest(key)
        shard = self._shards.get(digest[-1] % _SHARDS)
        owner = None if shard is None else shard.get(digest)
        return None if owner is None else restored(owner)

    def put(self, key: bytes, owner: str) -> None:
        """It is one from now on, or has another owner."""
        digest = _digest(key)
        shard = self._shards.get(digest[-1] % _SHARDS)
        if shard is None:
            shard = self._shards[digest[-1] % _SHARDS] = _Shard()
        shard.put(digest, compact(owner))

    def discard(self, key: bytes) -> None:
        """It is none any more, if it was."""
        digest = _digest(key)
        shard = self._shards.get(digest[-1] % _SHARDS)
        if shard is not None:
            shard.discard(digest)


class _Shard:
    """Digest -> owner. A place is that of an entry: which piece it lies in, and where there."""

    __slots__ = ("_end", "_pieces", "_slots", "_used", "_waste", "count")

    def __init__(self) -> None:
        self.count = 0
        self._pieces = [bytearray(_PIECE_BYTES)]
        self._end = _FIRST_PLACE
        self._slots = array(_FOUR_BYTES, bytes(4 * _LEAST_SLOTS))
        self._used = 0
        self._waste = 0

    def get(self, digest: bytes) -> bytes | None:
        place = self._slots[self._slot_of(digest)]
        return _owner(self._entry(place)) if place > _GONE else None

    def put(self, digest: bytes, owner: bytes) -> None:
        length = len(owner)
        size = bytes([length]) if length < _LONG else b"\xff" + length.to_bytes(_LONG_BYTES, "little")
        entry = digest + size + owner
        slot = self._slot_of(digest)
        place = self._slots[slot]
        if place > _GONE:
            known = self._entry(place)
            if known == entry:
                return
            self._waste += len(known)
        else:
            self.count += 1
            self._used += 1
        place = self._write(entry)
        if place >= _MOST_OF_FOUR_BYTES and self._slots.typecode == _FOUR_BYTES:
            self._slots = array(_EIGHT_BYTES, self._slots)
        self._slots[slot] = place
        if self._waste > max(_MOST_WASTE, len(self._pieces) * _PIECE_BYTES // 2):
            self._rewrite()
        elif self._used > _FULL * len(self._slots):
            self._fill_table(list(self._places()))

    def discard(self, digest: bytes) -> None:
        slot = self._slot_of(digest)
        place = self._slots[slot]
        if place > _GONE:
            self._waste += len(self._entry(place))
            self._slots[slot] = _GONE
            self.count -= 1

    def _slot_of(self, digest: bytes) -> int:
        """Where the digest is, or where to put it."""
        slots, pieces = self._slots, self._pieces
        mask = len(slots) - 1
        slot = _beginning(digest) & mask
        while (place := slots[slot]) and not (
            place > _GONE and pieces[place >> _PIECE_BITS].startswith(digest, place & _WITHIN_PIECE)
        ):
            slot = (slot + 1) & mask
        return slot

    def _entry(self, place: int) -> bytes:
        piece, begin = self._pieces[place >> _PIECE_BITS], place & _WITHIN_PIECE
        owner = begin + _DIGEST_BYTES + 1
        length = piece[owner - 1]
        if length == _LONG:
            length = int.from_bytes(piece[owner : owner + _LONG_BYTES], "little")
            owner += _LONG_BYTES
        return bytes(piece[begin : owner + length])

    def _write(self, entry: bytes) -> int:
        """Its place."""
        begin = self._end
        if begin + len(entry) > _PIECE_BYTES:
            begin = 0
            self._pieces.append(bytearray(max(_PIECE_BYTES, len(entry))))
        self._end = begin + len(entry)
        self._pieces[-1][begin : self._end] = entry
        return (len(self._pieces) - 1 << _PIECE_BITS) + begin

    def _places(self) -> Iterator[int]:
        return (place for place in self._slots if place > _GONE)

    def _rewrite(self) -> None:
        """Without what has been left behind."""
        entries = [self._entry(place) for place in self._places()]
        self._pieces = [bytearray(_PIECE_BYTES)]
        self._end, self._waste = _FIRST_PLACE, 0
        self._fill_table([self._write(entry) for entry in entries])

    def _fill_table(self, places: list[int]) -> None:
        """A table of these, with room for as many again."""
        size = _LEAST_SLOTS
        while len(places) > _FULL / 2 * size:
            size *= 2
        self._slots = slots = array(self._slots.typecode, bytes(self._slots.itemsize * size))
        mask, pieces = size - 1, self._pieces
        for place in places:
            begin = place & _WITHIN_PIECE
            slot = _beginning(pieces[place >> _PIECE_BITS][begin : begin + _DIGEST_BYTES]) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = place
        self._used = len(places)


def _beginning(digest: bytes | bytearray) -> int:
    return int.from_bytes(digest[:8], "little")


def _owner(entry: bytes) -> bytes:
    return entry[_DIGEST_BYTES + 1 + (_LONG_BYTES if entry[_DIGEST_BYTES] == _LONG else 0) :]


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=_DIGEST_BYTES).digest()
