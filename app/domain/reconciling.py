"""Whether what is known of members agrees: the state's own counters, audience.memberships, what Facebook has confirmed,
and Facebook's bounds. It looks at records; whoever calls has read them.

    counted      by the state of the profiles        PartitionRecord.members, added up
    members      by audience.memberships             whose newest delta is no exit
    told         of these, whom a destination hears of: the delta has rows for it
    pending      changes for a destination that its cursor has not passed

While workers run, counters and deltas are read one after the other. They were written in one transaction, so they differ
by no more than the deltas that came in between: `moved`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.domain.instants import format_instant
from schemas.membership import Change
from schemas.sync import DestinationState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.audience import AudienceDefinition
    from schemas.membership import MembershipDelta
    from schemas.sync import SyncState

# Changes younger than this, and than two batches, are on their way.
GRACE_MS: Final = 5 * 60_000
# Facebook's least bound for audiences that have people.
LEAST_BOUND: Final = 1_000
# Its bounds are rounded, and late: so much more than was sent, in percent, says nothing yet.
MOST_ABOVE: Final = 25
# Of so many people at least, this part in percent is matched.
ENOUGH_PEOPLE: Final = 5_000
LEAST_MATCHED: Final = 10

_WAITING: Final = {
    DestinationState.PAUSED: ("paused", "audience-sync audiences resume {id}"),
    DestinationState.HELD: ("held", "do what the reason says; it goes on by itself"),
    DestinationState.GONE: (
        "gone",
        "give the token its right to the Facebook audience back, or audience-sync audiences create {id} has another made",
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind`: counters, behind, paused, held, gone, dead_letters, refused, too_many or too_few; `repair`: a command, or
    what a person has to do.
    """

    kind: str
    text: str
    repair: str


@dataclass(slots=True)
class DestinationTally:
    """By hashes of keys: how many rows each told member has, and when each pending change was written."""

    cursor: int
    told: dict[int, int] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)
    # Somebody has left of whom it does not hear.
    keeps: bool = False


class AudienceTally:
    """One audience's records of audience.memberships, in order of offset."""

    def __init__(self, cursors: dict[str, int]) -> None:
        """`cursors` of its destinations, by id."""
        self.members: set[int] = set()
        self.moved = 0
        self.destinations = {id_: DestinationTally(cursor) for id_, cursor in cursors.items()}

    def take(self, key: bytes, delta: MembershipDelta | None, offset: int, written_at: int) -> None:
        """None: somebody was forgotten, or the record is no delta."""
        person = hash(key)
        if delta is None or delta.change is Change.EXITED:
            self.members.discard(person)
        else:
            self.members.add(person)
        for id_, tally in self.destinations.items():
            self._tell(tally, person, None if delta is None else (delta, delta.rows.get(id_)))
            tally.pending.pop(person, None)
            if delta is not None and id_ in delta.rows and offset >= tally.cursor:
                tally.pending[person] = written_at

    @staticmethod
    def _tell(
        tally: DestinationTally, person: int, said: tuple[MembershipDelta, list[Any] | None] | None
    ) -> None:
        if said is None:
            tally.told.pop(person, None)
            return
        delta, rows = said
        if delta.change is Change.EXITED and rows is None:
            tally.keeps = True
        elif delta.change is Change.EXITED or not rows:
            tally.told.pop(person, None)
        else:
            tally.told[person] = len(rows)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Facebook's, None or -1 where it says none. `asked`: just now, otherwise as they were last recorded. `refused` is
    what Facebook answered in place of them.
    """

    lower: int | None = None
    upper: int | None = None
    asked: bool = False
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationFinding:
    """`confirmed` are told members of whom nothing is pending."""

    id: str
    state: str
    reason: str | None
    told: int
    confirmed: int
    pending: int
    oldest_pending_at: str | None
    dead_letters: int
    bounds: Bounds
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class AudienceFinding:
    """`counted`: see the module's text."""

    audience: str
    counted: int
    members: int
    moved: int
    destinations: tuple[DestinationFinding, ...]
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        return not self.differences and not any(found.differences for found in self.destinations)


@dataclass(frozen=True, slots=True)
class ReconcileView:
    """The newest run of a worker; `checked_at` in epoch milliseconds, None: none has ended yet.

    `differing` has the differences by audience or destination, of those that have some. `trouble` is why the newest try
    came to nothing, or why Facebook's bounds are those last recorded.
    """

    checked_at: int | None = None
    audiences: int = 0
    differing_audiences: int = 0
    differing: tuple[tuple[str, tuple[Difference, ...]], ...] = ()
    trouble: str | None = None


def view_of(findings: Sequence[AudienceFinding], checked_at: int, trouble: str | None) -> ReconcileView:
    """What is kept of the findings."""
    named = [
        each
        for found in findings
        for each in (
            (found.audience, found.differences),
            *((destination.id, destination.differences) for destination in found.destinations),
        )
        if each[1]
    ]
    differing = sum(not found.agrees for found in findings)
    return ReconcileView(checked_at, len(findings), differing, tuple(named), trouble)


def compare_audience(
    audience: AudienceDefinition,
    counted: int,
    tally: AudienceTally,
    unsettled: str | None,
    destinations: tuple[DestinationFinding, ...],
) -> AudienceFinding:
    """`unsettled` says why the state may not be by the newest definitions yet, if so."""
    members = len(tally.members)
    differences = []
    if abs(counted - members) > tally.moved:
        text = f"the state counts {counted:,} members, audience.memberships has {members:,}"
        if unsettled is not None:
            differences.append(Difference("counters", f"{text}; {unsettled}", "wait, and look again"))
        else:
            differences.append(
                Difference(
                    "counters",
                    f"{text}: somebody else has written to a topic of ours, or emptied it, or its cleanup.policy is wrong",
                    f"audience-sync doctor; then audience-sync audiences resync {audience.key} sends what"
                    " audience.memberships has",
                )
            )
    return AudienceFinding(audience.key, counted, members, tally.moved, destinations, tuple(differences))


def compare_destination(
    id_: str,
    tally: DestinationTally,
    state: SyncState | None,
    shown: tuple[DestinationState, str | None],
    dead_letters: int,
    bounds: Bounds,
    *,
    connected: bool,
    irreplaceable: str | None = None,
    now_ms: int,
    batch_ms: int,
) -> DestinationFinding:
    """`shown` is its state and the reason of it, as people want it. `connected` Facebook audiences may have had people
    before. `irreplaceable` says why its people cannot be replaced, if so. `batch_ms` is how long a batch fills.
    """
    confirmed = sum(person not in tally.pending for person in tally.told)
    oldest = min(tally.pending.values(), default=None)
    late = oldest is not None and now_ms - oldest > GRACE_MS + 2 * batch_ms
    differences = list(_behind(id_, tally, state, shown, late=late))
    if dead_letters:
        differences.append(
            Difference(
                "dead_letters",
                f"{dead_letters:,} rows were refused and wait as dead letters",
                f"audience-sync dead-letters list --stage deliver --audience {id_.partition('@')[0]}, mend the cause,"
                " then audience-sync dead-letters replay with the same options",
            )
        )
    if shown[0] is not DestinationState.DRY_RUN and not (state is not None and state.dry_run):
        differences += _outside(
            id_, tally, confirmed, bounds, connected=connected, irreplaceable=irreplaceable
        )
    return DestinationFinding(
        id_,
        shown[0].value,
        shown[1],
        len(tally.told),
        confirmed,
        len(tally.pending),
        None if oldest is None else format_instant(oldest),
        dead_letters,
        bounds,
        tuple(differences),
    )


def _behind(
    id_: str,
    tally: DestinationTally,
    state: SyncState | None,
    shown: tuple[DestinationState, str | None],
    *,
    late: bool,
) -> tuple[Difference, ...]:
    count = len(tally.pending)
    if not count:
        return ()
    text = f"{count:,} changes are not confirmed"
    if shown[0] in _WAITING:
        kind, repair = _WAITING[shown[0]]
        if (
            state is not None
            and state.brake is not None
            and state.brake.trip is not None
            and kind == "paused"
        ):
            repair += " --accept-shrink, if they shall leave"
        why = f": {shown[1]}" if shown[1] else ""
        return (Difference(kind, f"{text}; {kind}{why}", repair.format(id=id_)),)
    if not late:
        return ()
    if state is not None and state.cursor < state.resync_end:
        return (Difference("behind", f"{text}; everything is being sent again", "wait, and look again"),)
    return (
        Difference(
            "behind",
            f"{text}, the oldest for longer than {GRACE_MS // 60_000} minutes and two batches",
            "see that workers run, and /stats why they do not get on",
        ),
    )


def _outside(
    id_: str,
    tally: DestinationTally,
    confirmed: int,
    bounds: Bounds,
    *,
    connected: bool,
    irreplaceable: str | None,
) -> list[Difference]:
    """By Facebook's bounds, which say little: they are rounded, late, and count matched people alone."""
    if bounds.refused is not None:
        repair = "give the token its right to the Facebook audience back, if it is there"
        return [Difference("refused", f"Facebook does not show it: {bounds.refused}", repair)]
    lower, upper = bounds.lower, bounds.upper
    if lower is None or upper is None or lower < 0 or upper < 0:
        return []
    rows = sum(tally.told.values()) + len(tally.pending)
    if not connected and not tally.keeps and lower > LEAST_BOUND and lower * 100 > rows * (100 + MOST_ABOVE):
        return [
            Difference(
                "too_many",
                f"Facebook has at least {lower:,} people, and {rows:,} rows at most were sent",
                f"audience-sync audiences resync {id_} --replace puts the members in the place of everybody there"
                if irreplaceable is None
                # A removal names people, and nobody here knows whom somebody else has put there.
                else f"audience-sync audiences resync {id_} removes again who was removed; whom somebody else has put"
                f" there has to be taken out at Facebook, as --replace is not for this one: {irreplaceable}",
            )
        ]
    if confirmed >= ENOUGH_PEOPLE and upper * 100 < confirmed * LEAST_MATCHED:
        return [
            Difference(
                "too_few",
                f"Facebook has {upper:,} people at most, of {confirmed:,} that it has confirmed; it may take a day to"
                " match them",
                f"audience-sync audiences resync {id_} sends all of them again",
            )
        ]
    return []
