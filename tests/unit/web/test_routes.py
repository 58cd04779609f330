from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from app.web.routes import not_found_route, routes
from app.web.stats import Stats
from tests.unit.web.fake_worker import FakeWorker

PAGES = ("/stats", "/health", "/ready", "/metrics")
Client = TestClient[web.Request, web.Application]


class Site:
    """The pages over a fake worker; `sick` is why it should be restarted."""

    def __init__(self) -> None:
        self.worker = FakeWorker(audiences=["vips"])
        self.sick: str | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        application = web.Application()
        stats = Stats(self.worker.view())
        application.add_routes(routes(stats, lambda: self.worker.ready, lambda: self.sick))
        application.add_routes([web.get("/", _dashboard), not_found_route()])
        async with TestClient(TestServer(application, host="127.0.0.1")) as client:
            yield client


async def _dashboard(request: web.Request) -> web.Response:
    return web.Response(text="dashboard")


@pytest.fixture
def site() -> Site:
    return Site()


async def json_of(response: ClientResponse) -> object:
    assert response.content_type == "application/json"
    return orjson.loads(await response.read())


async def test_stats(site: Site) -> None:
    site.worker.counters.stages["resolve"].records_in = 3
    async with site.client() as client:
        response = await client.get("/stats")
        assert response.status == 200
        shown = await json_of(response)
    expected = Stats(site.worker.view()).document(ready=True)
    assert isinstance(shown, dict)
    # Memory differs from one moment to the next.
    assert isinstance(shown["worker"].pop("memory_bytes"), int | None)
    del expected["worker"]["memory_bytes"]
    assert shown == expected
    assert shown["stages"]["resolve"]["in"] == 3


async def test_health(site: Site) -> None:
    async with site.client() as client:
        response = await client.get("/health")
        assert (response.status, await json_of(response)) == (200, {"status": "ok"})
        site.sick = "evaluate has ended"
        response = await client.get("/health")
        assert response.status == 503
        assert await json_of(response) == {"status": "failing", "reason": "evaluate has ended"}


async def test_ready(site: Site) -> None:
    async with site.client() as client:
        response = await client.get("/ready")
        assert (response.status, await json_of(response)) == (200, {"status": "ready"})
        site.worker.ready = False
        assert (await client.get("/ready")).status == 503
        assert (await client.get("/health")).status == 200  # starting is no reason to be restarted
        stats = await json_of(await client.get("/stats"))
        assert isinstance(stats, dict)
        assert stats["worker"]["ready"] is False


async def test_metrics(site: Site) -> None:
    async with site.client() as client:
        response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=x"})
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        names = {family.name for family in text_string_to_metric_families(await response.text())}
    assert {"audience_sync_records_in", "audience_sync_members"} <= names


@pytest.mark.parametrize("path", PAGES)
async def test_only_reading(site: Site, path: str) -> None:
    async with site.client() as client:
        head = await client.head(path)
        assert (head.status, await head.read()) == (200, b"")
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            refused = await client.request(method, path, data=b"{}")
            assert refused.status == 405
            assert refused.headers["Allow"] == "GET, HEAD"
            assert await json_of(refused) == {"error": f"{path} answers GET and HEAD"}


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_invites_a_cache(site: Site, path: str) -> None:
    async with site.client() as client:
        headers = (await client.get(path)).headers
    assert not {"Cache-Control", "ETag", "Expires", "Last-Modified", "Age"} & set(headers)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/stats/",
        "/stats/more",
        "/profiles/jane@example.com",
        "/%00%0a%22",
        "/..%2f..%2fetc%2fpasswd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_there(site: Site, method: str, path: str) -> None:
    async with site.client() as client:
        response = await client.request(method, path)
        assert response.status == 404
        # Nothing of the path comes back: it may hold an identifier.
        assert await json_of(response) == {"error": "there is no such page"}


async def test_other_pages_have_room(site: Site) -> None:
    async with site.client() as client:
        assert await (await client.get("/")).text() == "dashboard"


@pytest.mark.parametrize("path", ["/stats", "/metrics"])
async def test_a_fault_of_ours_is_told_without_its_insides(
    site: Site, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Not in the mapping any more: what a bug in a stage might leave behind.
    del site.worker.counters.stages["expire"]
    async with site.client() as client:
        response = await client.get(path)
        assert response.status == 500
        assert await json_of(response) == {"error": "an internal error; the log says more"}
        assert (await client.get("/health")).status == 200
    assert f"{path} cannot be answered" in caplog.text
    assert "KeyError at " in caplog.text
    assert "Traceback" not in caplog.text
