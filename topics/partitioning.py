"""The one partitioner of every producer: Kafka's murmur2, as in the Java client and Faust.

librdkafka's own default is CRC32, so a partition is always computed here and passed explicitly.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
# Keys whose partition is remembered: profiles that have something to say to each other do so several times in a row.
_REMEMBERED = 50_000


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit MurmurHash2 with the seed of Kafka's Java client."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for word in struct.unpack_from(f"<{whole >> 2}I", data):
        k = (word * _M) & _MASK
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _MASK
    rest = length - whole
    if rest == 3:
        h ^= data[whole + 2] << 16
    if rest >= 2:
        h ^= data[whole + 1] << 8
    if rest >= 1:
        h = ((h ^ data[whole]) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=_REMEMBERED)
def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key: what Java's DefaultPartitioner gives for a non-null key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def membership_key(audience: str, profile: str) -> bytes:
    """Key of a record of audience.memberships; its partition is that of the audience key alone."""
    return f"{audience}|{profile}".encode()
