"""Watches what a worker's calls rest on: the access token and the API's version. Once a day, and after a change of the
token's file.

    token's file has another ─► taken up ─┐
    a day has passed ─────────────────────┴► ask Facebook ─► near its end ─► exchange ─► file, memory
                                                   └► what a person has to do: said once, shown in /stats

A token is in memory and in the file it came from, and nowhere else; above all not in Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SecretStr

from app.domain.access_tokens import RENEW, FacebookView, TokenFacts, concern, is_near_its_end, lifetime
from app.domain.api_versions import version_state
from app.domain.delivery import AnswerKind, GraphRefusal, Refusal, classify, words
from app.domain.delivery_errors import Reaction
from app.domain.instants import format_instant
from app.errors import AudienceSyncError, InvalidInputError, UnreachableError
from app.ports import Timer, TokenApi, TokenStore

# A new token in the file is taken up this soon.
FILE_SECONDS = 60.0
# Facebook gave no answer, or one that says to come again,
AGAIN_SECONDS = 300.0
# or no new token for one that is near its end.
EXCHANGE_SECONDS = 21_600.0
# Of refusals: the token itself is not accepted.
_NO_TOKEN = (102, 104, 190)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`app_id` None: nothing is exchanged. `asks` False: a dry run, in which Facebook is not called."""

    version: str
    check_seconds: float
    warn_days: int
    app_id: str | None = None
    asks: bool = True


class FacebookWatch:
    """`say` tells whoever watches the process, each thing once; `store` None: the token came in no file."""

    def __init__(
        self,
        api: TokenApi,
        store: TokenStore | None,
        clock: Timer,
        options: WatchOptions,
        say: Callable[[str], None],
    ) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._options = options
        self._say = say
        self._facts: TokenFacts | None = None
        self._checked_at: int | None = None
        self._refreshed_at: int | None = None
        # Why Facebook's answer is not known, or no new token was to be had.
        self._trouble: str | None = None
        # A new token that no file has: until when the one of the start lasts.
        self._unsaved: str | None = None
        # What the file has and is not to be taken up: no tokens, and one that an exchange has made superfluous.
        self._passed_over: list[SecretStr] = []
        self._said: set[str] = set()

    @property
    def view(self) -> FacebookView:
        return FacebookView(
            self._options.version, self._facts, self._checked_at, self._refreshed_at, self._warnings()
        )

    async def run(self) -> None:
        """Until cancelled."""
        never, due = asyncio.Event(), self._clock.monotonic()
        while True:
            if await self._take_up() or self._clock.monotonic() >= due:
                pause = await self.check()
                due = self._clock.monotonic() + pause
            wait = due - self._clock.monotonic()
            await self._clock.wait(never, wait if self._store is None else min(wait, FILE_SECONDS))

    async def check(self) -> float:
        """Ask Facebook, exchange the token where that is due, say what is new; seconds until the next time."""
        pause = self._options.check_seconds
        if self._options.asks:
            pause = min(pause, await self._ask())
        warnings = self._warnings()
        for text in warnings:
            if text not in self._said:
                self._say(text)
        # What has gone and comes back is news again.
        self._said = set(warnings)
        return pause

    async def _ask(self) -> float:
        try:
            facts = await self._api.token_facts()
        except UnreachableError:
            return AGAIN_SECONDS
        except GraphRefusal as error:
            if _passes(error.refusal):
                return AGAIN_SECONDS
            self._refused(error)
            return self._options.check_seconds
        self._note(facts)
        if not is_near_its_end(facts, self._clock.now_ms(), self._options.warn_days):
            return self._options.check_seconds
        return await self._exchange(facts) if self._can_exchange else self._options.check_seconds

    @property
    def _can_exchange(self) -> bool:
        return self._options.app_id is not None and self._api.can_exchange

    def _note(self, facts: TokenFacts) -> None:
        self._facts, self._checked_at, self._trouble = facts, self._clock.now_ms(), None

    def _refused(self, error: GraphRefusal) -> None:
        if error.refusal.code in _NO_TOKEN:
            self._note(TokenFacts(valid=False))
        self._trouble = f"Facebook was asked about the access token: {words(error.refusal)}"

    # -- another token -----------------------------------------------------------------------------------------

    async def _take_up(self) -> bool:
        """Use what somebody, perhaps another worker, has put into the file; whether there was something."""
        if self._store is None:
            return False
        found = await asyncio.to_thread(self._store.read)
        if found is None or found in (self._api.held_token(), *self._passed_over):
            return False
        try:
            self._api.use_token(found)
        except InvalidInputError:
            self._passed_over.append(found)
            self._say("the access token's file holds what is no token; the one before is used")
            return False
        self._unsaved = None
        self._say("the access token's file holds another one, which is used from now on")
        return True

    async def _exchange(self, facts: TokenFacts) -> float:
        """Of a valid token near its end."""
        old = self._api.held_token()
        try:
            new = await self._api.exchange_token(self._options.app_id or "")
            found = await self._api.token_facts(new)
            if not _lasts_longer(found, facts):
                raise InvalidInputError("Facebook gave none that lasts longer")
            problem = await self._keep(old, new)
            if problem is not None and await self._take_up():
                # Somebody, perhaps another worker, was faster.
                return await self._ask()
            self._api.use_token(new)
        except AudienceSyncError as error:
            self._trouble = f"the access token could not be exchanged for a new one: {error}"
            return AGAIN_SECONDS if isinstance(error, UnreachableError) else EXCHANGE_SECONDS
        self._note(found)
        self._refreshed_at = self._clock.now_ms()
        if problem is None:
            self._unsaved = None
        else:
            self._passed_over.append(old)
            self._unsaved = self._unsaved or (
                f"the new access token is in this worker's memory alone ({problem}): started again, the worker has the "
                f"old one, which ends at {format_instant(facts.expires_at or 0)}. {RENEW}"
            )
        where = "" if problem is not None else ", and stands in its file"
        self._say(f"the access token was exchanged for a new one: {lifetime(found)}{where}")
        return self._options.check_seconds

    async def _keep(self, old: SecretStr, new: SecretStr) -> str | None:
        """Before it is used: a crash in between must not lose it. None, or why it is not kept."""
        if self._store is None:
            return "FACEBOOK_ACCESS_TOKEN is no file"
        return await asyncio.to_thread(self._store.replace, old, new)

    # -- what a person is told ---------------------------------------------------------------------------------

    def _warnings(self) -> tuple[str, ...]:
        now = self._clock.now_ms()
        facts, options = self._facts, self._options
        about_token = None if facts is None else concern(facts, now, options.warn_days, options.app_id)
        today = datetime.fromtimestamp(now / 1_000, UTC).date()
        about_version = version_state(options.version, today).said
        found = (about_version, about_token, self._trouble, self._unsaved)
        return tuple(text for text in found if text is not None)


def _passes(refusal: Refusal) -> bool:
    """Whether it says nothing of the token; an answer in an unknown form stays what it is."""
    reaction = classify(refusal).reaction
    return refusal.kind is not AnswerKind.MALFORMED and reaction in (Reaction.RETRY, Reaction.THROTTLE)


def _lasts_longer(new: TokenFacts, old: TokenFacts) -> bool:
    return new.valid and (new.expires_at is None or new.expires_at > (old.expires_at or 0))
