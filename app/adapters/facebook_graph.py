"""The client of Meta's Graph API: one aiohttp session, one method per call that delivery makes.

aiohttp's exceptions end here: they become UnreachableError, or NotSentError when no connection came about. The
access token travels in a header only, and no text that leaves this module holds a URL, a body or a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, SecretStr

from app.adapters.facebook_answers import AnswerReader, RawAnswer, header_text, malformed
from app.domain.delivery import GraphRefusal, NotSentError, UsageMeter
from app.errors import InvalidInputError, UnreachableError
from app.ports import (
    REQUEST_TIMEOUT_SECONDS,
    AudienceStatus,
    Clock,
    ListedAudience,
    ReplaceBatch,
    UsersAnswer,
)
from schemas.facebook import AudienceAnswer, CreatedAnswer, ListAnswer, ListedNode, UsersEdgeAnswer

CONNECT_TIMEOUT_SECONDS = 10.0
# Real answers stay far below; more would be somebody filling our memory.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
# Audiences per page; Meta recommends the small one, and asks for it when the large one is too much.
_PAGE = 100
_SMALL_PAGE = 20
# Meta allows some ten thousand audiences in an ad account.
_MOST_PAGES = 2_000
_TOO_MUCH_DATA = 1

_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,3}")
_BASE_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?")
_ACCOUNT = re.compile(r"act_[0-9]{1,40}")
_NODE = re.compile(r"[0-9]{1,40}")
_TOKEN = re.compile(r"[\x21-\x7e]+")

_STATUS_FIELDS = "id,name,subtype,account_id,approximate_count_lower_bound,approximate_count_upper_bound,operation_status,delivery_status"
_LIST_FIELDS = "id,name,description,subtype"
_DETAILS = (
    f"{_LIST_FIELDS},approximate_count_lower_bound,approximate_count_upper_bound,"
    "operation_status,delivery_status,time_created"
)

# All that a request may end in; a test fails when the library gains another one.
TRANSPORT_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError)

_Model = TypeVar("_Model", bound=BaseModel)


class FacebookGraph:
    """Implements `app.ports.GraphApi`. Use it as an async context manager, or call `close` at the end.

    `app_secret` None: no appsecret_proof is sent. `may_send` is asked once more when a request's connection stands,
    the last moment before its first byte: a worker that was frozen since it decided to send must not. Raises InvalidInputError for a URL or version that cannot be
    used. Its requests are not repeated here: what an answer means for delivery is `app.domain.delivery`'s.
    """

    def __init__(
        self,
        base_url: str,
        version: str,
        token: SecretStr,
        clock: Clock,
        app_secret: SecretStr | None = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        if not _BASE_URL.fullmatch(base_url):
            raise InvalidInputError("The Graph API's URL must be like https://graph.facebook.com")
        if not _VERSION.fullmatch(version):
            raise InvalidInputError("The Graph API's version must be like v25.0")
        if not _TOKEN.fullmatch(token.get_secret_value().strip()):
            raise InvalidInputError("FACEBOOK_ACCESS_TOKEN must be the token that Meta shows, without spaces")
        self._root = f"{base_url.rstrip('/')}/{version}"
        self._version = version
        self._token = SecretStr(token.get_secret_value().strip())
        self._app_secret = app_secret
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._may_send = may_send
        self._session: aiohttp.ClientSession | None = None
        self._answers = AnswerReader(self._secrets)
        self._answered_version: str | None = None
        self._upgrade_warning: str | None = None
        # Of the newest answer: how far our clock is ahead of the time that it was given at.
        self.clock_skew_ms: int | None = None

    def __repr__(self) -> str:
        return f"FacebookGraph({self._root!r})"

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

    # -- calls -------------------------------------------------------------------------------------------------

    async def create_audience(
        self,
        ad_account_id: str,
        name: str,
        description: str,
        customer_file_source: str,
        *,
        value_based: bool = False,
    ) -> str:
        body: dict[str, Any] = {
            "name": name,
            "subtype": "CUSTOM",
            "description": description,
            "customer_file_source": customer_file_source,
        }
        if value_based:
            body["is_value_based"] = True
        path = f"{_account(ad_account_id)}/customaudiences"
        answer, _, _ = await self._call("POST", path, CreatedAnswer, body=body)
        return answer.id

    async def list_audiences(
        self, ad_account_id: str, *, details: bool = False
    ) -> AsyncGenerator[ListedAudience, None]:
        """All pages, by cursor: the address that Facebook names for the next page is never followed."""
        fields = _DETAILS if details else _LIST_FIELDS
        path = f"{_account(ad_account_id)}/customaudiences"
        limit, after = _PAGE, ""
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES:
            query = {"fields": fields, "limit": str(limit)} | ({"after": after} if after else {})
            try:
                page, _, _ = await self._call("GET", path, ListAnswer, query=query)
            except GraphRefusal as error:
                if error.refusal.code == _TOO_MUCH_DATA and limit > _SMALL_PAGE:
                    limit = _SMALL_PAGE
                    continue
                raise
            for node in page.data:
                yield _listed(node)
            if page.is_cut_off:
                raise malformed(200, "paging: next without a cursor")
            if page.following is None:
                return
            if page.following in seen:
                raise malformed(200, "paging: the same cursor twice")
            after = page.following
            seen.add(after)
        raise malformed(200, f"paging: more than {_MOST_PAGES} pages")

    async def read_audience(self, audience_id: str) -> AudienceStatus:
        answer, usage, _ = await self._call(
            "GET", _node(audience_id), AudienceAnswer, query={"fields": _STATUS_FIELDS}
        )
        return AudienceStatus(
            id=answer.id,
            name=answer.name,
            lower_bound=answer.approximate_count_lower_bound,
            upper_bound=answer.approximate_count_upper_bound,
            operation_code=answer.operation_status.code,
            delivery_code=answer.delivery_status.code,
            usage=usage,
            subtype=answer.subtype,
            ad_account=answer.account_id,
            operation=_status_words(answer.operation_status.code, answer.operation_status.description),
            delivery=_status_words(answer.delivery_status.code, answer.delivery_status.description),
        )

    async def add_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
    ) -> UsersAnswer:
        return await self._users("POST", audience_id, "users", schema, data, beside)

    async def remove_users(
        self,
        audience_id: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
    ) -> UsersAnswer:
        return await self._users("DELETE", audience_id, "users", schema, data, beside)

    async def replace_users(
        self, audience_id: str, schema: Sequence[str], data: Sequence[Sequence[Any]], batch: ReplaceBatch
    ) -> UsersAnswer:
        session = {
            "session_id": batch.session_id,
            "batch_seq": batch.number,
            "last_batch_flag": batch.last,
            "estimated_num_total": batch.total,
        }
        return await self._users("POST", audience_id, "usersreplace", schema, data, session=session)

    async def _users(
        self,
        method: str,
        audience_id: str,
        edge: str,
        schema: Sequence[str],
        data: Sequence[Sequence[Any]],
        beside: Mapping[str, Sequence[Any]] | None = None,
        **more: Any,
    ) -> UsersAnswer:
        body = {"payload": {"schema": list(schema), "data": data, **(beside or {})}, **more}
        answer, usage, trace = await self._call(
            method, f"{_node(audience_id)}/{edge}", UsersEdgeAnswer, body=body
        )
        return UsersAnswer(
            received=answer.num_received,
            invalid_count=answer.num_invalid_entries,
            invalid=answer.invalid_entry_samples,
            trace=trace,
            usage=usage,
        )

    # -- transport ---------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        model: type[_Model],
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> tuple[_Model, tuple[UsageMeter, ...], str | None]:
        """The checked answer, what its headers say of the limits, and its trace."""
        answer = await self._exchange(method, path, (query or {}) | self._proof(), body)
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
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}", "Accept": "application/json"}
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

    def _proof(self) -> dict[str, str]:
        """Meta's proof that the caller holds the app's secret; it ages within five minutes, so each call has its own."""
        if self._app_secret is None:
            return {}
        seconds = str(self._clock.now_ms() // 1000)
        message = f"{self._token.get_secret_value()}|{seconds}"
        secret = self._app_secret.get_secret_value().strip()
        proof = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
        return {"appsecret_proof": proof, "appsecret_time": seconds}

    def _secrets(self) -> tuple[str, ...]:
        known = [self._token.get_secret_value()]
        if self._app_secret is not None:
            known.append(self._app_secret.get_secret_value().strip())
        return tuple(secret for secret in known if secret)


def _listed(node: ListedNode) -> ListedAudience:
    return ListedAudience(
        id=node.id,
        name=node.name,
        description=node.description,
        subtype=node.subtype,
        lower_bound=node.approximate_count_lower_bound,
        upper_bound=node.approximate_count_upper_bound,
        operation=_status_words(node.operation_status.code, node.operation_status.description),
        delivery=_status_words(node.delivery_status.code, node.delivery_status.description),
        created=node.time_created,
    )


def _status_words(code: int | None, description: str | None) -> str | None:
    if code is None:
        return description
    return f"{code} {description}" if description else str(code)


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


def _account(ad_account_id: str) -> str:
    if not _ACCOUNT.fullmatch(ad_account_id):
        raise InvalidInputError("An ad account id is act_ and digits, such as act_1234567890")
    return ad_account_id


def _node(audience_id: str) -> str:
    if not _NODE.fullmatch(audience_id):
        raise InvalidInputError("A Facebook audience id consists of digits")
    return audience_id
