"""Tokens of OAUTHBEARER for Faust's client: librdkafka fetches its own, by the same options.

Client credentials are exchanged for a token at the endpoint, as librdkafka's method `oidc` does.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
import orjson
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

_TIMEOUT_SECONDS: Final = 10.0
_MAX_BYTES: Final = 1 << 20
_OK: Final = 200


class OidcTokens(AbstractTokenProvider):  # type: ignore[misc] # aiokafka publishes no types
    """A new token for each connection; brokers ask for one when it begins, and cut it when the token ends."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._url = options["sasl.oauthbearer.token.endpoint.url"]
        self._client = options["sasl.oauthbearer.client.id"]
        self._secret = options["sasl.oauthbearer.client.secret"]
        self._scope = options.get("sasl.oauthbearer.scope")
        self._extensions = dict(
            part.split("=", 1) for part in options.get("sasl.oauthbearer.extensions", "").split(",") if part
        )
        self._trusted = options.get("https.ca.location")

    async def token(self) -> str:
        """Raises KafkaConnectionError, which aiokafka takes for a broker that does not answer."""
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        try:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self._url,
                    data=form,
                    auth=aiohttp.BasicAuth(self._client, self._secret),
                    headers={"Accept": "application/json"},
                    allow_redirects=False,
                    ssl=ssl.create_default_context(cafile=self._trusted),
                ) as answer,
            ):
                body = await answer.content.read(_MAX_BYTES)
                document = orjson.loads(body) if answer.status == _OK else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            # Not chained: the text of what was raised may hold what was sent.
            raise KafkaConnectionError(f"no token from the endpoint ({type(exc).__name__})") from None
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str):
            raise KafkaConnectionError(f"no token from the endpoint (status {answer.status})")
        return token

    def extensions(self) -> dict[str, str]:
        return self._extensions
