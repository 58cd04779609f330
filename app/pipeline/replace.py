"""Puts all members of an audience in the place of everybody whom one Facebook audience holds, by `usersreplace`.

    status ─► note the session ─► batch 1 ─► note ─► batch 2 ... last ─► note "closed" ─► status until it is done
      ▲  normal: begin, in progress: go on                                                      │
      └── refused, no answer, another worker ◄──────────────────────────────────────────────────┘

Every member is read from the log below `ReplaceSession.end`; what comes behind is delivered by the cursor afterwards.
A batch is noted in the ledger before it is sent, so that no number means two things: whoever goes on with somebody
else's session sends everybody once more, under numbers of its own. One call at a time, one in every step.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace

from app.domain.data_use import DataUse
from app.domain.delivery import GraphRefusal, NotSentError, UsageMeter, classify
from app.domain.delivery_errors import Reaction
from app.domain.replacing import LAST_BATCH_MS, MOST_SESSIONS, Chunk, Members, Next, next_step
from app.domain.users_requests import UsersRequest
from app.errors import UnreachableError
from app.pipeline.call_gate import CallGate
from app.pipeline.delivery_options import Shared
from app.pipeline.row_outcomes import RowOutcomes
from app.ports import ReplaceBatch
from schemas.sync import ReplaceSession

log = logging.getLogger(__name__)

_LARGEST_SESSION_ID = 2**63 - 1
_BEING_REPLACED = 1_870_145
_CLOSED = 1_870_159
# The list was not fully updated: of this session nothing more is to be had.
_FAILED = 1_870_148


@dataclass(frozen=True, slots=True)
class GoOn:
    """Call again at once."""

    usage: tuple[UsageMeter, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Call again after so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Replaced:
    """The audience is who was a member below `end`; `left_out`: but for those whom the session could not hold."""

    end: int
    left_out: bool


@dataclass(frozen=True, slots=True)
class NotReplaced:
    """The audience may be anything by now, and has to be sent everybody the ordinary way."""

    why: str


Outcome = GoOn | Wait | Replaced | NotReplaced


@dataclass(slots=True)
class _Sending:
    """What this process knows of the session that it sends. The next batch is `request`, once it is `read`, from offset
    `position` of the log on; the one behind it begins at `following`, None: it is the last.
    """

    members: Members | None = None
    position: int = 0
    read: bool = False
    request: UsersRequest | None = None
    following: int | None = None
    left_out: bool = False


class Replace:
    """One destination. `write` writes the ledger. `use` is sent with the people.

    The calls' GraphRefusal and UnreachableError go through `step`, which is to be called again after them; but for
    those that end the session.
    """

    def __init__(
        self,
        shared: Shared,
        destination: str,
        audience: str,
        partition: int,
        outcomes: RowOutcomes,
        write: Callable[[ReplaceSession], Awaitable[None]],
        gate: CallGate,
        use: DataUse,
    ) -> None:
        self._shared = shared
        self._destination = destination
        self._audience = audience
        self._partition = partition
        self._outcomes = outcomes
        self._write = write
        self._gate = gate
        self._use = use
        self._sending: _Sending | None = None
        # What has been sent without an answer may reach Facebook until then (monotonic seconds).
        self._unknown_until = 0.0

    def forget(self) -> None:
        """What is known in memory; the next step asks Facebook."""
        self._sending = None

    async def prepare(self, session: ReplaceSession) -> None:
        """Read what the next step sends; to be awaited before it, without holding up anybody else's calls."""
        sending = self._sending
        if sending is None:
            return
        if sending.members is None:
            sending.members = await self._find_members(session.end)
        if not sending.read:
            await self._read(sending, sending.members, session)

    async def step(self, session: ReplaceSession, audience_id: str) -> Outcome:
        """One call to Facebook, or none."""
        sending = self._sending
        if sending is None or sending.members is None:
            return await self._ask(audience_id, session)
        begun = session.session_id is not None
        if begun and self._shared.clock.now_ms() >= session.started_at + LAST_BATCH_MS:
            return await self._abandon(session, "it took longer than Facebook's 90 minutes")
        if sending.request is None:
            return NotReplaced("nobody is a member, and Facebook takes no empty list")
        noted = self._next_batch(session, external_ids=sending.members.external_ids)
        await self._write(noted)
        return await self._send(audience_id, noted, sending, sending.request, len(sending.members))

    async def _ask(self, audience_id: str, session: ReplaceSession) -> Outcome:
        remaining = self._unknown_until - self._shared.clock.monotonic()
        if remaining > 0:
            return Wait(remaining)
        await self._gate.ready()
        found = await self._shared.graph.read_audience(audience_id)
        # Whatever follows, and while it is waited for as well.
        self._gate.heed(found.usage)
        match next_step(session, found.operation_code, self._shared.clock.now_ms()):
            case Next.WAIT:
                return Wait(self._shared.options.replace_poll_seconds)
            case Next.FINISH:
                return Replaced(session.end, session.left_out)
            case Next.GIVE_UP:
                return NotReplaced(f"Facebook's operation status of the audience is {found.operation_code}")
            case Next.BEGIN:
                await self._write(session.model_copy(update={"session_id": None, "batches": 0}))
            case Next.GO_ON:
                pass
        self._sending = _Sending()
        return GoOn(found.usage)

    async def _find_members(self, end: int) -> Members:
        members = Members(self._destination)
        # One at a time, as the profiles of an audience have to find room, 100 bytes each.
        async with self._shared.looking_through:
            deltas = self._shared.log.read(self._partition, 0, end, self._audience)
            try:
                async for offset, delta in deltas:
                    members.see(offset, delta)
            finally:
                if isinstance(deltas, AsyncGenerator):
                    await deltas.aclose()
        return members

    async def _read(self, sending: _Sending, members: Members, session: ReplaceSession) -> None:
        begun = session.session_id is not None
        external_ids = session.external_ids if begun else members.external_ids
        chunk = Chunk(self._destination, self._shared.options.batch_rows, external_ids=external_ids)
        deltas = self._shared.log.read(self._partition, sending.position, session.end, self._audience)
        try:
            async for offset, delta in deltas:
                if members.holds(offset, delta) and not chunk.add(offset, delta):
                    break
        finally:
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()
        sending.request, sending.following = chunk.request, chunk.following
        sending.left_out = sending.left_out or chunk.left_out
        sending.read = True

    def _next_batch(self, session: ReplaceSession, *, external_ids: bool) -> ReplaceSession:
        if session.session_id is not None:
            # With a second batch the session counts as one that Facebook took.
            sessions = session.sessions + (session.batches == 1)
            return session.model_copy(update={"batches": session.batches + 1, "sessions": sessions})
        return session.model_copy(
            update={
                "session_id": secrets.randbelow(_LARGEST_SESSION_ID) + 1,
                "batches": 1,
                "started_at": self._shared.clock.now_ms(),
                "external_ids": external_ids,
            }
        )

    async def _send(
        self,
        audience_id: str,
        session: ReplaceSession,
        sending: _Sending,
        request: UsersRequest,
        members: int,
    ) -> Outcome:
        following = sending.following
        last = following is None
        batch = ReplaceBatch(session.session_id or 0, session.batches, last, members)
        if batch.number == 1:
            # It goes out once: whatever comes of it but its answer, Facebook is asked before anything follows.
            self._sending = None
        try:
            await self._gate.ready()
            answer = await self._shared.graph.replace_users(
                audience_id, request.schema, request.data, batch, self._use
            )
        except GraphRefusal as error:
            return await self._refused(session, error)
        except NotSentError:
            raise
        except UnreachableError:
            self._unknown_until = self._until_timeout
            raise
        await self._outcomes.accepted(request, answer, 1)
        if following is None:
            self._sending = None
            await self._write(session.model_copy(update={"closed": True, "left_out": sending.left_out}))
        else:
            self._sending = replace(sending, position=following, read=False, request=None)
        return GoOn(answer.usage)

    async def _refused(self, session: ReplaceSession, error: GraphRefusal) -> Outcome:
        reaction = classify(error.refusal).reaction
        if error.refusal.subcode == _CLOSED and session.batches > 1:
            # The answer to its last batch was lost, ours or that of whoever began it.
            self._sending = None
            await self._write(session.model_copy(update={"closed": True, "left_out": True}))
            return GoOn()
        failed = error.refusal.subcode == _FAILED
        if failed or reaction in (Reaction.REQUEST_ERROR, Reaction.HOLD):
            self._sending = None
            if session.batches > 1:
                return await self._abandon(session, str(error))
            return NotReplaced(str(error))
        if session.batches == 1 and error.refusal.subcode == _BEING_REPLACED:
            # By somebody else: that ends sooner or later, and then another session may begin.
            await self._write(session.model_copy(update={"session_id": None, "batches": 0}))
            return Wait(self._shared.options.replace_poll_seconds)
        if session.batches == 1 and reaction is Reaction.RETRY:
            # What has answered need not be what does the work: it may go on behind a gateway.
            self._unknown_until = self._until_timeout
        elif session.batches == 1:
            await self._write(session.model_copy(update={"session_id": None, "batches": 0}))
        raise error

    async def _abandon(self, session: ReplaceSession, why: str) -> Outcome:
        """Facebook keeps it open until its time is over, and takes nobody by other ways meanwhile, or drops them at its
        end: that is waited for, and no other session begun.
        """
        log.warning("destination %s: its session is waited out: %s", self._destination, why)
        self._sending = None
        changes = {"session_id": None, "batches": 0, "sessions": MOST_SESSIONS}
        await self._write(session.model_copy(update=changes))
        return GoOn()

    @property
    def _until_timeout(self) -> float:
        return self._shared.clock.monotonic() + self._shared.options.request_timeout_seconds
