"""The Facebook client when something goes wrong: errors, no answer, and answers nobody should send."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import re
from collections.abc import Awaitable, Iterator

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from app.adapters import facebook_transport
from app.adapters.facebook_answers import AnswerReader, RawAnswer
from app.adapters.facebook_transport import TRANSPORT_ERRORS, translated
from app.domain.delivery import AnswerKind, GraphRefusal, NotSentError, Refusal, UsageMeter, classify, words
from app.domain.delivery_errors import Reaction, Scope
from app.errors import UnreachableError
from schemas.facebook import AudienceAnswer, CreatedAnswer, ListAnswer, UsersEdgeAnswer
from tests.contract.graph_answers import SOURCE, answering, both, client_of
from tests.contract.sandbox_client import ACCOUNT, running

# -- errors ----------------------------------------------------------------------------------------------------


async def test_an_error_is_told_in_facebook_s_words() -> None:
    async with both() as (graph, sandbox):
        error = {
            "message": "Permissions error",
            "type": "OAuthException",
            "code": 200,
            "error_subcode": 1870047,
            "is_transient": False,
            "error_user_title": "Audience Size too Low",
            "fbtrace_id": "AbC123",
        }
        await sandbox.fault(
            {"status": 400, "body": {"error": error}, "headers": {"X-App-Usage": '{"call_count":9}'}},
            method="DELETE",
        )
        with pytest.raises(GraphRefusal) as caught:
            await graph.remove_users("1", ["EXTERN_ID"], [["u"]])
        assert caught.value.refusal == Refusal(
            AnswerKind.ERROR,
            400,
            200,
            1870047,
            "Permissions error",
            "OAuthException",
            is_transient=False,
            user_title="Audience Size too Low",
            trace="AbC123",
            usage=(UsageMeter(Scope.APP, 9),),
        )


NOT_FOUND = "<html>not found</html>"
ANSWERS = [
    (500, "<html>Sorry</html>", AnswerKind.NO_JSON, Reaction.RETRY, "an HTML page"),
    (502, "", AnswerKind.NO_JSON, Reaction.RETRY, "nothing"),
    (200, "<html>Sorry</html>", AnswerKind.NO_JSON, Reaction.RETRY, "an HTML page with status 200"),
    (200, '{"num_received": 1', AnswerKind.NO_JSON, Reaction.RETRY, "cut JSON"),
    (200, "[]", AnswerKind.NO_JSON, Reaction.RETRY, "no object"),
    (404, NOT_FOUND, AnswerKind.NO_JSON, Reaction.RETRY, "another server answers"),
    (404, '{"detail":"Not Found"}', AnswerKind.MALFORMED, Reaction.RETRY, "JSON of another server"),
    (302, "", AnswerKind.NO_JSON, Reaction.RETRY, "a redirect, which is not followed"),
    (429, "slow down", AnswerKind.NO_JSON, Reaction.THROTTLE, "too many, said by a proxy"),
    (500, '{"error":{"message":"..","code":1}}', AnswerKind.ERROR, Reaction.RETRY, "the smallest error"),
    (400, '{"error":"invalid_request"}', AnswerKind.ERROR, Reaction.REQUEST_ERROR, "a text as error"),
    (400, '{"error":null}', AnswerKind.ERROR, Reaction.REQUEST_ERROR, "no error object"),
    (400, '{"error":{"code":"190"}}', AnswerKind.ERROR, Reaction.AUTH_OR_TERMS, "a code as text"),
    (200, '{"error":{"code":190}}', AnswerKind.ERROR, Reaction.AUTH_OR_TERMS, "an error with status 200"),
    (200, '{"success":false}', AnswerKind.NOT_SUCCESS, Reaction.REQUEST_ERROR, "no success"),
    (200, "{}", AnswerKind.MALFORMED, Reaction.RETRY, "nothing of what is expected"),
    (200, '{"num_received":-1}', AnswerKind.MALFORMED, Reaction.RETRY, "an impossible number"),
    (200, '{"num_received":1.5}', AnswerKind.MALFORMED, Reaction.RETRY, "no whole number"),
]


@pytest.mark.parametrize(("status", "body", "kind", "reaction", "why"), ANSWERS)
async def test_answers_that_are_no_success(
    status: int, body: str, kind: AnswerKind, reaction: Reaction, why: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Location": "/v25.0/elsewhere"} if status == 302 else {}
        return web.Response(status=status, text=body, headers=headers)

    async with answering(answer) as url, client_of(url) as graph:
        with pytest.raises(GraphRefusal) as caught:
            await graph.add_users("1", ["EXTERN_ID"], [["u"]])
    assert caught.value.refusal.kind is kind
    assert caught.value.refusal.http_status == status
    assert classify(caught.value.refusal).reaction is reaction


@pytest.mark.parametrize(
    ("body", "expected"),
    [('{"id":"23849182047670582"}', "23849182047670582"), ('{"id":23849182047670582}', "23849182047670582")],
)
async def test_ids_keep_all_their_digits(body: str, expected: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    async with answering(answer) as url, client_of(url) as graph:
        assert await graph.create_audience(ACCOUNT, "List", "", SOURCE) == expected


@pytest.mark.parametrize(
    "body", ['{"id":2.3849182047670582e16}', '{"id":"1/../2"}', '{"id":true}', '{"id":""}']
)
async def test_ids_that_cannot_be_believed_are_refused(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    async with answering(answer) as url, client_of(url) as graph:
        with pytest.raises(GraphRefusal, match="unknown form: id"):
            await graph.create_audience(ACCOUNT, "List", "", SOURCE)


async def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facebook_transport, "MAX_ANSWER_BYTES", 100_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65_536)
        except ConnectionError:
            return response

    async with answering(answer) as url, client_of(url) as graph:
        with pytest.raises(GraphRefusal) as caught:
            await graph.read_audience("1")
    assert caught.value.refusal.kind is AnswerKind.NO_JSON


# -- no answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("drop", "count"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("call", ["create", "add"])
async def test_a_cut_connection_leaves_the_outcome_open(call: str, drop: str, count: int) -> None:
    async with both() as (graph, sandbox):
        audience = await sandbox.create()
        await sandbox.fault({"drop": drop}, times=1)
        lost: Awaitable[object] = (
            graph.create_audience("act_9", "List", "", SOURCE)
            if call == "create"
            else graph.add_users(audience, ["EXTERN_ID"], [["u"]])
        )
        with pytest.raises(UnreachableError) as caught:
            await lost
        assert not isinstance(caught.value, NotSentError)
        assert audience not in str(caught.value)
        if call == "create":
            assert len([one async for one in graph.list_audiences("act_9")]) == count
        else:
            assert len(await sandbox.members(audience)) == count


async def test_an_answer_that_does_not_come_is_given_up() -> None:
    async with both(timeout_seconds=0.3) as (graph, sandbox):
        audience = await sandbox.create()
        await sandbox.fault({"delay_ms": 3_000}, times=1)
        with pytest.raises(UnreachableError, match="in time") as caught:
            await graph.add_users(audience, ["EXTERN_ID"], [["u"]])
        assert not isinstance(caught.value, NotSentError)


async def test_where_nobody_listens_nothing_was_sent() -> None:
    async with running() as sandbox:
        url = sandbox.sandbox.base_url
    async with client_of(url) as graph:
        with pytest.raises(NotSentError):
            await graph.read_audience("1")


def aiohttp_errors() -> Iterator[type[BaseException]]:
    """Every exception class that the library's client side defines."""
    for module in pkgutil.iter_modules(aiohttp.__path__, "aiohttp."):
        if not module.name.startswith(
            ("aiohttp.client", "aiohttp.http", "aiohttp.connector", "aiohttp.streams")
        ):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, Exception) and found.__module__.startswith("aiohttp"):
                yield found


# What belongs to web sockets, and the end of a stream that is read by hand.
NOT_OF_REQUESTS = {"WSMessageTypeError", "WSHandshakeError", "WebSocketError", "EofStream"}


@pytest.mark.parametrize("kind", sorted(set(aiohttp_errors()), key=str))
def test_every_error_of_the_library_is_translated(kind: type[BaseException]) -> None:
    parents = {parent.__name__ for parent in kind.__mro__}
    assert issubclass(kind, TRANSPORT_ERRORS) or parents & NOT_OF_REQUESTS


NEVER_SENT = {
    "ClientSSLError",
    "ClientConnectorCertificateError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientConnectorSSLError",
    "ClientProxyConnectionError",
    "UnixClientConnectorError",
    "ConnectionTimeoutError",
}


def test_only_a_connection_that_never_came_about_counts_as_not_sent() -> None:
    found = {
        kind.__name__
        for kind in aiohttp_errors()
        if issubclass(kind, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    }
    assert found == NEVER_SENT


def test_translated_errors_say_their_kind_and_nothing_of_the_request() -> None:
    told = str(translated(aiohttp.InvalidURL("http://x/?access_token=secret")))
    assert told == "the connection to Facebook broke before its answer (InvalidURL)"


# -- answers nobody should send --------------------------------------------------------------------------------


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
KNOWN_KEYS = (
    *(
        "id",
        "data",
        "paging",
        "cursors",
        "after",
        "next",
        "error",
        "code",
        "error_subcode",
        "message",
        "success",
    ),
    *("num_received", "num_invalid_entries", "invalid_entry_samples", "operation_status", "is_transient"),
    *("fbtrace_id", "error_user_title", "name", "approximate_count_lower_bound"),
)
OBJECTS = st.dictionaries(
    st.sampled_from(KNOWN_KEYS),
    JSON | st.dictionaries(st.sampled_from(KNOWN_KEYS), JSON, max_size=5),
    max_size=6,
)
BODIES = st.binary(max_size=60) | (OBJECTS | JSON).map(orjson.dumps)
HEADERS = st.dictionaries(
    st.sampled_from(["x-app-usage", "x-ad-account-usage", "x-business-use-case-usage", "x-fb-trace-id"]),
    st.text(max_size=30) | (OBJECTS | JSON).map(lambda value: orjson.dumps(value).decode()),
)
MODELS = st.sampled_from([CreatedAnswer, ListAnswer, AudienceAnswer, UsersEdgeAnswer])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(status=st.integers(100, 599), body=BODIES, headers=HEADERS, model=MODELS)
def test_hostile_answers_raise_nothing_but_a_refusal(
    status: int, body: bytes, headers: dict[str, str], model: type[BaseModel]
) -> None:
    refusal: Refusal | None = None
    try:
        found, usage = AnswerReader(lambda: ("secret",)).read(RawAnswer(status, body, headers), model)
    except GraphRefusal as error:
        refusal = error.refusal
    if refusal is None:
        assert isinstance(found, model)
        assert all(meter.percent >= 0 and meter.wait_seconds >= 0 for meter in usage)
    else:
        assert classify(refusal).reaction in Reaction
        assert re.search(r"[\x00-\x1f]", words(refusal)) is None
        assert orjson.dumps(words(refusal))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
        b"HTTP/1.1 banana\r\n\r\n",
        b"\x00\xff\x16\x03\x01garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n{}",
        b"",
    ],
    ids=["short body", "bad chunk", "not gzip", "no status", "garbage", "long header", "nothing"],
)
async def test_what_is_no_http_answer_is_no_answer(raw: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server, client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as graph:
        with pytest.raises(UnreachableError) as caught:
            await graph.read_audience("1")
        assert not isinstance(caught.value, NotSentError)
