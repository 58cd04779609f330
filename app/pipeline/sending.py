"""Sends one destination a batch: its requests one after the other, in as many parts as it takes to tell the rows that
Facebook refuses, or has no proper answer to, from the others.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from app.domain.batching import Batch
from app.domain.bisection import Bisection
from app.domain.data_use import DataUse
from app.domain.delivery import GraphRefusal, NotSentError, Refusal, classify, may_be_the_rows, words
from app.domain.delivery_errors import Reaction, Scope
from app.domain.users_requests import RowKey, UsersRequest, build_requests
from app.errors import UnreachableError
from app.pipeline.delivery_options import Shared
from app.pipeline.limits import Limits
from app.pipeline.row_outcomes import RowOutcomes
from app.pipeline.trouble import Trouble
from app.ports import UsersAnswer
from schemas.membership import MembershipDelta

log = logging.getLogger(__name__)


class Sending:
    """One destination. `ready` returns when a call may be made now, and raises when it may not. `use` is sent with
    people who are added. `rejected_in_a_row`: so many requests were refused for good before this began, in a row.

    `batch` is the one that is out, from `begin` to `confirmed`, `give_back` or `forget`. What of it has arrived is
    remembered, so that `send` goes on where it was ended by a refusal, a failure or `ready`; what has arrived of a batch
    that was given back, until its offsets are confirmed.
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
        rejected_in_a_row: int,
    ) -> None:
        self._graph = shared.graph
        self._options = shared.options
        self._destination = destination
        self._outcomes = outcomes
        self._limits = limits
        self._trouble = trouble
        self._ready = ready
        self._use = use
        self._rejected_in_a_row = rejected_in_a_row
        # Failures in a row that may be owed to what was sent.
        self._failures = 0
        self.batch: Batch | None = None
        self._bisection: Bisection | None = None
        self._has_progressed = False
        self._done: set[RowKey] = set()
        # Of those: additions that went ahead of removals that Facebook holds up. They are due again behind them.
        self._early: set[RowKey] = set()
        # The removals that they went ahead of.
        self._held_removals: set[RowKey] = set()
        self._refused_removal: GraphRefusal | None = None
        self._stuck: GraphRefusal | UnreachableError | None = None

    @property
    def has_sent(self) -> bool:
        """Whether some row of the batch, or of what came of it, has reached its end."""
        return bool(self._done)

    @property
    def has_progressed(self) -> bool:
        """Whether something is known of the batch that would have to be found out anew were it given back."""
        return self._has_progressed or self.is_among_parts

    @property
    def is_among_parts(self) -> bool:
        """Whether a request is being told apart into what is taken and what is not."""
        return self._bisection is not None and self._bisection.is_begun

    @property
    def held_up(self) -> GraphRefusal | UnreachableError | None:
        """Why some of the batch is not with Facebook, although `send` has tried all of it."""
        return self._refused_removal or self._stuck

    @property
    def holds_removals(self) -> bool:
        """Whether removals are among what is held up."""
        return bool(self._held_removals - self._done)

    @property
    def arrived(self) -> frozenset[int]:
        """Offsets of changes that are not confirmed, of which something has arrived."""
        return frozenset(offset for offset, _ in self._done)

    @property
    def early(self) -> frozenset[int]:
        """Offsets of additions that went ahead."""
        return frozenset(offset for offset, _ in self._early)

    @property
    def rejected_in_a_row(self) -> int:
        """Requests refused for good of which nothing was taken, since something was."""
        return self._rejected_in_a_row

    @property
    def is_hopeless(self) -> bool:
        """Whether so many were that no more rows become dead letters until something is taken."""
        return self._rejected_in_a_row >= self._options.rejected_requests

    def excuse(self) -> None:
        """A person says to go on: what was refused before counts no longer."""
        self._rejected_in_a_row = 0

    def begin(self, batch: Batch) -> None:
        """None may be out."""
        self.batch = batch

    def confirmed(self, batch: Batch) -> None:
        """Everything in the batch has reached its end."""
        self._done = {key for key in self._done if key[0] >= batch.end}
        self._early &= self._done
        self._held_removals = {key for key in self._held_removals if key[0] >= batch.end}
        self.give_back()

    def give_back(self) -> None:
        """The batch is not out any longer; its rows that have arrived are sent no more when it comes again."""
        self.batch = None
        self._bisection = None
        self._has_progressed = False
        self._refused_removal = self._stuck = None

    def forget(self) -> None:
        """No batch is out, and of none is known what has arrived."""
        self.give_back()
        self._done.clear()
        self._early.clear()
        self._held_removals.clear()

    async def send(self, batch: Batch, audience: str, superseded: frozenset[int]) -> None:
        """Returns when all rows of the batch that is out are with the Facebook `audience` or in dead letters; but for
        those for which `held_up` says why, and for changes at `superseded` offsets, which are not sent any more.

        Raises what the calls raise, and what `ready` raises.
        """
        self._stuck = None
        if self._bisection is not None:
            self._bisection.leave_out(superseded)
            await self._send_parts(self._bisection, audience)
        changes = [change for change in batch.changes if change[0] not in superseded]
        early = -1
        while early != len(self._early):
            # A removal that was taken at last has additions behind it once more.
            early = len(self._early)
            await self.send_all(changes, audience)

    async def send_all(self, changes: Iterable[tuple[int, MembershipDelta]], audience: str) -> None:
        """The rows of these that have not arrived."""
        for request in build_requests(changes, self._destination, done=self._done):
            if request.remove and self._refused_removal is not None:
                self._held_removals.update(request.keys)
                continue
            self._bisection = Bisection(request)
            await self._send_parts(self._bisection, audience)

    async def _send_parts(self, parts: Bisection, audience: str) -> None:
        """What is left of the request, in as many parts as it takes to tell the rows that cannot be sent."""
        while self._bisection is not None and (part := parts.part) is not None:
            await self._send_request(part, parts, audience)
            if part.remove and self._refused_removal is not None:
                self._held_removals.update(parts.request.keys)
                break
        self._bisection = None
        if parts.refused:
            last = parts.refused[-1][1]
            if not parts.accepted and classify(last).scope in (Scope.AUDIENCE, Scope.AD_ACCOUNT):
                # Not the rows are wrong: they wait until a person has mended it, and are tried as a whole.
                self._rejected_in_a_row = self._options.rejected_requests
                raise GraphRefusal(last)
            if not parts.accepted:
                self._rejected_in_a_row += 1
            rows = sum(len(part.data) for part, _ in parts.refused)
            why = words(parts.refused[0][1])
            log.warning("destination %s: %d rows to dead letters: %s", self._destination, rows, why)
            await self._outcomes.rejected(parts, self._trouble.attempts)
            for part, _ in parts.refused:
                self._has_ended(part)

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
            hopeless = parts.is_whole and self.is_hopeless
            if reaction is Reaction.REQUEST_ERROR and not hopeless and not parts.is_control:
                self._trouble.count(error.refusal)
                self._limits.heed(error.refusal.usage)
                parts.refuse(error.refusal)
                return
            if may_be_the_rows(error.refusal) and await self._goes_on_after(error, parts, error.refusal):
                return
            raise
        except NotSentError:
            raise
        except UnreachableError as error:
            if await self._goes_on_after(error, parts, None):
                return
            raise
        is_new = not parts.is_control
        parts.accept()
        if is_new:
            await self._outcomes.accepted(request, answer, self._trouble.attempts)
        self._has_ended(request)
        if request.remove and not self._held_removals.isdisjoint(request.keys):
            self._held_removals.difference_update(request.keys)
            self._done -= self._early
            self._early.clear()
        elif not request.remove and self.holds_removals:
            self._early.update(request.keys)
        self._rejected_in_a_row = self._failures = 0
        if self.held_up is None:
            self._trouble.answered(answer.usage)
        else:
            self._limits.heed(answer.usage)

    async def _goes_on_after(
        self, error: GraphRefusal | UnreachableError, parts: Bisection, refusal: Refusal | None
    ) -> bool:
        """A failure that may be owed to what was sent. False: as soon as it may be, whatever is the request's next part
        is tried, which need not be the same.

        Else the part was a single row that is given up, as Facebook takes others; or nothing of the request is taken in
        whatever parts, so that it is left for now, and other requests are tried.
        """
        row = parts.part
        self._failures += 1
        tries = parts.fail(halve=self._failures >= self._options.tries)
        if row is None or not tries:
            if not parts.fails_alike:
                return False
            self._bisection = None
            self._stuck = error
            if parts.request.remove:
                self._held_removals.update(parts.request.keys)
            return True
        if refusal is not None:
            self._trouble.count(refusal)
        why = str(error)
        log.warning("destination %s: a row to dead letters, as others are taken: %s", self._destination, why)
        await self._outcomes.failed(row, why, refusal, tries)
        self._has_ended(row)
        return True

    def _has_ended(self, part: UsersRequest) -> None:
        self._done.update(part.keys)
        self._has_progressed = True

    async def _call(self, request: UsersRequest, audience: str) -> UsersAnswer:
        what = audience, request.schema, request.data, request.beside
        if request.remove:
            return await self._graph.remove_users(*what)
        return await self._graph.add_users(*what, self._use)
