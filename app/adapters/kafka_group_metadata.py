"""Consumer group metadata for librdkafka's transactions on behalf of an aiokafka group member.

Faust's membership lives in aiokafka, the transactions in librdkafka. `send_offsets_to_transaction` wants the
member's identity in librdkafka's private serialised form, which confluent-kafka hands around as opaque bytes;
it is written here from the member's generation and ids. The broker checks all of it: a stale generation or an
unknown member is refused, which is what fences a worker that lost its partitions without noticing.

It does not check offsets that come without a member: a transaction that names none is taken for one of an older
protocol and let through. So the identity is noted when the partitions are assigned, and never read from a member
that may have been expelled meanwhile, whose generation aiokafka has reset.

The format is private to librdkafka: the version is pinned and the contract test commits through it.
"""

from __future__ import annotations

import struct

from app.errors import FatalError

_MAGIC = b"CGMDv2:"
_NO_INSTANCE = b"\x01"
_INSTANCE = b"\x00"


def group_metadata(group: str, generation: int, member: str, instance: str | None) -> bytes:
    """Serialised metadata of one member of one generation; `instance` is the static membership id, if any.

    Raises FatalError for a member that is in no generation.
    """
    if generation < 0 or not member:
        raise FatalError("this worker is no member of its group any more; nothing was written")
    identity = _MAGIC + struct.pack("<i", generation) + group.encode() + b"\0" + member.encode() + b"\0"
    if instance is None:
        return identity + _NO_INSTANCE
    return identity + _INSTANCE + instance.encode() + b"\0"
