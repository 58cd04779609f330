"""Sends one destination a batch: its requests one after the other, in as many parts as their refused rows take."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from app.domain.batching import Batch
from app.domain.bisection import Bisection
from app.domain.data_use import DataUse
from app.domain.delivery import GraphRefusal, classify, words
from app.domain.delivery_errors import Reaction, Scope
from app.domain.users_requests import MAX_REQUEST_ROWS, UsersRequest, build_requests
from app.pipeline.delivery_options import Shared
from app.pipeline.limits import Limits
from app.pipeline.row_outcomes import RowOutcomes
from app.pipeline.trouble import Trouble
from app.ports import UsersAnswer

log = logging.getLogger(__name__)


class Sending:
    """One destination. `ready` returns when a call may be made now, and raises when it may not. `use` is sent with
    people who are added.

    `batch` is the one that is out, from `begin` to `forget`. What of it has arrived is remembered, so that `send` goes
    on where it was ended by a refusal, a failure or `ready`.
    """

    def __init__(
        self,
        shared: Shared,
        destination: str,
        outcomes: RowOutcomes,
        limits: Limits,
        trouble: Trouble,
        ready: Callable[[], Awaitable[None]],
        use: DataUse,
    ) -> None:
        self._graph = shared.graph
        self._rejected_requests = shared.options.rejected_requests
        self._destination = destination
        self._outcomes = outcomes
        self._limits = limits
        self._trouble = trouble
        self._ready = ready
        self._use = use
        self._rejected_in_a_row = 0
        self.batch: Batch | None = None
        self._done_requests = 0
        self._bisection: Bisection | None = None
        self._refused_removal: GraphRefusal | None = None
        self._max_rows = MAX_REQUEST_ROWS

    @property
    def has_sent(self) -> bool:
        """Whether some request of the batch has reached its end."""
        return self._done_requests > 0

    def begin(self, batch: Batch) -> None:
        """None may be out. What has failed again and again goes out in smaller and smaller requests: it may be too much
        for Facebook.
        """
        self.batch = batch
        self._max_rows = MAX_REQUEST_ROWS
        if self._trouble.halvings:
            rows = sum(len(delta.rows.get(self._destination, ())) for _, delta in batch.changes)
            self._max_rows = max(1, min(rows, MAX_REQUEST_ROWS) >> self._trouble.halvings)

    def forget(self) -> None:
        """The batch is confirmed, or given back."""
        self.batch = None
        self._done_requests = 0
        self._bisection = None
        self._refused_removal = None

    async def send(self, batch: Batch, audience: str) -> None:
        """Returns when all rows of the batch that is out are with the Facebook `audience` or in dead letters.

        Raises what the calls raise, and what `ready` raises.
        """
        requests = build_requests(batch.changes, self._destination, self._max_rows)
        for place, request in enumerate(requests):
            if place < self._done_requests or (request.remove and self._refused_removal is not None):
                continue
            self._bisection = self._bisection or Bisection(request)
            await self._send_parts(self._bisection, audience)
            self._bisection = None
            self._done_requests = place + 1
        if self._refused_removal is not None:
            raise self._refused_removal

    async def _send_parts(self, parts: Bisection, audience: str) -> None:
        """The request, in as many parts as it takes to tell the rows that cannot be sent from the others."""
        while (part := parts.part) is not None:
            await self._send_request(part, parts, audience)
            if self._refused_removal is not None:
                return
        if parts.refused:
            last = parts.refused[-1][1]
            if not parts.accepted and classify(last).scope in (Scope.AUDIENCE, Scope.AD_ACCOUNT):
                # Not the rows are wrong: they wait until a person has mended it, and are tried as a whole.
                self._rejected_in_a_row = self._rejected_requests
                raise GraphRefusal(last)
            if not parts.accepted:
                self._rejected_in_a_row += 1
            rows = sum(len(part.data) for part, _ in parts.refused)
            why = words(parts.refused[0][1])
            log.warning("destination %s: %d rows to dead letters: %s", self._destination, rows, why)
            await self._outcomes.rejected(parts, self._trouble.attempts)

    async def _send_request(self, request: UsersRequest, parts: Bisection, audience: str) -> None:
        await self._ready()
        try:
            answer = await self._call(request, audience)
        except GraphRefusal as error:
            reaction = classify(error.refusal).reaction
            if reaction is Reaction.HOLD and request.remove:
                # The audience may have to grow before it can shrink: the additions still go out.
                self._refused_removal = error
                return
            hopeless = parts.is_whole and self._rejected_in_a_row >= self._rejected_requests
            if reaction is Reaction.REQUEST_ERROR and not hopeless:
                self._trouble.count(error.refusal)
                self._limits.heed(error.refusal.usage)
                parts.refuse(error.refusal)
                return
            raise
        parts.accept()
        await self._outcomes.accepted(request, answer, self._trouble.attempts)
        self._rejected_in_a_row = 0
        if self._refused_removal is None:
            self._trouble.answered(answer.usage)
        else:
            self._limits.heed(answer.usage)

    async def _call(self, request: UsersRequest, audience: str) -> UsersAnswer:
        what = audience, request.schema, request.data, request.beside
        if request.remove:
            return await self._graph.remove_users(*what)
        return await self._graph.add_users(*what, self._use)
