"""How many dead letters are too many: behind a wrong setting or a bad release of whoever writes the source topic, a
stage must stop rather than turn all that comes into letters. Starting it again must not be a way round that: what has
been counted is committed together with the offset up to which it has been.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.domain.formats import read_stored
from app.errors import FatalError, UnreadableRecordError
from schemas.dead_letter import LetterCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

# A window is kept in about so many parts, twice as many at most: Kafka takes 4,096 bytes beside an offset.
_PARTS: Final = 20


@dataclass(frozen=True, slots=True)
class LetterPolicy:
    """`in_a_row` records of one partition, or `ratio` of the newest `window` records of it; 0: no such limit, and
    nothing is counted towards one.
    """

    in_a_row: int = 1_000
    ratio: float = 0.5
    window: int = 10_000


@dataclass(slots=True)
class _Seen:
    """The newest records of one partition: the run of letters at the end, and batches of (records, letters)."""

    run: int = 0
    batches: deque[tuple[int, int]] = field(default_factory=deque)
    records: int = 0
    letters: int = 0

    def copy(self) -> _Seen:
        return _Seen(self.run, self.batches.copy(), self.records, self.letters)

    def add(self, records: int, letters: int, window: int) -> None:
        """One more batch; of those before only as many are kept as the window takes. Small ones become one."""
        self.records += records
        self.letters += letters
        if self.batches and self.batches[-1][0] + records <= window // _PARTS:
            earlier = self.batches.pop()
            records, letters = records + earlier[0], letters + earlier[1]
        self.batches.append((records, letters))
        while self.records - self.batches[0][0] >= window:
            records, letters = self.batches.popleft()
            self.records -= records
            self.letters -= letters


class LetterLimits:
    """One stage; every partition of its input is judged alone, as another's good records say nothing of it."""

    def __init__(self, policy: LetterPolicy) -> None:
        self._policy = policy
        self._seen: dict[tuple[str, int], _Seen] = {}

    def note(self, topic: str, partition: int, records: int, buried: Sequence[int]) -> None:
        """One batch of so many records; `buried` are the places in it, from 0 and in order, that became letters.

        Raises FatalError at the limit: nothing of the batch may count as done then, and nothing of it is counted.
        """
        before = self._seen.get((topic, partition))
        seen = _Seen() if before is None else before.copy()
        policy = self._policy
        if policy.ratio:
            seen.add(records, len(buried), policy.window)
        longest = self._longest_run(seen, records, buried)
        if policy.in_a_row and longest >= policy.in_a_row:
            raise FatalError(
                f"{longest:,} records of {topic} in a row, in partition {partition}, became dead letters. {_FIX}"
            )
        if (
            buried
            and policy.ratio
            and seen.records >= policy.window
            and seen.letters >= policy.ratio * seen.records
        ):
            share = seen.letters / seen.records
            raise FatalError(
                f"{share:.0%} of the newest {seen.records:,} records of {topic}, partition {partition}, became "
                f"dead letters. {_FIX}"
            )
        if not policy.in_a_row:
            seen.run = 0
        self._seen[topic, partition] = seen

    def standing(self, topic: str, partition: int) -> str:
        """What has been counted, to be committed with the offset behind the newest batch; empty: no letters."""
        seen = self._seen.get((topic, partition))
        if seen is None or not (seen.run or seen.letters):
            return ""
        return LetterCounts(run=seen.run, batches=tuple(seen.batches)).model_dump_json()

    def resume(self, topic: str, partition: int, standing: str) -> None:
        """Go on from what was committed with the offset from which the partition is read now.

        What no release has written counts as nothing: anybody may move a group's offsets with a note of their own.
        Raises NewerFormatError.
        """
        self._seen.pop((topic, partition), None)
        if not standing:
            return
        try:
            counts = read_stored(LetterCounts, standing.encode())
        except UnreadableRecordError:
            return
        seen = self._seen[topic, partition] = _Seen(counts.run if self._policy.in_a_row else 0)
        if self._policy.ratio:
            for records, letters in counts.batches:
                seen.add(records, letters, self._policy.window)

    @staticmethod
    def _longest_run(seen: _Seen, records: int, buried: Sequence[int]) -> int:
        """The longest run that ends in this batch; the one at its end goes on with the next."""
        run, before, longest = seen.run, -1, 0
        for place in buried:
            run = run + 1 if place == before + 1 else 1
            before = place
            longest = max(longest, run)
        seen.run = run if buried and before == records - 1 else 0
        return longest


_FIX = (
    "`audience-sync dead-letters list` shows why: mend that, or raise AUDIENCE_SYNC_DEAD_LETTERS_IN_A_ROW or "
    "AUDIENCE_SYNC_DEAD_LETTERS_RATIO (0: no limit), and start again. Starting again alone ends here once more: what "
    "has been counted is kept until records that can be used follow"
)
