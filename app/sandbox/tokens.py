"""Access tokens: which are known, what is said of one, and one that lasts longer in exchange for one that ends."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from app.sandbox import errors, values
from app.sandbox.options import TOKEN_LIFE_SECONDS, AccessToken, SandboxClock, SandboxOptions

if TYPE_CHECKING:
    from app.sandbox.call import Call


class Tokens:
    """Those of the options, and those they were exchanged for. Without any, whatever is sent is a token."""

    def __init__(self, options: SandboxOptions, clock: SandboxClock) -> None:
        self._options = options
        self._clock = clock
        # Before their time, as a test wants it.
        self.ended: set[str] = set()
        self._known = {token.value: token for token in options.tokens}

    def of(self, call: Call) -> AccessToken:
        """Of whom the call is. Raises GraphError for none, and one that is unknown or has ended."""
        if not call.token:
            raise errors.no_token()
        return self._usable(call.token)

    def debug(self, parameters: values.Parameters) -> dict[str, Any]:
        """What `debug_token` answers of `input_token`."""
        wanted = values.text(parameters, "input_token")
        if not wanted:
            raise errors.invalid_parameter("The parameter input_token is required", blame="input_token")
        token = self._found(wanted)
        if token is None:
            return {"data": {"is_valid": False, "scopes": []}}
        found: dict[str, Any] = {
            "app_id": self._options.app_id,
            "type": "SYSTEM_USER",
            "application": "Sandbox",
            "expires_at": int(token.expires_at or 0),
            "data_access_expires_at": int(token.data_access_expires_at or 0),
            "is_valid": not self._has_ended(token),
            "scopes": sorted(token.permissions),
            "granular_scopes": [{"scope": scope} for scope in sorted(token.permissions)],
            "user_id": "1",
        }
        if token.issued_at is not None:
            found["issued_at"] = int(token.issued_at)
        return {"data": found}

    def exchange(self, parameters: values.Parameters) -> dict[str, Any]:
        """What `oauth/access_token` answers: a token of the same rights; the old one stays until its end."""
        if values.text(parameters, "grant_type") != "fb_exchange_token":
            raise errors.invalid_parameter("grant_type must be fb_exchange_token", blame="grant_type")
        values.boolean(parameters, "set_token_expires_in_60_days")
        if values.text(parameters, "client_id") != self._options.app_id:
            raise errors.unknown_app()
        secret = values.text(parameters, "client_secret") or ""
        if not secret or (self._options.app_secret is not None and secret != self._options.app_secret):
            raise errors.wrong_app_secret()
        old = self._usable(values.text(parameters, "fb_exchange_token") or "")
        now = self._clock.now()
        new = AccessToken(
            f"EAA{secrets.token_hex(24)}",
            old.permissions,
            old.ad_accounts,
            now + TOKEN_LIFE_SECONDS,
            old.data_access_expires_at,
            now,
            old.tasks,
        )
        self._known[new.value] = new
        return {"access_token": new.value, "token_type": "bearer", "expires_in": TOKEN_LIFE_SECONDS}

    def _usable(self, value: str) -> AccessToken:
        token = self._found(value)
        if token is None:
            raise errors.unknown_token()
        if self._has_ended(token):
            raise errors.expired_token()
        return token

    def _found(self, value: str) -> AccessToken | None:
        if value and not self._options.tokens:
            return self._known.get(value) or AccessToken(value)
        return self._known.get(value)

    def _has_ended(self, token: AccessToken) -> bool:
        over = token.expires_at is not None and self._clock.now() >= token.expires_at
        return over or token.value in self.ended
