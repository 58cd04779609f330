"""Starts and stops a sandbox, inside a test or under the command."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from app.errors import InvalidInputError
from app.sandbox.options import SandboxClock, SandboxOptions
from app.sandbox.routes import add_routes
from app.sandbox.state import SandboxState

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
    application = web.Application(client_max_size=MAX_BODY_BYTES)
    add_routes(application, state, options, clock)
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=STOP_SECONDS, max_line_size=MAX_QUERY_BYTES
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
