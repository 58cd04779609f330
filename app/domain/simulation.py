"""Simulation: the transitions that a file of events makes, computed by the worker's own code without Kafka.

Lines are applied in their order; the clock is each line's received time and never goes back. All that is applied
while the clock stands, and all that becomes due then, is one instant: memberships before it are compared with
memberships after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.counters import Counters
from app.domain.instants import MAX_INSTANT
from app.domain.partition import AudiencePartition
from app.domain.profile_ids import is_account
from app.domain.resolution import Resolution, ResolveOptions, Resolver
from schemas.membership import Change, never_entered
from schemas.profile import MARKER, VERSION, ProfileEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.calls import Refusal
    from app.domain.plan import Plan
    from schemas.membership import MembershipDelta

_LANE: Final = "file"
# Records after which the states that they touched are put to rest, as resting ones take less memory.
_DRAIN_EVERY: Final = 10_000


class Transition(NamedTuple):
    """A change of membership; in the order in which results are printed."""

    at: int
    audience: str
    profile: str
    member: bool


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was left out; `number` counts from 1."""

    number: int
    refusal: Refusal


def simulate(
    plan: Plan, lines: Iterable[bytes], until: int | None = None, options: ResolveOptions | None = None
) -> Iterator[Transition | BadLine]:
    """Transitions in order of instant, audience and profile, and bad lines as they come.

    `until`: the clock's last instant, epoch milliseconds; lines after it are not applied. None: the last line's
    clock. Blank lines mean nothing.
    """
    run = _Run(plan, options or ResolveOptions())
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        resolution = run.read(line, number)
        if resolution.refused is not None:
            yield BadLine(number, resolution.refused)
        if resolution.received is None:
            continue
        if until is not None and max(resolution.received, run.clock) > until:
            break
        yield from run.move_clock(resolution.received)
        run.apply(resolution.records)
    if until is not None:
        yield from run.move_clock(until)
    yield from run.end_instant()


class _Run:
    """A resolver, and a partition that holds every profile."""

    def __init__(self, plan: Plan, options: ResolveOptions) -> None:
        self.clock = 0
        self._resolver = Resolver(plan, options)
        self._partition = AudiencePartition(plan, early_ms=0, counters=Counters())
        self._partition.finish_recovery()
        # There is no wall here: the file may be of any time.
        self._partition.set_wall(MAX_INSTANT)
        self._partition.set_expected([_LANE])
        self._applied = 0
        self._open: list[MembershipDelta] = []
        self._of_accounts = plan.accounts.asked_by if plan.accounts else ()

    def read(self, line: bytes, number: int) -> Resolution:
        return self._resolver.resolve(line, None, MAX_INSTANT, _LANE, number)

    def move_clock(self, instant: int) -> Iterator[Transition]:
        """Transitions that are final once the clock is at `instant`; those of that instant itself are not yet."""
        if instant <= self.clock:
            return
        yield from self.end_instant()
        self.clock = instant
        marker = ProfileEvent(VERSION, MARKER, _LANE, 0, 0, instant, instant, progress={_LANE: instant})
        self._partition.apply_marker(marker)
        self._open.extend(self._partition.take_deltas())
        passed = [delta for delta in self._open if delta.at < instant]
        self._open = self._open[len(passed) :]
        yield from self._netted(passed)

    def apply(self, records: Iterable[tuple[str, ProfileEvent]]) -> None:
        """What was read of a line, while the clock stands at the line's instant."""
        for profile, event in records:
            self._partition.apply(profile, event)
            self._applied += 1
            removals = self._partition.forgotten.removals
            for key in list(removals):
                # Nobody has to confirm it here.
                self._partition.confirm_removal(key, removals[key])
        if self._applied >= _DRAIN_EVERY:
            self._applied = 0
            self._open.extend(self._partition.drain().deltas)

    def end_instant(self) -> Iterator[Transition]:
        """Transitions of the instant at which the clock stands, as nothing more comes at it."""
        self._open.extend(self._partition.take_deltas())
        finished, self._open = self._open, []
        yield from self._netted(finished)

    def _netted(self, deltas: Iterable[MembershipDelta]) -> Iterator[Transition]:
        """`deltas` are in order of `at`."""
        instant = -1
        before: dict[tuple[str, str], bool] = {}
        after: dict[tuple[str, str], bool] = {}
        for delta in deltas:
            if delta.change is Change.UPDATED or never_entered(delta):
                continue
            if delta.audience in self._of_accounts and not is_account(delta.profile):
                continue  # the members are the accounts; these are sent
            if delta.at != instant:
                yield from self._transitions(instant, before, after)
                instant, before, after = delta.at, {}, {}
            key = (delta.audience, delta.profile)
            member = delta.change is Change.ENTERED
            before.setdefault(key, not member)
            after[key] = member
        yield from self._transitions(instant, before, after)

    def _transitions(
        self, at: int, before: dict[tuple[str, str], bool], after: dict[tuple[str, str], bool]
    ) -> list[Transition]:
        """Of people: a profile that has ended in this instant was the person that it became part of."""
        was: dict[tuple[str, str], bool] = {}
        for (audience, profile), member in before.items():
            person = self._partition.states.person(profile)
            was[audience, person] = was.get((audience, person), False) or member
        changed = []
        for audience, person in was:
            key = (audience, person)
            member = after[key] if key in after else self._partition.states.is_member(audience, person)
            # Of whom nothing changed but that others became part of them, nothing is to be seen.
            before_it = was[key] or (key not in after and member)
            if before_it != member:
                changed.append(Transition(at, audience, self._partition.states.display_name(person), member))
        return sorted(changed)
