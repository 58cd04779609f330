"""What is known of an access token, and when a person, or an exchange, is needed. Instants are epoch milliseconds.

Source: Meta's pages on system users, login security and debugging tokens: a token never ends or lives some 60 days,
can be ended early without notice, and is to be checked at least daily.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.domain.instants import MAX_INSTANT, format_instant

MANAGE: Final = "ads_management"
DAY_MS: Final = 86_400_000
RENEW: Final = (
    "Put a new access token of the system user into FACEBOOK_ACCESS_TOKEN and restart the worker; "
    "one in the file of FACEBOOK_ACCESS_TOKEN_FILE is taken up within a minute."
)


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """`expires_at` None: never. `kind` is Facebook's word, such as SYSTEM_USER. Nothing here is secret."""

    valid: bool
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None
    data_access_expires_at: int | None = None
    app_id: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class FacebookView:
    """What the pages show of what all calls rest on; `token` None: Facebook has not been asked yet.

    `warnings` are what a person has to know and do. Nothing here is secret.
    """

    version: str
    token: TokenFacts | None = None
    checked_at: int | None = None
    refreshed_at: int | None = None
    warnings: tuple[str, ...] = ()


def instant_of(unix_seconds: int | None) -> int | None:
    """As Facebook gives it: 0 and less is never."""
    if unix_seconds is None or not 0 < unix_seconds <= MAX_INSTANT // 1_000:
        return None
    return unix_seconds * 1_000


def is_near_its_end(facts: TokenFacts, now_ms: int, warn_days: int) -> bool:
    """Whether the token is valid and ends within so many days."""
    return facts.valid and facts.expires_at is not None and facts.expires_at - now_ms <= warn_days * DAY_MS


def concern(facts: TokenFacts, now_ms: int, warn_days: int, app_id: str | None = None) -> str | None:
    """What a person has to know and do, the gravest first; None: nothing. `app_id` is the one configured."""
    if not facts.valid or (facts.expires_at is not None and facts.expires_at <= now_ms):
        return f"the access token is not valid any more. {RENEW}"
    if app_id is not None and facts.app_id not in (None, app_id):
        return (
            f"the access token is of app {facts.app_id}, and AUDIENCE_SYNC_FACEBOOK_APP_ID is {app_id}: "
            "give the token and the secret of one app."
        )
    if MANAGE not in facts.scopes:
        return f"the access token lacks the permission {MANAGE}: make one for the system user that has it."
    if is_near_its_end(facts, now_ms, warn_days):
        return f"the access token ends {_in_days(facts.expires_at or 0, now_ms)}. {RENEW}"
    until = facts.data_access_expires_at
    if until is not None and until - now_ms <= warn_days * DAY_MS:
        return f"the access token's right to data ends {_in_days(until, now_ms)}: its user has to give it to the app again."
    return None


def lifetime(facts: TokenFacts) -> str:
    """Until when it can be used, in words."""
    if facts.expires_at is None:
        return "it does not end by itself"
    return f"it lasts until {format_instant(facts.expires_at)}"


def _in_days(instant: int, now_ms: int) -> str:
    days = max(0, instant - now_ms) // DAY_MS
    return f"on {format_instant(instant)[:10]}, in {days} days"
