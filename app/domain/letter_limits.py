"""How many dead letters are too many: behind a wrong setting or a bad release of whoever writes the source topic, a
stage must stop rather than turn all that comes into letters.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class LetterPolicy:
    """`in_a_row` records of one partition, or `ratio` of the newest `window` records of it; 0: no such limit."""

    in_a_row: int = 1_000
    ratio: float = 0.5
    window: int = 10_000


class _Seen:
    """The newest records of one partition: the run of letters at the end, and batches of (records, letters)."""

    __slots__ = ("batches", "letters", "records", "run")

    def __init__(self) -> None:
        self.run = 0
        self.batches: deque[tuple[int, int]] = deque()
        self.records = 0
        self.letters = 0

    def add(self, records: int, letters: int, window: int) -> None:
        """One more batch; of those before only as many are kept as the window takes."""
        self.batches.append((records, letters))
        self.records += records
        self.letters += letters
        while self.records - self.batches[0][0] >= window:
            records, letters = self.batches.popleft()
            self.records -= records
            self.letters -= letters


class LetterLimits:
    """One stage; every partition of its input is judged alone, as another's good records say nothing of it."""

    def __init__(self, policy: LetterPolicy) -> None:
        self._policy = policy
        self._seen: dict[int, _Seen] = {}

    def note(self, topic: str, partition: int, records: int, buried: Sequence[int]) -> None:
        """One batch of so many records; `buried` are the places in it, from 0 and in order, that became letters.

        Raises FatalError at the limit: nothing of the batch may count as done then.
        """
        seen = self._seen.get(partition)
        if seen is None:
            seen = self._seen[partition] = _Seen()
        policy = self._policy
        seen.add(records, len(buried), policy.window)
        if not buried:
            seen.run = 0
            return
        longest = self._longest_run(seen, records, buried)
        if policy.in_a_row and longest >= policy.in_a_row:
            raise FatalError(
                f"{longest:,} records of {topic} in a row, in partition {partition}, became dead letters. {_FIX}"
            )
        if policy.ratio and seen.records >= policy.window and seen.letters >= policy.ratio * seen.records:
            share = seen.letters / seen.records
            raise FatalError(
                f"{share:.0%} of the newest {seen.records:,} records of {topic}, partition {partition}, became "
                f"dead letters. {_FIX}"
            )

    @staticmethod
    def _longest_run(seen: _Seen, records: int, buried: Sequence[int]) -> int:
        """The longest run that ends in this batch; the one at its end goes on with the next."""
        run, before, longest = seen.run, -1, 0
        for place in buried:
            run = run + 1 if place == before + 1 else 1
            before = place
            longest = max(longest, run)
        seen.run = run if before == records - 1 else 0
        return longest


_FIX = (
    "`audience-sync dead-letters list` shows why: mend that, or raise AUDIENCE_SYNC_DEAD_LETTERS_IN_A_ROW or "
    "AUDIENCE_SYNC_DEAD_LETTERS_RATIO (0: no limit), and start again"
)
