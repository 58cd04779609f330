"""When profiles are due to be looked at again, though nothing arrives for them.

The truth is each profile's own `wake`; this is only an index of it, rebuilt from the states at recovery. Far
instants are kept coarsely, as one reference to the key, because there are as many timers as profiles; a bucket is
sorted when its time comes. An entry that its profile has since replaced is recognised by its `wake` and dropped.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET_MS: Final = 60_000


class Timers:
    """Timers of one partition; `wake_of(key)` answers the instant for which the profile is armed now."""

    __slots__ = ("_buckets", "_far", "_loaded", "_near", "_wake_of")

    def __init__(self, wake_of: Callable[[bytes], int | None]) -> None:
        self._wake_of = wake_of
        self._near: list[tuple[int, bytes]] = []  # a heap: of the loaded bucket and before it
        self._far: dict[int, list[bytes]] = {}
        self._buckets: list[int] = []  # a heap of the keys of _far
        self._loaded = -1

    def arm(self, key: bytes, due: int) -> None:
        """The profile's wake is `due` now; an entry for an instant it had before needs no removal."""
        bucket = due // BUCKET_MS
        if bucket <= self._loaded:
            heappush(self._near, (due, key))
            return
        keys = self._far.get(bucket)
        if keys is None:
            self._far[bucket] = [key]
            heappush(self._buckets, bucket)
        else:
            keys.append(key)

    def pop(self, now: int) -> tuple[int, bytes] | None:
        """The earliest timer with due <= `now`, or None; the caller gives the profile another wake."""
        near = self._near
        while True:
            while near and near[0][0] <= now:
                due, key = heappop(near)
                if self._wake_of(key) == due:
                    return due, key
            if near or not self._buckets or self._buckets[0] * BUCKET_MS > now:
                return None
            self._load_bucket()

    @property
    def next_due(self) -> int | None:
        """Nothing is due before this instant; None: nothing is armed."""
        if self._near:
            return self._near[0][0]
        return self._buckets[0] * BUCKET_MS if self._buckets else None

    def _load_bucket(self) -> None:
        bucket = heappop(self._buckets)
        self._loaded = bucket
        for key in set(self._far.pop(bucket)):
            wake = self._wake_of(key)
            if wake is not None and wake // BUCKET_MS == bucket:
                self._near.append((wake, key))
        heapify(self._near)
