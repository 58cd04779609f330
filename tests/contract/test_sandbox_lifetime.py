"""Starting and stopping, in the process and as the command; the state file between two runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from app.errors import AudienceSyncError, InvalidInputError
from app.sandbox.options import SandboxOptions
from app.sandbox.server import start_sandbox
from app.sandbox.storage import load_state, save_state
from tests.contract.sandbox_client import A, B, SandboxClient, running

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = SandboxOptions()
PROGRAM = (sys.executable, "-c", "from app.commands import main; main()", "sandbox")


async def test_a_taken_port_is_named() -> None:
    async with running() as client:
        port = int(client.sandbox.base_url.rpartition(":")[2])
        with pytest.raises(InvalidInputError, match=f"port {port}: .*--port"):
            await start_sandbox(port=port)


async def test_closing_does_not_wait_for_delayed_requests() -> None:
    sandbox = await start_sandbox()
    async with aiohttp.ClientSession() as http:
        client = SandboxClient(sandbox, http)
        await client.fault({"delay_ms": 600_000})
        held = asyncio.create_task(client.call("GET", "act_1/customaudiences"))
        await client.until_logged("act_1/customaudiences")
        await asyncio.wait_for(sandbox.close(), timeout=10)
        with pytest.raises(aiohttp.ClientError):
            await held


async def test_the_state_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    both = ["EXTERN_ID", "EMAIL"]
    async with running() as client:
        seed = await client.create("Seed", description="d", retention_days=30)
        await client.create(
            "Like", subtype="LOOKALIKE", origin_audience_id=seed, lookalike_spec={"ratio": 0.01}
        )
        valued = await client.create("Valued", is_value_based=True, opt_out_link="https://example.com/")
        await client.add(seed, both, ["u", A], ["u", B], ["v", A])
        await client.add(seed, ["FN"], [A])
        await client.add(valued, ["EMAIL", "LOOKALIKE_VALUE"], [A, 2.5])
        await client.advance(50 * 24 * 3600)
        fields = "id,name,description,retention_days,data_source,is_value_based,opt_out_link,lookalike_spec,time_created"
        listing = {"params": {"fields": fields + ",operation_status,approximate_count_lower_bound"}}
        before = (await client.call("GET", "act_1/customaudiences", **listing)).body
        people = [await client.members(seed), await client.members(valued)]
        save_state(file, client.sandbox.state, client.sandbox.clock)
    state, clock = load_state(file, OPTIONS)
    sandbox = await start_sandbox(options=OPTIONS, state=state, clock=clock)
    try:
        async with aiohttp.ClientSession() as http:
            client = SandboxClient(sandbox, http)
            assert (await client.call("GET", "act_1/customaudiences", **listing)).body == before
            assert [await client.members(seed), await client.members(valued)] == people
            newest = await client.create("Newest")
            listed = (await client.call("GET", "act_1/customaudiences")).body["data"]
            assert listed[0] == {"id": newest}
            await client.remove(seed, ["EXTERN_ID"], ["v"])  # within 90 days, the former clock counted on
            await client.remove(seed, ["EMAIL"], [A])  # a former e-mail of u
            assert await client.members(seed) == [{"FN": A}]
            await client.add(seed, ["FN"], [A])
            assert await client.members(seed) == [{"FN": A}]
    finally:
        await sandbox.close()


def test_a_missing_file_is_an_empty_sandbox(tmp_path: Path) -> None:
    state, clock = load_state(tmp_path / "none.json", OPTIONS)
    assert list(state) == []
    assert clock.advanced_seconds == 0


def _stored(**changes: Any) -> dict[str, Any]:
    details = {
        "id": "1",
        "sequence": 1,
        "ad_account_id": "act_1",
        "name": "n",
        "time_created": 0,
        "time_updated": 0,
        "time_content_updated": 0,
    }
    person = {"cells": {"EMAIL": A}, "former": {}, "extern_id_at": 0, "matched": True}
    audience = {"details": details, "people": [{**person, **changes}]}
    return {"version": 1, "clock_advanced_seconds": 0, "audiences": [audience]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "JSON", id="empty file"),
        pytest.param(b"\xff\xfe", "JSON", id="no text"),
        pytest.param(b"[]", "the file", id="no object"),
        pytest.param(_stored() | {"version": 2}, "version", id="another version"),
        pytest.param(_stored() | {"clock_advanced_seconds": 1e300}, "", id="a clock beyond the calendar"),
        pytest.param(_stored() | {"audiences": _stored()["audiences"] * 2}, "twice", id="an id twice"),
        pytest.param(_stored(cells={"EMAIL": []}), "identifiers", id="an identifier that is no text"),
        pytest.param(_stored(cells={}), "identifiers", id="nobody"),
        pytest.param(_stored(former={"SHOE": ["a"]}), "identifiers", id="unknown former identifier"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    with pytest.raises(InvalidInputError, match=f"state file .*{reason}"):
        load_state(file, OPTIONS)


def test_the_stored_form_itself_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(orjson.dumps(_stored()))
    for _ in range(2):
        state, clock = load_state(file, OPTIONS)
        (audience,) = state
        assert len(audience.people) == 1
        save_state(file, state, clock)
        assert list(tmp_path.iterdir()) == [file]


def test_a_missing_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="folder"):
        load_state(tmp_path / "none" / "state.json", OPTIONS)


def test_a_state_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    file.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    state, clock = load_state(tmp_path / "none.json", OPTIONS)
    with pytest.raises(AudienceSyncError, match="No space left"):
        save_state(file, state, clock)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@contextmanager
def _command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the first line it printed."""
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def test_the_command_keeps_its_state_over_a_restart(tmp_path: Path) -> None:
    arguments = ("--state", str(tmp_path / "state.json"), "--token", "good-token", "--token", "other-token")

    async def listed(base_url: str, method: str, token: str) -> tuple[int, Any]:
        # Nothing is waited for: the line means that it can be used.
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method,
                f"{base_url}/v25.0/act_1/customaudiences",
                params={"access_token": token, "name": "Kept", "fields": "name"},
            ) as response,
        ):
            return response.status, await response.json()

    with _command(*arguments) as (process, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        assert (await listed(base_url, "POST", "good-token"))[0] == 200
        assert (await listed(base_url, "GET", "unknown"))[1]["error"]["code"] == 190
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.communicate() == ("", "")
    with _command(*arguments) as (process, base_url):
        status, body = await listed(base_url, "GET", "other-token")
        assert (status, [one["name"] for one in body["data"]]) == (200, ["Kept"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


async def test_the_command_names_a_taken_port() -> None:
    async with running() as client:
        port = client.sandbox.base_url.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "--port", port, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert f"port {port}" in err.decode()
    assert "Traceback" not in err.decode()
