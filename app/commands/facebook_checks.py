"""What delivery to Facebook rests on, asked of Facebook: token, permissions, each ad account, and the API's version."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

from app.adapters.clock import SystemClock
from app.adapters.facebook_access import FacebookAccess
from app.adapters.facebook_connection import facebook_access, facebook_graph
from app.commands.findings import Finding, first_line
from app.domain.access_tokens import MANAGE, RENEW, TokenFacts, concern, is_near_its_end, lifetime
from app.domain.api_versions import version_state
from app.domain.definitions import DefinitionSet
from app.domain.delivery import GraphRefusal, classify
from app.errors import AudienceSyncError, UnreachableError
from app.ports import AdAccountFacts
from app.settings import Settings

UNREACHABLE_SECONDS = 30.0
_PAUSE_SECONDS: Final = 1.0
# Ad accounts that are asked; more would take long and say the same.
MOST_ACCOUNTS: Final = 25
_OF_ACCOUNT: Final = ("advertiser", "business", "terms")
# Either lets its holder change audiences.
_MAY_ADVERTISE: Final = ("ADVERTISE", "MANAGE")
# Refusals of a call about one field that say nothing of the field: there is no right to see it.
_NOT_SHOWN: Final = (10, 200)
_NOT_LINKED: Final = 1_870_050
_NO_OBJECT: Final = (100, 33)

_Result = TypeVar("_Result")


async def examine(settings: Settings, definitions: DefinitionSet) -> AsyncIterator[Finding]:
    """Each finding as it is made.

    Raises InvalidInputError when token, URL or version cannot be used, UnreachableError when Facebook does not answer
    for 30 s. Nothing is changed at Facebook.
    """
    clock = SystemClock()
    async with facebook_graph(settings, clock, UNREACHABLE_SECONDS) as graph:
        access = facebook_access(settings, graph.credentials, clock, UNREACHABLE_SECONDS)
        async with access:
            checks = _Checks(settings, access, clock)
            yield address(settings)
            facts, finding = await checks.token()
            yield finding
            yield _permissions(facts)
            accounts = accounts_of(settings, definitions)
            for account in accounts[:MOST_ACCOUNTS]:
                if facts is None:
                    for one in _skipped(account, _OF_ACCOUNT, "needs a valid token"):
                        yield one
                    continue
                async for one in checks.account(
                    account, value_based=_has_values(definitions, settings, account)
                ):
                    yield one
            for one in not_asked(settings, definitions, accounts):
                yield one
            yield version_finding(settings, access.version_warning)


def accounts_of(settings: Settings, definitions: DefinitionSet | None) -> list[str]:
    """The ad accounts that definitions or settings name; `definitions` None: they cannot be read."""
    named: list[str | None] = [None]
    if definitions is not None:
        named = [d.ad_account_id for audience in definitions.audiences for d in audience.destinations]
    accounts = {account or settings.facebook_ad_account_id or "" for account in named} - {""}
    return sorted(accounts)


def not_asked(settings: Settings, definitions: DefinitionSet | None, accounts: list[str]) -> list[Finding]:
    """That there are none, or more of them than are asked."""
    if not accounts:
        text = "no ad account is named, by definitions or AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID"
        if definitions is None:
            text = (
                "AUDIENCE_SYNC_FACEBOOK_AD_ACCOUNT_ID names no ad account, and the definitions cannot be read"
            )
        elif settings.facebook_ad_account_id is not None:
            text = f"no audience is delivered anywhere, so {settings.facebook_ad_account_id} is not asked"
        return [Finding("facebook", "skipped", text)]
    left = accounts[MOST_ACCOUNTS:]
    text = f"{len(left):,} more ad accounts are not asked, {', '.join(left[:3])}{' ...' if left[3:] else ''}"
    return [Finding("facebook", "skipped", text)] if left else []


def fix_of(error: AudienceSyncError, account: str) -> str:
    """For a refusal what delivery would ask a person for."""
    if isinstance(error, GraphRefusal):
        instruction = classify(error.refusal).instruction
        return (instruction or "see the answer; is the ad account the right one?").replace(
            "{account}", account.removeprefix("act_")
        )
    return "is AUDIENCE_SYNC_FACEBOOK_API_URL right, and is there a way to it from here?"


def version_finding(settings: Settings, answered: str | None = None) -> Finding:
    """By what is known of Meta's versions, and by what Facebook `answered` about it."""
    state = version_state(settings.facebook_api_version, datetime.now(UTC).date())
    fix = (
        state.fix
        or "set AUDIENCE_SYNC_FACEBOOK_API_VERSION to the version that answers, after a look at Meta's changelog"
    )
    if answered is not None:
        return Finding("version", "failed", answered, fix)
    if state.warning is None:
        return Finding("version", "ok", state.text)
    return Finding("version", "failed" if state.ended else "warning", state.warning, fix)


def address(settings: Settings) -> Finding:
    """Whether the token is safe on its way."""
    parts = urlsplit(settings.facebook_api_url)
    if parts.scheme == "https":
        return Finding("address", "ok", f"{settings.facebook_api_url}, its certificate is verified")
    if _is_this_machine(parts.hostname or ""):
        return Finding("address", "ok", f"{settings.facebook_api_url}, on this machine")
    return Finding(
        "address",
        "warning",
        f"{settings.facebook_api_url}: the access token travels in the clear",
        "give AUDIENCE_SYNC_FACEBOOK_API_URL with https, unless it is a stand-in",
    )


class _Checks:
    def __init__(self, settings: Settings, access: FacebookAccess, clock: SystemClock) -> None:
        self._settings = settings
        self._access = access
        self._clock = clock
        self._until = clock.monotonic() + UNREACHABLE_SECONDS

    async def token(self) -> tuple[TokenFacts | None, Finding]:
        """None: it cannot be used for anything."""
        settings = self._settings
        try:
            facts = await self._answered(self._access.token_facts)
        except GraphRefusal as error:
            return None, Finding("token", "failed", first_line(error), fix_of(error, ""))
        now, days = self._clock.now_ms(), settings.facebook_token_warn_days
        if not facts.valid or (facts.expires_at or now + 1) <= now:
            return None, Finding("token", "failed", "Facebook says that it is not valid any more", RENEW)
        text = f"{facts.kind or 'an access token'} of app {facts.app_id or 'unknown'}, {lifetime(facts)}"
        if settings.facebook_app_id not in (None, facts.app_id):
            fix = f"give the token and the secret of one app; AUDIENCE_SYNC_FACEBOOK_APP_ID is {settings.facebook_app_id}"
            return facts, Finding("token", "failed", text, fix)
        if is_near_its_end(facts, now, days):
            if settings.facebook_app_id is not None and self._access.can_exchange:
                return facts, Finding("token", "ok", f"{text}; a worker exchanges it for a new one before")
            return facts, Finding("token", "warning", text, RENEW)
        rest = concern(facts, now, days)
        if rest is not None and MANAGE in facts.scopes:
            return facts, Finding("token", "warning", f"{text}; {rest}", RENEW)
        return facts, Finding("token", "ok", text)

    async def account(self, account: str, *, value_based: bool) -> AsyncIterator[Finding]:
        check = f"ad account {account}"
        try:
            tasks = (await self._facts(account, "user_tasks")).tasks
        except GraphRefusal as error:
            fix = fix_of(error, account)
            if (error.refusal.code, error.refusal.subcode) == _NO_OBJECT:
                fix = "assign the ad account to the system user of the token in Business Settings; is its id right?"
            yield Finding(f"{check}, advertiser", "failed", first_line(error), fix)
            for one in _skipped(account, _OF_ACCOUNT[1:], "the ad account has to be reached first"):
                yield one
            return
        yield _advertiser(f"{check}, advertiser", tasks)
        yield await self._business(f"{check}, business", account)
        yield await self._terms(f"{check}, terms", account, value_based=value_based)

    async def _business(self, check: str, account: str) -> Finding:
        fix = "link the ad account to a business account in Business Settings"
        try:
            business = (await self._facts(account, "business")).business
        except GraphRefusal as error:
            refusal = error.refusal
            if refusal.code in _NOT_SHOWN and refusal.subcode != _NOT_LINKED:
                text = "not shown to this token, which would need business_management; look into Business Settings"
                return Finding(check, "skipped", text)
            return Finding(check, "failed", first_line(error), fix_of(error, account))
        if business is None:
            return Finding(
                check, "failed", "the ad account belongs to no business that the token may see", fix
            )
        return Finding(check, "ok", f"belongs to {business}")

    async def _terms(self, check: str, account: str, *, value_based: bool) -> Finding:
        try:
            accepted = (await self._facts(account, "tos_accepted")).terms_accepted
        except GraphRefusal as error:
            return Finding(check, "failed", first_line(error), fix_of(error, account))
        if not accepted:
            fix = (
                "a person of the business accepts them at https://business.facebook.com/ads/manage/customaudiences/tos/"
                f"?act={account.removeprefix('act_')}"
            )
            return Finding(check, "failed", "the Custom Audience terms are not accepted", fix)
        more = (
            "; value-based lists need terms of their own, https://www.facebook.com/customaudiences/value_based/tos.php"
            if value_based
            else ""
        )
        return Finding(check, "ok", f"the Custom Audience terms are accepted{more}")

    async def _facts(self, account: str, field: str) -> AdAccountFacts:
        return await self._answered(lambda: self._access.account_facts(account, field))

    async def _answered(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        while True:
            try:
                return await call()
            except UnreachableError:
                if self._clock.monotonic() + _PAUSE_SECONDS >= self._until:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)


def _skipped(account: str, checks: tuple[str, ...], why: str) -> list[Finding]:
    return [Finding(f"ad account {account}, {check}", "skipped", why) for check in checks]


def _permissions(facts: TokenFacts | None) -> Finding:
    if facts is None:
        return Finding("permissions", "skipped", "needs a valid token")
    if MANAGE in facts.scopes:
        return Finding("permissions", "ok", ", ".join(facts.scopes))
    given = ", ".join(facts.scopes) or "none"
    fix = f"make a token for the system user that has the permission {MANAGE}"
    return Finding("permissions", "failed", f"{MANAGE} is missing; there are: {given}", fix)


def _advertiser(check: str, tasks: tuple[str, ...]) -> Finding:
    given = ", ".join(tasks) or "none"
    if any(task in tasks for task in _MAY_ADVERTISE):
        return Finding(check, "ok", f"the token's user may advertise (tasks: {given})")
    fix = "assign the ad account to the system user with the task to manage campaigns (ADVERTISE), in Business Settings"
    return Finding(check, "failed", f"the token's user may not advertise (tasks: {given})", fix)


def _has_values(definitions: DefinitionSet, settings: Settings, account: str) -> bool:
    return any(
        destination.value_based and (destination.ad_account_id or settings.facebook_ad_account_id) == account
        for audience in definitions.audiences
        for destination in audience.destinations
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
