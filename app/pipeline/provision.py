"""Gives a destination its Facebook audience: the one it is connected to, or one of its own, created once.

Before the create call the ledger says that one is under way, and the description carries a marker. Whoever finds
that note without an id, after a crash or a lost answer, looks for the marker first, and looks once more when no
earlier call can be under way any longer. Only then is an audience created.
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
        if state.creating:
            found = await self._find(account, state.marker)
            if found is not None:
                return found
            remaining = self._unknown_until - self._clock.monotonic()
            if remaining > 0:
                return Postponed(remaining)
        else:
            await self._record()
        return await self._create(account, state.marker)

    async def _connect(self, audience_id: str) -> str:
        if not _DIGITS.fullmatch(audience_id):
            raise NeedsPersonError("facebook.audience_id of the audience must consist of digits")
        await self._ready()
        found = await self._graph.read_audience(audience_id)
        self._heed(found.usage)
        return found.id

    async def _find(self, account: str, marker: str) -> str | None:
        await self._ready()
        found: list[ListedAudience] = [
            listed
            async for listed in self._graph.list_audiences(account, heed=self._heed)
            if marker in (listed.description or "")
        ]
        # There is one at most; were there two, every worker would have to choose the same.
        return min((listed.id for listed in found), key=lambda id_: (len(id_), id_), default=None)

    async def _create(self, account: str, marker: str) -> str:
        await self._ready()
        name = self._mapping.name or self._definition.name
        human = self._mapping.description or self._definition.description or ""
        started = self._clock.monotonic()
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
