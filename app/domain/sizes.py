"""How many members of an audience a destination is sent, by which keys, and why Facebook shows fewer of them.

Of audience.memberships whoever calls has read one audience's records, in order of offset. Facebook's bounds are privacy
buckets of the people whom it has matched, never a count of rows; what its numbers and codes mean is Meta's reference of
the Custom Audience, and of its guide: matching takes up to 24 hours, external ids are remembered for 90 days.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.domain.users_requests import EXTERN_ID, LOOKALIKE_VALUE
from schemas.membership import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schemas.membership import MembershipDelta
    from schemas.sync import SyncState

# What 1,000 people and fewer are shown as.
BUCKET: Final = 1_000
# So many matched people at least for the seed of a lookalike audience.
SEED: Final = 100
MATCHING_MS: Final = 24 * 3_600_000
_TOO_SMALL: Final = "300"
# Codes of the last operation by which a list is smaller than it could be, or is about to change.
_OPERATIONS: Final[Mapping[str, str]] = {
    "410": "nothing has been uploaded yet, says Facebook",
    "411": "Facebook could match few of the people (status 411): more keys for each person help",
    "412": "Facebook found many entries invalid in the last upload (status 412): see the dead letters",
    "414": "everybody is being replaced at Facebook (status 414)",
    "415": "a replacement of everybody has failed at Facebook (status 415): `audiences resync` repairs it",
    "441": "Facebook is still filling the audience (status 441): it grows",
    "471": "Facebook has flagged the audience (status 471) and takes no changes to it",
}


@dataclass(slots=True)
class SizeTally:
    """Of one destination. `members` whom it is told of: by the hash of a record's key, the keys of their rows as bits.

    `former`: see `schemas.sync.SyncState`.
    """

    destination: str
    former: str | None = None
    members: dict[int, int] = field(default_factory=dict)
    _bits: dict[str, int] = field(default_factory=dict)

    def take(self, key: bytes, delta: MembershipDelta | None) -> None:
        """None: somebody was forgotten, or the record is no delta."""
        person = hash(key)
        rows = None
        if delta is not None and delta.change is not Change.EXITED:
            rows = delta.rows.get(self.destination)
            if rows is None and self.former is not None:
                rows = delta.rows.get(self.former)
        if rows is None:
            self.members.pop(person, None)
            return
        known = 0
        for column in {column for row in rows for column, value in row.items() if value != ""}:
            known |= self._bits.setdefault(column, 1 << len(self._bits))
        self.members[person] = known

    @property
    def carrying(self) -> dict[str, int]:
        """How many members carry each key, in the order of how many."""
        found: Counter[str] = Counter()
        for bits, people in Counter(self.members.values()).items():
            found.update({column: people for column, bit in self._bits.items() if bits & bit})
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def sent(self) -> int:
        """Members of whom there is something to send."""
        return sum(bits != 0 for bits in self.members.values())

    @property
    def by_external_id_alone(self) -> int:
        """Members whom Facebook can only know by an id of ours."""
        alone = self._bits.get(EXTERN_ID, 0) | self._bits.get(LOOKALIKE_VALUE, 0)
        return sum(bits != 0 and not bits & ~alone for bits in self.members.values())


def share(part: int, whole: int) -> float | None:
    """In percent with one decimal; None: of nobody."""
    return round(100 * part / whole, 1) if whole else None


def explain(tally: SizeTally, state: SyncState | None, now_ms: int) -> list[str]:
    """Why Facebook shows fewer people than are sent, or no size; empty where it does not."""
    return list(_explained(tally, state, now_ms))


def _explained(tally: SizeTally, state: SyncState | None, now_ms: int) -> Iterator[str]:
    lacking = len(tally.members) - tally.sent
    if lacking:
        yield f"{lacking:,} members have nothing that could be sent; they are when an identifier arrives"
    if state is None or state.facebook_id is None:
        yield "there is no Facebook audience yet"
        return
    if state.dry_run:
        yield "in a dry run nobody is sent"
        return
    lower, upper = state.lower_bound, state.upper_bound
    if lower is None or upper is None:
        yield "Facebook has not said a size yet"
    elif lower < 0 or upper < 0:
        yield "Facebook names no size (-1), as of lists that are new or tiny"
    elif upper >= tally.sent:
        return
    elif upper <= BUCKET:
        yield f"Facebook shows {BUCKET:,} for all lists of {BUCKET:,} matched people and fewer: it is no count"
    else:
        yield f"Facebook has {upper:,} people at most of the {tally.sent:,} who are sent: those whom it could match"
    yield from _whom_it_cannot_match(tally)
    yield from _what_it_says(state, now_ms)


def _whom_it_cannot_match(tally: SizeTally) -> Iterator[str]:
    carrying, sent = tally.carrying, tally.sent
    if not sent:
        return
    shares = ", ".join(
        f"{key} {share(people, sent)} %" for key, people in carrying.items() if key != LOOKALIKE_VALUE
    )
    yield f"of the members who are sent so many carry each key: {shares}"
    alone = tally.by_external_id_alone
    if alone:
        yield (
            f"{alone:,} ({share(alone, sent)} %) carry an external id alone, by which Facebook finds only whom it was sent with "
            "other keys in the last 90 days"
        )


def _what_it_says(state: SyncState, now_ms: int) -> Iterator[str]:
    if state.last_sync_at is not None and now_ms - state.last_sync_at < MATCHING_MS:
        yield "the last sync is less than 24 hours old, as long as Facebook may take to match people"
    rejected = sum(hour.rejected for hour in state.hours)
    if rejected:
        yield f"Facebook refused {rejected:,} rows in the hours with rows that are remembered: see the dead letters"
    words = _OPERATIONS.get((state.operation or "").partition(" ")[0])
    if words is not None:
        yield words
    if (state.delivery or "").partition(" ")[0] == _TOO_SMALL:
        yield (
            f"Facebook delivers no ads to it, as it is too small (status 300); the seed of a lookalike needs {SEED} matched "
            "people"
        )
