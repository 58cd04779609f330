"""Inspection, the request log, ordered faults and the clock."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, LIST, TOKEN, A, SandboxClient, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def test_inspection_lists_audiences_and_their_people() -> None:
    async with running() as client:
        first = await client.create("One")
        second = await client.create("Two", account="act_2")
        await client.add(second, ["EXTERN_ID"], ["u"], ["v"])
        assert (await client.request("GET", "/_sandbox/audiences")).body == [
            {"id": first, "name": "One", "ad_account_id": ACCOUNT, "count": 0},
            {"id": second, "name": "Two", "ad_account_id": "act_2", "count": 2},
        ]
        answer = await client.request("GET", f"/_sandbox/audiences/{second}/members")
        assert answer.body == {"count": 2, "members": [{"EXTERN_ID": "u"}, {"EXTERN_ID": "v"}]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_sandbox"),
        ("GET", "/_sandbox/nosuch"),
        ("POST", "/_sandbox/audiences"),
        ("GET", "/_sandbox/audiences/1/members"),
        ("DELETE", "/_sandbox/faults/1"),
    ],
)
async def test_inspection_of_what_is_not_there(method: str, path: str) -> None:
    async with running() as client:
        answer = await client.request(method, path)
        assert answer.status == 404
        assert set(answer.body) == {"error"}


async def test_inspection_is_not_served_under_a_version() -> None:
    async with running() as client:
        assert (await client.call("GET", "_sandbox/audiences")).error == (404, 803, None)


# The request log


async def test_the_log_holds_requests_in_order_of_arrival() -> None:
    async with running() as client:
        audience = await client.create("A")
        await client.add(audience, ["EXTERN_ID"], ["u"], ["v"])
        await client.call("GET", LIST, params={"limit": 5, "fields": "id,name"})
        await client.call("DELETE", "123")
        await client.request("GET", "/_sandbox/audiences")
        log = await client.log()
        assert [{name: one[name] for name in one if name != "at"} for one in log] == [
            {
                "method": "POST",
                "path": f"/v25.0/{LIST}",
                "status": 200,
                "body": {"name": "A", "subtype": "CUSTOM"},
                "rows": 0,
            },
            {
                "method": "POST",
                "path": f"/v25.0/{audience}/users",
                "status": 200,
                "body": {"payload": {"schema": ["EXTERN_ID"], "data": [["u"], ["v"]]}},
                "rows": 2,
            },
            {
                "method": "GET",
                "path": f"/v25.0/{LIST}?limit=5&fields=id%2Cname",
                "status": 200,
                "body": None,
                "rows": 0,
            },
            {"method": "DELETE", "path": "/v25.0/123", "status": 400, "body": None, "rows": 0},
        ]
        instants = [datetime.fromisoformat(one["at"]) for one in log]
        assert instants == sorted(instants)
        assert all(one["at"].endswith("Z") for one in log)
        assert await client.log(audience) == [log[1]]
        assert (await client.request("DELETE", "/_sandbox/requests")).status == 200
        assert await client.log() == []


SECRET = "EAA" + "s3cret" * 5


@pytest.mark.parametrize(
    ("method", "path", "arguments"),
    [
        pytest.param("GET", LIST, {"params": {"access_token": SECRET, "limit": "3"}}, id="query"),
        pytest.param("GET", LIST, {"headers": {"Authorization": f"Bearer {SECRET}"}}, id="header"),
        pytest.param("POST", LIST, {"data": {"name": "n", "access_token": SECRET}}, id="form"),
        pytest.param("POST", LIST, {"json": {"name": "n", "access_token": SECRET}}, id="JSON"),
        pytest.param("GET", "debug_token", {"params": {"input_token": SECRET}}, id="token asked about"),
        pytest.param(
            "POST", LIST, {"json": {"name": "n", "deep": {"access_token": SECRET}}}, id="deep in a body"
        ),
        pytest.param("POST", LIST, {"data": {"deep": f'{{"access_token":"{SECRET}"}}'}}, id="inside a text"),
        pytest.param("GET", LIST, {"params": {"deep": f"access_token={SECRET}"}}, id="inside a query value"),
        pytest.param(
            "POST", LIST, {"data": b'{"access_token":"' + SECRET.encode()}, id="body that cannot be read"
        ),
        pytest.param(
            "POST",
            LIST,
            {"json": {"name": SECRET}, "headers": {"Authorization": f"Bearer {SECRET}"}},
            id="as a name",
        ),
        pytest.param("GET", SECRET, {"headers": {"Authorization": f"Bearer {SECRET}"}}, id="in the path"),
        pytest.param("POST", LIST, {"json": {"name": "n", "appsecret_proof": SECRET}}, id="a proof"),
    ],
)
async def test_no_token_is_ever_logged(method: str, path: str, arguments: dict[str, Any]) -> None:
    async with running() as client:
        await client.request(method, f"/v25.0/{path}", **arguments)
        answer = await client.request("GET", "/_sandbox/requests")
        assert len(answer.body) == 1
        assert SECRET not in answer.text


async def test_innocent_parameters_stay_when_secrets_go() -> None:
    async with running() as client:
        await client.request("GET", f"/v25.0/{LIST}", params={"access_token": TOKEN, "limit": "3"})
        await client.request("POST", f"/v25.0/{LIST}", json={"access_token": TOKEN, "name": "n"})
        first, second = await client.log()
        assert first["path"] == f"/v25.0/{LIST}?limit=3"
        assert second["body"] == {"name": "n"}


async def test_the_log_is_bounded() -> None:
    options = SandboxOptions(request_log_entries=3, request_log_body_bytes=200, request_log_total_bytes=300)
    async with running(options) as client:
        audience = await client.create()
        for count in (1, 1, 50, 1, 1):
            await client.add(audience, ["EXTERN_ID"], *[["u" * 40]] * count)
        log = await client.log()
        assert [one["rows"] for one in log] == [50, 1, 1]
        assert [one["body"] is None for one in log] == [True, False, False]
        # All three bodies together would be more than the total.
        await client.call("POST", LIST, json={"name": "n" * 150})
        assert [one["body"] is None for one in await client.log()] == [True, False, False]


async def test_a_large_body_is_not_kept_however_it_was_sent() -> None:
    payload = {"schema": ["EXTERN_ID"], "data": [["u"]] * 100}

    async def chunks() -> AsyncIterator[bytes]:
        yield orjson.dumps({"payload": payload})

    async with running(SandboxOptions(request_log_body_bytes=200)) as client:
        audience = await client.create()
        query = {"payload": orjson.dumps(payload).decode()}
        await client.call("DELETE", f"{audience}/users", params=query)
        await client.call(
            "POST", f"{audience}/users", data=chunks(), headers={"Content-Type": "application/json"}
        )
        log = await client.log(audience)
        assert [(one["rows"], one["body"], one["status"]) for one in log] == [(100, None, 200)] * 2


# Faults


def _error(code: int, message: str = "ordered") -> dict[str, Any]:
    return {"error": {"message": message, "code": code}}


async def test_a_fault_answers_in_place_of_the_api() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"status": 400, "body": _error(80003), "headers": {"X-Extra": "1"}}, method="POST")
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert (answer.status, answer.body, answer.headers["X-Extra"]) == (400, _error(80003), "1")
        assert answer.headers["facebook-api-version"] == "v25.0"
        assert await client.members(audience) == []
        assert (await client.log(audience))[-1]["status"] == 400


@pytest.mark.parametrize(
    ("respond", "kind", "text"),
    [
        pytest.param({"status": 502, "body": "<html>Bad</html>"}, "text/html", "<html>Bad</html>", id="HTML"),
        pytest.param(
            {"status": 200, "body": '{"num_re'}, "application/json", '{"num_re', id="truncated JSON"
        ),
        pytest.param(
            {"status": 200, "body": {"success": False}},
            "application/json",
            '{"success":false}',
            id="no success",
        ),
        pytest.param({"status": 503}, "", "", id="nothing"),
        pytest.param(
            {"status": 500, "body": "x", "headers": {"Content-Type": "text/plain"}},
            "text/plain",
            "x",
            id="own type",
        ),
    ],
)
async def test_bodies_of_faults(respond: dict[str, Any], kind: str, text: str) -> None:
    async with running() as client:
        await client.fault(respond)
        answer = await client.call("GET", LIST)
        assert (answer.status, answer.text) == (respond["status"], text)
        assert answer.headers.get("Content-Type", "").startswith(kind)


@pytest.mark.parametrize(
    ("drop", "members"),
    [
        pytest.param("before", [], id="the write never happened"),
        pytest.param("after", [{"EXTERN_ID": "u"}], id="the answer was lost"),
    ],
)
async def test_a_connection_can_be_cut_before_or_after_the_write(drop: str, members: list[Any]) -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"drop": drop, "status": None, "body": None}, path="/users$", times=1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert await client.members(audience) == members
        assert (await client.log(audience))[-1]["status"] is None
        await client.add(audience, ["EXTERN_ID"], ["u"])
        assert await client.members(audience) == [{"EXTERN_ID": "u"}]


async def test_a_delay_alone_only_delays() -> None:
    async with running() as client:
        audience = await client.create()
        await client.fault({"delay_ms": 60_000}, method="GET", path="slow")
        await client.fault({"delay_ms": 1}, times=1)
        assert (await client.add(audience, ["EXTERN_ID"], ["u"]))["num_received"] == 1
        slow = asyncio.create_task(client.call("GET", "slow"))
        await client.until_logged("slow")
        # Another request is answered while the slow one is still held.
        assert (await client.call("GET", audience)).status == 200
        assert not slow.done()
        slow.cancel()


async def test_headers_alone_are_added_to_the_real_answer() -> None:
    async with running() as client:
        await client.fault({"headers": {"X-App-Usage": '{"call_count":95}'}})
        answer = await client.call("GET", LIST)
        assert (answer.body, answer.headers["X-App-Usage"]) == ({"data": []}, '{"call_count":95}')


FAULTY = {"status": 599, "body": {}}


@pytest.mark.parametrize(
    ("matchers", "met"),
    [
        pytest.param({}, {"create", "list", "read", "add u", "add v", "remove u"}, id="everything"),
        pytest.param({"method": "DELETE"}, {"remove u"}, id="method"),
        pytest.param({"method": "delete"}, {"remove u"}, id="method in any case"),
        pytest.param({"path": "/users$"}, {"add u", "add v", "remove u"}, id="path, anywhere"),
        pytest.param({"path": "^/v25.0/act_"}, {"create", "list"}, id="path from its start"),
        pytest.param({"audience": "{audience}"}, {"read", "add u", "add v", "remove u"}, id="audience"),
        pytest.param({"audience": "1"}, set(), id="another audience"),
        pytest.param({"row": {"EXTERN_ID": "u"}}, {"add u", "remove u"}, id="row"),
        pytest.param({"row": {"EXTERN_ID": "u", "EMAIL": A}}, {"add u"}, id="row with two cells"),
        pytest.param({"row": {"EXTERN_ID": "u", "PHONE": A}}, set(), id="row with a key not sent"),
        pytest.param({"row": {"EXTERN_ID": "u"}, "method": "POST"}, {"add u"}, id="all must fit"),
    ],
)
async def test_which_requests_a_fault_meets(matchers: dict[str, Any], met: set[str]) -> None:
    async with running() as client:
        audience = await client.create()
        if "audience" in matchers:
            matchers = {"audience": matchers["audience"].format(audience=audience)}
        await client.fault(FAULTY, **matchers)
        both = ["EXTERN_ID", "EMAIL"]
        answers = {
            "create": await client.call("POST", LIST, json={"name": "n"}),
            "list": await client.call("GET", LIST),
            "read": await client.call("GET", audience),
            "add u": await client.users("POST", audience, both, [["x", A], ["u", A]]),
            "add v": await client.users("POST", audience, both, [["v", A]]),
            "remove u": await client.users("DELETE", audience, ["EXTERN_ID"], [["u"]]),
        }
        assert {name for name, answer in answers.items() if answer.status == 599} == met
        assert all(answer.status in {200, 599} for answer in answers.values())


@pytest.mark.parametrize(
    ("bounds", "statuses"),
    [
        pytest.param({}, [599] * 5, id="always"),
        pytest.param({"times": None}, [599] * 5, id="null is always"),
        pytest.param({"times": 2}, [599, 599, 200, 200, 200], id="twice"),
        pytest.param({"skip": 2}, [200, 200, 599, 599, 599], id="from the third on"),
        pytest.param({"skip": 3, "times": 1}, [200, 200, 200, 599, 200], id="the fourth call"),
    ],
)
async def test_skip_and_times(bounds: dict[str, Any], statuses: list[int]) -> None:
    async with running() as client:
        await client.fault(FAULTY, method="GET", **bounds)
        await client.create()  # does not fit and is not counted
        assert [(await client.call("GET", LIST)).status for _ in range(5)] == statuses


async def test_faults_are_tried_in_order_and_can_be_removed() -> None:
    async with running() as client:
        first = await client.fault({"status": 500}, times=1)
        second = await client.fault({"status": 502})
        assert first != second
        statuses = [(await client.call("GET", LIST)).status for _ in range(2)]
        assert statuses == [500, 502]
        listed = (await client.request("GET", "/_sandbox/faults")).body
        assert [(one["id"], one["times"], one["met"]) for one in listed] == [(first, 1, 1), (second, None, 1)]
        assert listed[0]["respond"]["status"] == 500
        assert (await client.request("DELETE", f"/_sandbox/faults/{second}")).status == 200
        assert (await client.call("GET", LIST)).status == 200
        await client.fault({"status": 500})
        assert (await client.request("DELETE", "/_sandbox/faults")).status == 200
        assert (await client.call("GET", LIST)).status == 200
        assert (await client.request("GET", "/_sandbox/faults")).body == []


async def test_a_number_beyond_64_bits_does_not_spoil_the_list_of_faults() -> None:
    async with running() as client:
        await client.fault({"status": 500}, row={"EXTERN_ID": 2**70})
        assert (await client.request("GET", "/_sandbox/faults")).status == 200


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param(b"{", "JSON", id="broken JSON"),
        pytest.param(b"[]", "object", id="no object"),
        pytest.param({}, "respond", id="no respond"),
        pytest.param({"respond": {}}, "respond", id="respond with nothing"),
        pytest.param({"respond": {"body": "x"}}, "respond", id="a body without status"),
        pytest.param({"respond": {"status": 99}}, "respond.status", id="no status"),
        pytest.param({"respond": {"status": "500"}}, "respond.status", id="status as text"),
        pytest.param({"respond": {"drop": "during"}}, "respond.drop", id="unknown drop"),
        pytest.param({"respond": {"delay_ms": -1}}, "respond.delay_ms", id="negative delay"),
        pytest.param(
            {"respond": {"status": 500, "headers": {"A": "b\r\nC: d"}}}, "respond.headers", id="header split"
        ),
        pytest.param(
            {"respond": {"status": 500, "headers": {"A b": "c"}}}, "respond.headers", id="header name"
        ),
        pytest.param(
            {"respond": {"status": 500, "headers": {"Content-Length": "9"}}}, "respond.headers", id="framing"
        ),
        pytest.param({"respond": {"status": 500}, "path": "("}, "path", id="no regular expression"),
        pytest.param({"respond": {"status": 500}, "times": 0}, "times", id="never"),
        pytest.param({"respond": {"status": 500}, "skip": -1}, "skip", id="negative skip"),
        pytest.param({"respond": {"status": 500}, "row": {}}, "row", id="empty row"),
        pytest.param({"respond": {"status": 500}, "audiences": "1"}, "audiences", id="unknown key"),
    ],
)
async def test_a_wrong_fault_is_refused_with_its_place(body: Any, where: str) -> None:
    async with running() as client:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        answer = await client.request("POST", "/_sandbox/faults", data=content)
        assert answer.status == 400
        assert where in answer.body["error"]
        assert (await client.request("GET", "/_sandbox/faults")).body == []


# The clock


@pytest.mark.parametrize(
    "seconds", [-1, "60", None, True, 1e300], ids=["back", "text", "null", "boolean", "too far"]
)
async def test_the_clock_refuses(seconds: Any) -> None:
    async with running() as client:
        answer = await client.request("POST", "/_sandbox/clock", json={"advance_seconds": seconds})
        assert answer.status == 400
        assert "advance_seconds" in answer.body["error"]


async def test_the_clock_is_moved_by_what_is_asked() -> None:
    async def now(client: SandboxClient, seconds: float) -> datetime:
        answer = await client.request("POST", "/_sandbox/clock", json={"advance_seconds": seconds})
        return datetime.fromisoformat(answer.body["now"])

    fixed = datetime.fromisoformat("2026-01-01T00:00:00Z")
    async with running(SandboxOptions(now=lambda: fixed)) as client:
        assert await now(client, 0) == fixed
        assert await now(client, 1.5) == datetime.fromisoformat("2026-01-01T00:00:01.5Z")
        assert await now(client, 90 * 60) == datetime.fromisoformat("2026-01-01T01:30:01.5Z")
        audience = await client.create()
        created = (await client.read(audience, "time_created"))["time_created"]
        assert created == int(fixed.timestamp()) + 5401
        assert (await client.log())[0]["at"] == "2026-01-01T01:30:01.500Z"
