"""What becomes of everything that knows a partition when their number changes: lanes, clocks, counters, cursors, letters.

A profile, with all that is known of it, moves to the partition that its id has among the new ones; so does an audience
with its memberships. What one partition remembered of itself is then true of none, and is made anew here:

    lanes      Resolve has committed every source record that any partition has seen, so nothing of a source partition
               below that offset comes again, and the new partitions begin there. What waits in profile.events travels
               in a lane of its own, in which it cannot be taken for a redelivery.
    clocks     The furthest of them. Whatever was due in a slower partition is due at once, each at its own instant.
    cursors    Offsets of audience.memberships, and so is much of SyncState: to where the same record of the same audience
               stands now.
"""

from __future__ import annotations

from collections import Counter
from math import gcd
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from app.domain.clock import ClockRecord, LaneRecord
from app.domain.compact import audience_id
from app.domain.dead_letters import as_resolved
from app.domain.profile_ids import ACCOUNT
from app.domain.state import AudiencesRecord, PartitionRecord
from app.errors import InvalidInputError
from schemas.dead_letter import dead_letter_id
from schemas.profile import MARKER, PAST, PAST_END
from schemas.sync import OffsetRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from app.domain.clock import PartitionClock
    from app.domain.published import Published
    from app.domain.state import ProfileState
    from schemas.dead_letter import DeadLetter, Origin
    from schemas.profile import ProfileEvent
    from schemas.sync import SyncState

# What was waiting in profile.events. No topic id reads like this.
MOVED_LANE: Final = "moved/"
# Lanes that are no source's: their positions are told by partitions and topics that are there no more.
_OWN_LANES: Final = ("profiles/", "past/", "replay/", "forget/", MOVED_LANE)
# Behind every record that is made of one source record.
_LAST_INDEX: Final = 2**31 - 1
# A change has a row for each e-mail address and phone number of the person: far fewer than this.
_MOST_ROWS: Final = 1_000
# Clocks further apart than this belong to partitions that are behind: what they have not read would come too late.
MOST_APART_MS: Final = 60_000


# --- whether everything is where it can be taken from ---


def refuse_unfinished(
    published: Published, records: Sequence[PartitionRecord], committed: Mapping[str, int], before: int
) -> None:
    """Raises InvalidInputError while something is under way that only workers can finish.

    `records` are those of the partitions that have one; `committed` is by live source lane the offset below which
    resolve is done.
    """
    finish = "start the workers, wait until /ready is 200 and every lag is 0, and stop them with SIGTERM"
    if published.is_filling(before) or any(record.boundary is not None for record in records):
        raise InvalidInputError(
            "audiences are being filled from history: start the workers, and stop them when "
            "`audience-sync audiences list` says that it is done"
        )
    if len({record.definitions for record in records}) > 1:
        raise InvalidInputError(f"the partitions run by different versions of the definitions: {finish}")
    clocks = [record.clock.now for record in records if record.clock.now is not None]
    if clocks and max(clocks) - min(clocks) > MOST_APART_MS:
        seconds = (max(clocks) - min(clocks)) // 1_000
        raise InvalidInputError(
            f"a partition of profile.events is {seconds:,} s behind another one: {finish}"
        )
    for record in records:
        for lane in record.clock.lanes:
            if lane.lane in committed and lane.offset >= committed[lane.lane]:
                number = lane.lane.rpartition("/")[2]
                raise InvalidInputError(
                    f"partition {number} of the source topic was evaluated up to offset {lane.offset:,}, and the group has "
                    f"committed {committed[lane.lane]:,}: a worker did not end by itself, and the next one reads that "
                    f"again. {finish[0].upper()}{finish[1:]}"
                )


# --- the state of profiles ---


def merged_record(
    records: Sequence[PartitionRecord], committed: Mapping[str, int], members: Mapping[str, int]
) -> PartitionRecord:
    """The record of a new partition with these members, of those of all old ones (at least one)."""
    clocks = [record.clock.now for record in records if record.clock.now is not None]
    fired = [
        stood
        for record in records
        if (stood := record.clock.now if record.fired is None else record.fired) is not None
    ]
    plans = {record.plan for record in records}
    return PartitionRecord(
        version=1,
        clock=ClockRecord(max(clocks, default=None), _lanes(records, committed)),
        plan=plans.pop() if len(plans) == 1 else "",
        members=dict(members),
        fired=min(fired, default=None),
        definitions=records[0].definitions,
    )


def _lanes(records: Iterable[PartitionRecord], committed: Mapping[str, int]) -> list[LaneRecord]:
    known: dict[str, list[LaneRecord]] = {}
    for record in records:
        for lane in record.clock.lanes:
            if not lane.lane.startswith(_OWN_LANES):
                known.setdefault(lane.lane, []).append(lane)
    merged = []
    for name, lanes in sorted(known.items()):
        offset, index = max((lane.offset, lane.index) for lane in lanes)
        if committed.get(name, 0) > 0:
            offset, index = committed[name] - 1, _LAST_INDEX
        # The least: what is further is said again by the next marker.
        progress = [lane.progress for lane in lanes if lane.progress is not None]
        merged.append(LaneRecord(name, offset, index, min(progress, default=None)))
    return merged


def merged_audiences(records: Sequence[AudiencesRecord]) -> AudiencesRecord | None:
    """What a new partition remembers of the audiences: the earliest instant at which one was applied, and the
    destinations that have been told everywhere; one that has not is told once more. None: nothing is remembered
    anywhere.
    """
    if not records:
        return None
    applied: dict[str, int] = {}
    for record in records:
        for key, instant in record.applied.items():
            applied[key] = min(instant, applied.get(key, instant))
    return AudiencesRecord(
        1,
        applied,
        _told([record.told for record in records]),
        _told([record.told_exits for record in records]),
    )


def _told(known: Sequence[Mapping[str, list[str]]]) -> dict[str, list[str]]:
    return {
        key: [one for one in told if all(one in other.get(key, ()) for other in known)]
        for key, told in known[0].items()
        if all(key in other for other in known)
    }


class Members:
    """Counts the members of a new partition."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()

    def add(self, profile: bytes, state: ProfileState) -> None:
        """One profile that has not become part of another. Accounts are no members: their people are."""
        if not profile.startswith(ACCOUNT.encode()):
            self._counted.update(short for short, known in state.memberships.items() if known.member)

    def of(self, audiences: Iterable[str]) -> dict[str, int]:
        """By audience key."""
        return {key: self._counted[audience_id(key)] for key in sorted(audiences)}


def may_live_in(old: int, before: int, after: int) -> range:
    """The new partitions in which the key of a profile of an old one may be, where only its digest is known."""
    step = gcd(before, after)
    return range(old % step, after, step)


# --- what waits in profile.events ---


class Waiting:
    """Gives what was written to profile.events and not evaluated its place in the lane of all that was moved.

    `committed` is by live source lane the offset below which resolve is done: from there on it writes everything again.
    """

    def __init__(self, committed: Mapping[str, int]) -> None:
        self._committed = committed
        self.moved = 0

    def take(self, event: ProfileEvent, clock: PartitionClock) -> ProfileEvent | None:
        """The event as it is to be written; None: it has nothing to say. `clock` is that of its old partition.

        How far lanes have come is said again when workers are back, and what is read of the past has nobody who waits
        for it.
        """
        if event.kind in (MARKER, PAST, PAST_END):
            return None
        if event.offset >= self._committed.get(event.lane, event.offset + 1):
            return None
        if not clock.accept(event.lane, event.offset, event.index):
            return None
        self.moved += 1
        return replace(event, lane=MOVED_LANE, offset=self.moved, index=0)


# --- offsets of audience.memberships ---


class Offsets:
    """Where offsets of audience.memberships are to be found among the new partitions.

    `ask` for all of them, `see` every record in order, then `end` each new partition, and only then look.
    """

    def __init__(self, partition_of: Callable[[str], int]) -> None:
        """`partition_of` gives the new partition of an audience."""
        self._partition_of = partition_of
        self._asked: dict[str, set[int]] = {}
        self._open: dict[str, list[int]] = {}
        self._found: dict[tuple[str, int], int] = {}
        self._exact: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._ends: Mapping[int, int] = {}

    def ask(self, audience: str, offset: int) -> None:
        """Of the audience's old partition."""
        self._asked.setdefault(audience, set()).add(offset)

    def ask_exactly(self, partition: int, offset: int) -> None:
        """Of the record there, whatever it is."""
        self._exact[partition, offset] = None

    def begin(self) -> None:
        """Everything has been asked for."""
        self._open = {audience: sorted(offsets, reverse=True) for audience, offsets in self._asked.items()}

    def see(self, audience: str, old: tuple[int, int], new: tuple[int, int]) -> None:
        """A record of the audience, by partition and offset as it was and as it will be."""
        waiting = self._open.get(audience)
        while waiting and waiting[-1] <= old[1]:
            self._found[audience, waiting.pop()] = new[1]
        if old in self._exact:
            self._exact[old] = new

    def end(self, ends: Mapping[int, int]) -> None:
        """The ends of the new partitions: where whoever was behind everything stands."""
        self._ends = ends

    def place(self, audience: str, offset: int) -> tuple[int, int]:
        """The new partition, and the offset there of the audience's first record at or behind that old offset."""
        partition = self._partition_of(audience)
        return partition, self._found.get((audience, offset), self._ends[partition])

    def exact(self, partition: int, offset: int) -> tuple[int, int] | None:
        """Where the very record stands; None: it was kept no longer."""
        return self._exact[partition, offset]


def offsets_in(state: SyncState) -> list[int]:
    """All offsets of audience.memberships that a SyncState has."""
    found = [state.cursor, state.resync_end]
    found += [offset for span in state.unconfirmed for offset in (span.first, span.end)]
    if state.replace is not None:
        found.append(state.replace.end)
    if state.brake is not None:
        found.append(state.brake.position)
    return found


def moved_state(state: SyncState, end: int, at: Callable[[int], int]) -> SyncState:
    """The state with its offsets where `at` says that they are now; `end` is the end of its old partition.

    A cursor behind that end speaks of a partition that is gone: the destination begins anew, as in
    `app.domain.sync_start`.
    """
    if state.cursor > end:
        return state.model_copy(
            update={
                "cursor": 0,
                "unconfirmed": (),
                "replace": None,
                "resync_end": 0,
                "resync_left_out": False,
                "brake": None,
            }
        )
    spans = (OffsetRange(first=at(span.first), end=at(span.end)) for span in state.unconfirmed)
    return state.model_copy(
        update={
            "cursor": at(state.cursor),
            "unconfirmed": tuple(span for span in spans if span.first < span.end),
            "resync_end": at(state.resync_end) if state.resync_end else 0,
            "replace": state.replace and state.replace.model_copy(update={"end": at(state.replace.end)}),
            "brake": state.brake and state.brake.model_copy(update={"position": at(state.brake.position)}),
        }
    )


# --- dead letters ---


def moved_letter(letter: DeadLetter, offsets: Offsets, memberships: str, events: str) -> DeadLetter:
    """The letter with its origin, and so its id, where its record of `memberships` is now.

    A letter of profile.events (`events`) that nobody has seen to has expired: what has been evaluated is not moved.
    """
    origin = letter.origin
    if origin.topic == events and letter.resolved is None:
        return as_resolved(letter, "expired")
    if origin.topic != memberships:
        return letter
    if letter.audience is None:
        place = offsets.exact(origin.partition, origin.offset)
        if place is None:
            return letter if letter.resolved is not None else as_resolved(letter, "expired")
    else:
        place = offsets.place(letter.audience, origin.offset)
    moved = origin.model_copy(update={"partition": place[0], "offset": place[1]})
    return letter.model_copy(update={"origin": moved, "id": _id_at(moved, letter)})


def _id_at(origin: Origin, letter: DeadLetter) -> str:
    """The id that the letter has by that origin; which of the change's rows it is about, only its id has said."""
    about = letter.destination, letter.profile, letter.sequence
    for index in range(_MOST_ROWS):
        if dead_letter_id(letter.stage, letter.origin, index, *about) == letter.id:
            return dead_letter_id(letter.stage, origin, index, *about)
    return letter.id
