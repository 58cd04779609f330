from __future__ import annotations

import pytest

from topics.partitioning import membership_key, murmur2, partition_for


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        # What Kafka's own tests of its Java client expect.
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed % 2**32


def test_a_hash_that_is_negative_in_java_gives_a_partition() -> None:
    assert partition_for(b"21", 8) == (-973932308 & 0x7FFFFFFF) % 8


def test_a_membership_is_keyed_by_audience_and_profile() -> None:
    assert membership_key("vips", "user|1") == b"vips|user|1"
