"""Calls a sandbox that runs inside the test, over real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from app.sandbox.server import RunningSandbox, start_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from app.sandbox.options import SandboxOptions

TOKEN = "EAAsandboxtoken"
ACCOUNT = "act_1"
LIST = f"{ACCOUNT}/customaudiences"
FIXED = datetime(2026, 1, 1, tzinfo=UTC)
# In seconds.
DAY = 24 * 3600


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


A, B, C, D = (sha(text) for text in "abcd")


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def body(self) -> Any:
        return orjson.loads(self.text)

    @property
    def error(self) -> tuple[int, int, int | None]:
        """HTTP status, code, subcode."""
        error = self.body["error"]
        return self.status, error["code"], error.get("error_subcode")


class SandboxClient:
    def __init__(self, sandbox: RunningSandbox, http: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.http = http

    async def request(self, method: str, path: str, **arguments: Any) -> Answer:
        """As it is: no token, no version."""
        url = path if path.startswith("http") else self.sandbox.base_url + path
        async with self.http.request(method, url, **arguments) as response:
            return Answer(response.status, await response.text(), response.headers)

    async def call(self, method: str, path: str, **arguments: Any) -> Answer:
        """A call of the API with version and token."""
        headers = {"Authorization": f"Bearer {TOKEN}"} | arguments.pop("headers", {})
        return await self.request(method, f"/v25.0/{path}", headers=headers, **arguments)

    async def create(self, name: str = "List", account: str = ACCOUNT, **parameters: Any) -> str:
        answer = await self.call(
            "POST", f"{account}/customaudiences", json={"name": name, "subtype": "CUSTOM", **parameters}
        )
        assert answer.status == 200, answer.text
        return str(answer.body["id"])

    async def read(self, audience_id: str, *fields: str) -> Any:
        answer = await self.call("GET", audience_id, params={"fields": ",".join(fields)})
        assert answer.status == 200, answer.text
        return answer.body

    async def users(self, method: str, audience_id: str, schema: Any, data: Any, **more: Any) -> Answer:
        body = {"payload": {"schema": schema, "data": data}, **more}
        return await self.call(method, f"{audience_id}/users", json=body)

    async def add(self, audience_id: str, schema: Any, *rows: Any) -> Any:
        answer = await self.users("POST", audience_id, schema, list(rows))
        assert answer.status == 200, answer.text
        return answer.body

    async def remove(self, audience_id: str, schema: Any, *rows: Any) -> Any:
        answer = await self.users("DELETE", audience_id, schema, list(rows))
        assert answer.status == 200, answer.text
        return answer.body

    async def members(self, audience_id: str) -> list[dict[str, Any]]:
        answer = await self.request("GET", f"/_sandbox/audiences/{audience_id}/members")
        assert answer.status == 200, answer.text
        assert answer.body["count"] == len(answer.body["members"])
        members: list[dict[str, Any]] = answer.body["members"]
        return members

    async def log(self, audience_id: str | None = None) -> Any:
        params = {} if audience_id is None else {"audience": audience_id}
        return (await self.request("GET", "/_sandbox/requests", params=params)).body

    async def until_logged(self, path: str) -> None:
        for _ in range(1000):
            if any(one["path"] == f"/v25.0/{path}" for one in await self.log()):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"no request to {path} arrived")

    async def fault(self, respond: dict[str, Any], **matchers: Any) -> str:
        answer = await self.request("POST", "/_sandbox/faults", json={**matchers, "respond": respond})
        assert answer.status == 200, answer.text
        return str(answer.body["id"])

    async def advance(self, seconds: float) -> None:
        answer = await self.request("POST", "/_sandbox/clock", json={"advance_seconds": seconds})
        assert answer.status == 200, answer.text


@asynccontextmanager
async def running(options: SandboxOptions | None = None) -> AsyncIterator[SandboxClient]:
    sandbox = await start_sandbox(options=options)
    try:
        async with aiohttp.ClientSession() as http:
            yield SandboxClient(sandbox, http)
    finally:
        await sandbox.close()
