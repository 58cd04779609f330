"""Who calls the Graph API: the access token, which may change while a worker runs, and proofs of the app's secret."""

from __future__ import annotations

import hashlib
import hmac
import re

from pydantic import SecretStr

from app.errors import InvalidInputError

_TOKEN = re.compile(r"[\x21-\x7e]+")


class Credentials:
    """Shared by all that calls. `app_secret` None: no proof is sent.

    `timed_proof`: the proof is of the token and the second, good for five minutes; else of the token alone, Meta's
    older form. Raises InvalidInputError for a token that no header can carry.
    """

    def __init__(
        self, token: SecretStr, app_secret: SecretStr | None = None, *, timed_proof: bool = True
    ) -> None:
        self._token = usable_token(token)
        self._app_secret = None if app_secret is None else SecretStr(app_secret.get_secret_value().strip())
        self._timed_proof = timed_proof
        # What was held before, or is about to be, may be quoted in an answer.
        self._others: list[SecretStr] = []

    def __repr__(self) -> str:
        return "Credentials(**********)"

    @property
    def token(self) -> SecretStr:
        return self._token

    @property
    def app_secret(self) -> SecretStr | None:
        return self._app_secret

    @property
    def bearer(self) -> str:
        """The value of the header Authorization."""
        return f"Bearer {self._token.get_secret_value()}"

    def use(self, token: SecretStr) -> None:
        """From the next call on. Raises as the constructor does, and then keeps what it had."""
        usable = usable_token(token)
        if usable != self._token:
            self.hide(self._token)
            self._token = usable

    def hide(self, token: SecretStr) -> None:
        """It must be in no text either, though no call is made with it."""
        if token not in self._others:
            self._others.append(token)

    def proof(self, now_ms: int) -> dict[str, str]:
        """Parameters that prove to Meta that the caller holds the app's secret; a timed one ages, so each call has
        its own.
        """
        if self._app_secret is None:
            return {}
        message, timed = self._token.get_secret_value(), {}
        if self._timed_proof:
            seconds = str(now_ms // 1000)
            message, timed = f"{message}|{seconds}", {"appsecret_time": seconds}
        secret = self._app_secret.get_secret_value()
        return {
            "appsecret_proof": hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest(),
            **timed,
        }

    def secrets(self) -> tuple[str, ...]:
        """Everything that must be in no text."""
        known = [*self._others, self._token, *([] if self._app_secret is None else [self._app_secret])]
        return tuple(text for secret in known if (text := secret.get_secret_value()))


def usable_token(token: SecretStr) -> SecretStr:
    """Without what is around it. Raises InvalidInputError for what is no token."""
    text = token.get_secret_value().strip()
    if not _TOKEN.fullmatch(text):
        raise InvalidInputError("FACEBOOK_ACCESS_TOKEN must be the token that Meta shows, without spaces")
    return SecretStr(text)
