"""Gives a destination its Facebook audience: the one it is connected to, or one of its own, created once.

Before the create call the ledger says that one is under way, and the description carries a marker. Whoever finds
that note without an id, after a crash or a lost answer, looks for the marker first, and looks once more when no
earlier call can be under way any longer. Only then is an audience created, at once or when the limits of the ad account
let a call through: what was seen is remembered for so long.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.delivery import GraphRefusal, NotSentError
from app.errors import NeedsPersonError, UnreachableError
from app.ports import GraphApi, Heed, ListedAudience, Timer
from schemas.audience import AudienceDefinition, FacebookDestination
from schemas.sync import SyncState

_DIGITS = re.compile(r"[0-9]{1,40}")
# HTTP: a gateway gave up waiting; the server behind it may be at work still.
_GATEWAY_GAVE_UP = (502, 504)

# So long what was seen in an ad account holds, in seconds: longer than Facebook's limits close one, so that looking,
# which counts as well, is not all that is ever done.
_SEEN_HOLDS = 12 * 3_600.0


@dataclass(frozen=True, slots=True)
class _Look:
    """The ad account was looked through from then on (monotonic seconds, and epoch milliseconds), when no earlier create
    call could be under way: no audience has the marker.
    """

    at: float
    at_ms: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """An earlier create call may be under way for so many seconds more."""

    seconds: float


class Provisioner:
    """One destination. `unknown_until`: until when (monotonic seconds) a predecessor's call may be under way.

    `record` writes the ledger; `ready` returns when a call may be made now, and raises when it may not. `heed` is told
    what the answers say of the limits.
    """

    def __init__(
        self,
        definition: AudienceDefinition,
        mapping: FacebookDestination,
        graph: GraphApi,
        clock: Timer,
        timeout_seconds: float,
        record: Callable[[], Awaitable[None]],
        ready: Callable[[], Awaitable[None]],
        heed: Heed,
        unknown_until: float,
    ) -> None:
        self._definition = definition
        self._mapping = mapping
        self._graph = graph
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._record = record
        self._ready = ready
        self._heed = heed
        self._unknown_until = unknown_until
        self._nothing_found: _Look | None = None

    async def run(self, state: SyncState, account: str | None) -> str | Postponed:
        """The Facebook audience's id. `record` is called, and must write `creating`, before anything is created.

        Raises NeedsPersonError when the definition lacks what it takes, else what the calls raise.
        """
        if self._mapping.audience_id is not None:
            return await self._connect(self._mapping.audience_id)
        if state.facebook_id is not None:
            return state.facebook_id
        if account is None or not _DIGITS.fullmatch(account.removeprefix("act_")):
            raise NeedsPersonError(
                f"No usable ad account ({account or 'none given'}): set facebook.ad_account_id of the audience, "
                "or AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID, to act_ and digits"
            )
        if not state.creating:
            await self._record()
        elif not self._knows_that_none_is_there():
            found = await self._find(account, state.marker)
            if found is not None:
                return found
            if self._nothing_found is None:
                return Postponed(max(0.0, self._unknown_until - self._clock.monotonic()))
        await self._ready()
        if state.creating and not self._knows_that_none_is_there():
            # It took so long that what was seen is none of now.
            return Postponed(0.0)
        return await self._create(account, state.marker)

    async def _connect(self, audience_id: str) -> str:
        if not _DIGITS.fullmatch(audience_id):
            raise NeedsPersonError("facebook.audience_id of the audience must consist of digits")
        await self._ready()
        found = await self._graph.read_audience(audience_id)
        self._heed(found.usage)
        return found.id

    def _knows_that_none_is_there(self) -> bool:
        """Nobody but this process, which forgets before it calls, can have created one since."""
        look = self._nothing_found
        if look is None:
            return False
        age = self._clock.monotonic() - look.at
        # While a machine is suspended its monotonic clock may stand, and another worker take over. That one waits for the
        # request timeout before it creates.
        suspended = (self._clock.now_ms() - look.at_ms) / 1_000 - age
        return age < _SEEN_HOLDS and suspended < self._timeout_seconds

    async def _find(self, account: str, marker: str) -> str | None:
        self._nothing_found = None
        await self._ready()
        look = _Look(self._clock.monotonic(), self._clock.now_ms())
        found: list[ListedAudience] = [
            listed
            async for listed in self._graph.list_audiences(account, heed=self._heed)
            if marker in (listed.description or "")
        ]
        if not found and look.at >= self._unknown_until:
            self._nothing_found = look
        # There is one at most; were there two, every worker would have to choose the same.
        return min((listed.id for listed in found), key=lambda id_: (len(id_), id_), default=None)

    async def _create(self, account: str, marker: str) -> str:
        name = self._mapping.name or self._definition.name
        human = self._mapping.description or self._definition.description or ""
        started = self._clock.monotonic()
        self._nothing_found = None
        try:
            return await self._graph.create_audience(
                account,
                name,
                f"{human} {marker}".strip(),
                self._mapping.customer_file_source,
                value_based=self._mapping.value_based,
                heed=self._heed,
            )
        except NotSentError:
            raise
        except UnreachableError:
            self._unknown_until = started + self._timeout_seconds
            raise
        except GraphRefusal as error:
            if error.refusal.http_status in _GATEWAY_GAVE_UP:
                self._unknown_until = started + self._timeout_seconds
            raise
