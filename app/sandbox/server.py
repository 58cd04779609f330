"""Starts and stops a sandbox, inside a test or under the command."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from app.errors import InvalidInputError, kind_and_place
from app.sandbox.options import SandboxClock, SandboxOptions
from app.sandbox.routes import add_routes
from app.sandbox.state import SandboxState

_logger = logging.getLogger(__name__)
# aiohttp's server quotes requests that it cannot read, with tokens and rows.
_server_logger = logging.getLogger(f"{__name__}.silent")
_server_logger.setLevel(logging.CRITICAL)

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_QUERY_BYTES = 8 * 1024 * 1024
"""Removals may carry their payload in the query string."""

STOP_SECONDS = 1.0
"""How long requests under way, delayed ones above all, are waited for on closing."""


@dataclass(slots=True)
class RunningSandbox:
    base_url: str
    state: SandboxState
    clock: SandboxClock
    _runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening and end what is under way; the state stays readable."""
        await self._runner.cleanup()


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Says where a fault of the sandbox itself is, which its server does not."""
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as exc:
        _logger.error("the sandbox cannot answer: %s", kind_and_place(exc))  # noqa: TRY400 - its text may be anything
        raise


async def start_sandbox(
    host: str = "127.0.0.1",
    port: int = 0,
    options: SandboxOptions | None = None,
    state: SandboxState | None = None,
    clock: SandboxClock | None = None,
) -> RunningSandbox:
    """A sandbox that answers at its `base_url` when this returns. Port 0 takes a free one.

    `state` and `clock` go on from what was stored; without them it starts empty, on the wall clock.
    Raises InvalidInputError when the address cannot be listened on.
    """
    options = options or SandboxOptions()
    clock = clock or SandboxClock(options.now)
    state = state or SandboxState(options.match_share)
    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_told])
    add_routes(application, state, options, clock)
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_server_logger,
        shutdown_timeout=STOP_SECONDS,
        max_line_size=MAX_QUERY_BYTES,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise InvalidInputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}. Choose another with --port."
        ) from error
    address = runner.addresses[0]
    shown_host = f"[{host}]" if ":" in host else host
    return RunningSandbox(f"http://{shown_host}:{address[1]}", state, clock, runner)
