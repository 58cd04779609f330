"""What the sandbox tells a test of itself: audiences with their people, and the log of requests."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, LIST, TOKEN, running

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
