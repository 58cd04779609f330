"""Reconciles on a schedule: one worker of all looks whether everything that is known of members agrees.

    owns the first source partition ─► a while later, then once a period ─► topics, in a thread ─► Facebook's bounds
                                                                             └► /stats, metrics, what is new is said

Nothing is kept of it in Kafka, and nothing changed: a worker that becomes the owner begins anew, so a run may come too
early and never stays away.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from app.domain.delivery import AnswerKind, GraphRefusal, classify
from app.domain.delivery_errors import Reaction
from app.domain.published import Published, cleared_by, definitions_of
from app.domain.reconciling import AudienceFinding, Bounds, ReconcileView, view_of
from app.errors import AudienceSyncError
from app.ports import AudienceStatus, Timer
from schemas.audience import AudienceDefinition
from schemas.sync import SyncState

# How often it is looked whether this worker is the one, and whether it is time.
LOOK_SECONDS = 1.0
# After a rebalance, others may follow; and what waited meanwhile is to be delivered before it counts as late.
FIRST_SECONDS = 600.0
# So long a rebalance may take: who is the one again by then goes on where it was.
LET_GO_SECONDS = 60.0
# What could not be done is tried again.
AGAIN_SECONDS = 300.0
# Said of one run, each with its repair; /stats and the command have all.
MOST_SAID = 20


class AudienceReader(Protocol):
    """The one call of `GraphApi` that is made."""

    async def read_audience(self, audience_id: str) -> AudienceStatus: ...


class Reading(Protocol):
    """Both calls block; with the event of its making set, they raise InterruptedError."""

    states: dict[str, SyncState]

    def read(self, published: Published, audiences: Sequence[AudienceDefinition]) -> None: ...

    def compare(self, bounds: Mapping[str, Bounds], now_ms: int, batch_ms: int) -> list[AudienceFinding]: ...


@dataclass(slots=True)
class Reconcile:
    """One worker's part. `owns` whether it is the one; `graph` None: Facebook is not asked, as in a dry run.

    `begin` makes a reading that its event ends; it blocks, and raises UnreachableError. `say` tells whoever watches the
    process, each difference once.
    """

    owns: Callable[[], bool]
    published: Callable[[], Published]
    begin: Callable[[threading.Event], Reading]
    graph: AudienceReader | None
    clock: Timer
    in_thread: Callable[..., Awaitable[Any]]
    say: Callable[[str], None]
    period_seconds: float
    batch_ms: int
    _view: ReconcileView | None = None
    _lost_at: float | None = None
    _due: float = 0.0
    _said: set[tuple[str, str]] = field(default_factory=set)

    @property
    def view(self) -> ReconcileView | None:
        """None while another worker does it."""
        return self._view if self.owns() else None

    async def run(self) -> None:
        """Until cancelled; what reads then ends by itself."""
        never = asyncio.Event()
        while True:
            await self.step()
            await self.clock.wait(never, LOOK_SECONDS)

    async def step(self) -> None:
        """Run, if this worker is the one and it is time."""
        now = self.clock.monotonic()
        if not self.owns():
            self._lost_at = now if self._lost_at is None else self._lost_at
            if now >= self._lost_at + LET_GO_SECONDS:
                self._view = None
                self._said.clear()
            return
        self._lost_at = None
        if self._view is None:
            self._view = ReconcileView()
            self._due = now + min(self.period_seconds, FIRST_SECONDS)
        elif now >= self._due:
            pause = await self._try()
            self._due = self.clock.monotonic() + pause

    async def _try(self) -> float:
        """Seconds until the next time."""
        stop = threading.Event()
        try:
            await self._unless_lost(self._look(stop), stop)
        except InterruptedError:
            return min(self.period_seconds, FIRST_SECONDS)
        except AudienceSyncError as error:
            self._fail(str(error))
            return min(self.period_seconds, AGAIN_SECONDS)
        return self.period_seconds

    async def _unless_lost(self, look: Coroutine[Any, Any, None], stop: threading.Event) -> None:
        """Wait for it; when another worker becomes the one, it is broken off."""
        task = asyncio.create_task(look)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                if not self.owns():
                    stop.set()
            task.result()
        finally:
            # Also when this worker stops, which does not wait for the thread.
            stop.set()
            task.cancel()

    async def _look(self, stop: threading.Event) -> None:
        published = self.published()
        published.refuse_half_moved()
        newest = published.newest
        audiences = [] if newest is None else [*definitions_of(newest).audiences, *cleared_by(newest)]
        reading = await self.in_thread(self.begin, stop)
        await self.in_thread(reading.read, published, audiences)
        bounds, trouble = recorded_bounds(audiences, reading.states), None
        if self.graph is not None:
            bounds, trouble = await ask_bounds(self.graph, audiences, reading.states)
        now = self.clock.now_ms()
        findings = await self.in_thread(reading.compare, bounds, now, self.batch_ms)
        if stop.is_set():
            raise InterruptedError("another worker does it")
        before, self._view = self._view, view_of(findings, now, trouble)
        if trouble is not None and (before is None or before.trouble != trouble):
            self.say(f"reconcile: {trouble}")
        self._tell(self._view)

    def _fail(self, trouble: str) -> None:
        if self._view is None or self._view.trouble != trouble:
            self.say(f"reconcile: not done, and tried again later: {trouble}")
        self._view = replace(self._view or ReconcileView(), trouble=trouble)

    def _tell(self, view: ReconcileView) -> None:
        differing = {(name, each.kind): each for name, differences in view.differing for each in differences}
        fresh = [each for each in differing if each not in self._said]
        if fresh:
            self.say(f"reconcile: {view.differing_audiences:,} of {view.audiences:,} audiences differ")
        for name, kind in fresh[:MOST_SAID]:
            difference = differing[name, kind]
            self.say(f"reconcile: {name}: {difference.text}; repair: {difference.repair}")
        if len(fresh) > MOST_SAID:
            self.say(f"reconcile: {len(fresh) - MOST_SAID:,} more: audience-sync reconcile names them")
        if self._said and not differing:
            self.say(f"reconcile: all {view.audiences:,} audiences agree again")
        # What has gone and comes back is news again.
        self._said = set(differing)


def recorded_bounds(
    audiences: Sequence[AudienceDefinition], states: Mapping[str, SyncState]
) -> dict[str, Bounds]:
    """By destination that has a Facebook audience, as a worker last wrote them."""
    ids = [destination.id for audience in audiences for destination in audience.destinations]
    known = {id_: state for id_ in ids if (state := states.get(id_)) is not None and state.facebook_id}
    return {id_: Bounds(state.lower_bound, state.upper_bound) for id_, state in known.items()}


async def ask_bounds(
    graph: AudienceReader, audiences: Sequence[AudienceDefinition], states: Mapping[str, SyncState]
) -> tuple[dict[str, Bounds], str | None]:
    """As Facebook says them now, and why it was not asked about the rest, if so."""
    found = recorded_bounds(audiences, states)
    for id_ in list(found):
        try:
            status = await graph.read_audience(states[id_].facebook_id or "")
        except GraphRefusal as error:
            if _passes(error):
                return found, _NOT_ASKED.format(error=str(error).splitlines()[0])
            found[id_] = Bounds(asked=True, refused=str(error).splitlines()[0])
        except AudienceSyncError as error:
            return found, _NOT_ASKED.format(error=error)
        else:
            found[id_] = Bounds(status.lower_bound, status.upper_bound, asked=True)
    return found, None


_NOT_ASKED = "Facebook was not asked: {error}; its bounds are those last recorded"


def _passes(error: GraphRefusal) -> bool:
    """Whether it says nothing of the audience: Facebook asks to come again."""
    refusal = error.refusal
    return refusal.kind is not AnswerKind.MALFORMED and classify(refusal).reaction in (
        Reaction.RETRY,
        Reaction.THROTTLE,
    )
