"""What became of the rows of a request: counted, and written to dead.letters where Facebook refused them."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.bisection import Bisection
from app.domain.counters import DestinationCounters
from app.domain.delivery import Refusal
from app.domain.delivery_letters import (
    LetterContext,
    failed_alone,
    rejected_alone,
    rejected_request,
    rejected_row,
)
from app.domain.users_requests import UsersRequest, refused_rows
from app.pipeline.delivery_options import Shared
from app.ports import UsersAnswer
from schemas.dead_letter import DeadLetter

# Letters are made and written this many at a time: a refused request may have 10,000 rows.
_LETTERS = 1_000


class RowOutcomes:
    """One destination. `accepted`, `rejected` and `failed` return once the letters are durable."""

    def __init__(self, shared: Shared, destination: str, partition: int) -> None:
        self._shared = shared
        self._destination = destination
        self._partition = partition
        self.counters = shared.counters.destinations.setdefault(destination, DestinationCounters())
        self._added = self._removed = self._rejected = 0

    def take(self) -> tuple[int, int, int]:
        """Rows added, removed and refused since this was last asked."""
        taken = self._added, self._removed, self._rejected
        self._added = self._removed = self._rejected = 0
        return taken

    async def accepted(self, request: UsersRequest, answer: UsersAnswer, attempts: int) -> None:
        """The request was taken, but perhaps for rows that the answer names."""
        refused = refused_rows(request, answer.invalid)
        context = self._context(attempts)
        await self._put(rejected_row(context, request, place, why, answer.trace) for place, why in refused)
        # Facebook names at most 100 refused rows; its count tells of the others.
        rejected = min(len(request.data), max(answer.invalid_count, len(refused)))
        self._count(len(request.data), rejected)
        if request.remove:
            self._removed += len(request.data) - rejected
        else:
            self._added += len(request.data) - rejected

    async def rejected(self, parts: Bisection, attempts: int) -> None:
        """What was refused for good of a request."""
        context = self._context(attempts)
        for part, refusal in parts.refused:
            alone = parts.accepted and len(part.data) == 1
            letters = rejected_alone if alone else rejected_request
            await self._put(letters(context, part, refusal))
            self._count(len(part.data), len(part.data))

    async def failed(self, row: UsersRequest, why: str, refusal: Refusal | None, attempts: int) -> None:
        """A single row was given up, as Facebook has no proper answer to it."""
        await self._put([failed_alone(self._context(attempts), row, why, refusal)])
        self._count(1, 1)

    def _context(self, attempts: int) -> LetterContext:
        now = self._shared.clock.now_ms()
        return LetterContext(self._shared.topic, self._partition, self._destination, attempts, now)

    def _count(self, rows: int, rejected: int) -> None:
        self.counters.sent += rows - rejected
        self.counters.rejected += rejected
        self._rejected += rejected
        stage = self._shared.counters.stages["deliver"]
        stage.records_in += rows
        stage.records_out += rows - rejected

    async def _put(self, letters: Iterable[DeadLetter]) -> None:
        chunk: list[DeadLetter] = []
        for letter in letters:
            chunk.append(letter)
            if len(chunk) == _LETTERS:
                await self._put_chunk(chunk)
                chunk = []
        if chunk:
            await self._put_chunk(chunk)

    async def _put_chunk(self, letters: list[DeadLetter]) -> None:
        await self._shared.letters.put(letters)
        self._shared.counters.stages["deliver"].dead += len(letters)
        self._shared.counters.dead_letters.update(letter.reason.value for letter in letters)
