"""Calls to Meta's Graph API: one aiohttp session, who calls, and what of an answer concerns every call.

aiohttp's exceptions end here: they become UnreachableError, or NotSentError when no connection came about. The
access token travels in a header, but for calls that are about a token itself, and no text that leaves this module
holds a URL, a body or a secret. Certificates are verified, redirects are not followed, cookies not kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel

from app.adapters.facebook_answers import AnswerReader, RawAnswer, header_text
from app.adapters.facebook_credentials import Credentials
from app.domain.delivery import NotSentError, UsageMeter
from app.errors import InvalidInputError, UnreachableError
from app.ports import REQUEST_TIMEOUT_SECONDS, Clock

CONNECT_TIMEOUT_SECONDS = 10.0
# Real answers stay far below; more would be somebody filling our memory.
MAX_ANSWER_BYTES = 8 * 1024 * 1024

_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,3}")
_ACCOUNT = re.compile(r"act_[0-9]{1,40}")
_BASE_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?")

# All that a request may end in; a test fails when the library gains another one.
TRANSPORT_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError)

_Model = TypeVar("_Model", bound=BaseModel)


class GraphTransport:
    """Use it as an async context manager, or call `close` at the end.

    `may_send` is asked once more when a request's connection stands, the last moment before its first byte: a worker
    that was frozen since it decided to send must not. Raises InvalidInputError for a URL or version that cannot be
    used. Its requests are not repeated here: what an answer means for delivery is `app.domain.delivery`'s.
    """

    def __init__(
        self,
        base_url: str,
        version: str,
        credentials: Credentials,
        clock: Clock,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        if not _BASE_URL.fullmatch(base_url):
            raise InvalidInputError("The Graph API's URL must be like https://graph.facebook.com")
        if not _VERSION.fullmatch(version):
            raise InvalidInputError("The Graph API's version must be like v25.0")
        self._root = f"{base_url.rstrip('/')}/{version}"
        self._version = version
        self.credentials = credentials
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._may_send = may_send
        self._session: aiohttp.ClientSession | None = None
        self._answers = AnswerReader(credentials.secrets)
        self._answered_version: str | None = None
        self._upgrade_warning: str | None = None
        # Of the newest answer: how far our clock is ahead of the time that it was given at.
        self.clock_skew_ms: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session; calls under way are cut."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def version_warning(self) -> str | None:
        """Why the configured version needs a person's attention; None while Facebook answers with it."""
        if self._upgrade_warning is not None:
            return f"Facebook says of API version {self._version}: {self._upgrade_warning}"
        if self._answered_version in (None, self._version):
            return None
        return f"Facebook answers API version {self._version} with version {self._answered_version}"

    async def _call(
        self,
        method: str,
        path: str,
        model: type[_Model],
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> tuple[_Model, tuple[UsageMeter, ...], str | None]:
        """The checked answer, what its headers say of the limits, and its trace."""
        answer = await self._exchange(
            method, path, (query or {}) | self.credentials.proof(self._clock.now_ms()), body
        )
        headers = answer.headers
        self._answered_version = header_text(headers, "facebook-api-version") or self._answered_version
        self._upgrade_warning = header_text(headers, "x-ad-api-version-warning")
        self.clock_skew_ms = self._skew(header_text(headers, "date"))
        found, usage = self._answers.read(answer, model)
        return found, usage, header_text(headers, "x-fb-trace-id") or header_text(headers, "x-fb-request-id")

    def _skew(self, date: str | None) -> int | None:
        try:
            given = None if date is None else parsedate_to_datetime(date)
        except ValueError:
            given = None
        return None if given is None else self._clock.now_ms() - int(given.timestamp() * 1_000)

    async def _exchange(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any] | None
    ) -> RawAnswer:
        headers = {"Authorization": self.credentials.bearer, "Accept": "application/json"}
        content = None
        if body is not None:
            content = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            async with self._open_session().request(
                method,
                f"{self._root}/{path}",
                params=query,
                data=content,
                headers=headers,
                allow_redirects=False,
            ) as response:
                received = {name.lower(): value for name, value in response.headers.items()}
                return RawAnswer(response.status, await _bounded(response), received)
        except TRANSPORT_ERRORS as exc:
            raise translated(exc) from exc

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout_seconds,
                    connect=min(CONNECT_TIMEOUT_SECONDS, self._timeout_seconds),
                ),
                # The callers bound how many calls are under way.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[self._last_check()],
            )
        return self._session

    def _last_check(self) -> aiohttp.TraceConfig:
        async def check(session: object, context: object, params: object) -> None:
            del session, context, params
            if not self._may_send():
                raise NotSentError("nothing was sent: this worker may have lost its place in the group")

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(check)
        trace.on_connection_reuseconn.append(check)
        return trace


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body; a longer one than any answer has is cut, and then is no JSON."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            response.close()
            return b""
        chunks.append(chunk)
    return b"".join(chunks)


def translated(error: BaseException) -> UnreachableError:
    """The application's error for one of aiohttp's; the text names its kind and nothing of the request."""
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSentError(
            f"Facebook cannot be reached: no connection ({kind}); is AUDIENCE_SYNC_FACEBOOK_API_URL right?"
        )
    if isinstance(error, asyncio.TimeoutError):
        return UnreachableError(f"Facebook did not answer in time ({kind})")
    return UnreachableError(f"the connection to Facebook broke before its answer ({kind})")


def account_path(ad_account_id: str) -> str:
    """Of an ad account in the address of a call; anything else never becomes part of one."""
    if not _ACCOUNT.fullmatch(ad_account_id):
        raise InvalidInputError("An ad account id is act_ and digits, such as act_1234567890")
    return ad_account_id
