"""The watch over the access token and the API's version, by a clock that stands until it is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import SecretStr

from app.adapters.facebook_credentials import usable_token
from app.adapters.memory import ManualClock
from app.domain.access_tokens import DAY_MS, TokenFacts
from app.domain.delivery import AnswerKind, GraphRefusal, Refusal
from app.errors import UnreachableError
from app.pipeline import facebook_watch
from app.pipeline.facebook_watch import FacebookWatch, WatchOptions

DAY = 86_400.0
MINUTE = facebook_watch.FILE_SECONDS
START = 1_767_225_600_000
OLD, NEW = "EAAold", "EAAnew-1"
GOOD = TokenFacts(True, ("ads_management",), app_id="1", kind="SYSTEM_USER")


class Api:
    """What Facebook knows of each token; `errors` come first. New tokens live 60 days."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.known: dict[str, TokenFacts] = {OLD: GOOD}
        self.held = OLD
        self.errors: list[Exception] = []
        self.asked: list[str] = []
        self.exchanged: list[str] = []
        self.can_exchange = True
        self.life_ms = 60 * DAY_MS

    def held_token(self) -> SecretStr:
        return SecretStr(self.held)

    def use_token(self, token: SecretStr) -> None:
        self.held = usable_token(token).get_secret_value()

    async def token_facts(self, token: SecretStr | None = None) -> TokenFacts:
        asked = self.held if token is None else token.get_secret_value()
        self.asked.append(asked)
        if self.errors:
            raise self.errors.pop(0)
        return self.known.get(asked, TokenFacts(False))

    async def exchange_token(self, app_id: str) -> SecretStr:
        assert app_id == "1"
        self.exchanged.append(self.held)
        if self.errors:
            raise self.errors.pop(0)
        new = f"EAAnew-{len(self.exchanged)}"
        self.known[new] = replace(GOOD, expires_at=self.clock.now_ms() + self.life_ms)
        return SecretStr(new)

    def ends_in(self, days: float, token: str = OLD) -> None:
        self.known[token] = replace(GOOD, expires_at=START + round(days * DAY_MS))


@dataclass
class Store:
    content: str | None = OLD
    problem: str | None = None
    written: list[str] = field(default_factory=list)

    def read(self) -> SecretStr | None:
        return None if self.content is None else SecretStr(self.content)

    def replace(self, old: SecretStr, new: SecretStr) -> str | None:
        if self.problem is not None:
            return self.problem
        assert self.content == old.get_secret_value()
        self.content = new.get_secret_value()
        self.written.append(self.content)
        return None


class Watched:
    def __init__(self, store: Store | None = None, **options: Any) -> None:
        self.clock = ManualClock(START)
        self.api = Api(self.clock)
        self.store = store
        self.said: list[str] = []
        chosen: dict[str, Any] = {
            "version": "v26.0",
            "check_seconds": DAY,
            "warn_days": 14,
            "app_id": "1",
        } | options
        self.watch = FacebookWatch(self.api, store, self.clock, WatchOptions(**chosen), self.said.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Watched]:
        task = asyncio.create_task(self.watch.run())
        await self.clock.settle()
        try:
            yield self
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def pass_days(self, days: float) -> None:
        await self.clock.advance(days * DAY)

    @property
    def warnings(self) -> str:
        return " | ".join(self.watch.view.warnings)


@pytest.fixture(autouse=True)
def files_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    # A thread takes wall time, of which the clock here knows nothing.
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    # Days are passed here in steps of this length.
    monkeypatch.setattr(facebook_watch, "FILE_SECONDS", 3_600.0)


def refusal(code: int, subcode: int | None = None) -> GraphRefusal:
    return GraphRefusal(Refusal(AnswerKind.ERROR, 400, code, subcode, "the password was changed"))


async def test_a_token_is_asked_about_at_once_and_then_once_a_day() -> None:
    watched = Watched()
    assert watched.watch.view.token is None
    async with watched.running():
        assert watched.api.asked == [OLD]
        view = watched.watch.view
        assert (view.version, view.token, view.checked_at, view.warnings) == ("v26.0", GOOD, START, ())
        await watched.pass_days(0.9)
        assert len(watched.api.asked) == 1
        await watched.pass_days(0.2)
        assert len(watched.api.asked) == 2
        assert watched.watch.view.checked_at == START + DAY_MS
    assert watched.said == []


async def test_a_dry_run_asks_nothing() -> None:
    watched = Watched(asks=False)
    async with watched.running():
        await watched.pass_days(2)
        assert watched.api.asked == []
        assert (watched.watch.view.token, watched.watch.view.checked_at) == (None, None)


async def test_a_version_near_its_end_is_spoken_of_once() -> None:
    watched = Watched(version="v22.0", asks=False)
    async with watched.running():
        assert len(watched.said) == 1
        assert "v22.0 ends on 2026-02-19, in 49 days" in watched.said[0]
        assert watched.warnings == watched.said[0]
        await watched.pass_days(0.9)
        assert len(watched.said) == 1
        await watched.pass_days(0.2)
        assert "in 48 days" in watched.said[1]


async def test_what_stays_as_it_is_is_said_once() -> None:
    watched = Watched()
    watched.api.known[OLD] = TokenFacts(True, ("ads_read",), app_id="1")
    async with watched.running():
        await watched.pass_days(2.5)
        assert len(watched.api.asked) == 3
        assert len(watched.said) == 1
        assert "lacks the permission ads_management" in watched.said[0]


async def test_a_token_near_its_end_without_app_id_is_spoken_of_and_left_alone() -> None:
    watched = Watched(app_id=None)
    watched.api.ends_in(10)
    async with watched.running():
        assert watched.api.exchanged == []
        assert "ends on 2026-01-11, in 10 days" in watched.said[0]
        assert watched.watch.view.warnings == (watched.said[0],)
    without_secret = Watched()
    without_secret.api.ends_in(10)
    without_secret.api.can_exchange = False
    async with without_secret.running():
        assert without_secret.api.exchanged == []
        assert "in 10 days" in without_secret.warnings


async def test_a_token_is_exchanged_in_time_and_kept_in_its_file() -> None:
    store = Store()
    watched = Watched(store)
    watched.api.ends_in(15)
    watched.api.life_ms = round(16.5 * DAY_MS)
    async with watched.running():
        assert watched.api.exchanged == []
        await watched.pass_days(1.1)
        assert watched.api.exchanged == [OLD]
        assert (watched.api.held, store.content) == (NEW, NEW)
        view = watched.watch.view
        assert view.token == watched.api.known[NEW]
        assert view.refreshed_at == START + DAY_MS
        assert view.warnings == ()
        assert watched.said == [
            "the access token was exchanged for a new one: it lasts until 2026-01-18T12:00:00Z, and stands in its file"
        ]
        # And again, as long as the worker runs; its own token in the file is no news.
        await watched.pass_days(3)
        assert watched.api.exchanged == [OLD, NEW]
        assert store.written == [NEW, "EAAnew-2"]
    assert not [text for text in watched.said if "EAA" in text]


@pytest.mark.parametrize(
    "store", [None, Store(problem="/run/secrets/token cannot be written (PermissionError)")]
)
async def test_a_token_that_no_file_takes_is_used_and_a_person_is_told(store: Store | None) -> None:
    watched = Watched(store)
    watched.api.ends_in(3)
    async with watched.running():
        assert watched.api.held == NEW
        why = "is no file" if store is None else "cannot be written"
        assert why in watched.warnings
        assert "which ends at 2026-01-04T00:00:00Z" in watched.warnings
        # The one in the file is older, and not taken up for it, however often it is read.
        await watched.pass_days(1.5)
        assert watched.api.held == NEW
        assert "2026-01-04" in watched.warnings
        if store is not None:
            store.content = "EAAfrom-a-person"
            watched.api.known["EAAfrom-a-person"] = GOOD
            await watched.pass_days(0.1)
            assert watched.api.held == "EAAfrom-a-person"
            assert watched.watch.view.warnings == ()
    assert not [text for text in watched.said if "EAA" in text]


async def test_a_token_that_somebody_puts_into_the_file_is_taken_up_within_a_minute_and_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facebook_watch, "FILE_SECONDS", MINUTE)
    store = Store()
    watched = Watched(store)
    async with watched.running():
        store.content = "EAAother"
        assert MINUTE == 60
        await watched.clock.advance(59)
        assert watched.api.held == OLD
        watched.api.known["EAAother"] = TokenFacts(True, ())
        await watched.clock.advance(2)
        assert watched.api.held == "EAAother"
        assert watched.api.asked[-1] == "EAAother"
        assert "lacks the permission ads_management" in watched.warnings
        # A file that is gone, or holds what is none, takes nothing away.
        store.content = None
        await watched.clock.advance(120)
        store.content = "no token at all"
        await watched.clock.advance(600)
        assert watched.api.held == "EAAother"
        assert [text for text in watched.said if "no token" in text] == [
            "the access token's file holds what is no token; the one before is used"
        ]


async def test_a_token_that_facebook_takes_no_more_is_named_with_its_words() -> None:
    watched = Watched()
    watched.api.errors = [refusal(190, 460)]
    async with watched.running():
        assert watched.watch.view.token == TokenFacts(False)
        assert "not valid any more" in watched.warnings
        assert "190/460" in watched.warnings
        assert "the password was changed" in watched.warnings
        assert len(watched.said) == 2
        await watched.pass_days(1.1)
        assert watched.watch.view.token == GOOD
        assert watched.watch.view.warnings == ()
        # What comes back is said again.
        watched.api.errors = [refusal(190, 460)]
        await watched.pass_days(1)
        assert len(watched.said) == 4


async def test_a_refusal_that_is_not_about_the_token_leaves_what_is_known() -> None:
    watched = Watched()
    async with watched.running():
        for error, said in (
            (refusal(10), "Facebook refused (10)"),
            (GraphRefusal(Refusal(AnswerKind.MALFORMED, 200, message="data: missing")), "data: missing"),
        ):
            watched.api.errors = [error]
            await watched.pass_days(1.1)
            assert watched.watch.view.token == GOOD
            assert said in watched.warnings


@pytest.mark.parametrize("error", [UnreachableError("no connection"), refusal(4), refusal(2)])
async def test_no_answer_is_no_news_and_asked_for_again_soon(error: Exception) -> None:
    watched = Watched()
    watched.api.errors = [error, error]
    async with watched.running():
        assert watched.watch.view.token is None
        await watched.clock.advance(299)
        assert len(watched.api.asked) == 1
        await watched.clock.advance(302)
        assert watched.watch.view.token == GOOD
    assert watched.said == []


async def test_of_two_workers_that_exchange_at_once_the_slower_one_takes_what_is_in_the_file() -> None:
    store = Store()
    watched = Watched(store)
    watched.api.ends_in(10)
    exchange = watched.api.exchange_token

    async def slower(app_id: str) -> SecretStr:
        new = await exchange(app_id)
        store.content, store.problem = "EAAfaster", "the file holds another token by now"
        watched.api.ends_in(60, "EAAfaster")
        return new

    watched.api.exchange_token = slower  # type: ignore[method-assign]
    async with watched.running():
        assert (watched.api.held, store.content) == ("EAAfaster", "EAAfaster")
        assert watched.watch.view.token == watched.api.known["EAAfaster"]
        assert watched.watch.view.warnings == ()
        await watched.pass_days(2)
    assert watched.said == ["the access token's file holds another one, which is used from now on"]
    assert watched.api.exchanged == [OLD]


@pytest.mark.parametrize("error", [UnreachableError("no connection"), refusal(1), refusal(101)])
async def test_an_exchange_that_fails_leaves_the_token_and_is_tried_again(error: Exception) -> None:
    store = Store()
    watched = Watched(store)
    watched.api.ends_in(10)

    async def refuse(app_id: str) -> SecretStr:
        raise error

    granted, watched.api.exchange_token = watched.api.exchange_token, refuse  # type: ignore[method-assign]
    async with watched.running():
        assert (watched.api.held, store.content) == (OLD, OLD)
        assert "could not be exchanged for a new one: " in watched.warnings
        assert "ends on 2026-01-11" in watched.warnings
        watched.api.exchange_token = granted  # type: ignore[method-assign]
        await watched.pass_days(0.3)
        assert (watched.api.held, store.content) == (NEW, NEW)
        assert watched.watch.view.warnings == ()


@pytest.mark.parametrize("life_days", [0, 3])
async def test_a_new_token_that_lasts_no_longer_is_not_used(life_days: int) -> None:
    store = Store()
    watched = Watched(store)
    watched.api.ends_in(10)
    watched.api.life_ms = life_days * DAY_MS
    async with watched.running():
        assert (watched.api.held, store.content) == (OLD, OLD)
        assert "Facebook gave none that lasts longer" in watched.warnings
