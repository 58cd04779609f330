"""Versions, tokens, ways to send parameters, and the shape of every answer."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import orjson
import pytest

from app.sandbox.options import AccessToken, SandboxOptions
from tests.contract.sandbox_client import ACCOUNT, FIXED, LIST, TOKEN, SandboxClient, running, sha


@pytest.mark.parametrize("version", ["v21.0", "v25.0", "v26.0", "v100.1"])
async def test_any_version_is_served_and_named(version: str) -> None:
    async with running() as client:
        answer = await client.request("GET", f"/{version}/{LIST}", params={"access_token": TOKEN})
        assert (answer.status, answer.body) == (200, {"data": []})
        assert answer.headers["facebook-api-version"] == version


@pytest.mark.parametrize(
    "path",
    [f"/{LIST}", "/", "/v25/123", "/25.0/123", "/V25.0/123"],
    ids=["no version", "nothing at all", "no minor", "no v", "capital V"],
)
async def test_a_path_without_a_version_is_refused(path: str) -> None:
    async with running() as client:
        answer = await client.request("GET", path, params={"access_token": TOKEN})
        assert answer.error == (400, 2635, None)
        assert re.fullmatch(r"v\d+\.\d+", answer.headers["facebook-api-version"])


def _multipart(fields: dict[str, str]) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    return form


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        pytest.param("GET", {"params": {"access_token": TOKEN}}, id="query"),
        pytest.param("GET", {"headers": {"Authorization": f"Bearer {TOKEN}"}}, id="header"),
        pytest.param("GET", {"headers": {"Authorization": f"bearer {TOKEN}"}}, id="scheme in any case"),
        pytest.param("POST", {"data": {"name": "n", "access_token": TOKEN}}, id="form"),
        pytest.param("POST", {"data": _multipart({"name": "n", "access_token": TOKEN})}, id="multipart"),
        pytest.param("POST", {"json": {"name": "n", "access_token": TOKEN}}, id="JSON body"),
    ],
)
async def test_a_token_is_found_wherever_it_is_sent(method: str, arguments: dict[str, Any]) -> None:
    async with running(SandboxOptions(tokens=(AccessToken(TOKEN),))) as client:
        answer = await client.request(method, f"/v25.0/{LIST}", **arguments)
        assert answer.status == 200, answer.text


@pytest.mark.parametrize(
    ("token", "method", "path", "expected"),
    [
        pytest.param(None, "GET", LIST, (400, 104, None), id="no token"),
        pytest.param("wrong", "GET", LIST, (400, 190, None), id="unknown token"),
        pytest.param("old", "GET", LIST, (400, 190, 463), id="expired token"),
        pytest.param("fresh", "GET", LIST, None, id="a token before its end"),
        pytest.param("none", "GET", LIST, (403, 200, None), id="no permission at all"),
        pytest.param("reader", "GET", LIST, None, id="ads_read suffices for reading"),
        pytest.param("reader", "POST", LIST, (403, 200, None), id="ads_read does not create"),
        pytest.param("elsewhere", "GET", LIST, (400, 100, 33), id="another account's list"),
        pytest.param("elsewhere", "GET", "act_2/customaudiences", None, id="its own account's list"),
    ],
)
async def test_what_a_token_may_do(
    token: str | None, method: str, path: str, expected: tuple[int, int, int | None] | None
) -> None:
    tokens = (
        AccessToken("old", expires_at=FIXED.timestamp()),
        AccessToken("fresh", expires_at=FIXED.timestamp() + 1),
        AccessToken("none", permissions=frozenset()),
        AccessToken("reader", permissions=frozenset({"ads_read"})),
        AccessToken("elsewhere", ad_accounts=frozenset({"act_2"})),
    )
    async with running(SandboxOptions(tokens=tokens, now=lambda: FIXED)) as client:
        params = {} if token is None else {"access_token": token}
        answer = await client.request(method, f"/v25.0/{path}", params=params)
        if expected is None:
            assert answer.status == 200, answer.text
        else:
            assert answer.error == expected


async def test_another_accounts_audience_does_not_exist_for_a_token() -> None:
    tokens = (AccessToken(TOKEN), AccessToken("elsewhere", ad_accounts=frozenset({"act_2"})))
    async with running(SandboxOptions(tokens=tokens)) as client:
        audience = await client.create()
        for method in ("GET", "POST", "DELETE"):
            answer = await client.request(method, f"/v25.0/{audience}", params={"access_token": "elsewhere"})
            assert answer.error == (400, 100, 33)
        assert (await client.read(audience, "name"))["name"] == "List"


async def test_a_token_runs_out_when_the_clock_is_moved() -> None:
    sixty_days = 60 * 24 * 3600
    token = AccessToken(TOKEN, expires_at=FIXED.timestamp() + sixty_days)
    async with running(SandboxOptions(tokens=(token,), now=lambda: FIXED)) as client:
        assert (await client.call("GET", LIST)).status == 200
        await client.advance(sixty_days)
        assert (await client.call("GET", LIST)).error == (400, 190, 463)


@pytest.mark.parametrize(
    ("options", "token", "expected"),
    [
        pytest.param(
            SandboxOptions(now=lambda: FIXED),
            "any",
            {"is_valid": True, "expires_at": 0, "scopes": ["ads_management", "ads_read"]},
            id="without configured tokens every token is good and never ends",
        ),
        pytest.param(
            SandboxOptions(
                now=lambda: FIXED, tokens=(AccessToken(TOKEN), AccessToken("old", expires_at=5.0))
            ),
            "old",
            {"is_valid": False, "expires_at": 5},
            id="expired",
        ),
        pytest.param(
            SandboxOptions(tokens=(AccessToken(TOKEN),)), "wrong", {"is_valid": False}, id="unknown"
        ),
    ],
)
async def test_debug_token(options: SandboxOptions, token: str, expected: dict[str, Any]) -> None:
    async with running(options) as client:
        data = (await client.call("GET", "debug_token", params={"input_token": token})).body["data"]
        assert {name: data.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        pytest.param("GET", "123", (400, 100, 33), id="no such object"),
        pytest.param("DELETE", "123/users", (400, 100, 33), id="an edge of no such object"),
        pytest.param("GET", "foo", (404, 803, None), id="no id at all"),
        pytest.param("GET", "foo%0Abar", (404, 803, None), id="a line break in the path"),
        pytest.param("GET", "act_x/customaudiences", (404, 803, None), id="no account id"),
        pytest.param("GET", "", (400, 2500, None), id="only a version"),
        pytest.param("GET", f"{ACCOUNT}/customaudiences/more", (400, 2500, None), id="too long a path"),
        pytest.param("GET", f"{ACCOUNT}/campaigns", (400, 2500, None), id="another edge"),
        pytest.param("GET", f"{ACCOUNT}/usersofanyaudience", (400, 100, None), id="an edge to remove by"),
        pytest.param("GET", "{audience}/usersreplace", (400, 100, None), id="replacing is no reading"),
        pytest.param("GET", "{audience}/salts", (400, 2500, None), id="an edge that is not built"),
        pytest.param("POST", "{audience}/sessions", (400, 100, None), id="sessions are read"),
        pytest.param("GET", "{audience}/users", (400, 100, None), id="people cannot be read back"),
        pytest.param("PUT", "{audience}", (400, 100, None), id="no such method"),
        pytest.param("DELETE", LIST, (400, 100, None), id="a list is not deleted"),
    ],
)
async def test_what_is_not_there_says_so(
    method: str, path: str, expected: tuple[int, int, int | None]
) -> None:
    async with running() as client:
        audience = await client.create()
        assert (await client.call(method, path.format(audience=audience))).error == expected


@pytest.mark.parametrize(
    ("path", "token", "reason"),
    [
        pytest.param(LIST, "wrong", "invalid_token", id="token"),
        pytest.param("123", TOKEN, "invalid_request", id="object"),
        pytest.param(
            f"{LIST}?fields=n%22%0d%0aX:1%C3%A9", TOKEN, "invalid_request", id="hostile text in the message"
        ),
    ],
)
async def test_error_answers_have_the_envelope_and_its_headers(path: str, token: str, reason: str) -> None:
    async with running(SandboxOptions(tokens=(AccessToken(TOKEN),))) as client:
        answer = await client.call("GET", path, headers={"Authorization": f"Bearer {token}"})
        error = answer.body["error"]
        assert set(answer.body) == {"error"}
        assert error["type"] in {"OAuthException", "GraphMethodException"}
        assert error["fbtrace_id"] == answer.headers["x-fb-request-id"]
        assert answer.headers["x-fb-trace-id"]
        assert answer.headers["WWW-Authenticate"].startswith(f'OAuth "Facebook Platform" "{reason}" "')
        again = await client.call("GET", path, headers={"Authorization": f"Bearer {token}"})
        assert again.body["error"]["fbtrace_id"] != error["fbtrace_id"]


PAYLOAD = {"schema": ["EXTERN_ID", "EMAIL"], "data": [["u1", sha("a")], ["u2", ""]]}
AS_TEXT = orjson.dumps(PAYLOAD).decode()
SESSION_TEXT = '{"session_id":7,"batch_seq":1,"last_batch_flag":true}'


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            {"json": {"payload": PAYLOAD, "session": orjson.loads(SESSION_TEXT)}}, id="JSON, objects"
        ),
        pytest.param({"json": {"payload": AS_TEXT, "session": SESSION_TEXT}}, id="JSON, texts"),
        pytest.param({"data": {"payload": AS_TEXT, "session": SESSION_TEXT}}, id="form"),
        pytest.param({"data": _multipart({"payload": AS_TEXT, "session": SESSION_TEXT})}, id="multipart"),
        pytest.param({"params": {"payload": AS_TEXT, "session": SESSION_TEXT}}, id="query, no body"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_people_can_be_sent_in_every_encoding(method: str, arguments: dict[str, Any]) -> None:
    async with running() as client:
        audience = await client.create()
        answer = await client.call(method, f"{audience}/users", **arguments)
        assert answer.body == {
            "audience_id": audience,
            "session_id": "7",
            "num_received": 2,
            "num_invalid_entries": 0,
            "invalid_entry_samples": {},
        }
        assert len(await client.members(audience)) == (2 if method == "POST" else 0)
        (logged,) = await client.log(audience)
        assert logged["rows"] == 2
        assert logged["body"]["payload"] == PAYLOAD


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        pytest.param(b"{", "application/json", id="broken JSON"),
        pytest.param(b"[1]", "application/json", id="no object"),
        pytest.param(b"\xff", "application/json", id="no UTF-8"),
        pytest.param(b"name=%ff\xff", "application/x-www-form-urlencoded", id="form that is no UTF-8"),
        pytest.param(b"name=a", "application/x-www-form-urlencoded; charset=nosuch", id="unknown charset"),
        pytest.param(b"--x\r\nbroken", "multipart/form-data; boundary=x", id="broken multipart"),
        pytest.param(b"name", "multipart/form-data", id="multipart without boundary"),
        pytest.param(b"<a/>", "text/xml", id="another content type"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(content: bytes, content_type: str) -> None:
    async with running() as client:
        answer = await client.call("POST", LIST, data=content, headers={"Content-Type": content_type})
        assert answer.error == (400, 100, None)


async def test_a_post_can_stand_for_a_delete() -> None:
    async with running() as client:
        audience = await client.create()
        await client.add(audience, ["EXTERN_ID"], ["u1"], ["u2"])
        payload = {"schema": ["EXTERN_ID"], "data": [["u1"]]}
        await client.call("POST", f"{audience}/users", json={"method": "DELETE", "payload": payload})
        assert await client.members(audience) == [{"EXTERN_ID": "u2"}]
        answer = await client.call("POST", audience, data={"method": "delete"})
        assert answer.body == {"success": True}
        assert (await client.call("GET", audience)).error == (400, 100, 33)


async def test_usage_headers_differ_between_uploads_and_all_else() -> None:
    async def spread(client: SandboxClient, method: str, path: str, **arguments: Any) -> set[str]:
        headers = (await client.call(method, path, **arguments)).headers
        return {name.lower() for name in headers if name.lower().endswith("-usage")}

    use_case, upload = {"x-business-use-case-usage"}, {"x-app-usage", "x-ad-account-usage"}
    people = {"json": {"payload": PAYLOAD}}
    async with running() as client:
        audience = await client.create()
        assert await spread(client, "GET", LIST) == use_case
        assert await spread(client, "POST", LIST, data={"name": "n"}) == use_case
        assert await spread(client, "GET", audience) == use_case
        assert await spread(client, "POST", f"{audience}/users", **people) == upload
        assert await spread(client, "DELETE", f"{audience}/users", **people) == use_case
        assert await spread(client, "DELETE", audience) == use_case
        assert await spread(client, "GET", "123") == set()


async def test_usage_headers_hold_percents_by_account() -> None:
    async with running() as client:
        audience = await client.create(account="act_77")
        answer = await client.call("GET", "act_77/customaudiences")
        (use,) = orjson.loads(answer.headers["X-Business-Use-Case-Usage"])["77"]
        assert use["type"] == "custom_audience"
        assert use["estimated_time_to_regain_access"] == 0
        assert all(use[name] < 75 for name in ("call_count", "total_cputime", "total_time"))
        answer = await client.users("POST", audience, ["EXTERN_ID"], [["u"]])
        assert set(orjson.loads(answer.headers["X-App-Usage"])) == {
            "call_count",
            "total_cputime",
            "total_time",
        }
        assert orjson.loads(answer.headers["X-Ad-Account-Usage"])["acc_id_util_pct"] < 75
