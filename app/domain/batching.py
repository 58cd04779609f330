"""What is to be sent to one destination next: a pure state machine over its deltas.

Time is an argument (monotonic seconds). Deltas come from the live stream, or, for a destination that is behind,
from the log. The newest delta of each profile is kept, in order of offset; a batch covers every offset from the
confirmed cursor up to its end, and one batch is out at a time. A delta that has no entry for the destination, as its
sync mode leaves the change out, supersedes nothing and is passed over.

Live and behind: while more than `max_pending` rows wait, live deltas are not kept; what was passed over is read
through the log later, from the first offset that found no room. While the log is read, live deltas are kept
beside (`ahead`), so that a busy partition cannot stay one step ahead for ever.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from app.domain.waiting import Waiting
from schemas.membership import Change, MembershipDelta


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """A batch is due at `max_rows` rows, or `period` seconds after its first delta arrived."""

    max_rows: int
    period: float
    max_pending: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The newest deltas of profiles, by offset; with them every offset `first` <= offset < `end` is dealt with."""

    first: int
    end: int
    changes: tuple[tuple[int, MembershipDelta], ...]
    arrived: tuple[float, ...]


class _Newest:
    """Newest delta per profile, in order of offset; `rows` is what they weigh."""

    __slots__ = ("by_profile", "oldest", "rows")

    def __init__(self) -> None:
        self.by_profile: dict[str, Waiting] = {}
        self.rows = 0
        # Arrival of the oldest change that waits; of no meaning while nothing does.
        self.oldest = 0.0

    def put(self, item: Waiting) -> None:
        """The profile's earlier delta, if one waits, is superseded; how long its change has waited stays."""
        waiting = self.by_profile
        profile = item.profile
        if not waiting or item.arrived < self.oldest:
            self.oldest = item.arrived
        earlier = waiting.pop(profile, None)
        if earlier is not None:
            self.rows -= earlier.rows
            item.arrived = min(item.arrived, earlier.arrived)
        waiting[profile] = item
        self.rows += item.rows

    def take(self, max_rows: int, sent: Container[int]) -> list[Waiting]:
        """The first ones, up to that many rows but at least one; those at `sent` offsets count for nothing."""
        taken: list[Waiting] = []
        rows = to_send = 0
        for item in self.by_profile.values():
            weight = 0 if item.offset in sent else item.rows
            if taken and to_send + weight > max_rows:
                break
            taken.append(item)
            rows += item.rows
            to_send += weight
        for item in taken:
            del self.by_profile[item.profile]
        self.rows -= rows
        self.oldest = min((item.arrived for item in self.by_profile.values()), default=0.0)
        return taken


class Batcher:
    """One destination. `cursor`: below it everything is confirmed; `live_offset`: the next offset to be offered.

    `settle_end` is the end of what a predecessor may have sent: no batch is taken before the log has been read
    up to there, whatever the bound, so that no older change follows a newer one that already went out.
    """

    def __init__(
        self, destination: str, policy: BatchPolicy, cursor: int, live_offset: int, settle_end: int = 0
    ) -> None:
        self._destination = destination
        self._policy = policy
        self._cursor = cursor
        self._position = cursor
        self._live_end = max(cursor, live_offset)
        self._settle_end = settle_end
        self._live = self._position >= self._live_end
        self._pending = _Newest()
        self._ahead: _Newest | None = None
        self._out: Batch | None = None

    @property
    def live(self) -> bool:
        return self._live

    @property
    def cursor(self) -> int:
        """Below it every change is confirmed."""
        return self._position if self._nothing_waits else self._cursor

    @property
    def live_end(self) -> int:
        """The end of the log, as far as it has been offered."""
        return self._live_end

    @property
    def pending(self) -> int:
        """Changes known and not confirmed, the ones under way included."""
        waiting = len(self._pending.by_profile) + (len(self._ahead.by_profile) if self._ahead else 0)
        return waiting + (len(self._out.changes) if self._out else 0)

    @property
    def oldest(self) -> float | None:
        """Arrival of the oldest change that is not confirmed."""
        arrivals = list(self._out.arrived) if self._out else []
        if self._pending.by_profile:
            arrivals.append(self._pending.oldest)
        return min(arrivals, default=None)

    @property
    def idle(self) -> bool:
        """Live, and everything known is confirmed."""
        return self._live and self._nothing_waits

    @property
    def _nothing_waits(self) -> bool:
        return not self._pending.by_profile and self._out is None

    @property
    def _has_room(self) -> bool:
        ahead = self._ahead.rows if self._ahead else 0
        return self._pending.rows + ahead < self._policy.max_pending

    def offer(self, records: Iterable[tuple[int, MembershipDelta]], end: int, now: float) -> int:
        """Live deltas of this audience by offset, the stream standing at `end` behind them.

        Returns how many were kept; the others are read from the log later.
        """
        self._live_end = max(self._live_end, end)
        if self._live:
            return self._offer_live(records, end, now)
        return self._offer_ahead(records, now)

    def _offer_live(self, records: Iterable[tuple[int, MembershipDelta]], end: int, now: float) -> int:
        kept = 0
        for offset, delta in records:
            if offset < self._position or self._destination not in delta.rows:
                continue
            if not self._has_room:
                self._position = offset
                self._live = False
                return kept
            self._keep(offset, delta, now)
            kept += 1
        self._position = max(self._position, end)
        return kept

    def _offer_ahead(self, records: Iterable[tuple[int, MembershipDelta]], now: float) -> int:
        kept = 0
        for offset, delta in records:
            if self._destination not in delta.rows:
                continue
            if self._ahead is None:
                return 0
            if not self._has_room:
                self._ahead = None
                return 0
            self._ahead.put(self._item(offset, delta, now))
            kept += 1
        return kept

    def begin_read(self) -> tuple[int, int] | None:
        """The offsets (first, end) of the log to read now; None: live, or no room.

        The caller passes what it reads to `read` and ends with `end_read`.
        """
        if self._live or not self._has_room:
            return None
        self._ahead = _Newest()
        return self._position, self._live_end

    def read(self, offset: int, delta: MembershipDelta, now: float) -> bool:
        """A delta of the log. False: there is no room for it; stop reading."""
        if not self._has_room and offset >= self._settle_end:
            self._position = max(self._position, offset)
            self._ahead = None
            return False
        if offset >= self._position:
            if self._destination in delta.rows:
                self._keep(offset, delta, now)
            self._position = offset + 1
        return True

    def end_read(self, end: int) -> None:
        """Everything below `end` has been read; what was offered meanwhile joins, and the destination is live."""
        self._position = max(self._position, end)
        if self._ahead is not None:
            for item in self._ahead.by_profile.values():
                self._pending.put(item)
            self._ahead = None
            self._position = self._live_end
        self._live = self._position >= self._live_end

    def wake_at(self) -> float | None:
        """The instant from which `take` gives a batch; None: not before more arrives, or is confirmed or read."""
        if self._out is not None or not self._pending.by_profile or not self._settled:
            return None
        if self._pending.rows >= self._policy.max_rows:
            return 0.0
        return self._pending.oldest + self._policy.period

    def take(self, now: float, sent: Container[int] = ()) -> Batch | None:
        """The batch that is due, if one is; it must be confirmed or given back before the next. Changes at `sent` offsets,
        of a batch that was given back, take no room in it: others may have to be sent with what is left of that.
        """
        due = self.wake_at()
        if due is None or now < due:
            return None
        taken = self._pending.take(self._policy.max_rows, sent)
        following = next(iter(self._pending.by_profile.values()), None)
        self._out = Batch(
            first=self._cursor,
            end=following.offset if following else self._position,
            changes=tuple((item.offset, item.delta(self._destination)) for item in taken),
            arrived=tuple(item.arrived for item in taken),
        )
        return self._out

    def confirm(self, batch: Batch) -> None:
        """Everything in the batch has reached its end: applied, or written down as refused."""
        if batch is not self._out:
            raise ValueError("only the batch that is out can be confirmed")
        self._out = None
        self._cursor = batch.end

    def give_back(self, batch: Batch) -> None:
        """The batch is not to be sent for now: its changes wait again, superseded by what came since."""
        if batch is not self._out:
            raise ValueError("only the batch that is out can be given back")
        self._out = None
        since, self._pending = self._pending, _Newest()
        for (offset, delta), arrived in zip(batch.changes, batch.arrived, strict=True):
            self._pending.put(self._item(offset, delta, arrived))
        for item in since.by_profile.values():
            self._pending.put(item)

    def superseded(self, batch: Batch) -> frozenset[int]:
        """Offsets of changes in the batch that is out behind which the same profile has changed again."""
        newer = self._pending.by_profile
        return frozenset(offset for offset, delta in batch.changes if delta.profile in newer)

    def additions(self, known: Container[int]) -> Batch | None:
        """What would be added by changes that wait behind the batch that is out, but for those at `known` offsets.

        It covers no offsets and cannot be confirmed: the changes stay where they are. None: there is nothing.
        """
        waiting = [item for item in self._pending.by_profile.values() if item.offset not in known]
        deltas = ((item.offset, item.delta(self._destination)) for item in waiting)
        changes = tuple((offset, delta) for offset, delta in deltas if delta.change is not Change.EXITED)
        if not changes:
            return None
        return Batch(self._cursor, changes[-1][0] + 1, changes, ())

    def suspend(self, settle_end: int) -> None:
        """Keep nothing in memory: what is not confirmed is read from the log again after the next `begin_read`.

        No batch may be out. `settle_end` is the end of what may have been sent: see the constructor.
        """
        if self._out is not None:
            raise ValueError("a batch that is out must be confirmed or given back first")
        self._cursor = self._position = self.cursor
        self._pending, self._ahead = _Newest(), None
        self._live = False
        self._settle_end = max(self._settle_end, settle_end)

    def restart_at(self, offset: int) -> None:
        """Below that everything is confirmed now, and nothing from there on: at 0, everything is to be sent again.

        Whoever reads the log leaves out what is superseded by changes that may have been sent.
        """
        if self._live or not self._nothing_waits:
            raise ValueError("only what is suspended can begin elsewhere")
        self._cursor = self._position = offset
        self._settle_end = 0

    @property
    def _settled(self) -> bool:
        return self._live or self._position >= self._settle_end

    def _keep(self, offset: int, delta: MembershipDelta, now: float) -> None:
        if self._nothing_waits:
            self._cursor = self._position
        self._pending.put(self._item(offset, delta, now))

    def _item(self, offset: int, delta: MembershipDelta, arrived: float) -> Waiting:
        return Waiting.of(offset, delta, self._destination, arrived)
