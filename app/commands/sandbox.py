"""`sandbox`: a local stand-in of the Graph API, in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from app.sandbox.options import AccessToken, SandboxOptions
from app.sandbox.server import start_sandbox
from app.sandbox.storage import load_state, save_state

_STATUS_OF = {signal.SIGTERM: 0, signal.SIGINT: 130}


@click.command("sandbox")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; 0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to go on from when it exists, and to save to on stopping.",
)
@click.option(
    "--token", "tokens", multiple=True, help="Access token to accept; without any, every token is accepted."
)
def command(port: int, host: str, state_file: Path | None, tokens: tuple[str, ...]) -> int:
    """Run a local stand-in of the Graph API.

    The first line on stdout is its base URL, printed once it can be used.
    """
    if any(not token.strip() for token in tokens):
        raise click.BadParameter("a token must not be blank", param_hint="--token")
    options = SandboxOptions(tokens=tuple(AccessToken(token) for token in tokens))
    return asyncio.run(_run(host, port, options, state_file))


async def _run(host: str, port: int, options: SandboxOptions, state_file: Path | None) -> int:
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number, status in _STATUS_OF.items():
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopped, status)
    state = clock = None
    if state_file is not None:
        state, clock = load_state(state_file, options)
    sandbox = await start_sandbox(host, port, options, state, clock)
    try:
        click.echo(sandbox.base_url)
        status = await stopped
    finally:
        await sandbox.close()
        if state_file is not None:
            save_state(state_file, sandbox.state, sandbox.clock)
    return status


def _stop(stopped: asyncio.Future[int], status: int) -> None:
    """The first signal counts; another while stopping changes nothing."""
    if not stopped.done():
        stopped.set_result(status)
