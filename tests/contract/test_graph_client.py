"""The client of the Graph API against the sandbox over real HTTP, and against answers nobody should send.

What delivery relies on is asked of the in-memory twin too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_answers import read_usage
from app.adapters.facebook_graph import FacebookGraph
from app.adapters.memory_graph import MemoryGraph
from app.domain.delivery import GraphRefusal, NotSentError, UsageMeter, classify
from app.domain.delivery_errors import Reaction, Scope
from app.errors import InvalidInputError
from app.ports import GraphApi
from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.graph_answers import SECRET, SOURCE, answering, both, client_of
from tests.contract.sandbox_client import ACCOUNT, TOKEN, sha


@pytest.mark.parametrize("calls_before", [0, 1], ids=["on a new connection", "on a kept one"])
async def test_a_worker_that_may_not_act_any_more_sends_nothing(calls_before: int) -> None:
    answers = iter([True] * calls_before + [False])
    async with both(may_send=lambda: next(answers)) as (graph, sandbox):
        for _ in range(calls_before):
            await graph.create_audience(ACCOUNT, "before", "", SOURCE)
        with pytest.raises(NotSentError, match="may have lost its place"):
            await graph.create_audience(ACCOUNT, "too late", "", SOURCE)
        assert len(await sandbox.log()) == calls_before


# -- what delivery relies on, of the client and of its twin -----------------------------------------------------


@pytest.fixture(params=["memory", "http"])
async def graph(request: pytest.FixtureRequest) -> AsyncIterator[GraphApi]:
    if request.param == "memory":
        yield MemoryGraph()
        return
    async with both() as (client, _):
        yield client


async def test_created_audiences_are_listed_newest_first_with_their_descriptions(graph: GraphApi) -> None:
    ids = [await graph.create_audience(ACCOUNT, "Same name", f"number {n}", SOURCE) for n in range(3)]
    other = await graph.create_audience("act_2", "Elsewhere", "", SOURCE)
    listed = [audience async for audience in graph.list_audiences(ACCOUNT)]
    assert [(a.id, a.name, a.description, a.subtype) for a in listed] == [
        (ids[n], "Same name", f"number {n}", "CUSTOM") for n in (2, 1, 0)
    ]
    assert [audience.id async for audience in graph.list_audiences("act_2")] == [other]


async def test_an_account_without_audiences_has_an_empty_list(graph: GraphApi) -> None:
    assert [audience async for audience in graph.list_audiences("act_77")] == []


async def test_people_are_added_and_removed(graph: GraphApi) -> None:
    audience = await graph.create_audience(ACCOUNT, "List", "", SOURCE)
    schema, rows = ["EXTERN_ID", "EMAIL"], [["u1", sha("a@b.co")], ["u2", ""]]
    assert (await graph.add_users(audience, schema, rows)).received == 2
    assert (await graph.add_users(audience, schema, rows)).invalid == {}
    assert (await graph.remove_users(audience, ["EXTERN_ID"], [["u1"]])).received == 1
    assert (await graph.remove_users(audience, ["EXTERN_ID"], [["nobody"]])).received == 1
    found = await graph.read_audience(audience)
    assert (found.id, found.operation) == (audience, "200 Normal")
    assert (found.delivery or "")[:4] in ("200 ", "300 ")


@pytest.mark.parametrize("remove", [False, True])
async def test_what_goes_beside_the_rows_stands_in_the_payload(remove: bool) -> None:
    async with both() as (graph, sandbox):
        audience = await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        call = graph.remove_users if remove else graph.add_users
        await call(audience, ["EXTERN_ID"], [["u1"], ["u2"]], {"app_ids": ["7", ""]})
        (logged,) = await sandbox.log(audience)
    payload = {"schema": ["EXTERN_ID"], "data": [["u1"], ["u2"]], "app_ids": ["7", ""]}
    assert logged["body"]["payload"] == payload


async def test_a_value_based_audience_takes_what_people_are_worth(graph: GraphApi) -> None:
    audience = await graph.create_audience(ACCOUNT, "Worth", "", SOURCE, value_based=True)
    answer = await graph.add_users(audience, ["EXTERN_ID", "LOOKALIKE_VALUE"], [["u1", 44.5], ["u2", 0]])
    assert (answer.received, answer.invalid) == (2, {})
    assert (await graph.remove_users(audience, ["EXTERN_ID"], [["u1"]])).received == 1


@pytest.mark.parametrize("call", ["read", "add", "remove"])
async def test_an_audience_that_does_not_exist_is_gone(graph: GraphApi, call: str) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "read": lambda: graph.read_audience("4711"),
        "add": lambda: graph.add_users("4711", ["EXTERN_ID"], [["u"]]),
        "remove": lambda: graph.remove_users("4711", ["EXTERN_ID"], [["u"]]),
    }
    with pytest.raises(GraphRefusal) as caught:
        await calls[call]()
    assert classify(caught.value.refusal).reaction is Reaction.AUDIENCE_GONE


# -- over HTTP -------------------------------------------------------------------------------------------------


async def test_a_users_call_is_json_with_the_token_in_a_header_only() -> None:
    async with both() as (graph, sandbox):
        audience = await graph.create_audience(ACCOUNT, "List", "text", SOURCE)
        await graph.add_users(audience, ["EXTERN_ID"], [["u1"]])
        await graph.remove_users(audience, ["EXTERN_ID"], [["u1"]])
        log = await sandbox.log()
        assert [(one["method"], one["path"], one["rows"]) for one in log] == [
            ("POST", f"/v25.0/{ACCOUNT}/customaudiences", 0),
            ("POST", f"/v25.0/{audience}/users", 1),
            ("DELETE", f"/v25.0/{audience}/users", 1),
        ]
        assert log[0]["body"] == {
            "name": "List",
            "subtype": "CUSTOM",
            "description": "text",
            "customer_file_source": SOURCE,
        }
        assert log[1]["body"] == {"payload": {"schema": ["EXTERN_ID"], "data": [["u1"]]}}
        assert TOKEN not in str(log)


async def test_ten_thousand_rows_pass() -> None:
    async with both() as (graph, sandbox):
        audience = await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        rows = [[f"user-{number}", sha(str(number))] for number in range(10_000)]
        assert (await graph.add_users(audience, ["EXTERN_ID", "EMAIL"], rows)).received == 10_000
        assert len(await sandbox.members(audience)) == 10_000


async def test_refused_rows_are_named_as_they_were_sent() -> None:
    async with both() as (graph, _):
        audience = await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        answer = await graph.add_users(
            audience, ["EXTERN_ID", "EMAIL"], [["u1", ""], ["", sha("x")], ["ü/1", "no"]]
        )
        assert (answer.received, answer.invalid_count) == (3, 2)
        assert answer.invalid[f'["","{sha("x")}"]'] == "empty external ID"
        assert '["ü/1","no"]' in answer.invalid


@pytest.mark.parametrize("samples", [[], {}, ['["u2"]'], [{'["u2"]': "empty"}]], ids=str)
async def test_samples_may_be_a_map_or_a_list(samples: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(
            {"num_received": 2, "num_invalid_entries": 1, "invalid_entry_samples": samples}
        )

    async with answering(answer) as url, client_of(url) as graph:
        found = await graph.add_users("1", ["EXTERN_ID"], [["u1"], ["u2"]])
    assert list(found.invalid) == (['["u2"]'] if samples else [])


async def test_all_pages_are_read_by_cursor_and_never_by_address() -> None:
    async with both() as (graph, sandbox):
        ids = [await sandbox.create(f"List {number}") for number in range(250)]
        assert [audience.id async for audience in graph.list_audiences(ACCOUNT)] == ids[::-1]

    hosts: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        hosts.append(f"{request.host}{request.path}")
        page: dict[str, Any] = {"data": [{"id": "1"}]}
        if "after" not in request.query:
            page["paging"] = {"cursors": {"after": "c"}, "next": "http://attacker.example/v25.0/steal"}
        else:
            page["paging"] = {"cursors": {"after": "d"}}
        return web.json_response(page)

    async with answering(elsewhere) as url, client_of(url) as graph:
        assert len([audience async for audience in graph.list_audiences(ACCOUNT)]) == 2
        assert hosts == [f"{url.removeprefix('http://')}/v25.0/{ACCOUNT}/customaudiences"] * 2


@pytest.mark.parametrize(
    "paging",
    [{"next": "x"}, {"next": "x", "cursors": {}}, {"next": "x", "cursors": {"after": "same"}}],
    ids=["no cursors", "no cursor", "a cursor that leads back"],
)
async def test_a_list_without_end_is_given_up(paging: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "1"}], "paging": paging})

    async with answering(answer) as url, client_of(url) as graph:
        with pytest.raises(GraphRefusal, match="paging"):
            _ = [audience async for audience in graph.list_audiences(ACCOUNT)]


async def test_a_page_that_is_too_much_for_facebook_is_asked_for_smaller() -> None:
    limits: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        limits.append(request.query["limit"])
        if len(limits) == 1:
            error = {"code": 1, "message": "Please reduce the amount of data you're asking for, then retry"}
            return web.json_response({"error": error}, status=500)
        return web.json_response({"data": []})

    async with answering(answer) as url, client_of(url) as graph:
        assert [audience async for audience in graph.list_audiences(ACCOUNT)] == []
    assert limits == ["100", "20"]


async def test_the_version_that_answers_is_compared() -> None:
    async with both() as (graph, sandbox):
        await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        assert graph.version_warning is None
        await sandbox.fault({"headers": {"facebook-api-version": "v26.0"}}, times=1)
        await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        assert graph.version_warning == "Facebook answers API version v25.0 with version v26.0"
        await sandbox.fault(
            {"headers": {"X-Ad-Api-Version-Warning": "The call has been auto-upgraded"}}, times=1
        )
        await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        assert "auto-upgraded" in (graph.version_warning or "")


# -- usage -----------------------------------------------------------------------------------------------------


async def test_usage_headers_of_an_answer_are_passed_on() -> None:
    async with both() as (graph, sandbox):
        audience = await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        headers = {
            "X-App-Usage": '{"call_count":5,"total_cputime":7,"total_time":1}',
            "X-Ad-Account-Usage": '{"acc_id_util_pct":97.5,"reset_time_duration":100}',
        }
        await sandbox.fault({"headers": headers}, times=4)
        answer = await graph.add_users(audience, ["EXTERN_ID"], [["u"]])
        meters = (UsageMeter(Scope.APP, 7), UsageMeter(Scope.AD_ACCOUNT, 97.5, 100))
        assert answer.usage == meters
        assert {*meters} <= {*(await graph.read_audience(audience)).usage}
        heard: list[Sequence[UsageMeter]] = []
        await graph.create_audience(ACCOUNT, "Second", "", SOURCE, heed=heard.append)
        assert len([one async for one in graph.list_audiences(ACCOUNT, heed=heard.append)]) == 2
        # Beside what the sandbox itself says of the ad account.
        assert len(heard) == 2
        assert all({*meters} <= {*usage} for usage in heard)


USAGE = [
    (
        {
            "x-business-use-case-usage": '{"42":[{"type":"custom_audience","call_count":32,"total_cputime":3,'
            '"total_time":77,"estimated_time_to_regain_access":12}]}'
        },
        (UsageMeter(Scope.AD_ACCOUNT, 77, 720, "42"),),
        "the largest of three, minutes as seconds",
    ),
    (
        {"x-business-use-case-usage": '{"1":[{"call_count":1},{"call_count":2}],"2":[{"call_count":3}]}'},
        (
            UsageMeter(Scope.AD_ACCOUNT, 1, 0, "1"),
            UsageMeter(Scope.AD_ACCOUNT, 2, 0, "1"),
            UsageMeter(Scope.AD_ACCOUNT, 3, 0, "2"),
        ),
        "several accounts, several types",
    ),
    ({"x-ad-account-usage": '{"acc_id_util_pct":100}'}, (UsageMeter(Scope.AD_ACCOUNT, 100),), "alone"),
    ({"x-app-usage": "no json"}, (), "not readable: nothing is known"),
    ({"x-app-usage": "[1]"}, (), "not an object"),
    ({"x-app-usage": '{"call_count":"5","total_time":true}'}, (UsageMeter(Scope.APP, 0),), "not numbers"),
    ({"x-ad-account-usage": '{"acc_id_util_pct":-5}'}, (UsageMeter(Scope.AD_ACCOUNT, 0),), "never negative"),
    ({"x-business-use-case-usage": '{"1":7,"2":[7]}'}, (), "not lists of objects"),
    ({}, (), "no header"),
]


@pytest.mark.parametrize(("headers", "meters", "why"), USAGE)
def test_usage_headers(headers: dict[str, str], meters: tuple[UsageMeter, ...], why: str) -> None:
    assert read_usage(headers) == meters


# -- secrets ---------------------------------------------------------------------------------------------------


async def test_the_proof_is_the_timed_one_and_new_for_each_call() -> None:
    queries: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        return web.json_response({"id": "1", "num_received": 1})

    class Fixed(SystemClock):
        seconds = 1_767_225_600

        def now_ms(self) -> int:
            return self.seconds * 1000 + 999

    clock = Fixed()
    token, secret = SecretStr("EAAsandboxtoken"), SecretStr(SECRET)
    async with answering(answer) as url, FacebookGraph(url, "v25.0", token, clock, secret) as graph:
        await graph.add_users("1", ["EXTERN_ID"], [["u"]])
        clock.seconds += 7
        await graph.remove_users("1", ["EXTERN_ID"], [["u"]])
    # Meta's published form: HMAC-SHA256 of "token|seconds" under the app's secret.
    assert queries[0] == {
        "appsecret_proof": "1cca1f9985ed666311653cd798f3171e072d8869e005de8543862e25db119f4c",
        "appsecret_time": "1767225600",
    }
    expected = hmac.new(SECRET.encode(), b"EAAsandboxtoken|1767225607", hashlib.sha256).hexdigest()
    assert queries[1] == {"appsecret_proof": expected, "appsecret_time": "1767225607"}


async def test_no_secret_is_in_any_text() -> None:
    async def answer(_: web.Request) -> web.Response:
        message = f"Malformed access token {TOKEN} or EAABwzLixnjYBAOZB9ZC, secret {SECRET}\nforged line"
        return web.json_response(
            {"error": {"code": 190, "message": message, "fbtrace_id": TOKEN}}, status=400
        )

    async with answering(answer) as url, client_of(url, app_secret=SecretStr(SECRET)) as graph:
        with pytest.raises(GraphRefusal) as caught:
            await graph.read_audience("1")
        for text in (
            str(caught.value),
            repr(caught.value),
            repr(caught.value.refusal),
            repr(graph),
            str(vars(graph)),
        ):
            assert TOKEN not in text
            assert SECRET not in text
            assert "EAABwz" not in text
        assert "\n" not in str(caught.value)


async def test_a_token_that_facebook_does_not_know_needs_a_person() -> None:
    async with both(SandboxOptions(tokens=(AccessToken("another"),))) as (graph, _):
        with pytest.raises(GraphRefusal) as caught:
            await graph.create_audience(ACCOUNT, "List", "", SOURCE)
        assert classify(caught.value.refusal).reaction is Reaction.AUTH_OR_TERMS


@pytest.mark.parametrize(
    ("url", "version", "token"),
    [
        ("graph.facebook.com", "v25.0", TOKEN),
        ("ftp://graph.facebook.com", "v25.0", TOKEN),
        ("https://user:pass@graph.facebook.com", "v25.0", TOKEN),
        ("https://graph.facebook.com?x=1", "v25.0", TOKEN),
        ("https://graph.facebook.com", "25.0", TOKEN),
        ("https://graph.facebook.com", "v25.0/..", TOKEN),
        ("https://graph.facebook.com", "v25.0", "  "),
        ("https://graph.facebook.com", "v25.0", "tökén"),
        ("https://graph.facebook.com", "v25.0", "two\r\nlines"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(url: str, version: str, token: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        FacebookGraph(url, version, SecretStr(token), SystemClock())
    assert "pass" not in str(caught.value)
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize("odd", ["act_1/../2", "1", "act_", "", "act_1?x=1"])
async def test_an_id_that_is_none_never_becomes_part_of_an_address(odd: str) -> None:
    async with client_of("http://127.0.0.1:9") as graph:
        with pytest.raises(InvalidInputError):
            await graph.create_audience(odd, "List", "", SOURCE)
        if odd != "1":
            with pytest.raises(InvalidInputError):
                await graph.add_users(odd, ["EXTERN_ID"], [["u"]])
