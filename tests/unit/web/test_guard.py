"""Who is let in to the pages."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from app.errors import InvalidInputError
from app.web.guard import Access, guard, is_loopback
from app.web.routes import not_found_route, routes
from app.web.stats import Stats
from tests.unit.web.fake_worker import FakeWorker

EVERYWHERE = "0.0.0.0"  # noqa: S104 - where a token is needed
TOKEN = "zq7-token-of-the-pages"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPEN = ("/health", "/ready", "/metrics")
Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def pages(host: str, token: str | None) -> AsyncIterator[Client]:
    application = web.Application(
        middlewares=[guard(Access(host, None if token is None else SecretStr(token)))]
    )
    worker = FakeWorker(audiences=["vips"])
    application.add_routes(routes(Stats(worker.view()), lambda: True, lambda: None))
    application.add_routes([web.post("/act", _act), web.get("/broken", _broken), not_found_route()])
    async with TestClient(TestServer(application, host="127.0.0.1")) as client:
        yield client


async def _act(request: web.Request) -> web.Response:
    del request
    return web.Response(text="done")


async def _broken(request: web.Request) -> web.Response:
    raise RuntimeError(request.query_string)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer zq7-t\u00f6ken"},
        {"X-Token": TOKEN},
    ],
    ids=str,
)
async def test_without_the_token_nothing_is_shown_but_health_and_metrics(headers: dict[str, str]) -> None:
    async with pages(EVERYWHERE, TOKEN) as client:
        for path in ("/stats", "/", "/profiles/ann", "/nothing", f"/stats?token={TOKEN}"):
            answer = await client.get(path, headers=headers)
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in await answer.text()
        assert (await client.post("/act", headers=headers)).status == 401
        for path in OPEN:
            assert (await client.get(path, headers=headers)).status == 200, path
            assert (await client.head(path, headers=headers)).status == 200, path
            # Nobody acts there either.
            assert (await client.post(path, headers=headers)).status == 401, path


async def test_the_token_lets_in() -> None:
    async with pages(EVERYWHERE, TOKEN) as client:
        assert (await client.get("/stats", headers=BEARER)).status == 200
        assert (await client.get("/stats", headers={"Authorization": f"bearer  {TOKEN}"})).status == 200
        assert (await client.get("/nothing", headers=BEARER)).status == 404
        assert await (await client.post("/act", headers=BEARER)).text() == "done"


async def test_a_token_is_asked_for_on_this_machine_too_once_it_is_set() -> None:
    async with pages("127.0.0.1", TOKEN) as client:
        assert (await client.get("/stats")).status == 401


async def test_on_this_machine_reading_is_open_and_acting_is_not() -> None:
    async with pages("127.0.0.1", None) as client:
        assert (await client.get("/stats")).status == 200
        refused = await client.post("/act")
        assert refused.status == 403
        assert "AUDIENCE_SYNC_WEB_TOKEN" in await refused.text()


@pytest.mark.parametrize("name", ["evil.example.com", "evil.example.com:6066", "127.0.0.1.evil.example"])
async def test_a_foreign_name_that_points_here_is_refused(name: str) -> None:
    """As of a page in a browser whose name was made to point at this machine."""
    async with pages("127.0.0.1", None) as client:
        assert (await client.get("/stats", headers={"Host": name})).status == 403
        assert (await client.get("/health", headers={"Host": name})).status == 200


@pytest.mark.parametrize("name", ["localhost:6066", "127.0.0.1", "[::1]:6066", "LOCALHOST"])
async def test_own_names_are_let_in(name: str) -> None:
    async with pages("127.0.0.1", None) as client:
        assert (await client.get("/stats", headers={"Host": name})).status == 200


async def test_every_answer_is_kept_from_being_more_than_shown() -> None:
    async with pages("127.0.0.1", None) as client:
        for path, status in (("/stats", 200), ("/nothing", 404)):
            answer = await client.get(path)
            assert answer.status == status
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Server"] == "audience-sync"
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "10.0.0.5", "worker.example.com", ""])
def test_pages_for_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(InvalidInputError, match="AUDIENCE_SYNC_WEB_TOKEN_FILE"):
        Access(host, None)
    Access(host, SecretStr(TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LocalHost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    Access(host, None)


def test_the_token_is_in_no_text() -> None:
    assert TOKEN not in repr(Access(EVERYWHERE, SecretStr(TOKEN)))


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("POST", "/v1/track", "HTTP ingest"),
        ("GET", "/v1/track", "HTTP ingest"),
        ("POST", "/v1", "HTTP ingest"),
        ("GET", "/", "dashboard"),
    ],
)
async def test_what_is_not_built_is_refused_by_name(method: str, path: str, named: str) -> None:
    """With and without a token: no other setting would help."""
    async with pages("127.0.0.1", None) as client:
        answer = await client.request(method, path)
        assert answer.status == 501
        assert f"{named} is not built yet" in (await answer.json())["error"]
        assert (await client.request("POST", "/v1track")).status == 403
    async with pages(EVERYWHERE, TOKEN) as client:
        assert (await client.request(method, path)).status == 401
        assert (await client.request(method, path, headers=BEARER)).status == 501


async def test_a_page_that_fails_is_told_by_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    try:
        async with pages("127.0.0.1", None) as client:
            answer = await client.get("/broken?zq7query")
            assert (answer.status, answer.headers["Server"]) == (500, "audience-sync")
    finally:
        logging.getLogger("aiohttp").setLevel(logging.NOTSET)
    assert "a page cannot be answered: RuntimeError at test_guard.py:" in caplog.text
    assert "zq7query" not in caplog.text
