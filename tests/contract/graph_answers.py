"""A Facebook client against a server that answers what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from app.adapters.clock import SystemClock
from app.adapters.facebook_graph import FacebookGraph
from app.sandbox.options import SandboxOptions
from tests.contract.sandbox_client import TOKEN, SandboxClient, running

SECRET = "sandbox-app-secret"
SOURCE = "USER_PROVIDED_ONLY"


def client_of(base_url: str, **options: Any) -> FacebookGraph:
    return FacebookGraph(base_url, "v25.0", SecretStr(options.pop("token", TOKEN)), SystemClock(), **options)


@asynccontextmanager
async def both(
    options: SandboxOptions | None = None, **more: Any
) -> AsyncIterator[tuple[FacebookGraph, SandboxClient]]:
    async with running(options) as sandbox, client_of(sandbox.sandbox.base_url, **more) as graph:
        yield graph, sandbox


@asynccontextmanager
async def answering(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers everything in one way; gives its base URL."""
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
