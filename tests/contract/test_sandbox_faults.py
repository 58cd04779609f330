"""Ordered faults and the clock."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import aiohttp
import orjson
import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import LIST, A, SandboxClient, running


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
